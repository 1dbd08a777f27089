//! The notes of who took which lock. Each stays in one place from the grant to the release: in the lock's own slot, or
//! if that has another's note, in the table `HELD`.
//!
//! Most locks are taken and dropped again soon, and a hash table costs them more than all the rest of a probe: each of
//! its calls hashes, and each change takes a lock and an element from a list. A slot is an array's value, found without a
//! call and changed by two exchanges of its state. All CPUs share the slots, so a lock may be dropped elsewhere than it
//! was taken, and no note is ever moved. `Slot::beyond` tells when it is worth to ask the table.

use core::ptr::read_volatile;

use lockwatch_common::{HeldValue, LockKey, ProcessKey, Slot, slot};

use crate::{
    kernel::{atomic_add, compare_exchange, slots},
    maps::{EXISTS, HELD, NO_EXIST, SLOTS},
};

/// How often somebody who writes is waited for. It takes him less, unless his CPU is taken from him meanwhile; then the
/// note counts as not made yet.
const PATIENCE: usize = 16;
/// How often a note is tried to be changed that others change, too: threads with ranges of one file.
const TRIES: usize = 2;
/// How often a note is read that changes meanwhile.
const LOOKS: usize = 8;

/// Where a lock is noted.
pub struct Note {
    held: *mut HeldValue,
    /// Its slot, if it is in one, and the state in which that was found.
    slot: Option<(*mut Slot, u64)>,
}

/// What a release wants to know of a note.
pub struct Noted {
    pub process: ProcessKey,
    pub at_ns: u64,
    pub ty: u32,
}

/// The note of a lock.
#[inline(always)]
pub fn find(lock: &LockKey) -> Option<Note> {
    if let Some(own) = slot_of(lock) {
        let state = settled(own);
        if is_of(own, state, lock) {
            // SAFETY: a live value of an array.
            return Some(Note { held: unsafe { &raw mut (*own).held }, slot: Some((own, state)) });
        }
        if beyond(own) == 0 {
            return None;
        }
    }
    HELD.get_ptr_mut(lock).map(|held| Note { held, slot: None })
}

/// Reads the note of a lock where it is, for a copy makes the verifier take three times as long. What was read is as it
/// was at one time if the answer is yes; before that it may be read several times.
#[inline(always)]
pub fn look(lock: &LockKey, mut read: impl FnMut(*const HeldValue)) -> bool {
    if let Some(own) = slot_of(lock) {
        for _ in 0..LOOKS {
            let state = state_of(own);
            if slot::phase(state) == slot::BUSY {
                continue;
            }
            if !is_of(own, state, lock) {
                break;
            }
            // SAFETY: a live value of an array. An exchange also keeps the reads before it from coming after it.
            let is_same = unsafe {
                read(&raw const (*own).held);
                compare_exchange(&raw mut (*own).state, state, state)
            };
            if is_same {
                return true;
            }
        }
        if beyond(own) == 0 {
            return false;
        }
    }
    HELD.get_ptr(lock).inspect(|held| read(*held)).is_some()
}

/// Notes a lock of which nothing is noted. The error is the kernel's: `EXISTS`, or there is no room. `held` is made where
/// it goes, for the stack is small.
#[inline(always)]
pub fn insert(lock: &LockKey, held: impl Fn() -> HeldValue) -> Result<(), i32> {
    let own = slot_of(lock);
    if let Some(own) = own {
        let state = settled(own);
        if slot::phase(state) == slot::FREE
            && let Some(busy) = turn(own, state, slot::BUSY)
        {
            // Asked while others see that we write: whoever notes this lock in the table looks here afterwards.
            if beyond(own) != 0 && HELD.get_ptr(lock).is_some() {
                turn(own, busy, slot::FREE);
                return Err(EXISTS);
            }
            // SAFETY: a live value of an array, which is ours until its state says otherwise.
            unsafe {
                (*own).lock = *lock;
                (*own).held = held();
            }
            turn(own, busy, slot::FULL);
            return Ok(());
        }
        if is_of(own, settled(own), lock) {
            return Err(EXISTS);
        }
        add_beyond(own, 1);
    }
    let mut result = HELD.insert(lock, held(), NO_EXIST);
    if let Some(own) = own {
        if result.is_ok() && is_of(own, settled(own), lock) && HELD.remove(lock).is_ok() {
            result = Err(EXISTS);
        }
        if result.is_err() {
            add_beyond(own, -1);
        }
    }
    result
}

