//! Standing orders: which orphaned locks are to be told of or cleared without a human, and what comes of them, as data.
//!
//! [`Orders`] decides and remembers; somebody else carries out ([`Decision::Clear`]) and says how it ended ([`Outcome`]).
//! The rule above all others is that of [`crate::clear`]: when in doubt, do nothing more, and say why.

mod decision;
mod orders;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    decision::{About, Decision, Ended, Order, Outcome},
    orders::{Act, Now, Numbers, Orders},
};

use crate::{
    clear::{Method, fits},
    lock::Kind,
    report::{Cause, LockReport, Verdict},
    text::Text,
};

/// One standing order: a `[[policy]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name: unique, and fit for a metric's label.
    pub name: String,
    /// Which locks it is about. Whatever it says, only orphaned ones.
    pub matches: Match,
    /// How long a lock must have been orphaned.
    pub min_age: Duration,
    /// Whether somebody must be waiting for it.
    pub needs_waiters: bool,
    /// What is done with such a lock.
    pub action: Action,
    /// How far it is trusted.
    pub stage: Stage,
    /// How many locks it clears in [`Stage::Canary`].
    pub canary: u32,
    /// How many locks it clears within an hour.
    pub max_per_hour: u32,
    /// In which ways it may clear; never in another, even if only that would help.
    pub methods: Vec<Method>,
}

/// Which locks a policy is about. Whatever is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Patterns of paths, as on the protect list ([`crate::clear::Protection`]), of which one must fit. Empty: any file,
    /// also one whose path is not known.
    pub paths: Vec<String>,
    /// A pattern for the unit of the acquirer or of a holder.
    pub unit: Option<String>,
    /// One of these causes. Empty: any.
    pub causes: Vec<Cause>,
    /// One of these kinds. Empty: any.
    pub kinds: Vec<Kind>,
}

/// What a policy does with a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say that it is there.
    Report,
    /// Clear it, as far as the [`Stage`] goes.
    Clear,
}

impl Action {
    /// All of them, least first.
    pub const ALL: [Action; 2] = [Action::Report, Action::Clear];

    /// The configuration's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Report => "report",
            Action::Clear => "clear",
        }
    }
}

/// How far a policy that clears is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It says what it would do, and does nothing.
    Observe,
    /// It clears the first few locks, one at a time, each verified; then it stops.
    Canary,
    /// It clears.
    Enforce,
}

impl Stage {
    /// All of them, least first.
    pub const ALL: [Stage; 3] = [Stage::Observe, Stage::Canary, Stage::Enforce];

    /// The configuration's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Observe => "observe",
            Stage::Canary => "canary",
            Stage::Enforce => "enforce",
        }
    }
}

/// What holds of a policy where nothing else is said. It has no name yet and is about no lock.
impl Default for Policy {
    fn default() -> Self {
        Self {
            name: String::new(),
            matches: Match::default(),
            min_age: Duration::from_secs(60),
            needs_waiters: false,
            action: Action::Report,
            stage: Stage::Observe,
            canary: 1,
            max_per_hour: 10,
            methods: vec![Method::Release],
        }
    }
}

impl Policy {
    /// Whether it is there to clear, at whatever stage it is.
    pub fn clears(&self) -> bool {
        self.action == Action::Clear
    }

    /// Whether it clears at this stage.
    pub fn acts(&self) -> bool {
        self.clears() && self.stage != Stage::Observe
    }
}

impl Match {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this lock is orphaned, and one that is meant.
    pub fn fits(&self, lock: &LockReport) -> bool {
        let text = |pattern: &str, text: &Text| fits(pattern.as_bytes(), text.as_bytes());
        let path = || lock.file_seen.path.as_ref();
        let paths = || self.paths.is_empty() || path().is_some_and(|path| self.paths.iter().any(|one| text(one, path)));
        let people = || lock.acquirer.iter().chain(lock.holders.iter().filter_map(|holder| holder.process.as_ref()));
        let of = |unit: &String| people().flat_map(|p| p.unit.iter().chain(&p.user_unit)).any(|name| text(unit, name));
        let cause = || self.causes.is_empty() || lock.cause.is_some_and(|cause| self.causes.contains(&cause));
        let kind = self.kinds.is_empty() || self.kinds.contains(&lock.kind);
        lock.verdict == Verdict::Orphaned && kind && cause() && paths() && self.unit.as_ref().is_none_or(of)
    }
}
