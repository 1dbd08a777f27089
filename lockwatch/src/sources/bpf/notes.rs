//! The notes of who took which lock, read and changed while the probes do the same. `lockwatch-ebpf/src/notes.rs` has the
//! rules: a note is in its lock's slot, or in the table if that slot has another's, and the slot counts those.

use std::{
    ptr::{self, NonNull, read_volatile},
    sync::atomic::{AtomicI64, AtomicU64, Ordering, fence},
};

use anyhow::{Context, Result, bail};
use aya::maps::{HashMap, Map, MapData};
use lockwatch_common::{HeldValue, LockKey, Slot, Wire, slot};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{NO_EXIST, bytes_of};

/// How often somebody who writes into a slot is waited for: it takes him a few instructions.
const PATIENCE: usize = 1_000;

/// All notes.
pub struct Notes {
    table: HashMap<MapData, [u8; size_of::<LockKey>()], [u8; size_of::<HeldValue>()]>,
    slots: Option<Slots>,
}

/// One of them, as it was when it was read.
pub struct Note {
    /// Of which lock.
    pub lock: LockKey,
    /// What it says.
    pub held: HeldValue,
    place: Place,
}

enum Place {
    /// Which slot, and its state.
    Slot(usize, u64),
    Table,
}

impl Notes {
    /// From the maps of the table and of so many slots.
    pub fn new(table: Map, slots: Map, count: u32) -> Result<Self> {
        let slots = (count > 0).then(|| Slots::map(slots, count as usize)).transpose()?;
        Ok(Self { table: HashMap::try_from(table)?, slots })
    }

    /// Notes a lock. False if there is a note of it, or no room.
    pub fn insert(&mut self, lock: &LockKey, held: &HeldValue) -> bool {
        let slot = self.slot_of(lock);
        if slot.is_some_and(|slot| slot.has(lock)) {
            return false;
        }
        // Counted before it is there, so that no probe overlooks it; a probe that noted the lock meanwhile stays.
        slot.inspect(|slot| slot.add_beyond(1));
        let mut inserted = self.table.insert(bytes_of(lock), bytes_of(held), NO_EXIST).is_ok();
        if inserted && slot.is_some_and(|slot| slot.has(lock)) {
            inserted = self.table.remove(&bytes_of(lock)).is_err();
        }
        if !inserted {
            slot.inspect(|slot| slot.add_beyond(-1));
        }
        inserted
    }

    /// Whether there is a note of a lock.
    pub fn has(&self, lock: &LockKey) -> bool {
        self.slot_of(lock).is_some_and(|slot| slot.has(lock)) || self.table.get(&bytes_of(lock), 0).is_ok()
    }

    /// Everything that is noted.
    pub fn all(&self) -> Result<Vec<Note>> {
        let mut all = Vec::new();
        for entry in self.table.iter() {
            let (lock, held) = entry.context("read the table of locks")?;
            let (lock, held) = LockKey::read(&lock).zip(HeldValue::read(&held)).context("short note of a lock")?;
            all.push(Note { lock, held, place: Place::Table });
        }
        for (index, slot) in self.slots.iter().flat_map(Slots::iter).enumerate() {
            let noted = slot.read().map(|(state, lock, held)| Note { lock, held, place: Place::Slot(index, state) });
            all.extend(noted);
        }
        Ok(all)
    }

    /// Forgets a note. False if the probes were quicker, or have changed it.
    pub fn remove(&mut self, note: &Note) -> bool {
        match note.place {
            Place::Slot(index, state) => self.slots.as_ref().is_some_and(|slots| slots.at(index).free(state)),
            Place::Table => {
                let removed = self.table.remove(&bytes_of(&note.lock)).is_ok();
                if removed {
                    self.slot_of(&note.lock).inspect(|slot| slot.add_beyond(-1));
                }
                removed
            }
        }
    }

