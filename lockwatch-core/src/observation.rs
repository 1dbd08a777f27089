//! What sources tell the table: a [`Picture`] of everything that is, and [`Event`]s of what happens.
//!
//! A source joins what only it can join (an fd with its lock: by the kernel's pointers, or by fdinfo's text) and
//! leaves every judgement to this crate. What it could not see it says, so that nothing is mistaken for absence.

use std::sync::Arc;

use crate::{
    hash::Map,
    lock::{Breaking, FileId, Kind, Mode, OwnerKey, Range},
    process::{Process, ProcessId},
    text::Text,
    time::{StartTime, Timestamp},
};

/// Everything one look at the world has shown.
#[derive(Clone, Debug)]
pub struct Picture {
    /// When the look began.
    pub taken_at: Timestamp,
    /// Every granted lock.
    pub locks: Vec<LockSeen>,
    /// Every blocked request.
    pub waits: Vec<WaitSeen>,
    /// The processes that locks, holders and waits name, and the births of their neighbours.
    pub census: Census,
    /// The locked files.
    pub files: Map<FileId, Arc<FileSeen>>,
    /// Whether every process's fd table could be read; if not, a holder may be missing.
    pub fds_complete: bool,
    /// Whether every other place that can keep a lock alive (mappings, messages in flight, io_uring, the kernel) was
    /// searched for the locks that no descriptor keeps; if not, an empty list of holders means nothing.
    pub search_complete: bool,
    /// Whether the set of locks is known to be the kernel's own (a denied or torn read makes it false).
    pub exact: bool,
    /// What went wrong on the way, one sentence each, for a human.
    pub warnings: Vec<String>,
}

/// One granted lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSeen {
    /// On which file.
    pub file: FileId,
    /// Which kind of lock.
    pub kind: Kind,
    /// Shared or exclusive.
    pub mode: Mode,
    /// On which bytes; the whole file for flock and leases.
    pub range: Range,
    /// Tells owners apart within this picture.
    pub owner: OwnerKey,
    /// Who took it. `None` when the source cannot know (OFD locks in `/proc/locks`, other pid namespaces).
    pub acquirer: Option<ProcessId>,
    /// When it was taken, if somebody watched.
    pub acquired_at: Option<Timestamp>,
    /// The acquirer's ancestors at that time, parent first, if somebody watched: a descriptor that one of them has
    /// too was there before the lock (the flock(1) idiom), so they are the parties of DESIGN section 5.
    pub ancestors: Vec<ProcessId>,
    /// Whether it was seen being taken. An unwatched lock is judged by the "cold" rules.
    pub watched: bool,
    /// What keeps it alive.
    pub holders: Vec<HolderSeen>,
    /// Whether it is a lease that is being broken.
    pub breaking: Option<Breaking>,
}

/// One thing that keeps a lock alive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HolderSeen {
    /// Which process; `None` for the kernel and remote clients.
    pub process: Option<ProcessId>,
    /// By what means.
    pub via: Via,
    /// The descriptor's number, for [`Via::Fd`].
    pub fd: Option<u32>,
    /// Whether the descriptor has O_CLOEXEC, and so has survived no exec.
    pub cloexec: Option<bool>,
    /// Whether this very process is proven to have opened the file, and so had it before anybody locked it; `None`
    /// where the source cannot see it.
    pub opened: Option<bool>,
    /// In words a human can act on.
    pub detail: Option<String>,
}

/// By what means something keeps a lock alive (DESIGN section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// An open file descriptor.
    Fd,
    /// A memory mapping.
    Mapping,
    /// A descriptor on its way through a unix socket.
    Message,
    /// A file registered with io_uring.
    IoUring,
    /// The kernel itself: a loop device, a swap file.
    Kernel,
    /// A client of this host's NFS server.
    Remote,
}

impl Via {
    /// Every means.
    pub const ALL: [Via; 6] = [Via::Fd, Via::Mapping, Via::Message, Via::IoUring, Via::Kernel, Via::Remote];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Via::Fd => "fd",
            Via::Mapping => "mapping",
            Via::Message => "message",
            Via::IoUring => "io_uring",
            Via::Kernel => "kernel",
            Via::Remote => "remote",
        }
    }
}

