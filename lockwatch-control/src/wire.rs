//! Looks as lines of JSON, for the pipe between the one who looks and the one who acts; and what a plan's hash is of.
//!
//! Core knows no serde, so its types are mirrored here. Text keeps its bytes.

use anyhow::Context;
use lockwatch_core::{
    clear::{Asker, Case, Keeper, Person, Plan, Step},
    id::LockId,
    lock::{Device, FileId, Kind, Mode, Range},
    observation::Via,
    process::ProcessId,
    report::{Cause, Verdict},
    text::Text,
    time::StartTime,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::eyes::Sight;

/// What the one who acts asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// [`crate::eyes::Eyes::look`].
    Look(String),
    /// [`crate::eyes::Eyes::locks_on`].
    LocksOn(FileId),
}

/// What the one who looks answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Look`].
    Sight(Sight),
    /// To [`Question::LocksOn`].
    Locks(Vec<Case>),
    /// Nothing could be seen, and why.
    Blind(String),
}

impl Question {
    /// Its line, without the newline.
    pub fn line(&self) -> String {
        match self {
            Question::Look(id) => json!({ "look": id }),
            Question::LocksOn(file) => json!({ "locks_on": (file.device.major, file.device.minor, file.inode) }),
        }
        .to_string()
    }

    /// From its line.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn read(line: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Object {
            Look(String),
            LocksOn((u32, u32, u64)),
        }
        Ok(match serde_json::from_str(line)? {
            Object::Look(id) => Question::Look(id),
            Object::LocksOn(numbers) => Question::LocksOn(file(numbers)),
        })
    }
}

impl Answer {
    /// Its line, without the newline.
    pub fn line(&self) -> String {
        match self {
            Answer::Sight(Sight::None) => json!({ "none": null }),
            Answer::Sight(Sight::Many(ids)) => json!({ "many": ids.iter().map(|id| &id.0).collect::<Vec<_>>() }),
            Answer::Sight(Sight::One(case)) => json!({ "one": CaseObject::of(case) }),
            Answer::Locks(cases) => json!({ "locks": cases.iter().map(CaseObject::of).collect::<Vec<_>>() }),
            Answer::Blind(why) => json!({ "blind": why }),
        }
        .to_string()
    }

    /// From its line.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn read(line: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Object {
            None(()),
            Many(Vec<String>),
            One(Box<CaseObject>),
            Locks(Vec<CaseObject>),
            Blind(String),
        }
        let case = |object: CaseObject| object.into_case().context("a word of a look is unknown");
        Ok(match serde_json::from_str(line)? {
            Object::None(()) => Answer::Sight(Sight::None),
            Object::Many(ids) => Answer::Sight(Sight::Many(ids.into_iter().map(LockId).collect())),
            Object::One(object) => Answer::Sight(Sight::One(Box::new(case(*object)?))),
            Object::Locks(all) => Answer::Locks(all.into_iter().map(case).collect::<Result<_, _>>()?),
            Object::Blind(why) => Answer::Blind(why),
        })
    }
}

/// Everything in a plan that a confirmation stands for.
pub(crate) fn facts(plan: &Plan) -> String {
    let case = Case { evidence: Vec::new(), ..plan.case.clone() };
    let wish = &plan.wish;
    json!({
        "case": CaseObject::of(&case),
        "method": plan.method.map(|method| method.name()),
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "hold": wish.hold.iter().map(|hold| format!("{hold:?}")).collect::<Vec<_>>(),
        "hold_max_ms": wish.hold_max.as_millis().to_string(),
        "grace_ms": wish.grace.as_millis().to_string(),
        "override_protection": wish.override_protection,
    })
    .to_string()
}