    fn slot_of(&self, lock: &LockKey) -> Option<Shared> {
        let slots = self.slots.as_ref()?;
        Some(slots.at(lock.slot(slots.count as u32)? as usize))
    }
}

/// The slots, in memory that the probes share.
struct Slots {
    first: NonNull<Slot>,
    count: usize,
}

// SAFETY: the mapping belongs to no thread, and all that is in it is read and written as what others change meanwhile.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

/// One of them, for as long as the mapping is there.
#[derive(Clone, Copy)]
struct Shared(NonNull<Slot>);

impl Slots {
    /// Maps an array that was made for it (BPF_F_MMAPABLE, since 5.5).
    fn map(map: Map, count: usize) -> Result<Self> {
        let Map::Array(data) = map else { bail!("the slots are no array") };
        // SAFETY: a new mapping, of as many values as the array has.
        let first = unsafe {
            let (prot, length) = (ProtFlags::READ | ProtFlags::WRITE, count * size_of::<Slot>());
            mmap(ptr::null_mut(), length, prot, MapFlags::SHARED, data.fd(), 0).context("map the notes' slots")?
        };
        Ok(Self { first: NonNull::new(first.cast()).context("no address")?, count })
    }

    fn at(&self, index: usize) -> Shared {
        assert!(index < self.count);
        // SAFETY: within the mapping.
        Shared(unsafe { self.first.add(index) })
    }

    fn iter(&self) -> impl Iterator<Item = Shared> {
        (0..self.count).map(|index| self.at(index))
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: what `map` has mapped; whoever points into it borrows this.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.count * size_of::<Slot>()) };
    }
}

impl Shared {
    fn state(&self) -> &AtomicU64 {
        // SAFETY: within the mapping, aligned to eight bytes, and changed by atomic instructions alone.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.0.as_ptr()).state) }
    }

    fn beyond(&self) -> &AtomicI64 {
        // SAFETY: as above.
        unsafe { AtomicI64::from_ptr(&raw mut (*self.0.as_ptr()).beyond) }
    }

    fn add_beyond(&self, add: i64) {
        self.beyond().fetch_add(add, Ordering::SeqCst);
    }

    /// Its note, of one piece, with the state that it is from.
    fn read(&self) -> Option<(u64, LockKey, HeldValue)> {
        for _ in 0..PATIENCE {
            let state = self.state().load(Ordering::SeqCst);
            match slot::phase(state) {
                slot::FREE => return None,
                slot::FULL => {
                    // SAFETY: within the mapping, integers; a copy of what changes meanwhile is thrown away.
                    let (lock, held) = unsafe {
                        let slot = self.0.as_ptr();
                        (read_volatile(&raw const (*slot).lock), read_volatile(&raw const (*slot).held))
                    };
                    fence(Ordering::Acquire);
                    if self.state().load(Ordering::Relaxed) == state {
                        return Some((state, lock, held));
                    }
                }
                _ => std::hint::spin_loop(),
            }
        }
        None
    }

    fn has(&self, lock: &LockKey) -> bool {
        self.read().is_some_and(|(_, noted, _)| noted == *lock)
    }

    fn free(&self, state: u64) -> bool {
        let next = slot::next(state, slot::FREE);
        self.state().compare_exchange(state, next, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
impl Notes {
    /// Whether every slot knows how many notes of its locks are in the table; how many notes are in slots, and there.
    pub(super) fn audit(&self) -> Option<(usize, usize)> {
        let all = self.all().unwrap();
        let (tabled, slotted): (Vec<_>, Vec<_>) = all.iter().partition(|note| matches!(note.place, Place::Table));
        let slots = self.slots.as_ref()?;
        let mut beyond = vec![0_i64; slots.count];
        tabled.iter().filter_map(|note| note.lock.slot(slots.count as u32)).for_each(|slot| beyond[slot as usize] += 1);
        let counted = slots.iter().map(|slot| slot.beyond().load(Ordering::SeqCst));
        counted.eq(beyond).then_some((slotted.len(), tabled.len()))
    }
}
