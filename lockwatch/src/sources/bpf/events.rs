//! What comes out of the ring: lock operations and deaths.

use std::sync::Arc;

use lockwatch_common::{
    DeathRecord, LockRecord, ProcessKey, RECORD_DEATH, RECORD_LOCK, RECORD_THROTTLE, ThrottleRecord, Wire, fl, what,
};
use lockwatch_core::{
    lock::{OwnerKey, Range},
    observation::{LockEvent, LockEventKind},
    process::Process,
    text::Text,
};

use super::{
    convert::{file_id, kind_of, mode_of, process_id},
    people::dead_process,
    tracing::Throttled,
};
use crate::sources::clock::Clock;

/// One piece of news.
pub enum News {
    /// Something happened to a lock.
    Lock(LockEvent),
    /// A process that has to do with locks is dying: its descriptors are closed only when its pidfd becomes readable.
    Dying {
        /// To ask the kernel-side tables about it.
        token: Token,
        /// Who it was.
        process: Arc<Process>,
    },
    /// From here on operations of a control group are left out of the trace.
    Throttled(Throttled),
}

/// A process in the kernel-side tables.
pub struct Token(pub(super) ProcessKey);

/// Decodes one record of the ring; `None` for one that this version does not know.
pub fn decode(bytes: &[u8], clock: &Clock) -> Option<News> {
    let record = u32::from_ne_bytes([*bytes.first()?, *bytes.get(1)?, *bytes.get(2)?, *bytes.get(3)?]);
    match record {
        RECORD_LOCK => Some(News::Lock(lock_event(&LockRecord::read(bytes)?, clock)?)),
        RECORD_DEATH => {
            let record = DeathRecord::read(bytes)?;
            let process = Arc::new(dead_process(&record.process, &record.value, clock));
            Some(News::Dying { token: Token(record.process), process })
        }
        RECORD_THROTTLE => Some(News::Throttled(Throttled::began(&ThrottleRecord::read(bytes)?, clock))),
        _ => None,
    }
}

fn lock_event(record: &LockRecord, clock: &Clock) -> Option<LockEvent> {
    let what = match record.what {
        what::ACQUIRED => LockEventKind::Acquired,
        what::REFUSED => LockEventKind::Refused,
        what::WAITING => LockEventKind::Waiting,
        what::GRANTED => LockEventKind::Granted,
        what::WAIT_ENDED => LockEventKind::WaitEnded,
        what::RELEASED => LockEventKind::Released,
        _ => return None,
    };
    let waited = matches!(what, LockEventKind::Granted | LockEventKind::WaitEnded);
    Some(LockEvent {
        at: clock.at_boot_ns(record.at_ns),
        what,
        file: file_id(&record.lock),
        kind: kind_of(record.lock.kind),
        mode: mode_of(record.ty),
        range: Range::from_kernel(record.start, record.end),
        owner: OwnerKey(record.lock.owner),
        process: process_id(&record.process),
        comm: Text::from_nul_terminated(&record.comm),
        remote: record.flags & fl::REMOTE != 0,
        waited_ns: waited.then_some(record.waited_ns),
    })
}
