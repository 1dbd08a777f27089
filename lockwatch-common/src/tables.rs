//! Keys and values of the in-kernel tables.

use crate::{ANCESTORS, COMM_LEN, wire::wire};

/// Which lock: what a tracepoint's record, the tracepoint's arguments and the kernel's list all show. The file lock's
/// address is not among it (a request is copied when it is granted), nor is the range (granted ranges merge and split).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockKey {
    /// Inode number.
    pub inode: u64,
    /// `flc_owner`.
    pub owner: u64,
    /// The kernel's device number.
    pub device: u32,
    /// One of [`crate::kind`].
    pub kind: u32,
}

/// Which process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Start in nanoseconds since boot (`group_leader->start_boottime`).
    pub start_ns: u64,
    /// Number in the initial pid namespace.
    pub pid: u32,
    /// Always 0.
    pub pad: u32,
}

/// What is known of a granted lock: who took it and when. It is a note beside the kernel's own list, which alone says
/// whether the lock is still there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeldValue {
    /// Who took it.
    pub process: ProcessKey,
    /// When its last range was granted, in nanoseconds since boot.
    pub at_ns: u64,
    /// That range.
    pub start: u64,
    /// Its last byte.
    pub end: u64,
    /// Read or write.
    pub ty: u32,
    /// Always 0.
    pub pad: u32,
}

/// A blocked request, by thread id.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WaitValue {
    /// The lock it asks for.
    pub lock: LockKey,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// Since when, in nanoseconds since boot.
    pub since_ns: u64,
    /// Who waits.
    pub process: ProcessKey,
    /// Read or write.
    pub ty: u32,
    /// FL_* bits.
    pub flags: u32,
}

/// A process that took a lock, or descends from one that did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProcessValue {
    /// The ancestors at the first lock, parent first; pid 0 ends them.
    pub ancestors: [ProcessKey; ANCESTORS],
    /// The executable's inode.
    pub exe_inode: u64,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// The address of its file table when it came into the table, or since its last execve(2).
    pub files: u64,
    /// When it died, in nanoseconds since boot; 0 while it lives.
    pub died_ns: u64,
    /// How many locks of the table it took that are still held.
    pub held: i64,
    /// The executable's device.
    pub exe_device: u32,
    /// Real user id.
    pub uid: u32,
    /// As wait(2) gives it.
    pub exit_code: u32,
    /// Bits of [`process_flag`].
    pub flags: u32,
    /// Who sent the last fatal signal.
    pub killer_pid: u32,
    /// Which signal that was.
    pub killer_signal: u32,
    /// Its `si_code`.
    pub killer_code: i32,
    /// Always 0.
    pub pad: u32,
    /// Command name.
    pub comm: [u8; COMM_LEN],
    /// The sender's command name.
    pub killer_comm: [u8; COMM_LEN],
}

/// Bits of [`ProcessValue::flags`].
pub mod process_flag {
    /// Born of a process of the table, or of an heir.
    pub const HEIR: u32 = 1;
    /// It has run execve(2) since it came into the table.
    pub const EXECED: u32 = 2;
    /// The OOM killer chose it.
    pub const OOM: u32 = 4;
    /// It has taken a lock itself.
    pub const LOCKER: u32 = 8;
    /// Nobody saw it die; `died_ns` is when that was noticed. User space's own.
    pub const UNSEEN: u32 = 16;
}

/// Where a walk stands between two runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// Address of the list node to visit next; 0 at the end, and before the start.
    pub node: u64,
    /// Address of the node before it.
    pub previous: u64,
    /// The granted lock whose waiters are being walked; 0 when none are.
    pub lock: u64,
    /// The request that was visited last among them.
    pub waiter: u64,
    /// The anchor's file descriptor in the running process.
    pub anchor_fd: u32,
    /// How many steps this run may take.
    pub budget: u32,
    /// One of [`cursor`].
    pub state: u32,
    /// How deep in the tree of waiters.
    pub depth: u32,
}

/// States of a [`Cursor`].
pub mod cursor {
    /// Look for the anchor.
    pub const START: u32 = 0;
    /// On the way.
    pub const MORE: u32 = 1;
    /// The list's end was reached.
    pub const DONE: u32 = 2;
    /// The list changed underfoot: begin again.
    pub const TORN: u32 = 3;
    /// The ring is full: drain it and go on.
    pub const FULL: u32 = 4;
    /// The anchor was not found: the layout is wrong, or another kernel runs.
    pub const NO_ANCHOR: u32 = 5;
}

/// How many events of one control group a second are traced.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BudgetValue {
    /// Which second since boot `used` is of.
    pub second: u64,
    /// How many there were in it.
    pub used: i64,
    /// The last second in which some were left out; 0 if never.
    pub over: u64,
    /// How many were left out since the entry was made.
    pub left_out: i64,
}

wire! {
    LockKey 24;
    ProcessKey 16;
    HeldValue 48;
    WaitValue 72;
    ProcessValue 168;
    Cursor 48;
    BudgetValue 32;
}
