//! A program that is no locker (a shell in its own namespaces, a chrooted script), in a test's hand.

use std::process::{ChildStdin, Command, Stdio};

use super::{lines::Lines, process::Process};

/// It has done its work, has said `ready`, and stays until its standard input closes; it ends when this value does.
#[derive(Debug)]
pub struct Resident {
    process: Process,
    _stdin: ChildStdin,
}

impl Resident {
    /// Returns when the command has said `ready`.
    ///
    /// # Errors
    ///
    /// What it said first instead; nothing if it ended.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or says nothing and lives on.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        Self::start_saying(command, "ready")
    }

    /// The same for one that says something else when it is ready.
    ///
    /// # Errors
    ///
    /// As [`Resident::start`].
    ///
    /// # Panics
    ///
    /// As [`Resident::start`].
    pub fn start_saying(command: &mut Command, ready: &str) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("{command:?} has no pipes")
        };
        let (process, lines) = (Process::of_child(child), Lines::from(stdout));
        match lines.take(|_| true) {
            Some((_, line)) if line == ready => Ok(Self { process, _stdin: stdin }),
            Some((_, line)) => Err(line),
            None => {
                assert!(lines.closed(), "{command:?} never says anything");
                Err(String::new())
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
