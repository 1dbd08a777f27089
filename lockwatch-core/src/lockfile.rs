//! Lock *files*: programs that agree to stay away as long as a file exists. The kernel knows nothing of it, and people
//! confuse the two.

use std::sync::Arc;

use crate::{lock::FileId, parse::lockfile::Claim, process::Process, report::Host, text::Text, time::Timestamp};

/// What is known of a file that carries no kernel lock.
#[derive(Clone, Debug)]
pub struct LockFile {
    /// As it was typed.
    pub path: Text,
    /// By identity.
    pub file: FileId,
    /// The file system's type.
    pub fs: Option<Text>,
    /// `file`, `symlink`, `directory`, `fifo`, `socket`, `device`.
    pub kind: &'static str,
    /// In bytes.
    pub size: u64,
    /// Who owns it: normally whoever wrote it.
    pub uid: u32,
    /// That user's name.
    pub user: Option<Text>,
    /// When it was written last.
    pub modified_at: Option<Timestamp>,
    /// Whether it is called as lock files are.
    pub named_like_one: bool,
    /// Whom it names.
    pub claim: Option<Claim>,
    /// Why its text was not read.
    pub unread: Option<String>,
    /// The living process of the number that it names.
    pub process: Option<Arc<Process>>,
    /// Who has it open: process and descriptor.
    pub open_by: Vec<(Arc<Process>, u32)>,
    /// Whether these are all.
    pub open_by_complete: bool,
    /// Why a kernel lock may be there all the same.
    pub doubt: Option<String>,
}

/// What became of the process that a lock file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A process of that number lives and is older than the text: it may have written it.
    Lives,
    /// There is no such process.
    Gone,
    /// The process of that number started after the file was written: the writer is gone, and its number was given away.
    Reused,
    /// It is, or was, on this other machine.
    Elsewhere,
    /// It cannot be said, and why.
    Unknown(String),
}

impl Writer {
    /// The word for it in documents.
    pub fn name(&self) -> &'static str {
        match self {
            Writer::Lives => "lives",
            Writer::Gone => "gone",
            Writer::Reused => "reused",
            Writer::Elsewhere => "elsewhere",
            Writer::Unknown(_) => "unknown",
        }
    }
}

impl LockFile {
    /// Whether it serves as a lock, as far as its name and text tell.
    pub fn is_one(&self) -> bool {
        self.named_like_one || self.claim.is_some()
    }

    /// What became of whoever it names; `None` if it names nobody.
    pub fn writer(&self, host: &Host) -> Option<Writer> {
        let claim = self.claim.as_ref()?;
        let theirs = claim.host.clone().unwrap_or_default();
        Some(match (claim.is_ours(&host.hostname), &self.process) {
            (Some(false), _) => Writer::Elsewhere,
            (None, _) => Writer::Unknown(format!("whether {theirs} is this machine is not known")),
            (_, None) => match &self.doubt {
                Some(why) => Writer::Unknown(format!("no pid {} is seen, but {why}", claim.pid)),
                None => Writer::Gone,
            },
            (_, Some(process)) => by_age(process, self.modified_at),
        })
    }
}

/// A process that is younger than the text did not write it. Both times are known to a tick, and one of them moves when
/// the wall clock is set: some room is needed.
fn by_age(process: &Process, written: Option<Timestamp>) -> Writer {
    const ROOM_NS: u64 = 2_000_000_000;
    match (process.started_at, written) {
        (Some(started), Some(written)) if started.0 > written.0.saturating_add(ROOM_NS) => Writer::Reused,
        (Some(_), Some(_)) => Writer::Lives,
        _ => Writer::Unknown(format!("{process} lives, but when it started is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lock::Device,
        process::{Life, ProcessId},
    };

    const SECOND: u64 = 1_000_000_000;

    /// Written at second 100.
    fn file(claim: Option<Claim>, started_at: Option<u64>, doubt: Option<&str>) -> LockFile {
        let process = started_at.map(|at| {
            let id = ProcessId { pid: 7, start: None };
            let started_at = (at != 0).then_some(Timestamp(at * SECOND));
            Arc::new(Process { started_at, ..Process::unknown(id, Life::Alive) })
        });
        LockFile {
            path: "/run/x".into(),
            file: FileId { device: Device { major: 0, minor: 1 }, inode: 2 },
            fs: None,
            kind: "file",
            size: 2,
            uid: 0,
            user: None,
            modified_at: Some(Timestamp(100 * SECOND)),
            named_like_one: false,
            claim,
            unread: None,
            process,
            open_by: Vec::new(),
            open_by_complete: true,
            doubt: doubt.map(str::to_owned),
        }
    }

    #[test]
    fn a_younger_process_is_not_the_writer() {
        let host = Host { hostname: "desk".into(), ..Host::default() };
        let check = |machine: Option<&str>, started, doubt, expect: &str| {
            let claim = Claim { pid: 7, host: machine.map(Text::from) };
            let file = file(Some(claim), started, doubt);
            assert_eq!(file.writer(&host).unwrap().name(), expect, "{machine:?} {started:?} {doubt:?}");
            assert!(file.is_one());
        };
        check(None, Some(50), None, "lives");
        check(None, Some(101), None, "lives");
        check(None, Some(103), None, "reused");
        check(None, Some(0), None, "unknown");
        check(None, None, None, "gone");
        check(None, None, Some("this is a pid namespace"), "unknown");
        check(Some("desk"), Some(50), None, "lives");
        check(Some("other"), Some(50), None, "elsewhere");
        check(Some("10.0.0.1"), Some(50), None, "unknown");
        assert_eq!(file(None, None, None).writer(&host), None);
    }
}
