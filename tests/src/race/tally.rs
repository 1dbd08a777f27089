//! What was counted.

use std::{collections::BTreeMap, time::Duration};

use super::{Race, shared::DEEDS};

/// How often what happened.
#[derive(Default)]
pub(super) struct Tally {
    /// Plans that were carried out, or refused by what carries them out.
    pub(super) tried: u64,
    pub(super) took: Duration,
    pub(super) done: BTreeMap<&'static str, u64>,
    pub(super) reasons: BTreeMap<(&'static str, String), u64>,
    /// Done, and the lock was there again, or the process had not ended.
    pub(super) not_gone: u64,
    /// Nothing to clear was there.
    pub(super) nothing: u64,
    /// The second look was not like the first, or somebody could not be pinned.
    pub(super) moved: u64,
    /// Locks that nobody was to end, and that are gone.
    pub(super) lost: Vec<String>,
    pub(super) wrong_signals: u64,
    /// Locks that a living holder had just taken on the planned bytes: flock, OFD, lease.
    pub(super) stolen: [u64; 3],
    pub(super) takers: u32,
    pub(super) deeds: [u64; DEEDS.len()],
    pub(super) latencies: Vec<Duration>,
    pub(super) held: Vec<Duration>,
}

impl Tally {
    /// Prints it. The exit code: 0 if nothing was wrong.
    pub(super) fn print(mut self, race: &Race) -> i32 {
        let sum = |kind: &str| self.reasons.iter().filter(|((k, _), _)| *k == kind).map(|(_, n)| n).sum::<u64>();
        let done: Vec<_> = self.done.iter().map(|(way, n)| format!("{n} {way}")).collect();
        println!(
            "race: {} clears in {:.1} s, seed {}: {}, {} changed, {} failed",
            self.tried,
            self.took.as_secs_f64(),
            race.seed,
            done.join(", "),
            sum("changed"),
            sum("failed"),
        );
        for ((kind, words), n) in &self.reasons {
            println!("race: {kind} {n}: {words}");
        }
        println!(
            "race: before a plan: {} looks found nothing to clear, {} second looks differed; done and not gone: {}",
            self.nothing, self.moved, self.not_gone
        );
        let deeds: Vec<_> = DEEDS.iter().zip(self.deeds).map(|(name, n)| format!("{name} {n}")).collect();
        println!("race: the adversary: {}; takers {}", deeds.join(", "), self.takers);
        let [flock, ofd, lease] = self.stolen;
        println!(
            "race: taken anew on the same bytes between the last look and the unlock, and lost: flock {flock}, ofd \
             {ofd}, lease {lease}"
        );
        self.latencies.sort_unstable();
        self.held.sort_unstable();
        println!("race: to release, grip and act: {}; duplicate held: {}", spread(&self.latencies), spread(&self.held));
        println!("race: wrong unlocks {}, wrong signals {}", self.lost.len(), self.wrong_signals);
        self.lost.iter().for_each(|lost| println!("race: lost: {lost}"));
        i32::from(!self.lost.is_empty() || self.wrong_signals > 0)
    }
}

fn spread(sorted: &[Duration]) -> String {
    let at = |part: usize| sorted.get(sorted.len() * part / 1000).map_or(0, Duration::as_micros);
    match sorted.last() {
        Some(longest) => format!("p50 {} µs, p99 {} µs, longest {} µs", at(500), at(990), longest.as_micros()),
        None => "never".to_owned(),
    }
}
