//! Records that the BPF programs hand to user space.

use crate::{COMM_LEN, LockKey, ProcessKey, ProcessValue, wire::wire};

/// A [`LockRecord`] stands in the ring.
pub const RECORD_LOCK: u32 = 1;
/// A [`DeathRecord`] stands in the ring.
pub const RECORD_DEATH: u32 = 2;
/// A [`ThrottleRecord`] stands in the ring.
pub const RECORD_THROTTLE: u32 = 3;

/// Something happened to a lock.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LockRecord {
    /// [`RECORD_LOCK`].
    pub record: u32,
    /// One of [`crate::what`].
    pub what: u32,
    /// When, in nanoseconds since boot.
    pub at_ns: u64,
    /// How long it waited, for a wait's end.
    pub waited_ns: u64,
    /// Which lock.
    pub lock: LockKey,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// Who did it.
    pub process: ProcessKey,
    /// Read or write; for a release, what its owner took last.
    pub ty: u32,
    /// FL_* bits.
    pub flags: u32,
    /// Its command name.
    pub comm: [u8; COMM_LEN],
}

/// A process of the table died: its last thread is on its way out, its files are not closed yet.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DeathRecord {
    /// [`RECORD_DEATH`].
    pub record: u32,
    /// Always 0.
    pub pad: u32,
    /// Who.
    pub process: ProcessKey,
    /// All that is known of it.
    pub value: ProcessValue,
}

/// From here on events of a control group are left out of the trace.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ThrottleRecord {
    /// [`RECORD_THROTTLE`].
    pub record: u32,
    /// Always 0.
    pub pad: u32,
    /// When, in nanoseconds since boot.
    pub at_ns: u64,
    /// The group's number; 0 for all that found no room in the table of groups.
    pub cgroup: u64,
}

/// One granted lock or one of its waiters, as the walk met it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WalkRecord {
    /// Which lock.
    pub lock: LockKey,
    /// Address of the kernel's `struct file_lock`.
    pub address: u64,
    /// The open file description.
    pub file: u64,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// For a lock: who took it; start 0 if nobody watched. For a waiter: the sleeping process.
    pub process: ProcessKey,
    /// For a lock: when it was taken; 0 if nobody watched. For a waiter: since when it sleeps, at the latest.
    pub at_ns: u64,
    /// For a lease that is being broken: when the kernel takes it away, in nanoseconds since boot; 0 if never, or
    /// unknown.
    pub deadline_ns: u64,
    /// FL_* bits.
    pub flags: u32,
    /// Read, write, or unlock (a lease that is being broken).
    pub ty: u32,
    /// `flc_pid`.
    pub pid: u32,
    /// 0 for a granted lock; for a waiter, how deep it stands in the tree of requests.
    pub depth: u32,
}

/// One descriptor of a file that carries locks; `path_len` bytes of path follow.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FdRecord {
    /// Whose descriptor.
    pub process: ProcessKey,
    /// The open file description.
    pub file: u64,
    /// The file table: POSIX locks' owner key.
    pub files: u64,
    /// Inode number.
    pub inode: u64,
    /// The kernel's device number.
    pub device: u32,
    /// The descriptor's number.
    pub fd: u32,
    /// O_* flags of the description.
    pub f_flags: u32,
    /// 1 if the descriptor is closed on exec.
    pub cloexec: u32,
    /// Bytes of path behind this record.
    pub path_len: u32,
    /// Thread id of the visited thread.
    pub tid: u32,
    /// The executable's inode.
    pub exe_inode: u64,
    /// The executable's device.
    pub exe_device: u32,
    /// 1 if the description was opened with the very credentials object that the visited thread has now: a process
    /// gets one of its own at fork and exec, so it opened the file itself.
    pub opened: u32,
    /// The inode number of the directory in whose cached entries the file stands under the name it was opened by; 0 if
    /// it does not, or its file system must be asked whether they are true.
    pub directory: u64,
}

/// Something that keeps a wanted file open without a descriptor, as the search met it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KeeperRecord {
    /// Whose mapping, socket or ring.
    pub process: ProcessKey,
    /// The open file description.
    pub file: u64,
    /// Of a mapping, its first address; of a message, its socket's inode number; of a ring that no descriptor shows,
    /// the first address of its own mapping, else 0.
    pub place: u64,
    /// Of a mapping, the address behind its last.
    pub end: u64,
    /// VM_* bits of a mapping.
    pub vm_flags: u64,
    /// The executable's inode.
    pub exe_inode: u64,
    /// The executable's device.
    pub exe_device: u32,
    /// One of [`crate::keeper`].
    pub what: u32,
    /// The descriptor of the socket or ring.
    pub fd: u32,
    /// Of a message, how many are before it in its queue; of a ring, the slot.
    pub index: u32,
    /// Of a message, how many descriptors it carries.
    pub count: u32,
    /// 1 as in [`FdRecord::opened`].
    pub opened: u32,
}

/// One name of the path of an open file, from the file up; an empty one is the root.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NameRecord {
    /// 1 if the name is gone from its directory.
    pub unhashed: u32,
    /// Always 0.
    pub pad: u32,
    /// The name, ended by NUL.
    pub name: [u8; 256],
}

wire! {
    NameRecord 264;
    KeeperRecord 80;
    LockRecord 104;
    DeathRecord 192;
    ThrottleRecord 24;
    WalkRecord 104;
    FdRecord 88;
}
