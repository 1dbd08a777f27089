//! Whether what the kernel prints is the lock that the plan is about.

use lockwatch_core::{
    clear::Case,
    lock::Kind,
    parse::{
        fdinfo::FdInfo,
        locks::{Line, State},
    },
};

/// Whether a line is the planned lock: its kind, file, bytes, mode and taker, as far as the line has them.
pub(super) fn is(case: &Case, line: &Line) -> bool {
    is_but_for_taker(case, line) && is_takers(case, line)
}

/// Whether a descriptor shows it.
pub(super) fn is_in(case: &Case, info: &FdInfo) -> bool {
    info.locks.iter().any(|line| is(case, line))
}

/// The line of the planned lock, if the descriptor shows it exactly once; else what it says instead.
pub(super) fn only<'a>(case: &Case, info: &'a FdInfo) -> Result<&'a Line, String> {
    if let Some(warning) = info.warnings.first() {
        return Err(warning.clone());
    }
    let mut alike = info.locks.iter().filter(|line| is_but_for_taker(case, line));
    match (alike.next(), alike.next()) {
        (Some(line), None) if is_takers(case, line) => Ok(line),
        (Some(line), None) => Err(format!("pid {} has taken the lock since", line.pid)),
        (Some(_), Some(_)) => Err("it has two locks that look alike".into()),
        (None, _) => Err("it no longer has the lock".into()),
    }
}

/// Whether a line, of a planned lock, may be that of one which a living process with the acquirer's number has taken.
/// Where a dead taker prints as 0, a living one prints its number.
pub(super) fn may_be_a_namesakes(line: &Line) -> bool {
    line.pid != 0
}

/// A breaking lease prints the mode that it is to get (fs/locks.c target_leasetype, 6.18). A description has but one.
fn is_but_for_taker(case: &Case, line: &Line) -> bool {
    let mode = line.mode == Some(case.mode) || line.kind() == Kind::Lease && line.state == State::Breaking;
    line.level == 0 && line.kind() == case.kind && line.file == Some(case.file) && line.range == case.range && mode
}

/// OFD locks print -1, and in a pid namespace that is not the initial one a dead taker prints as 0 (fs/locks.c
/// locks_translate_pid, 6.18).
fn is_takers(case: &Case, line: &Line) -> bool {
    let taker = case.acquirer.as_ref().and_then(|person| i32::try_from(person.id.pid).ok());
    line.kind() == Kind::Ofd || line.pid == 0 || Some(line.pid) == taker
}

#[cfg(test)]
mod tests {
    use lockwatch_core::{
        lock::{Mode, Range},
        parse::fdinfo,
    };

    use super::*;
    use crate::hands::samples::ghost;

    fn info(lines: &[&str]) -> FdInfo {
        let lines: String = lines.iter().map(|line| format!("lock:\t1: {line}\n")).collect();
        fdinfo::parse(format!("pos:\t0\nflags:\t02\n{lines}").as_bytes())
    }

    #[test]
    fn only_the_planned_lock_will_do() {
        let check = |case: &Case, lines: &[&str], expect: Option<&str>| {
            let info = info(lines);
            assert_eq!(only(case, &info).err().as_deref(), expect, "{lines:?}");
            assert_eq!(is_in(case, &info), expect.is_none(), "{lines:?}");
        };
        let flock = Case { kind: Kind::Flock, ..ghost() };
        let gone = Some("it no longer has the lock");
        let planned = "FLOCK  ADVISORY  WRITE 4711 fe:00:7 0 EOF";
        check(&flock, &[planned], None);
        check(&flock, &["POSIX  ADVISORY  WRITE 4711 fe:00:7 0 EOF", planned], None);
        check(&flock, &["FLOCK  ADVISORY  WRITE 0 fe:00:7 0 EOF"], None);
        check(&flock, &[], gone);
        check(&flock, &["FLOCK  ADVISORY  READ 4711 fe:00:7 0 EOF"], gone);
        check(&flock, &["FLOCK  ADVISORY  WRITE 4711 fe:00:8 0 EOF"], gone);
        check(&flock, &["FLOCK  ADVISORY  WRITE 4711 fe:01:7 0 EOF"], gone);
        check(&flock, &["OFDLCK ADVISORY  WRITE -1 fe:00:7 0 EOF"], gone);
        check(&flock, &["FLOCK  ADVISORY  WRITE 812 fe:00:7 0 EOF"], Some("pid 812 has taken the lock since"));
        let ofd = Case { kind: Kind::Ofd, range: Range { start: 5, end: Some(9) }, ..ghost() };
        check(&ofd, &["OFDLCK ADVISORY  WRITE -1 fe:00:7 5 9"], None);
        check(&ofd, &["OFDLCK ADVISORY  WRITE -1 fe:00:7 5 10"], gone);
        let lease = Case { kind: Kind::Lease, mode: Mode::Write, ..ghost() };
        check(&lease, &["LEASE  ACTIVE    WRITE 4711 fe:00:7 0 EOF"], None);
        check(&lease, &["LEASE  ACTIVE    READ 4711 fe:00:7 0 EOF"], gone);
        check(&lease, &["LEASE  BREAKING  UNLCK 4711 fe:00:7 0 EOF"], None);
    }

    #[test]
    fn what_cannot_be_read_is_a_doubt() {
        let flock = Case { kind: Kind::Flock, ..ghost() };
        let strange = info(&["FLOCK  ADVISORY  WRITE 4711 fe:00:7 0 EOF", "junk"]);
        assert!(only(&flock, &strange).is_err_and(|told| told.contains("cannot be read")));
        let planned = "FLOCK  ADVISORY  WRITE 4711 fe:00:7 0 EOF";
        assert_eq!(only(&flock, &info(&[planned, planned])), Err("it has two locks that look alike".into()));
    }
}
