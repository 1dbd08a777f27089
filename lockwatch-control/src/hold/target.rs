//! One thing that is frozen, and how it is frozen and thawed.

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    hierarchy::{Group, Kind},
    process,
};

/// The way in which a target is frozen. The numbers go to the guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `cgroup.freeze` of version 2.
    Freezer2 = 2,
    /// `freezer.state` of version 1.
    Freezer1 = 1,
    /// SIGSTOP and SIGCONT.
    Signal = 3,
}

/// What is frozen, known by descriptors: no name is looked up again.
#[derive(Debug)]
pub(super) struct Target {
    way: Way,
    /// `cgroup.freeze`, `freezer.state` or a pidfd.
    fd: OwnedFd,
    /// `cgroup.events`, of version 2 only.
    events: Option<File>,
    /// The number behind the pidfd, or 0.
    pid: u32,
}

impl Way {
    pub(super) fn of(number: u8) -> Option<Self> {
        [Way::Freezer2, Way::Freezer1, Way::Signal].into_iter().find(|way| *way as u8 == number)
    }
}

/// Undoes a freeze. Whoever is gone needs none. For the guardian too, so it neither allocates nor locks.
pub(super) fn thaw(way: Way, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let done = match way {
        Way::Freezer2 => rustix::io::retry_on_intr(|| rustix::io::write(fd, b"0")).map(drop),
        Way::Freezer1 => rustix::io::retry_on_intr(|| rustix::io::write(fd, b"THAWED")).map(drop),
        Way::Signal => pidfd_send_signal(fd, Signal::CONT),
    };
    match done {
        // A group that was removed says ENODEV (kernfs_get_active in fs/kernfs/file.c, 6.18).
        Err(Errno::SRCH | Errno::NODEV) => Ok(()),
        done => done,
    }
}

impl Target {
    /// The group by its own freezer; `None` if it has none that we may use.
    pub(super) fn freezer(group: &Group) -> Option<Self> {
        let open = |file: &str| OpenOptions::new().read(true).write(true).open(group.dir.join(file)).ok();
        let (way, fd, events) = match group.kind {
            // Since 5.2; the root group has none.
            Kind::Unified => {
                (Way::Freezer2, open("cgroup.freeze")?, Some(File::open(group.dir.join("cgroup.events")).ok()?))
            }
            Kind::Freezer => (Way::Freezer1, open("freezer.state")?, None),
            Kind::Systemd | Kind::Other => return None,
        };
        Some(Self { way, fd: fd.into(), events, pid: 0 })
    }

    /// One process; `None` if there is none of that number, or only a thread.
    pub(super) fn process(pid: u32) -> anyhow::Result<Option<Self>> {
        let opened = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH);
        match opened.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Ok(fd) => Ok(Some(Self { way: Way::Signal, fd, events: None, pid })),
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("open a pidfd of {pid}")),
        }
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// The number behind the pidfd.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// What thaws it.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the process behind a pidfd lives. A pidfd is readable once its last thread has ended.
    pub(super) fn lives(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        self.way != Way::Signal || matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    /// Whether it was told to be still already, by somebody else.
    pub(super) fn is_frozen_by_others(&self, group: Option<&Group>) -> anyhow::Result<bool> {
        Ok(match (self.way, group) {
            (Way::Freezer2, _) => read(&self.fd).context("read cgroup.freeze")?.trim_ascii() == b"1",
            // freezer.state also tells of groups above; this is the group's own (since 3.7).
            (Way::Freezer1, Some(group)) => {
                let own =
                    std::fs::read(group.dir.join("freezer.self_freezing")).context("read freezer.self_freezing")?;
                own.trim_ascii() == b"1"
            }
            (Way::Freezer1, None) => bail!("a freezer without its group"),
            (Way::Signal, _) => self.is_still()?,
        })
    }

    /// Gives the order to be still; it takes a moment until it is obeyed.
    pub(super) fn freeze(&self) -> rustix::io::Result<()> {
        match self.way {
            Way::Freezer2 => rustix::io::write(&self.fd, b"1").map(drop),
            Way::Freezer1 => rustix::io::write(&self.fd, b"FROZEN").map(drop),
            Way::Signal => match pidfd_send_signal(&self.fd, Signal::STOP) {
                // Gone: as still as can be.
                Err(Errno::SRCH) => Ok(()),
                sent => sent,
            },
        }
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> rustix::io::Result<()> {
        thaw(self.way, self.fd.as_fd())
    }

    /// Whether nothing of it runs now.
    pub(super) fn is_still(&self) -> anyhow::Result<bool> {
        Ok(match (self.way, &self.events) {
            (Way::Freezer2, Some(events)) => match read(events) {
                Err(Errno::NODEV) => true,
                events => events.context("read cgroup.events")?.split(|b| *b == b'\n').any(|line| line == b"frozen 1"),
            },
            (Way::Freezer2, None) => bail!("a freezer without its events"),
            (Way::Freezer1, _) => match read(&self.fd) {
                Err(Errno::NODEV) => true,
                state => state.context("read freezer.state")?.trim_ascii() == b"FROZEN",
            },
            // What is read by number was about this very process if it lives afterwards.
            (Way::Signal, _) => {
                let stopped = process::is_stopped(self.pid);
                !self.lives() || stopped.with_context(|| format!("read the state of pid {}", self.pid))?
            }
        })
    }

    /// Waits until nothing of it runs; false when the time is over.
    pub(super) fn wait(&self, until: Instant) -> anyhow::Result<bool> {
        /// Only version 2 tells when it is done (kernfs_notify on cgroup.events); the others must be asked.
        const ASK_AGAIN: Duration = Duration::from_millis(2);
        while !self.is_still()? {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match &self.events {
                Some(events) => {
                    let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
                    let mut fds = [PollFd::new(events, PollFlags::PRI)];
                    match poll(&mut fds, Some(&left)) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error).context("wait for cgroup.events"),
                    }
                }
                None => std::thread::sleep(ASK_AGAIN.min(left)),
            }
        }
        Ok(true)
    }
}

/// The beginning of a small file of the kernel, afresh.
fn read(file: impl AsFd) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 256];
    let n = rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut bytes, 0))?;
    bytes.truncate(n);
    Ok(bytes)
}
