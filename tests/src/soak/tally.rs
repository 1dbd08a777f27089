//! What the comparisons of a soak come to.

use std::fmt;

/// What has been compared, and how much of it was wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Locks looked at.
    pub locks: usize,
    /// Those whose acquirer is dead.
    pub dead: usize,
    /// Those called orphaned, by one who came too late, and by the watcher.
    pub orphaned: [usize; 2],
    /// Those that nobody knows of any more, and that were called unknown.
    pub unknown: usize,
    /// Called orphaned by one who came too late, or has no time of the lock, though a younger process had the file
    /// before: without that time nobody can tell it from an heir.
    pub undecidable: usize,
    /// Missing, invented, or not as they are.
    pub wrong_locks: usize,
    /// A holder missing, invented, or by another means.
    pub wrong_holders: usize,
    /// Called orphaned while somebody who knows of it has it.
    pub false_orphans: usize,
    /// Called held while its acquirer is dead.
    pub false_peace: usize,
}

impl Tally {
    /// How much was wrong.
    pub fn wrong(&self) -> usize {
        self.wrong_locks + self.wrong_holders + self.false_orphans + self.false_peace
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { locks, dead, orphaned, unknown, undecidable, .. } = self;
        let Tally { wrong_locks, wrong_holders, false_orphans, false_peace, .. } = self;
        write!(
            f,
            "{locks} locks, {dead} of dead acquirers; orphaned: {} cold, {} watched, {undecidable} of them undecidable; \
             {unknown} ghosts unknown; wrong: {wrong_locks} locks, {wrong_holders} holders, {false_orphans} false \
             orphans, {false_peace} held by the dead",
            orphaned[0], orphaned[1]
        )
    }
}
