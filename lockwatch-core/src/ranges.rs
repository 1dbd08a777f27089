//! Range arithmetic of POSIX and OFD locks: what one owner's locks on one file become when it locks or unlocks.

use crate::lock::{Mode, Range};

/// One of an owner's locks on a file, with whatever its user wants to remember of it (who took it, when).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span<T> {
    /// Shared or exclusive.
    pub mode: Mode,
    /// Which bytes.
    pub range: Range,
    /// What is remembered of it.
    pub payload: T,
}

impl<T: Clone> Span<T> {
    /// The part before `cut`, if there is one.
    fn left_of(&self, cut: Range) -> Option<Self> {
        (self.range.start < cut.start).then(|| self.with(self.range.start, cut.start - 1))
    }

    /// The part after `cut`, if there is one.
    fn right_of(&self, cut: Range) -> Option<Self> {
        (self.range.last() > cut.last()).then(|| self.with(cut.last() + 1, self.range.last()))
    }

    fn with(&self, start: u64, last: u64) -> Self {
        Self { range: Range::from_kernel(start, last), ..self.clone() }
    }
}

/// Adds a granted lock to its owner's others, which are sorted by start and do not overlap, and stay so.
///
/// As `posix_lock_inode` of fs/locks.c (6.18) does it, payloads included:
/// - adjacent or overlapping locks of the same mode become one. It is the first of them that is extended and keeps its
///   payload: `/proc/locks` goes on to name whoever took that one;
/// - of locks of the other mode, what overlaps is overwritten: they are trimmed, split (both parts keep the payload)
///   or replaced;
/// - a replaced lock makes room for the new one at once, so same-mode locks further right merge into the new one.
pub fn add<T: Clone>(spans: &mut Vec<Span<T>>, mut new: Span<T>) {
    let asked = new.range;
    let first = spans.partition_point(|s| s.range.last().saturating_add(1) < asked.start);
    let len = spans[first..].partition_point(|s| s.range.start <= asked.last().saturating_add(1));
    let window = first..first + len;

    // At most one neighbour sticks out on each side: the spans do not overlap.
    let (mut left, mut right, mut placed) = (None, None, false);
    for old in &spans[window.clone()] {
        if old.mode == new.mode {
            let last = new.range.last().max(old.range.last());
            new.range = Range::from_kernel(new.range.start.min(old.range.start), last);
            if !placed {
                new.payload = old.payload.clone();
                placed = true;
            }
        } else {
            let (before, after) = (old.left_of(asked), old.right_of(asked));
            placed |= before.is_none() && after.is_none();
            left = left.or(before);
            right = right.or(after);
        }
    }
    spans.splice(window, left.into_iter().chain([new]).chain(right));
}

