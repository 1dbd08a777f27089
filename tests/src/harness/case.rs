//! Cases without a look: what a test knows of a lock, as the one who acts gets it.

use std::fs;

use lockwatch_core::{
    clear::{Case, Keeper, Person},
    id::LockId,
    lock::{Device, FileId, Kind, Mode, Range},
    observation::Via,
    process::ProcessId,
    report::{Cause, Verdict},
    text::Text,
    time::StartTime,
};

use super::proc_locks::ProcLock;

/// An orphan: `lock`, that `acquirer` has left behind, and `holders` keep.
///
/// # Panics
///
/// When the lock's kind or mode is none that a plan knows.
pub fn case_of(lock: &ProcLock, acquirer: u32, holders: Vec<Keeper>) -> Case {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == lock.kind);
    // A breaking lease has lost its mode; a write lease is as good as any.
    let mode = if lock.mode == "read" { Mode::Read } else { Mode::Write };
    Case {
        boot_id: "test".into(),
        exact: true,
        id: LockId("test".into()),
        kind: kind.unwrap_or_else(|| panic!("unknown kind: {}", lock.kind)),
        mode,
        range: Range { start: lock.start, end: lock.end },
        file: FileId { device: Device { major: lock.major, minor: lock.minor }, inode: lock.inode },
        path: None,
        verdict: Verdict::Orphaned,
        cause: Some(Cause::Inherited),
        acquirer: Some(Person { dead: Some(true), ..nobody(acquirer, None) }),
        exit: None,
        holders,
        holders_complete: true,
        waiters: Vec::new(),
        evidence: Vec::new(),
    }
}

/// A living process that keeps a lock in this way.
///
/// # Panics
///
/// When there is no such process.
pub fn keeper(pid: u32, via: Via, fd: Option<u32>) -> Keeper {
    let person = person(pid).unwrap_or_else(|| panic!("pid {pid} is not there"));
    Keeper { who: Some(person), via, fd, detail: None }
}

/// A living process, with its start and its name.
pub fn person(pid: u32) -> Option<Person> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let open = stat.iter().position(|b| *b == b'(')?;
    // Field 22 of proc_pid_stat(5); the state is the third.
    let start = str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let comm = Some(Text::new(&stat[open + 1..close]));
    Some(Person { dead: Some(false), comm, ..nobody(pid, Some(StartTime(start))) })
}

fn nobody(pid: u32, start: Option<StartTime>) -> Person {
    Person { id: ProcessId { pid, start }, dead: None, comm: None, exe: None, uid: None, unit: None, container: None }
}
