//! Events as CONTRACT section 3 has them.

use lockwatch_core::{
    lock::{FileId, Kind, Mode, Range},
    observation::FileSeen,
    timeline::Moment,
};
use serde::Serialize;

use super::{Event, longest_wait, nanos};
use crate::output::document::{Acquirer, At, FileObject, LockObject, Named, RangeObject};

/// One line.
#[derive(Serialize)]
pub(crate) struct Object<'a> {
    schema: &'static str,
    at: At,
    event: &'static str,
    lock: Option<AnyLock<'a>>,
    process: Option<AnyProcess<'a>>,
    waited_ns: Option<u64>,
    held_ns: Option<u64>,
    lost: Option<u64>,
    history: Option<Vec<MomentObject<'a>>>,
}

/// One thing that has happened to the lock.
#[derive(Serialize)]
struct MomentObject<'a> {
    at: At,
    event: &'static str,
    process: Option<AnyProcess<'a>>,
    waited_ns: Option<u64>,
}

impl<'a> MomentObject<'a> {
    fn new(moment: &'a Moment) -> Self {
        let process = moment.who.as_deref().map(|who| match &who.comm {
            Some(comm) => AnyProcess::Named(Named::new(who.id.pid, comm)),
            None => AnyProcess::Full(Box::new(Acquirer::new(who))),
        });
        Self { at: At(moment.at), event: moment.what.name(), process, waited_ns: moment.waited.map(nanos) }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyLock<'a> {
    Short(Box<ShortLock<'a>>),
    Full(Box<LockObject<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyProcess<'a> {
    Full(Box<Acquirer<'a>>),
    Named(Named<'a>),
}

/// The line for an event.
pub(crate) fn object<'a>(event: &Event<'a>) -> Object<'a> {
    let (at, name) = (event.at(), event.name());
    let mut object = Object {
        schema: "lockwatch.event/1",
        at: At(at),
        event: name,
        lock: None,
        process: None,
        waited_ns: None,
        held_ns: None,
        lost: None,
        history: None,
    };
    match *event {
        Event::Lock { event, file, process, id, held_ns } => {
            let what = (event.kind, event.mode, event.range);
            let short = ShortLock::new(id.map(|id| id.0.as_str()), what, event.file, file, event.remote);
            object.lock = Some(AnyLock::Short(Box::new(short)));
            object.process = Some(match process {
                Some(process) => AnyProcess::Full(Box::new(Acquirer::new(process))),
                None => AnyProcess::Named(Named::new(event.process.pid, &event.comm)),
            });
            (object.waited_ns, object.held_ns) = (event.waited_ns, held_ns);
        }
        Event::ProcessExit { process, .. } => object.process = Some(AnyProcess::Full(Box::new(Acquirer::new(process)))),
        Event::Orphaned { lock, history, .. } | Event::Hot { lock, history, .. } => {
            object.history = Some(history.iter().map(MomentObject::new).collect());
            object.lock = Some(AnyLock::Full(Box::new(LockObject::new(lock, None))));
            object.waited_ns = longest_wait(lock, at).map(nanos);
        }
        Event::Cleared { lock, .. } => {
            object.lock = Some(AnyLock::Full(Box::new(LockObject::new(lock, None))));
            object.held_ns = lock.acquired_at.map(|since| nanos(at.since(since)));
        }
        Event::Lost { count, .. } => object.lost = Some(count),
        Event::AllClear { .. } | Event::Watching { .. } => {}
    }
    object
}

/// What an event knows of a lock: what and where.
#[derive(Serialize)]
struct ShortLock<'a> {
    id: Option<&'a str>,
    kind: &'static str,
    mode: &'static str,
    range: RangeObject,
    file: FileObject<'a>,
    /// Its file system keeps it to itself.
    remote: bool,
}

impl<'a> ShortLock<'a> {
    fn new(
        id: Option<&'a str>,
        (kind, mode, range): (Kind, Mode, Range),
        file: FileId,
        seen: Option<&'a FileSeen>,
        remote: bool,
    ) -> Self {
        let range = RangeObject::new(range);
        Self { id, kind: kind.name(), mode: mode.name(), range, file: FileObject::new(file, seen), remote }
    }
}
