//! Keys and values of the in-kernel tables.

use crate::{ANCESTORS, COMM_LEN, kind, wire::wire};

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

impl LockKey {
    /// Which slot is this lock's own, among so many: a power of two. `None` if there are none, and for a lease, which may
    /// end without a word and would keep its slot from others.
    #[inline(always)]
    pub const fn slot(&self, slots: u32) -> Option<u32> {
        if slots == 0 || self.kind > kind::OFD {
            return None;
        }
        let which = self.owner ^ self.inode.rotate_left(32) ^ (self.device as u64) << 8 ^ self.kind as u64;
        // 2^64 by the golden ratio: the upper bits of the product depend on all of these.
        Some((which.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & (slots - 1))
    }
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

/// A place for one note of a lock, and what is known of the other notes that would have belonged there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// A phase of [`slot`] in the lowest bits; above them a number that is another after each change.
    pub state: u64,
    /// How many notes of locks whose slot this is are in the table beside the slots.
    pub beyond: i64,
    /// Which lock.
    pub lock: LockKey,
    /// What is noted of it.
    pub held: HeldValue,
}

/// Phases of a [`Slot`].
pub mod slot {
    /// There is no note in it.
    pub const FREE: u64 = 0;
    /// Somebody writes into it, for as long as that takes.
    pub const BUSY: u64 = 1;
    /// There is a note in it.
    pub const FULL: u64 = 2;
    /// The bits of the phase.
    const PHASE: u64 = 3;

    /// Which phase a state is in.
    #[inline(always)]
    pub const fn phase(state: u64) -> u64 {
        state & PHASE
    }

    /// The next state, in this phase.
    #[inline(always)]
    pub const fn next(state: u64, phase: u64) -> u64 {
        (state & !PHASE).wrapping_add(PHASE + 1) | phase
    }
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
    Slot 88;
    WaitValue 72;
    ProcessValue 168;
    Cursor 48;
    BudgetValue 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_spread_over_the_slots() {
        // Open files are some hundred bytes apart, inodes are numbered one by one.
        let mut met = [0_u32; 1024];
        for i in 0..1024_u64 {
            let lock =
                LockKey { inode: 131 + i % 64, owner: 0xffff_8881_0400_0000 + i * 192, device: 8 << 20 | 1, kind: 0 };
            met[lock.slot(1024).unwrap() as usize] += 1;
        }
        // Thrown at random they would meet 647 of them.
        assert!(met.iter().filter(|count| **count > 0).count() > 600, "{met:?}");
        assert!(met.iter().all(|count| *count < 10), "{met:?}");
    }

    #[test]
    fn a_lease_has_no_slot() {
        let check = |kind, slots, expect| {
            assert_eq!(LockKey { inode: 1, owner: 2, device: 3, kind }.slot(slots).is_some(), expect);
        };
        check(kind::FLOCK, 64, true);
        check(kind::OFD, 64, true);
        check(kind::LEASE, 64, false);
        check(kind::DELEGATION, 64, false);
        check(kind::FLOCK, 0, false);
    }

    #[test]
    fn a_state_never_comes_back() {
        let full = slot::next(slot::next(slot::FREE, slot::BUSY), slot::FULL);
        let free = slot::next(full, slot::FREE);
        assert_eq!((slot::phase(full), slot::phase(free)), (slot::FULL, slot::FREE));
        assert_ne!(slot::next(free, slot::FULL), full);
    }
}
