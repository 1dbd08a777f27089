//! Holds others still as a session of lockwatch does, confined as that is: `freezer LIMIT_MS SPARED_PID|0 HOLD…`.
//!
//! Says `ready`, then obeys a line each: `freeze`, `check`, `members`, `thaw`; answers one line each, `ok …` or `err …`.
//! The end of its input ends it. `freezer vfork` is a process that, after a line, waits for its child as vfork(2) has it
//! wait, until its input ends.

use std::{
    io::{BufRead, Write},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use lockwatch_control::{
    confine,
    hold::{Held, Spare},
};
use lockwatch_core::clear::Hold;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [word] if word == "vfork" => vfork(),
        [limit, spared, holds @ ..] => {
            let holds: Option<Vec<_>> = holds.iter().map(|hold| Hold::parse(hold.as_bytes())).collect();
            let limit = Duration::from_millis(limit.parse().context("a number of milliseconds")?);
            serve(&holds.context("a hold")?, limit, spared.parse().context("a number of a process")?)
        }
        _ => bail!("freezer LIMIT_MS SPARED_PID HOLD…"),
    }
}

fn serve(holds: &[Hold], limit: Duration, spared: u32) -> Result<()> {
    confine::drop_to(confine::NEEDED)?;
    // As a lock's duplicate would be: nothing that the guardian may keep.
    let _precious = std::fs::File::open("/proc/self/status").context("open a file")?;
    let mut held: Option<Held> = None;
    say("ready");
    for line in std::io::stdin().lock().lines() {
        let answer = match (line.context("read")?.as_str(), &held) {
            ("freeze", _) => freeze(holds, limit, spared).map(|got| {
                let words = got.to_string();
                held = Some(got);
                words
            }),
            ("check", Some(held)) => held.check().map(|()| String::new()),
            ("members", Some(held)) => Ok(format!("{:?}", held.members())),
            ("thaw", _) => held.take().map_or(Ok(()), Held::thaw).map(|()| String::new()),
            (other, _) => bail!("{other}?"),
        };
        match answer {
            Ok(words) => say(format!("ok {words}").trim()),
            Err(error) => say(&format!("err {error:#}")),
        }
    }
    Ok(())
}

fn freeze(holds: &[Hold], limit: Duration, spared: u32) -> Result<Held> {
    let spare = Spare::new()?.and(spared, "it is to be signalled, and a frozen process cannot end");
    Held::freeze(holds, limit, &spare)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody to hear it: the end of the input will end this process too.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn vfork() -> Result<()> {
    std::io::stdin().lock().read_line(&mut String::new()).context("read")?;
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has a copy of this memory; it makes system calls only, and never returns.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        0 => loop {
            let mut byte = 0u8;
            // SAFETY: one byte is writable there; the end of the input ends the child.
            unsafe {
                if libc::read(0, (&raw mut byte).cast(), 1) <= 0 {
                    libc::_exit(0);
                }
            }
        },
        pid => {
            ensure!(pid > 0, "clone: {}", std::io::Error::last_os_error());
            Ok(())
        }
    }
}
