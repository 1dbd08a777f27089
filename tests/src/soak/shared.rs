//! Memory that all actors share: who lives, how far they may go, and what they have noted.

use std::{
    io,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use crate::sys;

/// How many processes there are at once.
pub const SLOTS: usize = 32;

/// How many notes fit between two stop points.
const NOTES: usize = 1 << 18;

/// Everything, zero at first.
#[repr(C)]
pub(super) struct Shared {
    /// Grows when actors may go on.
    pub(super) epoch: AtomicU32,
    /// How many serial numbers have been given away.
    pub(super) serials: AtomicU32,
    /// Operations begun, and how many may be.
    pub(super) begun: AtomicU64,
    pub(super) allowed: AtomicU64,
    /// Whether everybody is to end.
    pub(super) over: AtomicU32,
    pub(super) slots: [Slot; SLOTS],
    written: AtomicUsize,
    notes: [[AtomicU64; 3]; NOTES],
}

/// A place for one process.
#[repr(C)]
pub(super) struct Slot {
    pub(super) state: AtomicU32,
    pub(super) pid: AtomicU32,
    pub(super) serial: AtomicU32,
}

/// States of a slot. Nobody is in it.
pub(super) const FREE: u32 = 0;
/// Somebody is being born into it.
pub(super) const TAKEN: u32 = 1;
/// An actor acts.
pub(super) const ACTS: u32 = 2;
/// An actor becomes another program, which will do nothing.
pub(super) const SLEEPS: u32 = 3;
/// An actor waits for the next epoch; this one is added.
const RESTS: u32 = 1 << 16;

/// What happened, in the order in which it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    /// `a`: the fork's number and the parent; `b`: its pid.
    Born = 1,
    /// `a`: the fork's number.
    Forks,
    /// `a`: descriptor, and whether it has O_CLOEXEC; `b`: description.
    Has,
    /// The same, out of its inbox.
    Receives,
    /// `a`: descriptor; `b`: description.
    Closes,
    /// `b`: description.
    Maps,
    Unmaps,
    /// `a`: kind of lock; `b`: description. Before the kernel is asked, and after it has granted.
    Asks,
    Takes,
    /// `a`: the receiver's serial; `b`: description.
    Sends,
    Execs,
    Dies,
}

/// One note.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) what: What,
    /// Serial of who did it.
    pub(super) who: u32,
    pub(super) a: u64,
    pub(super) b: u64,
}

impl Shared {
    /// Maps a memfd of this size, for ever.
    pub(super) fn map(memory: i32) -> io::Result<&'static Self> {
        let address = sys::map_shared(memory, size_of::<Self>())?;
        // SAFETY: the mapping is as large as `Self`, aligned to a page, stays for ever, and atomics of zero are valid.
        Ok(unsafe { &*(address as *const Self) })
    }

    /// The state of those who rest in this epoch.
    pub(super) fn resting(&self) -> u32 {
        RESTS + self.epoch.load(SeqCst)
    }

    /// Adds a note.
    pub(super) fn note(&self, what: What, who: u32, a: u64, b: u64) {
        let [head, first, second] = &self.notes[self.written.fetch_add(1, SeqCst)];
        first.store(a, SeqCst);
        second.store(b, SeqCst);
        head.store(u64::from(who) << 8 | what as u64, SeqCst);
    }

    /// Takes all notes, when nobody writes.
    pub(super) fn take_notes(&self) -> Vec<Note> {
        let notes = &self.notes[..self.written.swap(0, SeqCst)];
        let read = |[head, a, b]: &[AtomicU64; 3]| {
            let head = head.swap(0, SeqCst);
            Some(Note { what: What::of(head as u8)?, who: (head >> 8) as u32, a: a.load(SeqCst), b: b.load(SeqCst) })
        };
        notes.iter().filter_map(read).collect()
    }
}

impl What {
    fn of(number: u8) -> Option<Self> {
        use What::*;
        let all = [Born, Forks, Has, Receives, Closes, Maps, Unmaps, Asks, Takes, Sends, Execs, Dies];
        all.into_iter().find(|what| *what as u8 == number)
    }
}
