//! Who was born, and what was said of it.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use crate::{Event, PATIENCE};

/// How long an orphan lives after it was reported: long enough to be reported twice.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// Every orphan, by the name of its file.
#[derive(Default)]
pub(super) struct Ledger {
    orphans: HashMap<String, Orphan>,
    born: u64,
    /// From birth to report.
    longest: Duration,
    total: Duration,
    /// What was said of files that nobody left a lock on.
    strangers: Vec<String>,
}

struct Orphan {
    born: Instant,
    reported: u32,
    cleared: u32,
    ended: Option<Instant>,
}

impl Ledger {
    /// How many there were.
    pub(super) fn born(&self) -> u64 {
        self.born
    }

    /// The next one's name.
    pub(super) fn next(&self) -> String {
        format!("orphan-{}", self.born)
    }

    /// It is born.
    pub(super) fn bear(&mut self, name: String) {
        self.born += 1;
        self.orphans.insert(name, Orphan { born: Instant::now(), reported: 0, cleared: 0, ended: None });
    }

    /// Takes in what the agent says about files of this directory.
    pub(super) fn hear(&mut self, events: &[Event], dir: &Path) {
        for event in events.iter().filter(|event| event.is("orphaned") || event.is("cleared")) {
            let path = event.json["lock"]["file"]["path"].as_str().unwrap_or_default();
            let Ok(name) = Path::new(path).strip_prefix(dir) else { continue };
            let Some(orphan) = name.to_str().and_then(|name| self.orphans.get_mut(name)) else {
                self.strangers.push(path.to_owned());
                continue;
            };
            if event.is("cleared") {
                orphan.cleared += 1;
                continue;
            }
            orphan.reported += 1;
            let took = event.heard.saturating_duration_since(orphan.born);
            self.total += took;
            self.longest = self.longest.max(took);
        }
    }

    /// Those whose time has come: reported a while ago, or not at all for long.
    pub(super) fn due(&mut self) -> Vec<String> {
        let now = Instant::now();
        let is_due = |orphan: &Orphan| {
            let age = now.duration_since(orphan.born);
            orphan.ended.is_none() && (age > PATIENCE || orphan.reported > 0 && age > AFTERWARDS)
        };
        let due = self.orphans.iter_mut().filter(|(_, orphan)| is_due(orphan));
        due.map(|(name, orphan)| {
            orphan.ended = Some(now);
            name.clone()
        })
        .collect()
    }

    /// Whether something is still to be said of somebody.
    pub(super) fn waits(&self) -> bool {
        let waits = |orphan: &Orphan| match orphan.ended {
            None => true,
            Some(ended) => orphan.cleared < orphan.reported && ended.elapsed() < PATIENCE,
        };
        self.orphans.values().any(waits)
    }

    fn count(&self, is: impl Fn(&Orphan) -> bool) -> usize {
        self.orphans.values().filter(|orphan| is(orphan)).count()
    }

    /// What was wrong. Who was not reported may be excused by a loss that was counted; who was reported twice never.
    pub(super) fn wrong(&self, excused: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut say = |count: usize, what: &str| {
            if count > 0 {
                wrong.push(format!("{count} orphans {what}"));
            }
        };
        say(self.count(|orphan| orphan.reported > 1), "were reported more than once");
        say(if excused { 0 } else { self.count(|orphan| orphan.reported == 0) }, "were not reported");
        say(self.count(|orphan| orphan.cleared != orphan.reported), "were not cleared once for each report");
        if !self.strangers.is_empty() {
            wrong.push(format!("{} reports of nobody, the first of {}", self.strangers.len(), self.strangers[0]));
        }
        wrong
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (once, cleared) = (self.count(|o| o.reported == 1), self.count(|o| o.cleared == 1));
        let mean = self.total / u32::try_from(self.born.max(1)).unwrap_or(u32::MAX);
        write!(
            f,
            "{} orphans, {once} reported once, {cleared} cleared once; from death to report {mean:.1?}, {:.1?} at most",
            self.born, self.longest
        )
    }
}
