//! What whoever turns the engine wants to hear of next.

use std::collections::HashSet;

use lockwatch_core::{
    lock::{FileId, Kind},
    report::{LockReport, Settings, Verdict},
    time::Timestamp,
};

use super::later;

/// What a look has shown that another must follow: whoever turns the engine says which locks matter to it.
#[derive(Debug, Default)]
pub struct Concern {
    /// Files with a ghost: a wait for one of them asks for a look.
    pub ghosts: HashSet<FileId>,
    /// Whether one of them is a lease: one that ends with its last descriptor says nothing.
    pub silent: bool,
    /// When one of these locks may get hot.
    pub may_get_hot: Option<Timestamp>,
}

impl Concern {
    /// That for these locks, in a report of that time.
    pub fn about<'a>(locks: impl IntoIterator<Item = &'a LockReport>, now: Timestamp, settings: Settings) -> Self {
        let mut concern = Self::default();
        for lock in locks.into_iter().filter(|lock| is_ghostly(lock)) {
            concern.ghosts.insert(lock.file);
            concern.silent |= matches!(lock.kind, Kind::Lease | Kind::Delegation);
            if !lock.hot {
                let waits = lock.waiters.iter().map(|waiter| later(waiter.since.unwrap_or(now), settings.hot_after));
                concern.may_get_hot = waits.chain(concern.may_get_hot).min();
            }
        }
        concern
    }
}

fn is_ghostly(lock: &LockReport) -> bool {
    lock.verdict == Verdict::Orphaned || lock.deadlock || lock.hot
}
