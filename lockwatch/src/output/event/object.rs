//! Events as CONTRACT section 3 has them.

use std::borrow::Cow;

use lockwatch_core::{
    lock::{FileId, Kind, Mode, Range},
    observation::FileSeen,
    policy::Decision,
    process::Origin,
    text::Text,
};
use serde::Serialize;

use super::{Event, longest_wait, nanos};
use crate::output::document::{Acquirer, AnyProcess, At, FileObject, LockObject, MomentObject, Named, RangeObject};

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
    group: Option<Group<'a>>,
    policy: Option<PolicyObject<'a>>,
}

/// A control group.
#[derive(Serialize)]
struct Group<'a> {
    /// The kernel's number; null for all groups beyond those that are kept apart.
    cgroup: Option<u64>,
    unit: Option<Cow<'a, str>>,
    user_unit: Option<Cow<'a, str>>,
    slice: Option<Cow<'a, str>>,
    container: Option<Cow<'a, str>>,
}

impl<'a> Group<'a> {
    fn new(cgroup: u64, origin: &'a Origin) -> Self {
        let lossy = |text: &'a Option<Text>| text.as_ref().map(Text::lossy);
        Self {
            cgroup: (cgroup != 0).then_some(cgroup),
            unit: lossy(&origin.unit),
            user_unit: lossy(&origin.user_unit),
            slice: lossy(&origin.slice),
            container: lossy(&origin.container),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyLock<'a> {
    Short(Box<ShortLock<'a>>),
    Full(Box<LockObject<'a>>),
}

/// What a policy does or says.
#[derive(Serialize)]
struct PolicyObject<'a> {
    name: &'a str,
    decision: &'static str,
    id: Option<&'a str>,
    file: Option<&'a str>,
    words: String,
}

impl<'a> PolicyObject<'a> {
    fn new(decision: &'a Decision) -> Self {
        let (lock, words) = (decision.lock(), decision.words());
        let (id, file) = (lock.map(|lock| lock.id.0.as_str()), lock.map(|lock| lock.file.as_str()));
        Self { name: decision.policy(), decision: decision.name(), id, file, words }
    }
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
        group: None,
        policy: None,
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
        Event::Policy { decision, .. } => object.policy = Some(PolicyObject::new(decision)),
        Event::Lost { count, .. } => object.lost = Some(count),
        Event::Throttled { cgroup, origin, left_out, .. } => {
            object.group = Some(Group::new(cgroup, origin));
            object.lost = left_out;
        }
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
