//! Scenes as data: how each is staged, and what must be said of it by whoever comes too late and by whoever watched.
//!
//! [`scenes`] lists them. Several are staged side by side, so that one look judges them all ([`Theatre`]).

mod cast;
pub mod clearing;
mod deadlocks;
mod heirs;
mod hidden;
mod judge;
mod oddities;
mod reuse;
pub mod stage;
mod theatre;
mod through;

use std::path::Path;

pub use cast::{Cast, Fate, Part};
pub use theatre::{Theatre, Wrong};

use crate::Scene;

/// One way in which a lock is held, lost or waited for.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What happens.
    pub name: &'static str,
    /// Makes it happen; whatever it returns is kept until it has been judged.
    pub stage: fn(&Scene, &Path) -> Cast,
    /// Verdict and cause when nobody watched (`orphaned/inherited`).
    pub cold: &'static str,
    /// The same where `/proc` cannot know what the kernel's own list tells (who took an OFD lock).
    pub procfs: &'static str,
    /// What a watcher says: the same for its `orphaned` event, or [`PEACE`], or [`DEADLOCK`].
    pub watched: &'static str,
    /// What somebody who watched knows of it, where it is nothing to tell ([`PEACE`]) and not what it looks like cold.
    pub known: Option<&'static str>,
    /// Words that the evidence or a holder's detail must have.
    pub says: &'static [&'static str],
    /// Whether it can be staged here; says why not.
    pub needs: fn(&str) -> bool,
    /// Whether it disturbs others, and is staged alone.
    pub alone: bool,
    /// Whether somebody waits and does no more, which only `trace` tells.
    pub traced: bool,
}

/// A watcher has nothing to say.
pub const PEACE: &str = "peace";

/// A watcher says that the lock is part of a deadlock, once that is hot.
pub const DEADLOCK: &str = "deadlock";

/// Every scene.
pub fn scenes() -> Vec<Scenario> {
    [heirs::SCENES, hidden::SCENES, oddities::SCENES, deadlocks::SCENES].concat()
}

impl Scenario {
    const fn new(
        name: &'static str,
        stage: fn(&Scene, &Path) -> Cast,
        cold: &'static str,
        watched: &'static str,
    ) -> Self {
        let needs: fn(&str) -> bool = |_| true;
        Self { name, stage, cold, procfs: cold, watched, known: None, says: &[], needs, alone: false, traced: false }
    }

    const fn known(mut self, verdict: &'static str) -> Self {
        self.known = Some(verdict);
        self
    }

    const fn says(mut self, words: &'static [&'static str]) -> Self {
        self.says = words;
        self
    }

    const fn by_procfs(mut self, verdict: &'static str) -> Self {
        self.procfs = verdict;
        self
    }

    const fn needs(mut self, needs: fn(&str) -> bool) -> Self {
        self.needs = needs;
        self
    }

    const fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}
