//! What the last look has shown, for pages that cannot wait for the next: on a large host one takes longer than anybody
//! waits for a page.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lockwatch_core::report::{LockReport, Report, Verdict};

/// Looks that are quicker than this are worth waiting for.
const SLOW: Duration = Duration::from_millis(200);
/// More than these are not kept beside the table that they come from.
const MOST: usize = 10_000;

/// One look.
#[derive(Debug)]
pub struct Glance {
    /// With those locks only that a page names.
    pub report: Report,
    /// How many there were.
    pub locks: usize,
}

/// The last look, if it was slow.
#[derive(Debug, Default)]
pub struct Last(Mutex<Option<Arc<Glance>>>);

impl Last {
    /// Remembers a look that took so long.
    pub fn note(&self, report: &Report, took: Duration) {
        let glance = (took >= SLOW).then(|| Glance::of(report)).flatten().map(Arc::new);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = glance;
    }

    /// What was slow to find out.
    pub fn get(&self) -> Option<Arc<Glance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Glance {
    fn of(report: &Report) -> Option<Self> {
        let is_named = |lock: &&LockReport| {
            lock.verdict == Verdict::Orphaned || lock.hot || lock.deadlock || !lock.waiters.is_empty()
        };
        let named = || report.locks.iter().filter(is_named);
        (named().count() <= MOST).then(|| Self {
            report: Report {
                taken_at: report.taken_at,
                host: report.host.clone(),
                sources: report.sources.clone(),
                exact: report.exact,
                warnings: report.warnings.clone(),
                locks: named().cloned().collect(),
            },
            locks: report.locks.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn only_what_is_slow_and_worth_a_word_is_kept() {
        let last = Last::default();
        assert!(last.get().is_none());
        let held = fixture::held("aaaa-aaaa", "/held", fixture::process(7, "holder"));
        let waited_for = LockReport { waiters: fixture::ghost().waiters, ..held.clone() };
        let report = Report { locks: vec![held, fixture::ghost(), waited_for], ..fixture::report() };
        last.note(&report, SLOW);
        let glance = last.get().unwrap();
        let ids = |locks: &[LockReport]| locks.iter().map(|lock| lock.id.clone()).collect::<Vec<_>>();
        assert_eq!((glance.locks, ids(&glance.report.locks)), (3, ids(&report.locks[1..])));
        last.note(&report, SLOW / 2);
        assert!(last.get().is_none());
        last.note(&Report { locks: vec![fixture::ghost(); MOST + 1], ..fixture::report() }, SLOW);
        assert!(last.get().is_none(), "a page waits rather than that much is kept twice");
    }
}
