//! Holding on to processes by what they are, not by their numbers.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};

use anyhow::{Context, anyhow};
use lockwatch_core::{
    clear::{Case, Person},
    process::ProcessId,
    time::StartTime,
};
use lockwatch_sys::{
    procdir,
    stat::{Image, Stat},
    timens,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
    time::{ClockId, clock_gettime},
};

use super::Failure;

/// Every process that keeps a lock, pinned. It is taken before the look that the plan is made from, and lives until the
/// plan is carried out: a process that ends meanwhile is missed, never mistaken.
#[derive(Debug)]
pub struct Grip {
    pinned: Vec<Pinned>,
}

impl Grip {
    /// Pins every process among the holders.
    ///
    /// A process is told by number and start, and a start is a tick (1/100 s) wide. So this returns only when whoever is
    /// born from now on starts in a later tick: a look that comes after it and still shows this number and start shows
    /// the process that is pinned.
    ///
    /// # Errors
    ///
    /// One of them has ended, or its number is another process's.
    pub fn take(case: &Case) -> Result<Self, Failure> {
        if std::fs::read_link("/proc/self").context("read /proc/self")?.as_os_str() != &*std::process::id().to_string()
        {
            return Err(anyhow!("/proc numbers processes otherwise than this pid namespace").into());
        }
        let pinned: Vec<_> = case.keepers().into_iter().map(Pinned::take).collect::<Result<_, _>>()?;
        if let Some(newest) = pinned.iter().filter_map(|process| process.id.start).max() {
            outlast(newest)?;
        }
        Ok(Self { pinned })
    }

    /// The process of this identity.
    pub(super) fn of(&self, id: ProcessId) -> Result<&Pinned, Failure> {
        let unknown = || Failure::Failed(anyhow!("pid {} was not pinned", id.pid));
        self.pinned.iter().find(|process| process.id == id).ok_or_else(unknown)
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) id: ProcessId,
    /// As it is called in sentences.
    pub(super) name: String,
    process: OwnedFd,
    image: Image,
}

impl Pinned {
    fn take(person: &Person) -> Result<Self, Failure> {
        let name = person.to_string();
        let Some(start) = person.id.start else {
            return Err(anyhow!("it is not known when {name} started: it cannot be told from another").into());
        };
        let number = i32::try_from(person.id.pid).ok().and_then(Pid::from_raw).context("0 is no pid")?;
        let process = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Failure::changed(format!("{name} has ended")),
            // A number that is only a thread's by now.
            Err(Errno::INVAL | Errno::NOENT) => {
                return Failure::changed(format!("{name} has ended: its number is another's"));
            }
            Err(error) => return Err(anyhow!(error).context(format!("hold on to {name}")).into()),
        };
        let mut pinned = Self { id: person.id, name, process, image: Image::default() };
        let stat = pinned.stat()?;
        if stat.start != start {
            return Failure::changed(format!("{} has ended: its number is another process's", pinned.name));
        }
        pinned.image = stat.image;
        Ok(pinned)
    }

    /// Its number, which is its own as long as [`Pinned::lives`].
    pub(super) fn pid(&self) -> u32 {
        self.id.pid
    }

    /// Whether any thread of it lives. A pidfd becomes readable when the last one has ended (kernel/exit.c exit_notify).
    pub(super) fn lives(&self) -> bool {
        !matches!(poll(&mut [self.end()], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
    }

    /// What becomes ready at its end.
    pub(super) fn end(&self) -> PollFd<'_> {
        PollFd::new(&self.process, PollFlags::IN)
    }

    /// That it lives, and runs the program that it ran when it was pinned.
    pub(super) fn is_as_it_was(&self) -> Result<(), Failure> {
        match self.stat()?.image == self.image {
            true => Ok(()),
            false => Failure::changed(format!("{} runs another program since", self.name)),
        }
    }

    /// That it lives: then all that was read of its number was its own.
    pub(super) fn is_alive(&self) -> Result<(), Failure> {
        if self.lives() { Ok(()) } else { Failure::changed(format!("{} has ended", self.name)) }
    }

    fn stat(&self) -> Result<Stat, Failure> {
        let text = procdir::read(Path::new(&format!("/proc/{}/stat", self.pid())));
        self.is_alive()?;
        let text = text.with_context(|| format!("read /proc/{}/stat", self.pid()))?;
        Ok(Stat::parse(&text).with_context(|| format!("/proc/{}/stat cannot be understood", self.pid()))?)
    }
}

/// The pidfd.
impl AsFd for Pinned {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.process.as_fd()
    }
}

/// Waits until the tick of this start is over.
fn outlast(start: StartTime) -> io::Result<()> {
    let ahead = timens::ahead_ns();
    // An offset of the clock that is not of whole ticks leaves one in doubt.
    let last = start.0 + u64::from(ahead % StartTime::TICK_NS.cast_signed() != 0);
    // More than any start can be in the future.
    for _ in 0..8 {
        let now = clock_gettime(ClockId::Boottime);
        let now = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
        let now = now.saturating_add_signed(ahead.saturating_neg());
        if StartTime::from_boot_ns(now).0 > last {
            return Ok(());
        }
        std::thread::sleep(Duration::from_nanos(StartTime::TICK_NS - now % StartTime::TICK_NS));
    }
    Err(io::Error::other("a process says that it has started in the future"))
}
