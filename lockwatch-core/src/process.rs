//! Who a process is, and whether it lives.

mod exit;

use std::fmt;

pub use self::exit::{Exit, Raised, signal_name};
use crate::{
    lock::{FileId, OwnerKey},
    text::Text,
    time::{StartTime, Timestamp},
};

/// A process by number and start: the number alone is a name that the kernel gives away again.
///
/// `start: None` means that only the number is known, as in `/proc/locks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The number in the initial pid namespace (or in lockwatch's own, where it can see no further).
    pub pid: u32,
    /// When it started, if that is known.
    pub start: Option<StartTime>,
}

/// What is known of a process. Every field may be unknown; nothing is guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Number and start.
    pub id: ProcessId,
    /// The start on the wall clock.
    pub started_at: Option<Timestamp>,
    /// The command name, at most 15 bytes.
    pub comm: Option<Text>,
    /// The executable's path, or where it was when it died.
    pub exe: Option<Text>,
    /// The executable by identity: this is what "runs the same program" compares.
    pub exe_file: Option<FileId>,
    /// Real user id.
    pub uid: Option<u32>,
    /// systemd unit of the system's manager, from the cgroup's path.
    pub unit: Option<Text>,
    /// Unit of a user's own manager, below that.
    pub user_unit: Option<Text>,
    /// The innermost slice above the unit.
    pub slice: Option<Text>,
    /// Container id, from the cgroup's path.
    pub container: Option<Text>,
    /// Which engine runs that container.
    pub runtime: Option<Runtime>,
    /// UID of the Kubernetes pod.
    pub pod: Option<Text>,
    /// Its number in the pid namespace it lives in, where that is not the one of [`ProcessId::pid`].
    pub inner_pid: Option<u32>,
    /// The parent's number.
    pub parent: Option<u32>,
    /// Whether it leads its session and has no terminal: how a daemon looks.
    pub daemon_looks: Option<bool>,
    /// Whether it has run execve(2) since a watcher first saw it; `None` if nobody watched.
    pub execed: Option<bool>,
    /// Its file table, where the source sees it and somebody asks: processes that share one (clone(2) with CLONE_FILES)
    /// have the same.
    pub file_table: Option<OwnerKey>,
    /// How many threads it has.
    pub threads: Option<u32>,
    /// Whether it lives.
    pub life: Life,
}

impl Process {
    /// A process of which nothing but the number is known.
    pub fn unknown(id: ProcessId, life: Life) -> Self {
        Self {
            id,
            started_at: None,
            comm: None,
            exe: None,
            exe_file: None,
            uid: None,
            unit: None,
            user_unit: None,
            slice: None,
            container: None,
            runtime: None,
            pod: None,
            inner_pid: None,
            parent: None,
            daemon_looks: None,
            execed: None,
            file_table: None,
            threads: None,
            life,
        }
    }

    /// The same process, known to come from there.
    pub fn with_origin(self, origin: Origin) -> Self {
        let Origin { unit, user_unit, slice, container, runtime, pod } = origin;
        Self { unit, user_unit, slice, container, runtime, pod, ..self }
    }

    /// Whether a dead process's file table is this one's too (clone(2) with CLONE_FILES), as far as both are known. The
    /// table's address may have been given to another since: whoever shares it was there before that death.
    pub fn shares_files_of(&self, gone: &Process) -> bool {
        let Life::Dead(Death { at: Some(at), .. }) = &gone.life else { return false };
        let one = self.file_table.is_some() && self.file_table == gone.file_table;
        one && self.started_at.is_some_and(|born| born <= *at)
    }
}

/// Where a process comes from, as its control group tells ([`crate::parse::cgroup`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// systemd unit of the system's manager.
    pub unit: Option<Text>,
    /// Unit of a user's own manager, below that.
    pub user_unit: Option<Text>,
    /// The innermost slice above the unit.
    pub slice: Option<Text>,
    /// Container id.
    pub container: Option<Text>,
    /// Which engine runs that container.
    pub runtime: Option<Runtime>,
    /// UID of the Kubernetes pod.
    pub pod: Option<Text>,
}

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, through CRI or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
    /// LXC and Incus.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
}

impl Runtime {
    /// Every engine.
    pub const ALL: [Runtime; 6] =
        [Runtime::Docker, Runtime::Containerd, Runtime::CriO, Runtime::Podman, Runtime::Lxc, Runtime::Nspawn];

    /// The word for it in documents.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Containerd => "containerd",
            Runtime::CriO => "cri-o",
            Runtime::Podman => "podman",
            Runtime::Lxc => "lxc",
            Runtime::Nspawn => "systemd-nspawn",
        }
    }
}

/// `pid 4711 (locksmith)`: how a sentence names a process.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.comm {
            Some(comm) => write!(f, "pid {} ({comm})", self.id.pid),
            None => write!(f, "pid {}", self.id.pid),
        }
    }
}

/// Whether a process lives. "Dead" is a proven fact: no such process, another one under its number, or all of its
/// threads gone. A zombie leader with living threads is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// It lives.
    Alive,
    /// It is gone.
    Dead(Death),
    /// It cannot be established, and why ("pid 4711 lives in another pid namespace").
    Unknown(String),
}

impl Life {
    /// The contract's word: `alive`, `dead`, `unknown`.
    pub fn name(&self) -> &'static str {
        match self {
            Life::Alive => "alive",
            Life::Dead(_) => "dead",
            Life::Unknown(_) => "unknown",
        }
    }

    /// Whether it is proven dead.
    pub fn is_dead(&self) -> bool {
        matches!(self, Life::Dead(_))
    }
}

/// How and when a process died, as far as somebody watched.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Death {
    /// When its last thread went.
    pub at: Option<Timestamp>,
    /// How.
    pub exit: Option<Exit>,
    /// Its number now belongs to this other process.
    pub number_reused_by: Option<ProcessId>,
}
