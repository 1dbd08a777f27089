//! What lockwatch has found: the value that every output format prints.

use std::{sync::Arc, time::Duration};

use crate::{
    id::LockId,
    lock::{Breaking, FileId, Kind, Mode, Range},
    moment::Moment,
    observation::{FileSeen, Via},
    process::{Life, Process},
    text::Text,
    time::Timestamp,
};

/// The answer to "who holds what": every lock with its people and its verdict, hot first, then orphaned, then by
/// path and range.
#[derive(Clone, Debug)]
pub struct Report {
    /// When the look began.
    pub taken_at: Timestamp,
    /// Where.
    pub host: Host,
    /// Which sources were asked, and how they did.
    pub sources: Vec<SourceStatus>,
    /// Whether the set of locks is known to be the kernel's own.
    pub exact: bool,
    /// What a reader must know before trusting the rest.
    pub warnings: Vec<String>,
    /// Every lock.
    pub locks: Vec<LockReport>,
}

impl Report {
    /// Whether a lock is called orphaned that descriptors keep: somebody who had it before may keep it in another way.
    pub fn accuses_heirs(&self) -> bool {
        let by_descriptors = |lock: &LockReport| lock.holders.iter().all(|holder| holder.via == Via::Fd);
        self.locks.iter().any(|l| l.verdict == Verdict::Orphaned && l.kind != Kind::Posix && by_descriptors(l))
    }
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `uname -n`.
    pub hostname: Text,
    /// `uname -r`.
    pub kernel: Text,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// How a source did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// `procfs`, `bpf`.
    pub name: &'static str,
    /// Its state.
    pub state: SourceState,
    /// Why it is not ok.
    pub reason: Option<String>,
}

/// The state of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It answered in full.
    Ok,
    /// It answered in part.
    Degraded,
    /// It cannot be used here.
    Unavailable,
    /// Nobody asked it.
    Unused,
}

impl SourceState {
    /// Every state.
    pub const ALL: [SourceState; 4] =
        [SourceState::Ok, SourceState::Degraded, SourceState::Unavailable, SourceState::Unused];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            SourceState::Ok => "ok",
            SourceState::Degraded => "degraded",
            SourceState::Unavailable => "unavailable",
            SourceState::Unused => "unused",
        }
    }
}

/// One lock with all that is known of it.
#[derive(Clone, Debug)]
pub struct LockReport {
    /// Its short name.
    pub id: LockId,
    /// Which kind of lock.
    pub kind: Kind,
    /// Shared or exclusive.
    pub mode: Mode,
    /// On which bytes.
    pub range: Range,
    /// On which file, by identity.
    pub file: FileId,
    /// What is known of that file.
    pub file_seen: Arc<FileSeen>,
    /// Who took it; `None` when nobody knows.
    pub acquirer: Option<Arc<Process>>,
    /// When it was taken.
    pub acquired_at: Option<Timestamp>,
    /// Whether it is a lease that is being broken.
    pub breaking: Option<Breaking>,
    /// What keeps it alive.
    pub holders: Vec<Holder>,
    /// Whether these are all of them.
    pub holders_complete: bool,
    /// Who waits for it.
    pub waiters: Vec<Waiter>,
    /// The judgement.
    pub verdict: Verdict,
    /// Its reason.
    pub cause: Option<Cause>,
    /// Orphaned or deadlocked, and somebody has been waiting for longer than [`Settings::hot_after`].
    pub hot: bool,
    /// Whether it stands in a cycle of waits.
    pub deadlock: bool,
    /// Why the verdict is what it is: sentences a human can check.
    pub evidence: Vec<String>,
    /// What has happened to it, oldest first, as far as somebody has watched; the table leaves it empty.
    pub history: Vec<Moment>,
}

impl LockReport {
    /// When its acquirer died, if that is known.
    pub fn acquirer_died(&self) -> Option<Timestamp> {
        match &self.acquirer.as_ref()?.life {
            Life::Dead(death) => death.at,
            _ => None,
        }
    }
}

