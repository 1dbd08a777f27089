//! A case for tests.

use super::{Asker, Case, Keeper, Person};
use crate::{
    id::LockId,
    lock::{Device, FileId, Kind, Mode, Range},
    observation::Via,
    process::ProcessId,
    report::{Cause, Verdict},
    time::StartTime,
};

pub(super) fn person(pid: u32, dead: Option<bool>) -> Person {
    Person {
        id: ProcessId { pid, start: Some(StartTime(100 + u64::from(pid))) },
        dead,
        comm: Some("locksmith".into()),
        exe: None,
        uid: Some(0),
        unit: None,
        container: None,
    }
}

pub(super) fn keeper(pid: u32, via: Via) -> Keeper {
    Keeper { who: Some(person(pid, Some(false))), via, fd: (via == Via::Fd).then_some(9), detail: None }
}

/// pid 4711 is dead, pid 4720 has its flock by fd 9, pid 4800 waits.
pub(super) fn ghost() -> Case {
    Case {
        boot_id: "b0071d".into(),
        exact: true,
        id: LockId("f3k9-27qd".into()),
        kind: Kind::Flock,
        mode: Mode::Write,
        range: Range::WHOLE,
        file: FileId { device: Device { major: 254, minor: 0 }, inode: 7 },
        path: Some("/srv/x.lock".into()),
        verdict: Verdict::Orphaned,
        cause: Some(Cause::Leaked),
        acquirer: Some(person(4711, Some(true))),
        exit: Some("was killed by SIGKILL".into()),
        holders: vec![keeper(4720, Via::Fd)],
        holders_complete: true,
        waiters: vec![Asker {
            who: Some(person(4800, Some(false))),
            mode: Mode::Write,
            range: Range::WHOLE,
            behind: Vec::new(),
        }],
        evidence: Vec::new(),
    }
}
