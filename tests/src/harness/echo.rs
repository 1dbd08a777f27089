//! A process that shows whether it runs: it answers each line with the same.

use std::{
    fs,
    io::Write,
    process::{ChildStdin, Command, Stdio},
};

use super::{lines::Lines, process::Process};

/// `cat` between two pipes; it ends when this value does.
#[derive(Debug)]
pub struct Echo {
    process: Process,
    stdin: ChildStdin,
    lines: Lines,
    said: u32,
}

impl Echo {
    /// Starts one, and returns when it has answered.
    ///
    /// # Panics
    ///
    /// When there is no `cat`.
    pub fn start() -> Self {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start cat: {e}"));
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { panic!("cat has no pipes") };
        let mut echo = Self { process: Process::of_child(child), stdin, lines: Lines::from(stdout), said: 0 };
        echo.runs();
        echo
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Calls it, and waits for the answer.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn runs(&mut self) {
        let word = self.call();
        assert!(self.lines.take(|line| line == word).is_some(), "pid {} does not answer", self.pid());
    }

    /// Calls it, and does not wait.
    pub fn call(&mut self) -> String {
        self.said += 1;
        let word = self.said.to_string();
        writeln!(self.stdin, "{word}").unwrap_or_else(|e| panic!("call pid {}: {e}", self.pid()));
        word
    }

    /// What it has answered and nobody has waited for.
    pub fn answers(&self) -> Vec<String> {
        self.lines.heard()
    }

    /// Its state in `/proc/PID/stat`.
    pub fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?')
    }
}