impl Note {
    /// Read or write.
    #[inline(always)]
    pub fn ty(&self) -> u32 {
        // SAFETY: a live value of an array or of a preallocated map, here and below.
        unsafe { read_volatile(&raw const (*self.held).ty) }
    }

    /// Who took it.
    #[inline(always)]
    pub fn process(&self) -> ProcessKey {
        // SAFETY: as above.
        unsafe { read_volatile(&raw const (*self.held).process) }
    }

    /// Whether its range is within these bytes.
    #[inline(always)]
    pub fn is_within(&self, start: u64, end: u64) -> bool {
        // SAFETY: as above.
        let (first, last) =
            unsafe { (read_volatile(&raw const (*self.held).start), read_volatile(&raw const (*self.held).end)) };
        first >= start && last <= end
    }

    /// What it says to a release.
    #[inline(always)]
    pub fn noted(&self) -> Noted {
        // SAFETY: as above.
        Noted { process: self.process(), at_ns: unsafe { read_volatile(&raw const (*self.held).at_ns) }, ty: self.ty() }
    }

    /// Writes into it. What others do to it meanwhile is not lost.
    #[inline(always)]
    pub fn change(&self, lock: &LockKey, change: impl FnOnce(*mut HeldValue)) {
        match self.slot {
            Some((own, state)) => {
                if let Some((busy, _)) = self.advance(own, state, lock, slot::BUSY) {
                    change(self.held);
                    turn(own, busy, slot::FULL);
                }
            }
            None => change(self.held),
        }
    }

    /// Takes it out, and says what it said. None if somebody else was quicker.
    #[inline(always)]
    pub fn remove(&self, lock: &LockKey) -> Option<Noted> {
        if let Some((own, state)) = self.slot {
            return self.advance(own, state, lock, slot::FREE).map(|(_, noted)| noted);
        }
        let noted = self.noted();
        if HELD.remove(lock).is_err() {
            return None;
        }
        if let Some(own) = slot_of(lock) {
            add_beyond(own, -1);
        }
        Some(noted)
    }

    /// Has its slot go on to this phase, whatever others change in the note meanwhile. Says the new state, and what the
    /// note said until then.
    #[inline(always)]
    fn advance(&self, own: *mut Slot, mut state: u64, lock: &LockKey, phase: u64) -> Option<(u64, Noted)> {
        for _ in 0..TRIES {
            let noted = self.noted();
            if let Some(next) = turn(own, state, phase) {
                return Some((next, noted));
            }
            state = settled(own);
            if !is_of(own, state, lock) {
                return None;
            }
        }
        None
    }
}

/// The lock's own slot, whoever's note is in it.
#[inline(always)]
fn slot_of(lock: &LockKey) -> Option<*mut Slot> {
    SLOTS.get_ptr_mut(lock.slot(slots())?)
}

/// A slot's state once nobody writes into it.
#[inline(always)]
fn settled(own: *mut Slot) -> u64 {
    let mut state = state_of(own);
    for _ in 0..PATIENCE {
        if slot::phase(state) != slot::BUSY {
            break;
        }
        state = state_of(own);
    }
    state
}

#[inline(always)]
fn state_of(own: *mut Slot) -> u64 {
    // SAFETY: a live value of an array.
    unsafe { read_volatile(&raw const (*own).state) }
}

/// Whether a slot in this state has this lock's note.
#[inline(always)]
fn is_of(own: *mut Slot, state: u64, lock: &LockKey) -> bool {
    // SAFETY: a live value of an array.
    slot::phase(state) == slot::FULL && unsafe { (*own).lock == *lock }
}

/// Has a slot go from one state to the next, if it is still in that one. Says which that is.
#[inline(always)]
fn turn(own: *mut Slot, state: u64, phase: u64) -> Option<u64> {
    let next = slot::next(state, phase);
    // SAFETY: a live value of an array.
    unsafe { compare_exchange(&raw mut (*own).state, state, next) }.then_some(next)
}

#[inline(always)]
fn beyond(own: *mut Slot) -> i64 {
    // SAFETY: a live value of an array.
    unsafe { read_volatile(&raw const (*own).beyond) }
}

#[inline(always)]
fn add_beyond(own: *mut Slot, add: i64) {
    // SAFETY: a live value of an array.
    unsafe { atomic_add(&raw mut (*own).beyond, add) }
}
