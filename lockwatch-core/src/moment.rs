//! One thing that happened to a lock.

use std::{sync::Arc, time::Duration};

use crate::{process::Process, time::Timestamp};

/// One thing that happened to a lock.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When, or when it was noticed.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// Who did it, or to whom it happened.
    pub who: Option<Arc<Process>>,
    /// For the end of a wait: how long it was.
    pub waited: Option<Duration>,
    /// Grows with each moment that is noted, of whatever lock.
    pub number: u64,
}

/// What may happen to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was taken.
    Taken,
    /// It was there already; when it was taken is not known.
    Found,
    /// Somebody began to wait for it.
    Waiting,
    /// Somebody's wait ended, with a lock of its own.
    Granted,
    /// Somebody's wait ended, without a lock as far as one knows.
    WaitEnded,
    /// Somebody else keeps it alive now: it was passed on.
    PassedOn,
    /// Somebody does not keep it alive any more.
    LetGo,
    /// Who took it died.
    OwnerDied,
    /// Some of its bytes were unlocked.
    ReleasedInPart,
    /// Nobody who knows of it is left.
    Orphaned,
    /// Somebody has been waiting for it too long.
    Hot,
    /// It is gone.
    Released,
}

impl What {
    /// Everything.
    pub const ALL: [What; 12] = [
        What::Taken,
        What::Found,
        What::Waiting,
        What::Granted,
        What::WaitEnded,
        What::PassedOn,
        What::LetGo,
        What::OwnerDied,
        What::ReleasedInPart,
        What::Orphaned,
        What::Hot,
        What::Released,
    ];

    /// One word for documents.
    pub fn name(self) -> &'static str {
        match self {
            What::Taken => "taken",
            What::Found => "found",
            What::Waiting => "waiting",
            What::Granted => "granted",
            What::WaitEnded => "wait_ended",
            What::PassedOn => "passed_on",
            What::LetGo => "let_go",
            What::OwnerDied => "owner_died",
            What::ReleasedInPart => "released_in_part",
            What::Orphaned => "orphaned",
            What::Hot => "hot",
            What::Released => "released",
        }
    }
}
