//! Memory that everybody shares: who is who, and what happened.

use std::{
    io,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst},
};

use super::props::TARGETS;
use crate::sys;

/// How many holders there are at once.
pub(super) const HOLDERS: usize = 5;

/// Numbers of processes are below this in any namespace that begins with 1.
const NUMBERS: usize = 1 << 16;

/// Serial numbers are below this.
const SERIALS: usize = 1 << 22;

/// Everything, zero at first.
#[repr(C)]
pub(super) struct Shared {
    /// Everybody is to end.
    pub(super) over: AtomicU32,
    /// Everybody but the clearer has ended, and was reaped.
    pub(super) quiet: AtomicU32,
    /// Number of the last taker, and how many there were.
    pub(super) taker: AtomicU32,
    pub(super) takers: AtomicU32,
    /// How many locks have been cleared since the last taker.
    pub(super) free: AtomicU32,
    /// The holder that a plan is about just now, plus 1.
    pub(super) aim: AtomicU32,
    pub(super) holders: [Slot; HOLDERS],
    /// Whether a living process has taken this target, so that it is no ghost.
    pub(super) taken: [AtomicU32; TARGETS],
    /// Locks that somebody took anew and lost to a clear: flock, OFD, lease.
    pub(super) stolen: [AtomicU64; 3],
    /// What the adversary has done.
    pub(super) deeds: [AtomicU64; DEEDS.len()],
    births: AtomicU32,
    serials: [AtomicU32; NUMBERS],
    ends: [AtomicU8; SERIALS],
}

/// A holder.
#[repr(C)]
pub(super) struct Slot {
    pub(super) pid: AtomicU32,
    /// The description in its inbox, plus 1.
    pub(super) queued: AtomicU32,
}

/// Deeds, as they are printed.
pub(super) const DEEDS: [&str; 10] =
    ["swaps", "dodges", "closes", "releases", "locks taken", "messages", "forks", "execs", "exits", "numbers reused"];
pub(super) const SWAP: usize = 0;
pub(super) const DODGE: usize = 1;
pub(super) const CLOSE: usize = 2;
pub(super) const RELEASE: usize = 3;
pub(super) const TAKE: usize = 4;
pub(super) const MESSAGE: usize = 5;
pub(super) const FORK: usize = 6;
pub(super) const EXEC: usize = 7;
pub(super) const EXIT: usize = 8;
pub(super) const REUSE: usize = 9;

impl Shared {
    /// Maps a memfd of this size, for ever.
    pub(super) fn map(memory: i32) -> io::Result<&'static Self> {
        let address = sys::map_shared(memory, size_of::<Self>())?;
        // SAFETY: the mapping is as large as `Self`, aligned to a page, stays for ever, and atomics of zero are valid.
        Ok(unsafe { &*(address as *const Self) })
    }

    /// A process of this number is born, and gets a serial number.
    pub(super) fn be_born(&self) -> u32 {
        let serial = self.births.fetch_add(1, SeqCst) + 1;
        self.serials[number(std::process::id())].store(serial, SeqCst);
        serial
    }

    /// The serial number of the process that has this number now; 0 if it has not said it yet.
    pub(super) fn serial(&self, pid: u32) -> u32 {
        self.serials[number(pid)].load(SeqCst)
    }

    /// The process of this number has ended, and the number is still its own. By which signal, 0 for none.
    pub(super) fn end(&self, pid: u32, signal: u8) {
        let serial = self.serials[number(pid)].swap(0, SeqCst);
        self.ends[serial as usize % SERIALS].store(signal, SeqCst);
    }

    /// Every serial number that a signal has ended, and the signal. Serial 0 is whoever had none yet.
    pub(super) fn signalled(&self) -> impl Iterator<Item = (u32, u8)> {
        let all = self.births.load(SeqCst).min(SERIALS as u32 - 1);
        (0..=all).map(|serial| (serial, self.ends[serial as usize].load(SeqCst))).filter(|(_, signal)| *signal != 0)
    }

    /// Counts.
    pub(super) fn note(&self, deed: usize) {
        self.deeds[deed].fetch_add(1, SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(SeqCst) != 0
    }
}

fn number(pid: u32) -> usize {
    pid as usize % NUMBERS
}
