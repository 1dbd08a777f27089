//! What a look does to the kernel-side tables: it adds what nobody saw, and takes out what went without a word.

use std::collections::HashSet;

use anyhow::{Context, Result};
use lockwatch_common::{HeldValue, LockKey, ProcessKey, ProcessValue, WalkRecord, Wire, counter, process_flag};

use super::{Bpf, bytes_of, convert::process_id, walk::Walked};
use crate::sources::{clock::Clock, processes};

impl Bpf {
    /// Notes locks that were taken before anybody watched, so that their release is told. A lock that the probes have
    /// noted meanwhile is left alone. Half of the table is left to the probes; the first to be noted are those of whose
    /// takers nothing is left, for their release is news.
    pub(super) fn note_unseen(&mut self, walked: &Walked) -> Result<()> {
        let entries = self.counted()?.entries(counter::HELD, self.ours.held);
        let mut room = u64::from(self.sizes.held / 2).saturating_sub(entries);
        let (left, kept): (Vec<&WalkRecord>, Vec<&WalkRecord>) = walked
            .locks()
            .filter(|record| record.process.start_ns == 0)
            .partition(|record| !self.met.contains_key(&record.pid));
        for record in left.into_iter().chain(kept) {
            let process = ProcessKey { start_ns: 0, pid: record.pid, pad: 0 };
            let value = HeldValue { process, at_ns: 0, start: record.start, end: record.end, ty: record.ty, pad: 0 };
            if room > 0 {
                // If it is there already, or the table is full all the same, there is nothing better to do.
                let noted = self.notes.insert(&record.lock, &value);
                self.ours.held += i64::from(noted);
                room -= u64::from(noted);
            } else if self.met.contains_key(&record.pid) {
                break;
            } else {
                self.ours.held_full += u64::from(!self.notes.has(&record.lock));
            }
        }
        Ok(())
    }

    /// When a table was full: forgets the locks that went without a word, and the dead who held nothing else. A lease
    /// that ends with the close of its file fires no probe (fs/locks.c locks_remove_lease, 6.18), a refused one has been
    /// noted all the same, and the classic probe cannot see what is left of a range.
    ///
    /// When probes were not there for a while, also the processes whose death nobody saw.
    pub(super) fn sweep(&mut self, walked: &Walked, began_ns: u64) -> Result<()> {
        let lost = self.losses()?;
        let distrusted = self.distrusted || lost.missed != self.swept.missed;
        if !distrusted && lost.full() == self.swept.full() || !walked.gaps.is_empty() {
            return Ok(());
        }
        let lockers = self.sweep_locks(walked, began_ns)?;
        self.sweep_processes(&lockers, distrusted)?;
        (self.swept, self.distrusted) = (lost, false);
        Ok(())
    }

    /// Forgets the locks that the walk has not met. Says who took the others.
    fn sweep_locks(&mut self, walked: &Walked, began_ns: u64) -> Result<HashSet<ProcessKey>> {
        let there: HashSet<LockKey> = walked.locks().map(|record| record.lock).collect();
        let mut lockers = HashSet::new();
        for note in self.notes.all()? {
            if there.contains(&note.lock) || note.held.at_ns > began_ns {
                lockers.insert(note.held.process);
            } else {
                self.ours.held -= i64::from(self.notes.remove(&note)); // or the probes were quicker
            }
        }
        Ok(lockers)
    }

    /// Forgets the dead without a lock.
    fn sweep_processes(&mut self, lockers: &HashSet<ProcessKey>, distrusted: bool) -> Result<()> {
        let all = self.processes.iter().collect::<Result<Vec<_>, _>>().context("read the table of processes")?;
        for (key, value) in all {
            let (process, mut value) =
                ProcessKey::read(&key).zip(ProcessValue::read(&value)).context("short process")?;
            // Whoever is only dying has its probe before it.
            let unseen = distrusted && value.died_ns == 0 && processes::has_vanished(process_id(&process));
            if value.died_ns == 0 && !unseen {
                continue;
            }
            if !lockers.contains(&process) {
                self.ours.processes -= i64::from(self.processes.remove(&key).is_ok());
            } else if unseen {
                // What it left is a ghost's from now on, and its end is told.
                value.died_ns = Clock::read().boot_ns();
                value.flags |= process_flag::UNSEEN;
                self.processes.insert(key, bytes_of(&value), 0).context("note an unseen death")?;
            }
        }
        Ok(())
    }
}
