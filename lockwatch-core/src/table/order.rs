//! The order of a report's rows.

use std::{cmp::Reverse, sync::Arc};

use super::{Held, Owned};
use crate::{
    id::Number,
    observation::FileSeen,
    ranges::Span,
    report::{LockReport, Verdict},
    text::Text,
};

/// A lock that is to become a row.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) owned: &'a Owned,
    pub(super) span: &'a Span<Held>,
    /// What is known of its file.
    pub(super) seen: Option<&'a Arc<FileSeen>>,
    pub(super) number: Number,
    /// How many locks are newer.
    pub(super) nth: usize,
}

impl<'a> Place<'a> {
    fn path(&self) -> Option<&'a [u8]> {
        self.seen?.path.as_ref().map(Text::as_bytes)
    }
}

/// Sorts by path and range; what has no path comes last, and no two are equal.
pub(super) fn by_path(places: Vec<Place>) -> Vec<Place> {
    let mut paths = places.iter().filter_map(Place::path);
    let common = paths.next().map_or(0, |first| paths.fold(first.len(), |len, path| alike(&first[..len], path)));
    let mut keyed: Vec<_> = places
        .into_iter()
        .map(|place| {
            let path = place.path();
            let head = path.map_or([u8::MAX; 8], |path| head(&path[common..]));
            ((path.is_none(), head, path, place.span.range.start), place)
        })
        .collect();
    // Paths lie scattered in memory, and a hundred thousand are compared a million times: most differ in their heads.
    keyed.sort_unstable_by(|(a, one), (b, other)| {
        let rest = |place: &Place| (place.span.range, place.owned.0, place.number);
        a.cmp(b).then_with(|| rest(one).cmp(&rest(other)))
    });
    keyed.into_iter().map(|(_, place)| place).collect()
}

/// In how many bytes two paths begin alike.
fn alike(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first bytes, in the order of the whole: zeroes fill up what is shorter.
fn head(path: &[u8]) -> [u8; 8] {
    let mut head = [0; 8];
    let len = path.len().min(head.len());
    head[..len].copy_from_slice(&path[..len]);
    head
}

/// Puts the hot first, then the orphaned; everything else stays as it is.
pub(super) fn worst_first(rows: &mut Vec<LockReport>) {
    let rank = |row: &LockReport| Reverse((row.hot, row.verdict == Verdict::Orphaned));
    let mut worst: Vec<LockReport> = rows.extract_if(.., |row| rank(row) != Reverse((false, false))).collect();
    worst.sort_by_key(rank);
    rows.splice(..0, worst);
}
