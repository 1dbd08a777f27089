//! The table's columns: what each is called, and what stands in it.

use clap::ValueEnum;
use lockwatch_core::{
    lock::Range,
    observation::Via,
    process::Process,
    report::{Holder, LockReport},
    text::Text,
    time::Timestamp,
};

use super::{layout::Give, words};

/// A column of the table, by the name that `--columns` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// The judgement; HOT if somebody waits too long.
    Verdict,
    /// Why it is orphaned or handed over.
    Cause,
    /// The file's path, or its device and inode.
    File,
    /// Kind and mode in one.
    Lock,
    /// flock, posix, ofd, lease or delegation.
    Kind,
    /// read or write.
    Mode,
    /// The locked bytes.
    Range,
    /// Who took it, and how that process ended.
    TakenBy,
    /// What keeps it alive.
    HeldBy,
    /// How many wait, and for how long.
    Waiting,
    /// The name to give to explain.
    Id,
    /// The number of the process that took it.
    Pid,
    /// That process's systemd unit.
    Unit,
    /// That process's user id.
    Uid,
    /// For how long it has been held.
    Age,
    /// The file's device.
    Dev,
    /// The file's inode.
    Inode,
    /// The file system.
    Fs,
}

/// What a table shows when nobody says otherwise.
pub const USUAL: [Column; 8] = [
    Column::Verdict,
    Column::File,
    Column::Lock,
    Column::Range,
    Column::TakenBy,
    Column::HeldBy,
    Column::Waiting,
    Column::Id,
];

impl Column {
    /// What stands above it.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Column::Verdict => "VERDICT",
            Column::Cause => "CAUSE",
            Column::File => "FILE",
            Column::Lock => "LOCK",
            Column::Kind => "KIND",
            Column::Mode => "MODE",
            Column::Range => "RANGE",
            Column::TakenBy => "TAKEN BY",
            Column::HeldBy => "HELD BY",
            Column::Waiting => "WAITING",
            Column::Id => "ID",
            Column::Pid => "PID",
            Column::Unit => "UNIT",
            Column::Uid => "UID",
            Column::Age => "AGE",
            Column::Dev => "DEV",
            Column::Inode => "INODE",
            Column::Fs => "FS",
        }
    }

    /// How it gives way on a narrow terminal.
    pub(crate) fn give(self) -> Give {
        match self {
            Column::File => Give::Middle(10),
            Column::TakenBy | Column::HeldBy => Give::End(8),
            Column::Unit => Give::Middle(8),
            _ => Give::Never,
        }
    }

    /// Whether the column says nothing about this lock that its absence would not say.
    pub(crate) fn is_dull(self, lock: &LockReport) -> bool {
        match self {
            Column::Range => lock.range == Range::WHOLE,
            Column::Waiting => lock.waiters.is_empty(),
            _ => false,
        }
    }

    /// What stands in it; `-` for what is unknown or absent.
    pub(crate) fn cell(self, lock: &LockReport, now: Timestamp) -> String {
        let acquirer = lock.acquirer.as_deref();
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let text = |value: Option<&Text>| known(value.map(Text::to_string));
        match self {
            Column::Verdict => words::verdict(lock),
            Column::Cause => known(lock.cause.map(|c| c.name().to_owned())),
            Column::File => words::file(lock.file, &lock.file_seen),
            Column::Lock => {
                let breaking = if lock.breaking.is_some() { ", breaking" } else { "" };
                format!("{} {}{breaking}", lock.kind, lock.mode)
            }
            Column::Kind => lock.kind.to_string(),
            Column::Mode => lock.mode.to_string(),
            Column::Range => lock.range.to_string(),
            Column::TakenBy => known(acquirer.map(words::fate)),
            Column::HeldBy => held_by(lock),
            Column::Waiting => waiting(lock, now),
            Column::Id => lock.id.to_string(),
            Column::Pid => known(acquirer.map(|p| p.id.pid.to_string())),
            Column::Unit => text(acquirer.and_then(|p| p.unit.as_ref())),
            Column::Uid => known(acquirer.and_then(|p| p.uid).map(|uid| uid.to_string())),
            Column::Age => known(lock.acquired_at.map(|at| words::rough(now.since(at)))),
            Column::Dev => lock.file.device.to_string(),
            Column::Inode => lock.file.inode.to_string(),
            Column::Fs => text(lock.file_seen.fs.as_ref()),
        }
    }
}

/// `4720 sleep fd 9 +2`; `?` where the holders could not be seen.
fn held_by(lock: &LockReport) -> String {
    let Some(first) = lock.holders.first() else {
        return if lock.holders_complete { "-" } else { "?" }.to_owned();
    };
    match lock.holders.len() - 1 {
        0 => holder(first),
        more => format!("{} +{more}", holder(first)),
    }
}

fn holder(holder: &Holder) -> String {
    let who = match (&holder.process, &holder.detail) {
        (Some(process), _) => words::process(process),
        (None, Some(detail)) => words::sentence(detail).into_owned(),
        (None, None) => return holder.via.name().to_owned(),
    };
    match (holder.via, holder.fd) {
        (Via::Fd, Some(fd)) => format!("{who} fd {fd}"),
        (Via::Fd, None) => who,
        (Via::Kernel | Via::Remote, _) => format!("{} {who}", holder.via.name()),
        (via, _) => format!("{who} {}", via.name()),
    }
}

/// `2, 42 s`: how many, and the longest wait.
fn waiting(lock: &LockReport, now: Timestamp) -> String {
    match (lock.waiters.len(), lock.waiters.iter().filter_map(|w| w.since).min()) {
        (0, _) => "-".to_owned(),
        (n, None) => n.to_string(),
        (n, Some(since)) => format!("{n}, {}", words::rough(now.since(since))),
    }
}

/// Everybody that a lock names: acquirer, holders, waiters.
pub fn people(lock: &LockReport) -> impl Iterator<Item = &Process> {
    let holders = lock.holders.iter().filter_map(|h| h.process.as_deref());
    let waiters = lock.waiters.iter().filter_map(|w| w.process.as_deref());
    lock.acquirer.as_deref().into_iter().chain(holders).chain(waiters)
}
