//! A process that a test started, directly or through a locker, and that ends with it.

use std::{
    os::fd::OwnedFd,
    process::{Child, ExitStatus},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::until::PATIENCE;

/// Known by pidfd, so that no signal ever meets a stranger who got the same number.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
    /// Present if the process is this one's own child, which must be waited for.
    child: Option<Child>,
}

impl Process {
    /// A child of the test.
    pub fn of_child(child: Child) -> Self {
        let mut process = Self::of_pid(child.id());
        process.child = Some(child);
        process
    }

    /// A child of a locker that has not waited for it, so the number is still its own.
    ///
    /// # Panics
    ///
    /// When there is no such process.
    pub fn of_pid(pid: u32) -> Self {
        let raw = Pid::from_raw(pid.cast_signed()).unwrap_or_else(|| panic!("{pid} is no pid"));
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).unwrap_or_else(|e| panic!("open a pidfd of {pid}: {e}"));
        Self { pid, pidfd, child: None }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; a process that is gone gets none.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits until all its threads are gone; reaps it if it is a child of the test.
    ///
    /// # Panics
    ///
    /// When it lives on.
    pub fn wait(&mut self) {
        self.wait_within(PATIENCE);
    }

    /// Like [`Process::wait`] with a deadline of one's own; the status, if it was a child of the test.
    ///
    /// # Panics
    ///
    /// When it lives on.
    pub fn wait_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        assert!(self.ended_within(patience), "pid {} lives on", self.pid);
        self.child.take().and_then(|mut child| child.wait().ok())
    }

    /// Whether it lives.
    pub fn lives(&self) -> bool {
        !self.ended_within(Duration::ZERO)
    }

    /// A pidfd is readable once the last thread has passed exit_notify() (kernel/exit.c): after its files were closed.
    fn ended_within(&self, patience: Duration) -> bool {
        let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // Not `wait`: a panic in a drop hides the failure that led here.
        self.ended_within(PATIENCE);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}