/// One blocked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitSeen {
    /// For which file.
    pub file: FileId,
    /// Which kind of lock it asks for.
    pub kind: Kind,
    /// Shared or exclusive.
    pub mode: Mode,
    /// Which bytes.
    pub range: Range,
    /// Who asks; `None` when the source cannot know.
    pub process: Option<ProcessId>,
    /// Since when, if that is known.
    pub since: Option<Timestamp>,
}

/// What is known of a locked file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSeen {
    /// Where it is, or was when it was deleted; `None` where no name is known to lead to it.
    pub path: Option<Text>,
    /// The process for which that path is true, if it is not true for us: it lives in another mount namespace.
    pub path_of: Option<u32>,
    /// What the kernel calls a file that has no path anywhere: `memfd:cache`, `pipe:[4711]`.
    pub label: Option<Text>,
    /// Whether that name is gone.
    pub deleted: bool,
    /// The file system's type (`ext4`).
    pub fs: Option<Text>,
    /// The first bytes of a small file, where they could be read without opening it: a pid file names its owner.
    pub text: Option<Vec<u8>>,
}

/// The processes of one picture.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Those alive that locks, holders, waits and ancestors name, by number.
    pub living: Map<u32, Arc<Process>>,
    /// Those that a watcher saw die.
    pub dead: Map<ProcessId, Arc<Process>>,
    /// Number and start of every living process, for judging ages; empty when nobody needed it.
    pub births: Vec<(u32, StartTime)>,
    /// Why a number without a living process may still be alive ("lockwatch runs in its own pid namespace");
    /// `None` when every process of the host is visible.
    pub blind_spot: Option<String>,
}

/// Something that happened, as a watcher saw it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A lock operation.
    Lock(LockEvent),
    /// The last thread of a process that had to do with locks is gone, and so are its descriptors.
    Died {
        /// When.
        at: Timestamp,
        /// Who, with its [`crate::process::Life::Dead`].
        process: Arc<Process>,
    },
    /// Events were lost: what is known is not exact until the next picture.
    Lost {
        /// When it was noticed.
        at: Timestamp,
        /// How many.
        count: u64,
    },
}

/// One lock operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: LockEventKind,
    /// On which file.
    pub file: FileId,
    /// Which kind of lock.
    pub kind: Kind,
    /// Asked for, or released.
    pub mode: Mode,
    /// On which bytes.
    pub range: Range,
    /// Whose lock it is.
    pub owner: OwnerKey,
    /// Who did it.
    pub process: ProcessId,
    /// Its command name then.
    pub comm: Text,
    /// Whether its file system keeps the lock to itself, so that no picture shows it.
    pub remote: bool,
    /// How long the request had waited, for `Granted` and `WaitEnded`, in nanoseconds.
    pub waited_ns: Option<u64>,
}

/// What happened to a lock (CONTRACT section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockEventKind {
    /// Granted at once.
    Acquired,
    /// Refused: a non-blocking request met a conflict.
    Refused,
    /// The request blocks.
    Waiting,
    /// Granted after a wait.
    Granted,
    /// The wait ended without a lock: a signal, a time-out, a death.
    WaitEnded,
    /// Unlocked, or closed.
    Released,
}

impl LockEventKind {
    /// Everything.
    pub const ALL: [LockEventKind; 6] = [
        LockEventKind::Acquired,
        LockEventKind::Refused,
        LockEventKind::Waiting,
        LockEventKind::Granted,
        LockEventKind::WaitEnded,
        LockEventKind::Released,
    ];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            LockEventKind::Acquired => "acquired",
            LockEventKind::Refused => "refused",
            LockEventKind::Waiting => "waiting",
            LockEventKind::Granted => "granted",
            LockEventKind::WaitEnded => "wait_ended",
            LockEventKind::Released => "released",
        }
    }
}
