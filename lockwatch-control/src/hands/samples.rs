//! A case for unit tests.

use lockwatch_core::{
    clear::{Case, Person},
    id::LockId,
    lock::{Device, FileId, Kind, Mode, Range},
    process::ProcessId,
    report::Verdict,
};

/// pid 4711 is dead, and its lock on inode 7 of device fe:00 is left.
pub(super) fn ghost() -> Case {
    let acquirer = Person {
        id: ProcessId { pid: 4711, start: None },
        dead: Some(true),
        comm: None,
        exe: None,
        uid: None,
        unit: None,
        container: None,
    };
    Case {
        boot_id: String::new(),
        exact: true,
        id: LockId("f3k9-27qd".into()),
        kind: Kind::Flock,
        mode: Mode::Write,
        range: Range::WHOLE,
        file: FileId { device: Device { major: 254, minor: 0 }, inode: 7 },
        path: None,
        verdict: Verdict::Orphaned,
        cause: None,
        acquirer: Some(acquirer),
        exit: None,
        holders: Vec::new(),
        holders_complete: true,
        waiters: Vec::new(),
        evidence: Vec::new(),
    }
}
