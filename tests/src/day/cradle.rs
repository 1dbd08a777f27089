//! Where orphans come from: a process with one thread, for whoever wants them has several and cannot fork.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{Scene, program, sys};

/// The cradle, in the hand of who wants orphans.
pub(super) struct Cradle {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cradle {
    /// Starts one that ends after so many minutes, and some, in any case.
    pub(super) fn start(scene: &Scene, minutes: f64) -> Result<Self> {
        let seconds = minutes.mul_add(60.0, 120.0).to_string();
        let mut command = Command::new(program("day"));
        command.arg("--cradle").arg(scene.dir()).arg(seconds).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the cradle")?;
        let (commands, answers) = child.stdin.take().zip(child.stdout.take()).context("the cradle has no pipes")?;
        Ok(Self { child, commands, answers: BufReader::new(answers) })
    }

    /// A lock on a new file of this name, whose taker is dead when this returns.
    pub(super) fn bear(&mut self, name: &str) -> Result<()> {
        self.ask(&format!("bear {name}"))
    }

    /// A wait of a process of its own for a new file, granted.
    pub(super) fn contend(&mut self, name: &str) -> Result<()> {
        self.ask(&format!("contend {name}"))
    }

    /// Ends whoever keeps it, and the file.
    pub(super) fn end(&mut self, name: &str) -> Result<()> {
        self.ask(&format!("end {name}"))
    }

    fn ask(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").with_context(|| format!("tell the cradle to {command}"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("hear the cradle")?;
        ensure!(answer == "ok\n", "the cradle was told to {command} and said {answer:?}");
        Ok(())
    }
}

impl Drop for Cradle {
    fn drop(&mut self) {
        // Its children go with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cradle itself: `bear NAME`, `end NAME` and `contend NAME` on its standard input, `ok` for each.
///
/// # Errors
///
/// The system refuses something.
pub fn cradle(dir: &Path, seconds: u32) -> Result<()> {
    sys::alarm(seconds);
    // Those who lose their parent stay our children: no number is given to another before we have waited for it.
    sys::adopt_orphans().context("become a subreaper")?;
    let mut heirs = std::collections::HashMap::new();
    for line in std::io::stdin().lines() {
        let line = line.context("hear what to do")?;
        let (what, name) = line.split_once(' ').context("a command without a name")?;
        let path = dir.join(name);
        if what != "end" {
            std::fs::write(&path, "").with_context(|| format!("create {}", path.display()))?;
        }
        if what == "bear" {
            heirs.insert(name.to_owned(), bear(&path)?);
        } else if what == "contend" {
            contend(&path)?;
        } else {
            let heir = heirs.remove(name).with_context(|| format!("{name} was never born"))?;
            sys::kill(heir, libc::SIGKILL).context("end an heir")?;
            sys::wait_for(heir).context("wait for an heir")?;
        }
        if what != "bear" {
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        println!("ok");
    }
    Ok(())
}

/// Takes it, and has a child wait for it that ends as soon as it has it.
fn contend(path: &Path) -> Result<()> {
    let open = || sys::open(path.as_os_str().as_bytes(), libc::O_RDWR | libc::O_CLOEXEC);
    let ours = open()?;
    sys::flock(ours, libc::LOCK_EX)?;
    let Some(child) = sys::fork().context("fork")? else {
        let done = sys::close(ours).and_then(|()| sys::flock(open()?, libc::LOCK_EX));
        sys::exit(done.is_err().into())
    };
    // Long enough for most of them to wait; it is no fault if one does not.
    std::thread::sleep(std::time::Duration::from_millis(2));
    sys::flock(ours, libc::LOCK_UN)?;
    sys::close(ours)?;
    ensure!(sys::wait_for(child)?.success(), "a waiter did not get {}", path.display());
    Ok(())
}

/// A taker that is killed, and the child that it leaves behind with its lock: that one's number.
fn bear(path: &Path) -> Result<i32> {
    let cradle = i32::try_from(std::process::id())?;
    let (mut news, mut teller) = std::io::pipe().context("make a pipe")?;
    let taker = sys::fork().context("fork")?;
    let Some(taker) = taker else {
        let _ = take(path, cradle, &mut teller);
        // Reached only if something was refused.
        sys::exit(1)
    };
    drop(teller);
    sys::wait_for(taker).context("wait for the taker")?;
    let mut heir = [0; 4];
    news.read_exact(&mut heir).with_context(|| format!("{} was not taken", path.display()))?;
    Ok(i32::from_ne_bytes(heir))
}

fn take(path: &Path, cradle: i32, teller: &mut impl Write) -> Result<()> {
    let fd = sys::open(path.as_os_str().as_bytes(), libc::O_RDWR)?;
    sys::flock(fd, libc::LOCK_EX)?;
    if let Some(heir) = sys::fork()? {
        teller.write_all(&heir.to_ne_bytes())?;
        sys::kill(sys::thread_id(), libc::SIGKILL)?;
    }
    // The heir. Should the cradle die, nobody will end it: it looks for itself.
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
        if i32::try_from(std::os::unix::process::parent_id())? != cradle {
            sys::exit(0);
        }
    }
}
