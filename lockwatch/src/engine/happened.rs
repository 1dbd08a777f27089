//! What the engine tells.

use std::{sync::Arc, time::Duration};

use lockwatch_core::{observation::LockEvent, process::Process, report::Report, time::Timestamp};

use crate::sources::bpf::tracing::Throttled;

/// Something that happened.
#[derive(Debug)]
pub enum Happened {
    /// A lock operation: a wait or the end of a ghost; any, if that is the purpose.
    Lock {
        /// What the kernel told.
        event: LockEvent,
        /// For a release: how long it was held.
        held: Option<Duration>,
    },
    /// A locker is gone, with all that went with it.
    Died {
        /// When.
        at: Timestamp,
        /// Who, and how.
        process: Arc<Process>,
    },
    /// Records were lost, and the picture with them: a look makes it good.
    Lost {
        /// When that was noticed.
        at: Timestamp,
        /// How many.
        count: u64,
    },
    /// Traced operations were left out, because there were too many.
    Missed {
        /// When that was noticed.
        at: Timestamp,
        /// How many.
        count: u64,
    },
    /// Operations of a control group are left out of the trace from now on, or no longer.
    Throttled(Throttled),
    /// Everything that is, now.
    Looked(Report),
    /// A second has passed.
    Tick,
}
