//! A lock, read back.

use anyhow::{Context, Result};
use lockwatch_core::{
    id::LockId,
    lock::{Breaking, Device, FileId, Kind, Mode, Range},
    observation::{FileSeen, Via},
    report::{Cause, Holder, LockReport, Verdict, Waiter},
};
use serde::Deserialize;

use super::{
    person::{Happened, Person},
    words::{text_if, time_if, word},
};

/// One lock of a document.
#[derive(Debug, Deserialize)]
pub struct Lock {
    id: String,
    kind: String,
    mode: String,
    range: Bytes,
    file: File,
    acquirer: Option<Person>,
    acquired_at: Option<String>,
    breaking: Option<Broken>,
    holders: Vec<Keeper>,
    holders_complete: bool,
    waiters: Vec<Waiting>,
    verdict: String,
    cause: Option<String>,
    hot: bool,
    deadlock: bool,
    evidence: Vec<String>,
    #[serde(default)]
    history: Vec<Happened>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Bytes {
    start: u64,
    end: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct File {
    path: Option<String>,
    path_base64: Option<String>,
    deleted: Option<bool>,
    major: u32,
    minor: u32,
    inode: u64,
    fs: Option<String>,
    label: Option<String>,
    path_of: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Broken {
    to: String,
    deadline: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Keeper {
    #[serde(flatten)]
    process: Person,
    via: String,
    fd: Option<u32>,
    cloexec: Option<bool>,
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Waiting {
    #[serde(flatten)]
    process: Person,
    mode: String,
    range: Bytes,
    since: Option<String>,
    behind: Vec<u32>,
}

impl Lock {
    /// As it was reported.
    pub fn read(self) -> Result<LockReport> {
        let (file, file_seen) = self.file.read()?;
        Ok(LockReport {
            id: LockId(self.id),
            kind: word(&Kind::ALL, Kind::name, &self.kind)?,
            mode: mode(&self.mode)?,
            range: self.range.into(),
            file,
            file_seen: file_seen.into(),
            acquirer: self.acquirer.map(Person::read).transpose()?.flatten(),
            acquired_at: time_if(self.acquired_at.as_deref())?,
            breaking: self.breaking.map(Broken::read).transpose()?,
            holders: self.holders.into_iter().map(Keeper::read).collect::<Result<_>>()?,
            holders_complete: self.holders_complete,
            waiters: self.waiters.into_iter().map(Waiting::read).collect::<Result<_>>()?,
            verdict: word(&Verdict::ALL, Verdict::name, &self.verdict)?,
            cause: self.cause.map(|name| word(&Cause::ALL, Cause::name, &name)).transpose()?,
            hot: self.hot,
            deadlock: self.deadlock,
            evidence: self.evidence,
            history: (0..).zip(self.history).map(|(n, happened)| happened.read(n)).collect::<Result<_>>()?,
        })
    }
}

impl From<Bytes> for Range {
    fn from(bytes: Bytes) -> Self {
        Range { start: bytes.start, end: bytes.end }
    }
}

impl File {
    /// Which, and what is known of it.
    pub fn read(self) -> Result<(FileId, FileSeen)> {
        let file = FileId { device: Device { major: self.major, minor: self.minor }, inode: self.inode };
        let seen = FileSeen {
            path: text_if(self.path.as_deref(), self.path_base64.as_deref())?,
            path_of: self.path_of,
            label: text_if(self.label.as_deref(), None)?,
            deleted: self.deleted.unwrap_or(false),
            fs: text_if(self.fs.as_deref(), None)?,
            text: None,
        };
        Ok((file, seen))
    }
}

impl Broken {
    fn read(self) -> Result<Breaking> {
        let to = Some(self.to).filter(|to| to != "none").map(|to| mode(&to)).transpose()?;
        Ok(Breaking { to, deadline: time_if(self.deadline.as_deref())? })
    }
}

impl Keeper {
    fn read(self) -> Result<Holder> {
        Ok(Holder {
            process: self.process.read()?,
            via: word(&Via::ALL, Via::name, &self.via)?,
            fd: self.fd,
            cloexec: self.cloexec,
            opened: None,
            detail: self.detail,
        })
    }
}

impl Waiting {
    fn read(self) -> Result<Waiter> {
        Ok(Waiter {
            process: self.process.read()?,
            mode: mode(&self.mode)?,
            range: self.range.into(),
            since: time_if(self.since.as_deref()).context("since when it waits")?,
            behind: self.behind,
        })
    }
}

/// Read or write.
pub fn mode(name: &str) -> Result<Mode> {
    word(&Mode::ALL, Mode::name, name)
}
