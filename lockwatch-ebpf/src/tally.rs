//! Counting: this CPU's numbers, found once in each run of a probe.

use core::arch::asm;

use lockwatch_common::{BUCKETS, bucket, counter};

use crate::maps::COUNTERS;

/// This CPU's counters. No other CPU writes them, and no other program on this one while this runs; where the kernel
/// lets a second task in between all the same, a count may be lost, not memory.
#[derive(Clone, Copy)]
pub struct Tally(*mut u64);

impl Tally {
    /// Those of the CPU that we run on. There is always one: the verifier wants it asked.
    #[inline(always)]
    pub fn here() -> Option<Self> {
        COUNTERS.get_ptr_mut(0).map(|counters| Self(counters.cast()))
    }

    /// Adds one to the counter of this index.
    #[inline(always)]
    pub fn count(self, index: u32) {
        self.add(index, 1);
    }

    /// Takes one away.
    #[inline(always)]
    pub fn uncount(self, index: u32) {
        self.add(index, u64::MAX);
    }

    #[inline(always)]
    pub fn add(self, index: u32, number: u64) {
        const LAST: u32 = counter::SIZE as u32 - 1;
        let mut index = index as u64;
        // In assembly, for the compiler leaves out a mask that it knows to be idle, and the verifier does not know.
        // SAFETY: one instruction on a register.
        unsafe { asm!("{0} &= {mask}", inout(reg) index, mask = const LAST, options(pure, nomem, nostack)) };
        // SAFETY: the index is within the map's value.
        unsafe { *self.0.add(index as usize) = (*self.0.add(index as usize)).wrapping_add(number) }
    }

    /// Counts a duration in the histogram of a kind, whose buckets begin at `first` and whose sum is at `sum`.
    #[inline(always)]
    pub fn time(self, first: u32, sum: u32, kind: u32, ns: u64) {
        self.count(first + kind * BUCKETS as u32 + bucket(ns));
        self.add(sum + kind, ns);
    }
}

/// Adds one to a counter, for whoever counts only once in a while.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(tally) = Tally::here() {
        tally.count(index);
    }
}
