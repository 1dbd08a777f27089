//! What crosses the border between lockwatch and its BPF programs: records, map keys and values, constants.
//!
//! Everything here is `repr(C)` with fixed-width integers and explicit padding, so that both sides lay it out alike;
//! there is no `bool`, `enum` or `Option`. The kernel side writes, the user side copies and checks the length.

#![no_std]

mod layout;
mod records;
mod stats;
mod switch;
mod tables;
mod wire;

pub use layout::{Layout, TraceLayout};
pub use records::{
    DeathRecord, FdRecord, KeeperRecord, LockRecord, NameRecord, RECORD_DEATH, RECORD_LOCK, RECORD_THROTTLE,
    ThrottleRecord, WalkRecord,
};
pub use stats::{BUCKETS, Counters, KINDS, bucket, counter};
pub use switch::{Beat, Switch};
pub use tables::{
    BudgetValue, Cursor, HeldValue, LockKey, ProcessKey, ProcessValue, Slot, WaitValue, cursor, process_flag, slot,
};
pub use wire::Wire;

/// Length of the kernel's command names: TASK_COMM_LEN (include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// How many ancestors of an acquirer are noted: a shell in a subshell in a script is three.
pub const ANCESTORS: usize = 4;

/// Kinds of lock on the wire.
pub mod kind {
    /// flock(2).
    pub const FLOCK: u32 = 0;
    /// fcntl(2) F_SETLK.
    pub const POSIX: u32 = 1;
    /// fcntl(2) F_OFD_SETLK.
    pub const OFD: u32 = 2;
    /// F_SETLEASE.
    pub const LEASE: u32 = 3;
    /// A lease of nfsd's clients.
    pub const DELEGATION: u32 = 4;
}

/// Bits of `flc_flags` (include/linux/filelock.h, 6.18; the same values since 3.15).
pub mod fl {
    /// POSIX or OFD.
    pub const POSIX: u32 = 1;
    /// flock(2).
    pub const FLOCK: u32 = 2;
    /// A delegation.
    pub const DELEG: u32 = 4;
    /// Only a test whether a lock would be granted.
    pub const ACCESS: u32 = 8;
    /// A lease.
    pub const LEASE: u32 = 32;
    /// The unlock of a close.
    pub const CLOSE: u32 = 64;
    /// The request may block.
    pub const SLEEP: u32 = 128;
    /// A lease that is to become a read lease.
    pub const DOWNGRADE_PENDING: u32 = 256;
    /// A lease that is to go.
    pub const UNLOCK_PENDING: u32 = 512;
    /// Owned by the open file description.
    pub const OFDLCK: u32 = 1024;

    /// Not the kernel's: the file system keeps the lock to itself.
    pub const REMOTE: u32 = 1 << 31;

    /// The kind that the bits say, in [`crate::kind`]'s numbers.
    pub const fn kind(flags: u32) -> u32 {
        if flags & OFDLCK != 0 {
            crate::kind::OFD
        } else if flags & POSIX != 0 {
            crate::kind::POSIX
        } else if flags & FLOCK != 0 {
            crate::kind::FLOCK
        } else if flags & DELEG != 0 {
            crate::kind::DELEGATION
        } else {
            crate::kind::LEASE
        }
    }
}

/// What keeps a file open, in [`KeeperRecord::what`].
pub mod keeper {
    /// A memory mapping.
    pub const MAPPING: u32 = 0;
    /// A message in a unix socket.
    pub const MESSAGE: u32 = 1;
    /// A message in a unix socket that nobody has accepted yet.
    pub const EMBRYO: u32 = 2;
    /// An io_uring.
    pub const RING: u32 = 3;
}

/// Lock types: `flc_type` (include/uapi/asm-generic/fcntl.h).
pub mod ty {
    /// Shared.
    pub const READ: u32 = 0;
    /// Exclusive.
    pub const WRITE: u32 = 1;
    /// Unlock.
    pub const UNLOCK: u32 = 2;
}

/// What happened to a lock, in [`LockRecord::what`].
pub mod what {
    /// Granted at once.
    pub const ACQUIRED: u32 = 0;
    /// Refused.
    pub const REFUSED: u32 = 1;
    /// The request blocks.
    pub const WAITING: u32 = 2;
    /// Granted after a wait.
    pub const GRANTED: u32 = 3;
    /// The wait ended without a lock.
    pub const WAIT_ENDED: u32 = 4;
    /// Unlocked.
    pub const RELEASED: u32 = 5;
}

/// Bits of the `MODE` global: what a loaded set of programs is for.
pub mod mode {
    /// Every lock operation goes to the ring, not only waits: somebody traces.
    pub const TRACE: u32 = 1;
    /// Some file systems may keep locks to themselves: the map `REMOTE` has their devices.
    pub const REMOTE: u32 = 2;
    /// Durations are counted: an agent's metrics tell them.
    pub const TIME: u32 = 4;
    /// Whether every lock operation goes to the ring is told by [`crate::Switch`], and may change.
    pub const SWITCHED: u32 = 8;
}
