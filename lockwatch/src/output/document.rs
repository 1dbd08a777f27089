//! The objects of CONTRACT sections 2 and 3, borrowed from a report and written as they are visited.
//!
//! Nothing is built in memory: a hundred thousand locks cost what writing them costs.

mod history;
mod lock_file;
mod memo;
mod parts;
mod people;

use std::borrow::Cow;

use lockwatch_core::{
    lock::{Breaking, Device, FileId, Mode},
    lockfile::LockFile,
    observation::FileSeen,
    report::{Host, LockReport, Report, SourceStatus},
    text::Text,
    timeline::Moment,
};
use serde::{Serialize, Serializer};

pub(crate) use self::{
    history::MomentObject,
    lock_file::LockFileObject,
    memo::Memo,
    parts::{At, RangeObject, from_base64, rfc3339},
    people::{Acquirer, AnyProcess, Named, ProcessObject},
};
use self::{
    memo::{Locked, Taker},
    parts::{Base64, Seq, Shown, lost},
    people::{HolderObject, WaiterObject},
};
use super::words::reach;

/// Schema `lockwatch.locks/1`.
pub(crate) struct Document<'a> {
    pub(crate) report: &'a Report,
    pub(crate) locks: Vec<&'a LockReport>,
    /// What a file without locks is instead.
    pub(crate) lock_file: Option<&'a LockFile>,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a, L: Serialize> {
            schema: &'static str,
            taken_at: At,
            host: HostObject<'a>,
            sources: Vec<SourceObject<'a>>,
            exact: bool,
            warnings: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            lock_file: Option<LockFileObject<'a>>,
            locks: L,
        }
        let report = self.report;
        Fields {
            schema: "lockwatch.locks/1",
            taken_at: At(report.taken_at),
            host: HostObject::new(&report.host),
            sources: report.sources.iter().map(SourceObject::new).collect(),
            exact: report.exact,
            warnings: &report.warnings,
            lock_file: self.lock_file.map(|file| LockFileObject::new(file, &report.host)),
            locks: Seq(|| self.locks.iter().map(|lock| LockObject::new(lock, None))),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
pub(crate) struct HostObject<'a> {
    hostname: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname_base64: Option<Base64<'a>>,
    kernel: Cow<'a, str>,
    boot_id: &'a str,
}

impl<'a> HostObject<'a> {
    pub(crate) fn new(host: &'a Host) -> Self {
        Self {
            hostname: host.hostname.lossy(),
            hostname_base64: lost(&host.hostname),
            kernel: host.kernel.lossy(),
            boot_id: &host.boot_id,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct SourceObject<'a> {
    name: &'static str,
    state: &'static str,
    reason: Option<&'a str>,
}

impl<'a> SourceObject<'a> {
    pub(crate) fn new(source: &'a SourceStatus) -> Self {
        Self { name: source.name, state: source.state.name(), reason: source.reason.as_deref() }
    }
}

/// One lock.
#[derive(Serialize)]
pub(crate) struct LockObject<'a> {
    id: &'a str,
    kind: &'static str,
    mode: &'static str,
    range: RangeObject,
    file: Locked<'a>,
    acquirer: Option<Taker<'a>>,
    acquired_at: Option<At>,
    breaking: Option<BreakingObject>,
    holders: Vec<HolderObject<'a>>,
    holders_complete: bool,
    waiters: Vec<WaiterObject<'a>>,
    verdict: &'static str,
    cause: Option<&'static str>,
    hot: bool,
    deadlock: bool,
    evidence: &'a [String],
    /// Only of somebody who watches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<MomentObject<'a>>,
}

impl<'a> LockObject<'a> {
    /// Whoever writes many locks of a report remembers what stands in many of them.
    pub(crate) fn new(lock: &'a LockReport, memo: Option<&'a Memo<'a>>) -> Self {
        Self::with_history(lock, &lock.history, memo)
    }

    /// The same with a history that is kept elsewhere.
    pub(crate) fn with_history(lock: &'a LockReport, history: &'a [Moment], memo: Option<&'a Memo<'a>>) -> Self {
        Self {
            id: &lock.id.0,
            kind: lock.kind.name(),
            mode: lock.mode.name(),
            range: RangeObject::new(lock.range),
            file: Locked(lock.file, &lock.file_seen, memo),
            acquirer: lock.acquirer.as_deref().map(|process| Taker(process, memo)),
            acquired_at: lock.acquired_at.map(At),
            breaking: lock.breaking.map(BreakingObject::new),
            holders: lock.holders.iter().map(|holder| HolderObject::new(holder, memo)).collect(),
            holders_complete: lock.holders_complete,
            waiters: lock.waiters.iter().map(|waiter| WaiterObject::new(waiter, memo)).collect(),
            verdict: lock.verdict.name(),
            cause: lock.cause.map(|c| c.name()),
            hot: lock.hot,
            deadlock: lock.deadlock,
            evidence: &lock.evidence,
            history: history.iter().map(MomentObject::new).collect(),
        }
    }
}

/// A lease that its holder has been asked to give up.
#[derive(Serialize)]
struct BreakingObject {
    to: &'static str,
    deadline: Option<At>,
}

impl BreakingObject {
    fn new(breaking: Breaking) -> Self {
        Self { to: breaking.to.map_or("none", Mode::name), deadline: breaking.deadline.map(At) }
    }
}

/// A file, and what is known of it.
#[derive(Serialize)]
pub(crate) struct FileObject<'a> {
    path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<Base64<'a>>,
    /// `null` when nothing is known of the file: a name that was never seen cannot be said to be there.
    deleted: Option<bool>,
    dev: Shown<Device>,
    major: u32,
    minor: u32,
    inode: u64,
    fs: Option<Cow<'a, str>>,
    reach: Option<String>,
    label: Option<Cow<'a, str>>,
    /// For which process the path is true, if not for us.
    path_of: Option<u32>,
}

impl<'a> FileObject<'a> {
    pub(crate) fn new(file: FileId, seen: Option<&'a FileSeen>) -> Self {
        let path = seen.and_then(|s| s.path.as_ref());
        Self {
            path: path.map(Text::lossy),
            path_base64: path.and_then(lost),
            deleted: seen.filter(|s| s.path.is_some() || s.deleted).map(|s| s.deleted),
            dev: Shown(file.device),
            major: file.device.major,
            minor: file.device.minor,
            inode: file.inode,
            fs: seen.and_then(|s| s.fs.as_ref()).map(Text::lossy),
            reach: seen.and_then(reach).map(|path| path.lossy().into_owned()),
            label: seen.and_then(|s| s.label.as_ref()).map(Text::lossy),
            path_of: seen.and_then(|s| s.path_of),
        }
    }
}