/// One thing that keeps a lock alive.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Which process; `None` for the kernel and remote clients.
    pub process: Option<Arc<Process>>,
    /// By what means.
    pub via: Via,
    /// The descriptor's number.
    pub fd: Option<u32>,
    /// Whether the descriptor has O_CLOEXEC.
    pub cloexec: Option<bool>,
    /// Whether this very process is proven to have opened the file.
    pub opened: Option<bool>,
    /// In words a human can act on.
    pub detail: Option<String>,
}

/// One blocked request.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// Who; `None` when nobody knows (an OFD request seen through `/proc/locks`).
    pub process: Option<Arc<Process>>,
    /// What it asks for.
    pub mode: Mode,
    /// Which bytes.
    pub range: Range,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The numbers of those queued ahead of it.
    pub behind: Vec<u32>,
}

/// Whether anybody can be expected to release the lock (DESIGN section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// By the process that took it, or by others who share it.
    Held,
    /// Its acquirer gave it to somebody else, on purpose as far as one can see.
    HandedOver,
    /// Nobody who knows of the lock is left.
    Orphaned,
    /// It cannot be said.
    Unknown,
}

impl Verdict {
    /// Every verdict, worst first.
    pub const ALL: [Verdict; 4] = [Verdict::Orphaned, Verdict::Unknown, Verdict::HandedOver, Verdict::Held];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Held => "held",
            Verdict::HandedOver => "handed_over",
            Verdict::Orphaned => "orphaned",
            Verdict::Unknown => "unknown",
        }
    }
}

/// Why a lock was handed over, orphaned, or cannot be judged (DESIGN section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The living acquirer passed it on.
    Passed,
    /// It was taken on a descriptor that somebody else had already: flock(1).
    Borrowed,
    /// A daemon took it, forked and exited.
    Daemonized,
    /// A fork of the acquirer's program still has it.
    Child,
    /// Another program inherited it.
    Leaked,
    /// Inherited; nobody watched how.
    Inherited,
    /// Only a memory mapping keeps it.
    Mapped,
    /// Only a message in a socket keeps it.
    InFlight,
    /// Only an io_uring keeps it.
    IoUring,
    /// A process that shares the file table keeps it.
    SharedFiles,
    /// The kernel keeps it: loop device, swap.
    Kernel,
    /// A remote client that is gone.
    Remote,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 12] = [
        Cause::Passed,
        Cause::Borrowed,
        Cause::Daemonized,
        Cause::Child,
        Cause::Leaked,
        Cause::Inherited,
        Cause::Mapped,
        Cause::InFlight,
        Cause::IoUring,
        Cause::SharedFiles,
        Cause::Kernel,
        Cause::Remote,
    ];

    /// Those that an orphaned lock can have (DESIGN section 5).
    pub const OF_ORPHANS: [Cause; 9] = [
        Cause::Child,
        Cause::Leaked,
        Cause::Inherited,
        Cause::Mapped,
        Cause::InFlight,
        Cause::IoUring,
        Cause::SharedFiles,
        Cause::Kernel,
        Cause::Remote,
    ];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Passed => "passed",
            Cause::Borrowed => "borrowed",
            Cause::Daemonized => "daemonized",
            Cause::Child => "child",
            Cause::Leaked => "leaked",
            Cause::Inherited => "inherited",
            Cause::Mapped => "mapped",
            Cause::InFlight => "in_flight",
            Cause::IoUring => "io_uring",
            Cause::SharedFiles => "shared_files",
            Cause::Kernel => "kernel",
            Cause::Remote => "remote",
        }
    }
}

/// What a judgement depends on besides the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long somebody must have waited for an orphaned or deadlocked lock to be hot.
    pub hot_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hot_after: Duration::from_secs(5) }
    }
}
