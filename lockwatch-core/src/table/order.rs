//! The order of a report's rows.

use std::{
    cmp::{Ordering, Reverse},
    sync::Arc,
};

use super::{Held, Owned};
use crate::{
    id::Number,
    observation::FileSeen,
    ranges::Span,
    report::{LockReport, Verdict},
    text::Text,
};

/// A lock that is to become a row.
pub(super) struct Place<'a> {
    pub(super) owned: &'a Owned,
    pub(super) span: &'a Span<Held>,
    /// What is known of its file.
    pub(super) seen: Option<&'a Arc<FileSeen>>,
    pub(super) number: Number,
    /// How many locks are newer.
    pub(super) nth: usize,
    path: Option<&'a [u8]>,
    /// The first bytes of the path in which not all paths are alike.
    head: u64,
}

impl<'a> Place<'a> {
    pub(super) fn new(
        (owned, span): (&'a Owned, &'a Span<Held>),
        seen: Option<&'a Arc<FileSeen>>,
        number: Number,
        nth: usize,
    ) -> Self {
        let path = seen.and_then(|seen| seen.path.as_ref()).map(Text::as_bytes);
        Self { owned, span, seen, number, nth, path, head: 0 }
    }

    /// A hundred thousand are compared a million times, and paths and spans lie scattered in memory: the heads of most
    /// differ.
    fn compare(&self, other: &Self) -> Ordering {
        let paths = (self.path.is_none(), self.head, self.path).cmp(&(other.path.is_none(), other.head, other.path));
        let rest = |place: &Place| (place.span.range, place.owned.0, place.number);
        paths.then_with(|| rest(self).cmp(&rest(other)))
    }
}

/// Sorts by path and range; what has no path comes last, and no two are equal.
pub(super) fn by_path(places: &mut [Place]) {
    let mut paths = places.iter().filter_map(|place| place.path);
    let common = paths.next().map_or(0, |first| paths.fold(first.len(), |len, path| alike(&first[..len], path)));
    for place in places.iter_mut() {
        place.head = place.path.map_or(0, |path| head(&path[common..]));
    }
    places.sort_unstable_by(Place::compare);
}

/// In how many bytes two paths begin alike.
fn alike(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first bytes, in the order of the whole: zeroes fill up what is shorter.
fn head(path: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = path.len().min(head.len());
    head[..len].copy_from_slice(&path[..len]);
    u64::from_be_bytes(head)
}

/// Puts the hot first, then the orphaned; everything else stays as it is.
pub(super) fn worst_first(rows: &mut Vec<LockReport>) {
    let rank = |row: &LockReport| Reverse((row.hot, row.verdict == Verdict::Orphaned));
    let mut worst: Vec<LockReport> = rows.extract_if(.., |row| rank(row) != Reverse((false, false))).collect();
    worst.sort_by_key(rank);
    rows.splice(..0, worst);
}