fn step(step: &Step) -> String {
    let who = |id: &ProcessId| format!("{} started {:?}", id.pid, id.start.map(|start| start.0));
    match step {
        Step::ReleaseDescriptor { of, fd } => format!("release fd {fd} of {}", who(of)),
        Step::ReleaseMessage { of } => format!("release message of {}", who(of)),
        Step::Terminate(id) => format!("terminate {}", who(id)),
        Step::Kill(id) => format!("kill {}", who(id)),
        Step::ExpireClients => "expire clients".to_owned(),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseObject {
    boot_id: String,
    exact: bool,
    id: String,
    kind: String,
    mode: String,
    range: (u64, Option<u64>),
    file: (u32, u32, u64),
    path: Option<Bytes>,
    verdict: String,
    cause: Option<String>,
    acquirer: Option<PersonObject>,
    exit: Option<String>,
    holders: Vec<KeeperObject>,
    holders_complete: bool,
    waiters: Vec<AskerObject>,
    evidence: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonObject {
    pid: u32,
    start: Option<u64>,
    dead: Option<bool>,
    comm: Option<Bytes>,
    exe: Option<Bytes>,
    uid: Option<u32>,
    unit: Option<Bytes>,
    container: Option<Bytes>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeeperObject {
    who: Option<PersonObject>,
    via: String,
    fd: Option<u32>,
    detail: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskerObject {
    who: Option<PersonObject>,
    mode: String,
    range: (u64, Option<u64>),
    behind: Vec<u32>,
}

/// Text as it is: a string, or a list of numbers where it is no UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Words(String),
    Raw(Vec<u8>),
}

impl CaseObject {
    fn of(case: &Case) -> Self {
        let FileId { device: Device { major, minor }, inode } = case.file;
        Self {
            boot_id: case.boot_id.clone(),
            exact: case.exact,
            id: case.id.0.clone(),
            kind: case.kind.name().to_owned(),
            mode: case.mode.name().to_owned(),
            range: (case.range.start, case.range.end),
            file: (major, minor, inode),
            path: case.path.as_ref().map(Bytes::of),
            verdict: case.verdict.name().to_owned(),
            cause: case.cause.map(|cause| cause.name().to_owned()),
            acquirer: case.acquirer.as_ref().map(PersonObject::of),
            exit: case.exit.clone(),
            holders: case.holders.iter().map(KeeperObject::of).collect(),
            holders_complete: case.holders_complete,
            waiters: case.waiters.iter().map(AskerObject::of).collect(),
            evidence: case.evidence.clone(),
        }
    }

    fn into_case(self) -> Option<Case> {
        Some(Case {
            boot_id: self.boot_id,
            exact: self.exact,
            id: LockId(self.id),
            kind: named(&Kind::ALL, Kind::name, &self.kind)?,
            mode: named(&MODES, Mode::name, &self.mode)?,
            range: range(self.range),
            file: file(self.file),
            path: self.path.map(Bytes::into_text),
            verdict: named(&Verdict::ALL, Verdict::name, &self.verdict)?,
            cause: match self.cause {
                Some(cause) => Some(named(&Cause::ALL, Cause::name, &cause)?),
                None => None,
            },
            acquirer: self.acquirer.map(PersonObject::into_person),
            exit: self.exit,
            holders: self.holders.into_iter().map(KeeperObject::into_keeper).collect::<Option<_>>()?,
            holders_complete: self.holders_complete,
            waiters: self.waiters.into_iter().map(AskerObject::into_asker).collect::<Option<_>>()?,
            evidence: self.evidence,
        })
    }
}

impl PersonObject {
    fn of(person: &Person) -> Self {
        let Person { id, dead, comm, exe, uid, unit, container } = person;
        let bytes = |text: &Option<Text>| text.as_ref().map(Bytes::of);
        Self {
            pid: id.pid,
            start: id.start.map(|start| start.0),
            dead: *dead,
            comm: bytes(comm),
            exe: bytes(exe),
            uid: *uid,
            unit: bytes(unit),
            container: bytes(container),
        }
    }

    fn into_person(self) -> Person {
        let text = |bytes: Option<Bytes>| bytes.map(Bytes::into_text);
        Person {
            id: ProcessId { pid: self.pid, start: self.start.map(StartTime) },
            dead: self.dead,
            comm: text(self.comm),
            exe: text(self.exe),
            uid: self.uid,
            unit: text(self.unit),
            container: text(self.container),
        }
    }
}

impl KeeperObject {
    fn of(keeper: &Keeper) -> Self {
        let Keeper { who, via, fd, detail } = keeper;
        let who = who.as_ref().map(PersonObject::of);
        Self { who, via: via.name().to_owned(), fd: *fd, detail: detail.clone() }
    }

    fn into_keeper(self) -> Option<Keeper> {
        let via = named(&Via::ALL, Via::name, &self.via)?;
        Some(Keeper { who: self.who.map(PersonObject::into_person), via, fd: self.fd, detail: self.detail })
    }
}

impl AskerObject {
    fn of(asker: &Asker) -> Self {
        let Asker { who, mode, range, behind } = asker;
        let who = who.as_ref().map(PersonObject::of);
        Self { who, mode: mode.name().to_owned(), range: (range.start, range.end), behind: behind.clone() }
    }

    fn into_asker(self) -> Option<Asker> {
        let mode = named(&MODES, Mode::name, &self.mode)?;
        let who = self.who.map(PersonObject::into_person);
        Some(Asker { who, mode, range: range(self.range), behind: self.behind })
    }
}

impl Bytes {
    fn of(text: &Text) -> Self {
        let bytes = text.as_bytes();
        str::from_utf8(bytes).map_or_else(|_| Self::Raw(bytes.to_vec()), |words| Self::Words(words.to_owned()))
    }

    fn into_text(self) -> Text {
        match self {
            Self::Words(words) => Text::new(words),
            Self::Raw(bytes) => Text::new(bytes),
        }
    }
}

const MODES: [Mode; 2] = [Mode::Read, Mode::Write];

fn file((major, minor, inode): (u32, u32, u64)) -> FileId {
    FileId { device: Device { major, minor }, inode }
}

fn range((start, end): (u64, Option<u64>)) -> Range {
    Range { start, end }
}

fn named<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Option<T> {
    all.iter().copied().find(|one| name_of(*one) == name)
}
