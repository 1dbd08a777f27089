//! Everything that a plan depends on, taken from one look.

use crate::{
    id::LockId,
    lock::{FileId, Kind, Mode, Range},
    observation::Via,
    process::{Life, Process, ProcessId},
    report::{Cause, Holder, LockReport, Report, Verdict, Waiter},
    text::Text,
};

/// One lock with all that its clearing depends on. Two looks agree if their cases are equal but for [`Case::evidence`].
///
/// Times of the wall are not in it: they are computed from the kernel's boot time at each look, and differ by
/// microseconds between two. Starts of processes are, in ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Whether the set of locks is known to be the kernel's own.
    pub exact: bool,
    /// The lock's short name.
    pub id: LockId,
    /// Which kind of lock.
    pub kind: Kind,
    /// Shared or exclusive.
    pub mode: Mode,
    /// On which bytes.
    pub range: Range,
    /// On which file, by identity.
    pub file: FileId,
    /// What that file is called, if anybody knows.
    pub path: Option<Text>,
    /// The judgement.
    pub verdict: Verdict,
    /// Its reason.
    pub cause: Option<Cause>,
    /// Who took the lock; `None` when nobody knows.
    pub acquirer: Option<Person>,
    /// How the acquirer died, as far as somebody watched: [`crate::process::Exit`] in words.
    pub exit: Option<String>,
    /// What keeps the lock alive.
    pub holders: Vec<Keeper>,
    /// Whether these are all of them.
    pub holders_complete: bool,
    /// Who waits for it, in the order in which they were queued.
    pub waiters: Vec<Asker>,
    /// Why the verdict is what it is. For the reader; no part of what is confirmed.
    pub evidence: Vec<String>,
}

/// A process, as far as a plan cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Number and start.
    pub id: ProcessId,
    /// Whether it is proven dead; `None` if that cannot be established.
    pub dead: Option<bool>,
    /// The command name.
    pub comm: Option<Text>,
    /// The executable's path.
    pub exe: Option<Text>,
    /// Real user id.
    pub uid: Option<u32>,
    /// systemd unit.
    pub unit: Option<Text>,
    /// Container id.
    pub container: Option<Text>,
}

/// One thing that keeps the lock alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// Which process; `None` for the kernel and remote clients.
    pub who: Option<Person>,
    /// By what means.
    pub via: Via,
    /// The descriptor's number.
    pub fd: Option<u32>,
    /// In words a human can act on.
    pub detail: Option<String>,
}

/// One blocked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Who; `None` when nobody knows.
    pub who: Option<Person>,
    /// What it asks for.
    pub mode: Mode,
    /// Which bytes.
    pub range: Range,
    /// The numbers of those queued ahead of it.
    pub behind: Vec<u32>,
}

impl Case {
    /// The case of one of the report's locks.
    pub fn of(report: &Report, lock: &LockReport) -> Self {
        let acquirer = lock.acquirer.as_deref();
        let exit = acquirer.and_then(|process| match &process.life {
            Life::Dead(death) => death.exit.as_ref().map(ToString::to_string),
            _ => None,
        });
        let mut waiters: Vec<_> = lock.waiters.iter().map(Asker::of).collect();
        waiters.sort_by_key(|waiter| waiter.behind.len());
        Self {
            boot_id: report.host.boot_id.clone(),
            exact: report.exact,
            id: lock.id.clone(),
            kind: lock.kind,
            mode: lock.mode,
            range: lock.range,
            file: lock.file,
            path: lock.file_seen.path.clone(),
            verdict: lock.verdict,
            cause: lock.cause,
            acquirer: acquirer.map(Person::of),
            exit,
            holders: lock.holders.iter().map(Keeper::of).collect(),
            holders_complete: lock.holders_complete,
            waiters,
            evidence: lock.evidence.clone(),
        }
    }

    /// Whether this is what the other look has shown too. Words of evidence may differ.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let plain = |case: &Self| Self { evidence: Vec::new(), ..case.clone() };
        plain(self) == plain(other)
    }

    /// Every process among the holders, once, in the order in which they stand.
    pub fn keepers(&self) -> Vec<&Person> {
        people(&self.holders)
    }
}

/// Every process among these, once.
pub(super) fn people(keepers: &[Keeper]) -> Vec<&Person> {
    let mut all: Vec<&Person> = Vec::new();
    for person in keepers.iter().filter_map(|keeper| keeper.who.as_ref()) {
        if !all.iter().any(|known| known.id == person.id) {
            all.push(person);
        }
    }
    all
}

impl Person {
    fn of(process: &Process) -> Self {
        Self {
            id: process.id,
            dead: match process.life {
                Life::Alive => Some(false),
                Life::Dead(_) => Some(true),
                Life::Unknown(_) => None,
            },
            comm: process.comm.clone(),
            exe: process.exe.clone(),
            uid: process.uid,
            unit: process.unit.clone(),
            container: process.container.clone(),
        }
    }
}

/// `pid 4711 (locksmith)`, as [`Process`] has it.
impl std::fmt::Display for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.comm {
            Some(comm) => write!(f, "pid {} ({comm})", self.id.pid),
            None => write!(f, "pid {}", self.id.pid),
        }
    }
}

impl Keeper {
    pub(super) fn of(holder: &Holder) -> Self {
        let Holder { process, via, fd, detail, .. } = holder;
        Self { who: process.as_deref().map(Person::of), via: *via, fd: *fd, detail: detail.clone() }
    }
}

impl Asker {
    fn of(waiter: &Waiter) -> Self {
        let Waiter { process, mode, range, behind, .. } = waiter;
        Self { who: process.as_deref().map(Person::of), mode: *mode, range: *range, behind: behind.clone() }
    }
}