/// Unlocks a range: cuts it out of the owner's locks and returns the pieces that are gone, each with the payload of
/// the lock that it was part of. What is left of a lock keeps its payload (fs/locks.c `posix_lock_inode`, 6.18).
pub fn remove<T: Clone>(spans: &mut Vec<Span<T>>, range: Range) -> Vec<Span<T>> {
    let first = spans.partition_point(|s| s.range.last() < range.start);
    let len = spans[first..].partition_point(|s| s.range.start <= range.last());
    let window = first..first + len;

    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for old in &spans[window.clone()] {
        kept.extend(old.left_of(range));
        kept.extend(old.right_of(range));
        removed.push(old.with(old.range.start.max(range.start), old.range.last().min(range.last())));
    }
    spans.splice(window, kept);
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Read, Write};
    use proptest::prelude::*;

    const END: u64 = Range::OFFSET_MAX;

    type Row = (Mode, u64, u64, char);

    fn span((mode, start, last, payload): Row) -> Span<char> {
        Span { mode, range: Range::from_kernel(start, last), payload }
    }

    fn rows(spans: &[Span<char>]) -> Vec<Row> {
        spans.iter().map(|s| (s.mode, s.range.start, s.range.last(), s.payload)).collect()
    }

    fn check_add(before: &[Row], new: Row, expect: &[Row]) {
        let mut spans: Vec<_> = before.iter().copied().map(span).collect();
        add(&mut spans, span(new));
        assert_eq!(rows(&spans), expect, "{before:?} + {new:?}");
    }

    #[test]
    fn the_first_of_the_same_mode_is_extended_and_keeps_its_payload() {
        check_add(&[], (Read, 0, END, 'n'), &[(Read, 0, END, 'n')]);
        check_add(&[(Read, 0, 9, 'a')], (Read, 10, 19, 'n'), &[(Read, 0, 19, 'a')]);
        check_add(&[(Read, 10, 19, 'a')], (Read, 0, 9, 'n'), &[(Read, 0, 19, 'a')]);
        check_add(&[(Read, 0, 9, 'a')], (Read, 11, 19, 'n'), &[(Read, 0, 9, 'a'), (Read, 11, 19, 'n')]);
        check_add(&[(Read, 0, END, 'a')], (Read, 5, 6, 'n'), &[(Read, 0, END, 'a')]);
        check_add(&[(Read, 0, 4, 'a'), (Read, 6, END, 'b')], (Read, 5, 5, 'n'), &[(Read, 0, END, 'a')]);
    }

    #[test]
    fn the_other_mode_is_trimmed_split_or_replaced() {
        check_add(&[(Read, 0, 9, 'a')], (Write, 5, 19, 'n'), &[(Read, 0, 4, 'a'), (Write, 5, 19, 'n')]);
        check_add(&[(Read, 5, END, 'a')], (Write, 0, 9, 'n'), &[(Write, 0, 9, 'n'), (Read, 10, END, 'a')]);
        let split = [(Read, 0, 3, 'a'), (Write, 4, 5, 'n'), (Read, 6, END, 'a')];
        check_add(&[(Read, 0, END, 'a')], (Write, 4, 5, 'n'), &split);
        check_add(&[(Read, 3, 4, 'a'), (Read, 6, 7, 'b')], (Write, 0, END, 'n'), &[(Write, 0, END, 'n')]);
        check_add(&[(Read, 0, 4, 'a')], (Write, 5, 9, 'n'), &[(Read, 0, 4, 'a'), (Write, 5, 9, 'n')]);
    }

    #[test]
    fn what_is_met_first_decides_whose_payload_stays() {
        // A replaced lock first: the new one takes its place, and the same mode behind merges into it.
        check_add(&[(Read, 0, 4, 'a'), (Write, 5, 9, 'b')], (Write, 0, 6, 'n'), &[(Write, 0, 9, 'n')]);
        // A trimmed one first: not a place, so the same mode behind is extended.
        let trimmed = [(Read, 0, 1, 'a'), (Write, 2, 9, 'b')];
        check_add(&[(Read, 0, 4, 'a'), (Write, 5, 9, 'b')], (Write, 2, 6, 'n'), &trimmed);
        // The same mode first, then a replaced one.
        check_add(&[(Write, 0, 4, 'a'), (Read, 5, 9, 'b')], (Write, 5, 9, 'n'), &[(Write, 0, 9, 'a')]);
    }

    #[test]
    fn unlocking_returns_the_pieces() {
        let check = |before: &[Row], (start, last), kept: &[Row], removed: &[Row]| {
            let mut spans: Vec<_> = before.iter().copied().map(span).collect();
            let gone = remove(&mut spans, Range::from_kernel(start, last));
            assert_eq!((rows(&spans), rows(&gone)), (kept.to_vec(), removed.to_vec()));
        };
        check(&[(Read, 0, END, 'a')], (0, END), &[], &[(Read, 0, END, 'a')]);
        check(&[(Read, 0, END, 'a')], (5, 9), &[(Read, 0, 4, 'a'), (Read, 10, END, 'a')], &[(Read, 5, 9, 'a')]);
        let two = [(Read, 0, 4, 'a'), (Write, 5, 9, 'b')];
        check(&two, (3, 6), &[(Read, 0, 2, 'a'), (Write, 7, 9, 'b')], &[(Read, 3, 4, 'a'), (Write, 5, 6, 'b')]);
        check(&two, (10, END), &two, &[]);
    }

    /// Bytes 0..16 of the naive model stand for themselves, the last of them for everything up to the end.
    const BYTES: u64 = 16;

    fn any_range() -> impl Strategy<Value = Range> {
        (0..BYTES, 0..BYTES).prop_map(|(a, b)| {
            let last = if a.max(b) == BYTES - 1 { END } else { a.max(b) };
            Range::from_kernel(a.min(b), last)
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_model_of_single_bytes(
            steps in prop::collection::vec((prop::option::of(prop::bool::ANY), any_range()), 0..40)
        ) {
            let mut model = [None; BYTES as usize];
            let mut spans: Vec<Span<usize>> = Vec::new();
            for (step, (lock, range)) in steps.into_iter().enumerate() {
                let mode = lock.map(|write| if write { Write } else { Read });
                let covered = |byte: usize| range.overlaps(Range::from_kernel(byte as u64, byte as u64));
                let held = (0..model.len()).filter(|b| covered(*b) && model[*b].is_some()).count() as u64;
                match mode {
                    Some(mode) => add(&mut spans, Span { mode, range, payload: step }),
                    None => {
                        let count = |s: &Span<usize>| s.range.last().min(BYTES - 1) - s.range.start + 1;
                        prop_assert_eq!(remove(&mut spans, range).iter().map(count).sum::<u64>(), held);
                    }
                }
                (0..model.len()).filter(|b| covered(*b)).for_each(|b| model[b] = mode);

                let seen: Vec<_> = (0..BYTES)
                    .map(|b| spans.iter().find(|s| s.range.overlaps(Range::from_kernel(b, b))).map(|s| s.mode))
                    .collect();
                prop_assert_eq!(&seen[..], &model[..]);
                for pair in spans.windows(2) {
                    let apart = pair[0].range.last() + 1 < pair[1].range.start;
                    let touch = pair[0].range.last() + 1 == pair[1].range.start;
                    prop_assert!(apart || (touch && pair[0].mode != pair[1].mode), "{:?}", pair);
                }
            }
        }
    }
}
