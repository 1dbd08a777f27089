//! What is new in a report: which locks became orphaned, hot, or clear.

use std::collections::BTreeMap;

use lockwatch_core::{
    id::LockId,
    report::{LockReport, Report, Verdict},
};

/// The locks worth a line in the last report.
#[derive(Default)]
pub struct Alarms(BTreeMap<LockId, LockReport>);

/// One change between two reports.
#[derive(Debug)]
pub enum Change {
    /// A lock has lost everybody who knew of it.
    Orphaned(LockReport),
    /// Somebody has been waiting too long for such a lock, or for a deadlocked one.
    Hot(LockReport),
    /// An orphaned or hot lock is one no more; as it was.
    Cleared(LockReport),
    /// The last hot lock is gone.
    AllClear,
}

impl Change {
    /// Which lock it is about.
    pub fn lock(&self) -> Option<&LockReport> {
        match self {
            Change::Orphaned(lock) | Change::Hot(lock) | Change::Cleared(lock) => Some(lock),
            Change::AllClear => None,
        }
    }
}

impl Alarms {
    /// Takes a report and tells what it changes, worst last before the clear ones, so that the eye ends on it.
    pub fn update(&mut self, report: &Report) -> Vec<Change> {
        let now: BTreeMap<LockId, LockReport> =
            report.locks.iter().filter(|lock| is_alarm(lock)).map(|lock| (lock.id.clone(), lock.clone())).collect();
        let before = std::mem::replace(&mut self.0, now);
        let was = |lock: &LockReport| before.get(&lock.id);
        let mut changes = Vec::new();
        for lock in self.0.values() {
            let newly_orphaned = was(lock).is_none_or(|old| old.verdict != Verdict::Orphaned);
            if lock.verdict == Verdict::Orphaned && newly_orphaned {
                changes.push(Change::Orphaned(lock.clone()));
            }
        }
        for lock in self.0.values().filter(|lock| lock.hot && !was(lock).is_some_and(|old| old.hot)) {
            changes.push(Change::Hot(lock.clone()));
        }
        let was_hot = before.values().any(|lock| lock.hot);
        changes.extend(
            before.into_iter().filter(|(id, _)| !self.0.contains_key(id)).map(|(_, lock)| Change::Cleared(lock)),
        );
        if was_hot && !self.0.values().any(|lock| lock.hot) {
            changes.push(Change::AllClear);
        }
        changes
    }

    /// How many are orphaned, and how many hot.
    pub fn counts(&self) -> (usize, usize) {
        let orphaned = self.0.values().filter(|lock| lock.verdict == Verdict::Orphaned).count();
        (orphaned, self.0.values().filter(|lock| lock.hot).count())
    }
}

fn is_alarm(lock: &LockReport) -> bool {
    lock.verdict == Verdict::Orphaned || lock.hot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn lock(id: &str, verdict: Verdict, hot: bool) -> LockReport {
        let mut lock = fixture::ghost();
        (lock.id, lock.verdict, lock.hot) = (LockId(id.into()), verdict, hot);
        lock
    }

    fn check(alarms: &mut Alarms, locks: &[LockReport], expect: &str) {
        let mut report = fixture::report();
        report.locks = locks.to_vec();
        let words: Vec<String> = alarms
            .update(&report)
            .into_iter()
            .map(|change| match change {
                Change::Orphaned(lock) => format!("orphaned {}", lock.id),
                Change::Hot(lock) => format!("hot {}", lock.id),
                Change::Cleared(lock) => format!("cleared {}", lock.id),
                Change::AllClear => "all clear".into(),
            })
            .collect();
        assert_eq!(words.join(", "), expect);
    }

    #[test]
    fn a_ghost_comes_gets_hot_and_goes() {
        use Verdict::{HandedOver, Held, Orphaned};
        let mut alarms = Alarms::default();
        check(&mut alarms, &[lock("a", Held, false), lock("b", HandedOver, false)], "");
        check(&mut alarms, &[lock("a", Orphaned, false), lock("b", Held, false)], "orphaned a");
        check(&mut alarms, &[lock("a", Orphaned, false)], "");
        check(&mut alarms, &[lock("a", Orphaned, true), lock("b", Held, true)], "hot a, hot b");
        assert_eq!(alarms.counts(), (1, 2));
        check(&mut alarms, &[lock("a", Orphaned, false)], "cleared b, all clear");
        check(&mut alarms, &[], "cleared a");
    }
}
