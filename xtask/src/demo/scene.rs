//! The stage and the actors. Each leaves with its value: dropping them ends the processes and removes the files.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::command::{line, output};

/// How long a process of ours may take to do what it is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// A temporary directory with the file, the program to show, and the wish to stop.
pub(super) struct Scene {
    pub(super) file: PathBuf,
    program: PathBuf,
    stop: Arc<AtomicBool>,
    directory: TempDir,
}

impl Scene {
    pub(super) fn new(program: PathBuf) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("catch Ctrl-C")?;
        }
        let directory = tempfile::Builder::new().prefix("lockwatch-demo-").tempdir().context("make a directory")?;
        let file = directory.path().join("locksmith.lock");
        File::create(&file).with_context(|| format!("create {}", file.display()))?;
        Ok(Self { file, program, stop, directory })
    }

    /// Runs `lockwatch ARGS` for the human to read; it must end with this code. There is nobody to answer its questions.
    pub(super) fn run(&self, args: &[&str], code: i32) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null());
        println!("\n$ {}", line(&command));
        let status = command.status().with_context(|| format!("run {}", self.program.display()))?;
        ensure!(status.code() == Some(code), "{} ended with {status}", line(&command));
        Ok(())
    }

    /// What `lockwatch ARGS` prints, for ourselves.
    pub(super) fn json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let text = output(Command::new(&self.program).args(args).stdin(Stdio::null()))?;
        serde_json::from_str(&text).with_context(|| format!("read what lockwatch {} prints", args.join(" ")))
    }

    /// Where the record of the demo's clear is kept.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.path().join("audit.jsonl")
    }

    /// The next line of an actor, which must come soon.
    fn next(&self, actor: &Actor) -> Result<String> {
        self.line(&actor.lines, Instant::now() + PATIENCE)?.context("no answer")
    }

    fn expect(&self, actor: &Actor, word: &str) -> Result<()> {
        let said = self.next(actor)?;
        ensure!(said == word, "said {said}, not {word}");
        Ok(())
    }

    /// A line from a process of ours: `None` at the deadline, an error when there will be none or Ctrl-C was pressed.
    fn line(&self, lines: &Receiver<String>, deadline: Instant) -> Result<Option<String>> {
        loop {
            ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("its output has ended"),
            }
        }
    }
}

/// `lockwatch orphans --watch`.
pub(super) struct Watcher<'a> {
    scene: &'a Scene,
    actor: Actor,
}

impl<'a> Watcher<'a> {
    pub(super) fn start(scene: &'a Scene) -> Result<Self> {
        let mut command = Command::new(&scene.program);
        command.args(["orphans", "--watch", "--ndjson"]).arg(&scene.file);
        println!("$ {}", line(&command));
        Ok(Self { scene, actor: Actor::start(&mut command)? })
    }

    /// The next event as it was printed; `None` when there is none by the deadline.
    pub(super) fn event(&self, deadline: Instant) -> Result<Option<String>> {
        self.scene.line(&self.actor.lines, deadline).context("lockwatch orphans --watch")
    }
}

/// A lock whose acquirer is dead, the child that has it, and a process that wants it.
pub(super) struct Ghost {
    /// The pid that took the lock. It is dead.
    pub(super) acquirer: u32,
    /// Dropped, and so ended, before `updater`: else that one would still be waiting.
    heir: Heir,
    updater: Actor,
}

impl Ghost {
    pub(super) fn make(scene: &Scene) -> Result<Self> {
        let mut locksmith = Actor::ghost(scene, "locksmith", &["--leave"])?;
        scene.expect(&locksmith, "asking")?;
        let heir = scene.next(&locksmith)?;
        let heir = Heir::of(heir.parse().with_context(|| format!("locksmith said {heir}"))?)?;
        let updater = Actor::ghost(scene, "updater", &[])?;
        scene.expect(&updater, "asking")?;
        let acquirer = locksmith.child.id();
        locksmith.child.kill().and_then(|()| locksmith.child.wait()).context("kill locksmith")?;
        Ok(Self { acquirer, heir, updater })
    }

    pub(super) fn heir_pid(&self) -> u32 {
        self.heir.pid
    }

    /// Waits until the process that wanted the lock has it.
    pub(super) fn updater_has_the_lock(&self, scene: &Scene) -> Result<()> {
        scene.expect(&self.updater, "locked").context("updater")
    }
}

/// The child that was left with the lock. It is no child of ours: its identity is a pidfd.
struct Heir {
    pid: u32,
    pidfd: OwnedFd,
}

impl Heir {
    /// Its parent still lives, so the number cannot have passed to another process.
    fn of(pid: u32) -> Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a pid")?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).with_context(|| format!("pidfd_open {pid}"))?;
        Ok(Self { pid, pidfd })
    }

    fn end(&self) -> Result<()> {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::TERM)
            && error != rustix::io::Errno::SRCH
        {
            return Err(error).with_context(|| format!("end pid {}", self.pid));
        }
        ensure!(is_gone(&self.pidfd, PATIENCE), "pid {} did not end", self.pid);
        Ok(())
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("warning: {error:#}");
        }
    }
}

/// A child with its lines; ended and reaped when dropped.
struct Actor {
    child: Child,
    lines: Receiver<String>,
}

impl Actor {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("run {}", command.get_program().display()))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(std::result::Result::ok);
                lines.map(|line| sender.send(line)).take_while(std::result::Result::is_ok).for_each(drop);
            });
        }
        Ok(Self { child, lines })
    }

    fn ghost(scene: &Scene, name: &str, args: &[&str]) -> Result<Self> {
        let own = env::current_exe().context("find the running xtask")?;
        Self::start(Command::new(own).args(["ghost", "--name", name]).args(args).arg(&scene.file))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Its input ends: locksmith takes this as the sign to end its child and itself.
        drop(self.child.stdin.take());
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            is_gone(&pidfd, Duration::from_millis(200));
        }
        // Both fail only for a child that has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a process, which makes its pidfd readable (pidfd_open(2)).
fn is_gone(pidfd: &OwnedFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            ended => return ended.is_ok_and(|n| n > 0),
        }
    }
}
