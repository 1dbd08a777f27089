//! What the probes count, each CPU for itself: one array of numbers, so that one look-up finds them all.

use crate::wire::Wire;

/// How many kinds of lock there are: [`crate::kind`].
pub const KINDS: u32 = 5;

/// How many buckets a histogram has: up to 2^10, 2^12, … 2^42 nanoseconds, and one for whatever is longer.
pub const BUCKETS: usize = 18;

/// A CPU's counters, at the indices of [`counter`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counters(pub [u64; counter::SIZE]);

// SAFETY: an array of integers.
unsafe impl Wire for Counters {}

/// Indices of the counters. What is counted by kind has [`super::KINDS`] of them.
pub mod counter {
    use super::{BUCKETS, KINDS};

    /// Granted at once or after a wait, by kind and, within it, by mode: read, write.
    pub const ACQUIRED: u32 = 0;
    /// Released, by kind.
    pub const RELEASED: u32 = ACQUIRED + 2 * KINDS;
    /// Refused, by kind.
    pub const REFUSED: u32 = RELEASED + KINDS;
    /// Blocked, by kind.
    pub const CONTENDED: u32 = REFUSED + KINDS;
    /// Records in the ring, by [`crate::what`] (six).
    pub const TOLD: u32 = CONTENDED + KINDS;
    /// Deaths in the ring.
    pub const TOLD_DEATHS: u32 = TOLD + 6;
    /// Records that found no room in the ring.
    pub const RING_LOST: u32 = TOLD_DEATHS + 1;
    /// Traced operations that were left out so that deaths and waits keep room in the ring.
    pub const TRACE_LOST: u32 = RING_LOST + 1;
    /// Inserts that found the table of held locks full.
    pub const HELD_FULL: u32 = TRACE_LOST + 1;
    /// Inserts that found the table of processes full.
    pub const PROCESSES_FULL: u32 = HELD_FULL + 1;
    /// Inserts that found the table of waits full.
    pub const WAITS_FULL: u32 = PROCESSES_FULL + 1;
    /// Places that the search for hidden holders did not look through to the end.
    pub const SEARCH_CUT: u32 = WAITS_FULL + 1;
    /// Entries put into a table less those taken out; the sum over all CPUs is how many there are, as an `i64`.
    pub const HELD: u32 = SEARCH_CUT + 1;
    /// The same of processes.
    pub const PROCESSES: u32 = HELD + 1;
    /// The same of waits.
    pub const WAITS: u32 = PROCESSES + 1;
    /// The same of watched processes; user space puts them in.
    pub const WATCHED: u32 = WAITS + 1;
    /// Deaths of processes that took locks: by an exit.
    pub const EXITED: u32 = WATCHED + 1;
    /// By a signal.
    pub const KILLED: u32 = EXITED + 1;
    /// Our own heartbeats that came by: flock(2).
    pub const BEAT_FLOCK: u32 = KILLED + 1;
    /// fcntl(2).
    pub const BEAT_FCNTL: u32 = BEAT_FLOCK + 1;
    /// The end of a thread.
    pub const BEAT_EXIT: u32 = BEAT_FCNTL + 1;
    /// How long requests waited, by kind, [`BUCKETS`] each.
    pub const WAITED: u32 = BEAT_EXIT + 1;
    /// The sums in nanoseconds, by kind.
    pub const WAITED_NS: u32 = WAITED + KINDS * BUCKETS as u32;
    /// How long locks were held, by kind, [`BUCKETS`] each.
    pub const HELD_FOR: u32 = WAITED_NS + KINDS;
    /// The sums in nanoseconds, by kind.
    pub const HELD_FOR_NS: u32 = HELD_FOR + KINDS * BUCKETS as u32;
    /// How many numbers there are room for: a power of two, so that a mask keeps an index within them.
    pub const SIZE: usize = 256;

    const _: () = assert!((HELD_FOR_NS + KINDS) as usize <= SIZE);
}

/// Which bucket a duration belongs to: the first whose bound it does not exceed.
#[inline(always)]
pub const fn bucket(ns: u64) -> u32 {
    // Half of the logarithm of base two, by bisection: BPF has no instruction for it.
    let mut rest = ns.saturating_sub(1) >> 10;
    let mut bucket = (rest != 0) as u32;
    let mut width = 32;
    while width >= 2 {
        if rest >> width != 0 {
            rest >>= width;
            bucket += width / 2;
        }
        width /= 2;
    }
    if bucket < BUCKETS as u32 { bucket } else { BUCKETS as u32 - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let check = |ns, expect| assert_eq!(bucket(ns), expect, "{ns}");
        check(0, 0);
        check(1 << 10, 0);
        check((1 << 10) + 1, 1);
        check(1 << 12, 1);
        check((1 << 12) + 1, 2);
        check(1 << 42, 16);
        check((1 << 42) + 1, 17);
        check(u64::MAX, 17);
        for i in 0..17 {
            let bound = 1 << (10 + 2 * i);
            check(bound, i);
            check(bound + 1, i + 1);
        }
    }
}
