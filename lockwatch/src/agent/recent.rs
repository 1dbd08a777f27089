//! What was told lately: for a page that somebody opens after it happened.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lockwatch_core::time::Timestamp;

use crate::output::event::{self, Event};

/// How much is kept.
const MOST: usize = 50;

/// The last events, and since when there can be any.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    since: Option<Timestamp>,
    told: VecDeque<Told>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// In a sentence.
    pub words: String,
}

impl Recent {
    /// Keeps it, and forgets the oldest.
    pub fn note(&self, event: &Event<'_>) {
        let told = Told { at: event.at(), words: event::sentence(event) };
        let mut kept = self.kept();
        if matches!(event, Event::Watching { .. }) {
            kept.since.get_or_insert(told.at);
        }
        kept.told.push_front(told);
        kept.told.truncate(MOST);
    }

    /// When the first look was, and what was told, the newest first.
    pub fn all(&self) -> (Option<Timestamp>, Vec<Told>) {
        let kept = self.kept();
        (kept.since, kept.told.iter().cloned().collect())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked has left a list that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::NOW;

    #[test]
    fn the_newest_are_kept() {
        let recent = Recent::default();
        assert_eq!(recent.all(), (None, Vec::new()));
        recent.note(&Event::Watching { at: NOW, locks: 1, orphaned: 0, hot: 0 });
        for count in 0..60 {
            recent.note(&Event::Lost { at: NOW, count });
        }
        let (since, told) = recent.all();
        assert_eq!((since, told.len()), (Some(NOW), MOST));
        assert!(told[0].words.contains("59") && told[MOST - 1].words.contains("10"), "{told:?}");
    }
}
