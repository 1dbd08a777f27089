//! What comes of standing orders: what is to be done, and what is to be said, in words.

use std::{fmt, time::Duration};

use crate::{clear::Method, id::LockId, report::LockReport};

/// What a policy does or says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It reports this lock.
    Found {
        /// Which policy.
        policy: String,
        /// Which lock.
        lock: About,
        /// For how long it has been orphaned.
        age: Duration,
    },
    /// It would clear this lock, if it were trusted to.
    Would {
        /// Which policy.
        policy: String,
        /// Which lock.
        lock: About,
        /// How.
        method: Method,
    },
    /// It leaves this lock alone, though it is one that is meant.
    Spared {
        /// Which policy.
        policy: String,
        /// Which lock.
        lock: About,
        /// What stands against it.
        why: String,
    },
    /// This lock is to be cleared now. How it ended is waited for before anything else is.
    Clear(Order),
    /// It has done as much as it may within an hour.
    Spent {
        /// Which policy.
        policy: String,
        /// How much that is.
        most: u32,
    },
    /// It has cleared a lock.
    Cleared {
        /// Which policy.
        policy: String,
        /// Which lock.
        lock: About,
        /// What was done, in words.
        words: String,
    },
    /// Nothing was done: the lock was not as it had been, or nobody could be asked to.
    Missed {
        /// Which policy.
        policy: String,
        /// Which lock.
        lock: About,
        /// Why.
        why: String,
    },
    /// Its canaries live: it has cleared as many as it may, and stops.
    Finished {
        /// Which policy.
        policy: String,
        /// How many.
        count: u32,
    },
    /// Something went wrong: it does nothing more until a human has the configuration read again.
    Frozen {
        /// Which policy.
        policy: String,
        /// At which lock.
        lock: About,
        /// What.
        why: String,
    },
}

/// A lock, as far as a sentence cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its short name.
    pub id: LockId,
    /// The file, as it may be printed.
    pub file: String,
}

impl About {
    /// One of a report's locks.
    pub fn of(lock: &LockReport) -> Self {
        let file = lock.file_seen.path.as_ref().map_or_else(|| lock.file.to_string(), ToString::to_string);
        Self { id: lock.id.clone(), file }
    }
}

/// A lock to be cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// For which policy.
    pub policy: String,
    /// Which lock.
    pub lock: About,
    /// In this way, and no other.
    pub method: Method,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In short.
    pub ended: Ended,
    /// In words.
    pub words: String,
}

/// How an order ended, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// The lock is gone, and that was verified.
    Cleared,
    /// The lock was not as it had been any more, and nothing was done.
    Changed,
    /// A guard said no, of which the policy did not know.
    Refused,
    /// Everything was done, and the lock is still there, or that could not be seen.
    StillHeld,
    /// A second person must confirm it.
    Waiting,
    /// It failed on the way; what became of the lock is not known.
    Failed,
    /// Nobody could be asked, and nothing was done.
    Unreachable,
}

impl Ended {
    /// All of them.
    pub const ALL: [Ended; 7] = [
        Ended::Cleared,
        Ended::Changed,
        Ended::Refused,
        Ended::StillHeld,
        Ended::Waiting,
        Ended::Failed,
        Ended::Unreachable,
    ];

    /// Whether it is a reason to do nothing more.
    pub fn is_failure(self) -> bool {
        match self {
            Ended::Cleared | Ended::Changed | Ended::Unreachable => false,
            Ended::Refused | Ended::StillHeld | Ended::Waiting | Ended::Failed => true,
        }
    }

    /// The word for it in metrics: the contract's, where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Ended::Cleared => "cleared",
            Ended::Changed => "changed",
            Ended::Refused => "refused",
            Ended::StillHeld => "still_held",
            Ended::Waiting => "planned",
            Ended::Failed => "failed",
            Ended::Unreachable => "unreachable",
        }
    }
}

impl Decision {
    /// Which policy.
    pub fn policy(&self) -> &str {
        match self {
            Decision::Clear(order) => &order.policy,
            Decision::Found { policy, .. }
            | Decision::Would { policy, .. }
            | Decision::Spared { policy, .. }
            | Decision::Spent { policy, .. }
            | Decision::Cleared { policy, .. }
            | Decision::Missed { policy, .. }
            | Decision::Finished { policy, .. }
            | Decision::Frozen { policy, .. } => policy,
        }
    }

    /// The word for it in documents.
    pub fn name(&self) -> &'static str {
        match self {
            Decision::Found { .. } => "found",
            Decision::Would { .. } => "would",
            Decision::Spared { .. } => "spared",
            Decision::Clear(_) => "clear",
            Decision::Spent { .. } => "spent",
            Decision::Cleared { .. } => "cleared",
            Decision::Missed { .. } => "missed",
            Decision::Finished { .. } => "finished",
            Decision::Frozen { .. } => "frozen",
        }
    }

    /// What it says, without the policy's name.
    pub fn words(&self) -> String {
        match self {
            Decision::Found { lock, age, .. } => {
                format!("{lock} has been orphaned for {} s; next: lockwatch explain {}", age.as_secs(), lock.id)
            }
            Decision::Would { lock, method, .. } => {
                format!("would clear {lock} by {method}, and does not: stage observe")
            }
            Decision::Spared { lock, why, .. } => format!("leaves {lock} alone: {why}"),
            Decision::Clear(Order { lock, method, .. }) => format!("clears {lock} by {method}"),
            Decision::Spent { most, .. } => format!("has acted {most} times within an hour (max_per_hour), and waits"),
            Decision::Cleared { lock, words, .. } => format!("cleared {lock}: {words}"),
            Decision::Missed { lock, why, .. } => format!("did nothing about {lock}: {why}"),
            Decision::Finished { count, .. } => {
                format!("has cleared {count} as its canary, each verified, and stops; next: stage = \"enforce\"")
            }
            Decision::Frozen { lock, why, .. } => format!(
                "FROZEN at {lock}: {why}; it does nothing more until SIGHUP or a restart. Next: lockwatch explain {}; \
                 lockwatch audit --id {}",
                lock.id, lock.id
            ),
        }
    }

    /// Which lock, if it is about one.
    pub fn lock(&self) -> Option<&About> {
        match self {
            Decision::Clear(order) => Some(&order.lock),
            Decision::Found { lock, .. }
            | Decision::Would { lock, .. }
            | Decision::Spared { lock, .. }
            | Decision::Cleared { lock, .. }
            | Decision::Missed { lock, .. }
            | Decision::Frozen { lock, .. } => Some(lock),
            Decision::Spent { .. } | Decision::Finished { .. } => None,
        }
    }
}

/// `f3k9-27qd (/srv/x.lock)`.
impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.file)
    }
}

/// One sentence, for the log.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {}: {}", self.policy(), self.words())
    }
}
