//! The processes of the demo: one that takes a lock and leaves it to a child, and one that wants it.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::{
    fs::{FlockOperation, flock},
    io::{FdFlags, fcntl_setfd},
    process::{Signal, set_parent_process_death_signal},
    thread::set_name,
};

/// How long the heir sleeps at most, in seconds, should nobody be left to end it.
const HEIR_SLEEPS: &str = "300";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The command name to have
    #[arg(long)]
    name: String,
    /// Leave the lock to a child, and wait to be killed
    #[arg(long)]
    leave: bool,
    /// The file to lock
    file: PathBuf,
}

/// Takes an exclusive flock. Prints `asking`, then `locked` or, with `--leave`, the child's pid.
pub(crate) fn ghost(args: &Args) -> Result<()> {
    // Whatever becomes of the demo, we go with it.
    set_parent_process_death_signal(Some(Signal::KILL)).context("set the parent's death signal")?;
    let name = CString::new(args.name.as_str()).context("the command name has a NUL")?;
    set_name(&name).context("set the command name")?;
    let file = OpenOptions::new().read(true).write(true).open(&args.file);
    let file = file.with_context(|| format!("open {}", args.file.display()))?;
    tell("asking")?;
    flock(&file, FlockOperation::LockExclusive).with_context(|| format!("flock {}", args.file.display()))?;
    if args.leave { leave(&file) } else { tell("locked") }
}

/// What programs do by accident: starts another one, without O_CLOEXEC on the locked file.
fn leave(file: &File) -> Result<()> {
    fcntl_setfd(file, FdFlags::empty()).context("clear O_CLOEXEC")?;
    let mut sleep = Command::new("sleep");
    sleep.arg(HEIR_SLEEPS).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut heir = sleep.spawn().context("run sleep")?;
    tell(&heir.id().to_string())?;
    // The end of the input means that the demo gave up: then the child goes too.
    let ended = io::stdin().read_to_end(&mut Vec::new()).context("wait for the end");
    heir.kill().and_then(|()| heir.wait()).context("end sleep")?;
    ended.map(drop)
}

fn tell(word: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}").and_then(|()| out.flush()).context("write to the demo")
}
