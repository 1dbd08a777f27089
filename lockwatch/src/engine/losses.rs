//! What was lost, and what is to be done about it: whatever goes missing in the kernel makes the picture inexact until
//! one full look has shown everything again. Such looks are rate-limited: the first comes at once, the next only after
//! a while, however much goes on being lost.

use std::{collections::BTreeMap, time::Duration};

use lockwatch_core::time::Timestamp;

/// Why something was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The ring of news was full.
    Ring,
    /// The table of held locks was.
    Held,
    /// The table of processes was.
    Processes,
    /// The table of waits was.
    Waits,
    /// The table of processes of whose death is to be heard was.
    Watched,
    /// The kernel left out runs of a probe.
    Missed,
    /// A probe was gone, or did not run.
    Detached,
    /// The list of locks changed faster than it could be read.
    Torn,
}

impl Reason {
    /// The word for it in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Ring => "ring",
            Reason::Held => "held",
            Reason::Processes => "processes",
            Reason::Waits => "waits",
            Reason::Watched => "watched",
            Reason::Missed => "missed",
            Reason::Detached => "detached",
            Reason::Torn => "torn",
        }
    }
}

/// A resync: a full look because something was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resyncs {
    /// How many there were, by reason; one look may have several.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// When the last of them was.
    pub last: Option<Timestamp>,
}

/// What was lost and not repaired yet.
#[derive(Debug)]
pub struct Losses {
    /// Between two resyncs, at least.
    pause: Duration,
    /// Since the last full look.
    open: BTreeMap<Reason, u64>,
    /// Whether the last full look repaired something: only a second in which nothing is lost shows that it is over.
    doubtful: bool,
    resyncs: Resyncs,
    /// How much nobody was told of yet.
    untold: u64,
    told: Option<Timestamp>,
}

impl Losses {
    /// Nothing is lost yet.
    pub fn new(pause: Duration) -> Self {
        Self { pause, open: BTreeMap::new(), doubtful: false, resyncs: Resyncs::default(), untold: 0, told: None }
    }

    /// Has resyncs be at least so far apart.
    pub fn pause_for(&mut self, pause: Duration) {
        self.pause = pause;
    }

    /// So much was lost. Nothing is no loss.
    pub fn note(&mut self, reason: Reason, count: u64) {
        if count > 0 {
            *self.open.entry(reason).or_default() += count;
            self.untold += count;
        }
    }

    /// So much was left out of what is told, and the picture is none the worse for it.
    pub fn note_untold(&mut self, count: u64) {
        self.untold += count;
    }

    /// How much is to be told of now: once as often as there are resyncs.
    pub fn tell(&mut self, now: Timestamp) -> Option<u64> {
        if self.untold == 0 || self.told.is_some_and(|told| now.since(told) < self.pause) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// A second is over, and what was lost in it has been noted.
    pub fn second_is_over(&mut self) {
        self.doubtful &= !self.open.is_empty();
    }

    /// Whether it is time for a resync.
    pub fn is_due(&self, now: Timestamp) -> bool {
        !self.open.is_empty() && self.resyncs.last.is_none_or(|last| now.since(last) >= self.pause)
    }

    /// There was a full look, which began after all that is noted had been.
    pub fn looked(&mut self, now: Timestamp) {
        let open = std::mem::take(&mut self.open);
        if open.is_empty() {
            return;
        }
        for reason in open.keys() {
            *self.resyncs.by_reason.entry(reason.name()).or_default() += 1;
        }
        self.resyncs.last = Some(now);
        self.doubtful = true;
    }

    /// Whether nothing is missing, as far as anybody knows.
    pub fn is_exact(&self) -> bool {
        self.open.is_empty() && !self.doubtful
    }

    /// The resyncs so far.
    pub fn resyncs(&self) -> &Resyncs {
        &self.resyncs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens at a second: losses, then perhaps a look.
    enum Step {
        Lose(Reason, u64),
        Second,
        Look,
    }
    use Step::{Look, Lose, Second};

    fn at(second: u64) -> Timestamp {
        Timestamp(second * 1_000_000_000)
    }

    #[test]
    fn the_first_resync_comes_at_once_and_the_next_after_a_while() {
        let check = |steps: &[(u64, Step)], now: u64, due: bool, exact: bool| {
            let mut losses = Losses::new(Duration::from_secs(5));
            for (second, step) in steps {
                match step {
                    Lose(reason, count) => losses.note(*reason, *count),
                    Second => losses.second_is_over(),
                    Look => losses.looked(at(*second)),
                }
            }
            assert_eq!((losses.is_due(at(now)), losses.is_exact()), (due, exact), "{losses:?} at {now}");
        };
        check(&[], 1, false, true);
        check(&[(1, Lose(Reason::Ring, 0)), (1, Second)], 1, false, true);
        check(&[(1, Lose(Reason::Ring, 3))], 1, true, false);
        // Repaired, and seen to be over a second later.
        check(&[(1, Lose(Reason::Ring, 3)), (1, Look)], 1, false, false);
        check(&[(1, Lose(Reason::Ring, 3)), (1, Look), (2, Second)], 2, false, true);
        // It goes on: once in five seconds.
        let goes_on = || vec![(1, Lose(Reason::Ring, 3)), (1, Look), (2, Lose(Reason::Held, 1)), (2, Second)];
        check(&goes_on(), 2, false, false);
        check(&goes_on(), 5, false, false);
        check(&goes_on(), 6, true, false);
        // Any look repairs, and an eventless one is no resync.
        check(&[(1, Look), (1, Lose(Reason::Waits, 1))], 1, true, false);
    }

    #[test]
    fn resyncs_are_counted_by_reason() {
        let mut losses = Losses::new(Duration::from_secs(5));
        losses.looked(at(1));
        losses.note(Reason::Held, 2);
        losses.note(Reason::Detached, 1);
        losses.note(Reason::Held, 3);
        losses.looked(at(2));
        losses.note(Reason::Held, 1);
        losses.looked(at(9));
        assert_eq!(losses.resyncs().by_reason, BTreeMap::from([("detached", 1), ("held", 2)]));
        assert_eq!(losses.resyncs().last, Some(at(9)));
    }

    #[test]
    fn losses_are_told_as_often_as_they_are_repaired() {
        let mut losses = Losses::new(Duration::from_secs(5));
        assert_eq!(losses.tell(at(1)), None);
        losses.note(Reason::Ring, 2);
        losses.note_untold(1);
        assert_eq!(losses.tell(at(1)), Some(3));
        losses.note(Reason::Ring, 4);
        assert_eq!(losses.tell(at(2)), None);
        losses.note(Reason::Held, 1);
        assert_eq!(losses.tell(at(6)), Some(5));
        assert_eq!(losses.tell(at(99)), None);
    }
}
