//! Which locks of a report somebody wants to see.

use std::{collections::HashSet, ffi::OsStr, path::Path};

use anyhow::bail;
use lockwatch_core::{
    id::{self, LockId, Lookup},
    lock::FileId,
    observation::LockEvent,
    process::Process,
    report::{LockReport, Report, Verdict},
    text::Text,
};

use crate::{
    output::column::people,
    request::{Filter, Request},
    sources::mounts::file_id,
};

/// Keeps what the request's paths and filters let through. A path that does not exist is an error.
pub fn wanted(report: Report, request: &Request) -> anyhow::Result<Report> {
    let files = files(request)?;
    Ok(keep(report, |lock| keeps(request, files.as_ref(), lock)))
}

/// The files that the request's paths name; `None` if it names none, and so means all.
pub fn files(request: &Request) -> anyhow::Result<Option<HashSet<FileId>>> {
    let files: HashSet<FileId> = request.paths.iter().map(|path| file_id(path)).collect::<Result<_, _>>()?;
    Ok((!files.is_empty()).then_some(files))
}

/// Whether a lock passes the request's filters and is on one of these files.
pub fn keeps(request: &Request, files: Option<&HashSet<FileId>>, lock: &LockReport) -> bool {
    files.is_none_or(|files| files.contains(&lock.file)) && passes(&request.filter, lock)
}

/// Whether an operation passes the request's filters and is on one of these files.
pub fn keeps_event(request: &Request, files: Option<&HashSet<FileId>>, event: &LockEvent) -> bool {
    let filter = &request.filter;
    (filter.kinds.is_empty() || filter.kinds.contains(&event.kind))
        && filter.pid.is_none_or(|pid| pid == event.process.pid)
        && filter.comm.as_ref().is_none_or(|comm| *comm == event.comm)
        && files.is_none_or(|files| files.contains(&event.file))
}

/// Whether the end of a process does.
pub fn keeps_end(request: &Request, process: &Process) -> bool {
    let filter = &request.filter;
    filter.pid.is_none_or(|pid| pid == process.id.pid)
        && filter.comm.as_ref().is_none_or(|comm| Some(comm) == process.comm.as_ref())
}

/// Keeps orphaned and hot locks, and counts the others that cannot be judged.
pub fn orphans(report: Report) -> (Report, usize) {
    let bad = |lock: &LockReport| lock.verdict == Verdict::Orphaned || lock.hot;
    let unjudged = report.locks.iter().filter(|lock| lock.verdict == Verdict::Unknown && !bad(lock)).count();
    (keep(report, bad), unjudged)
}

/// Keeps the lock whose ID begins as typed ([`id::find`]), or every lock on the file of that path.
/// The error names the candidates where an ID is ambiguous, and the cause where it names nothing.
pub fn named(report: Report, what: &OsStr) -> anyhow::Result<Report> {
    let shown = Text::new(what.as_encoded_bytes());
    let ids: Vec<LockId> = report.locks.iter().map(|lock| lock.id.clone()).collect();
    let found = match what.to_str() {
        Some(typed) if !is_path(what) => id::find(&ids, typed),
        _ => Lookup::None,
    };
    match found {
        Lookup::One(i) => Ok(keep(report, |lock| lock.id == ids[i])),
        // A link that leads nowhere carries no lock, and may be one: Firefox and Emacs make such links.
        Lookup::None if leads_nowhere(Path::new(what)) => Ok(keep(report, |_| false)),
        Lookup::None if is_path(what) || Path::new(what).exists() => {
            let file = file_id(Path::new(what))?;
            Ok(keep(report, |lock| lock.file == file))
        }
        Lookup::None => bail!("no lock has an id that begins with {shown}, and there is no such file (lockwatch list)"),
        Lookup::Many(fits) => {
            const SHOWN: usize = 8;
            let some: Vec<&str> = fits.iter().take(SHOWN).map(|i| ids[*i].0.as_str()).collect();
            let more = if fits.len() > SHOWN { ", …" } else { "" };
            bail!("{shown} is the beginning of {} ids: {}{more}", fits.len(), some.join(", "))
        }
    }
}

fn keep(mut report: Report, wanted: impl Fn(&LockReport) -> bool) -> Report {
    report.locks.retain(wanted);
    report
}

fn passes(filter: &Filter, lock: &LockReport) -> bool {
    fn listed<T: PartialEq>(wanted: &[T], one: &T) -> bool {
        wanted.is_empty() || wanted.contains(one)
    }
    listed(&filter.kinds, &lock.kind)
        && listed(&filter.verdicts, &lock.verdict)
        && filter.pid.is_none_or(|pid| people(lock).any(|p| p.id.pid == pid))
        && filter.unit.as_ref().is_none_or(|unit| people(lock).any(|p| comes_from(p, unit)))
}

/// Whether a process belongs to a unit, of the system's manager or a user's, or to a container, whose id may be cut to
/// the twelve digits that engines print.
fn comes_from(process: &Process, name: &Text) -> bool {
    const SHORTEST: usize = 12;
    let cut = |id: &Text| name.as_bytes().len() >= SHORTEST && id.as_bytes().starts_with(name.as_bytes());
    process.unit.as_ref() == Some(name)
        || process.user_unit.as_ref() == Some(name)
        || process.container.as_ref().is_some_and(|id| id == name || cut(id))
}

fn leads_nowhere(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

/// A slash makes a path of any word.
fn is_path(what: &OsStr) -> bool {
    what.as_encoded_bytes().contains(&b'/')
}

#[cfg(test)]
mod tests {
    use lockwatch_core::lock::Kind;

    use super::*;
    use crate::fixture;

    fn ids(report: &Report) -> Vec<&str> {
        report.locks.iter().map(|lock| lock.id.0.as_str()).collect()
    }

    #[test]
    fn filters_by_kind_verdict_and_people_in_any_role() {
        let check = |filter: Filter, expect: &[&str]| {
            assert_eq!(ids(&keep(fixture::report(), |lock| passes(&filter, lock))), expect, "{filter:?}");
        };
        let pid = |pid| Filter { pid: Some(pid), ..Filter::default() };
        check(Filter::default(), &["f3k9-27qd", "f3m2-8x0c", "7a1b-cd42", "9zzz-0001"]);
        check(
            Filter { kinds: vec![Kind::Ofd, Kind::Posix], ..Filter::default() },
            &["f3m2-8x0c", "7a1b-cd42", "9zzz-0001"],
        );
        check(Filter { verdicts: vec![Verdict::Unknown], ..Filter::default() }, &["9zzz-0001"]);
        check(pid(4711), &["f3k9-27qd"]);
        check(pid(4720), &["f3k9-27qd"]);
        check(pid(4800), &["f3k9-27qd"]);
        check(pid(1), &[]);
        check(Filter { unit: Some("locksmith.service".into()), ..Filter::default() }, &["f3k9-27qd"]);
        check(Filter { unit: Some("locksmith".into()), ..Filter::default() }, &[]);
    }

    #[test]
    fn a_unit_or_a_container_is_where_a_process_comes_from() {
        let process = Process {
            unit: Some("user@7.service".into()),
            user_unit: Some("app.service".into()),
            container: Some("0123456789abcdef".into()),
            ..fixture::process(1, "x")
        };
        let check = |name: &str, expect: bool| assert_eq!(comes_from(&process, &name.into()), expect, "{name}");
        check("user@7.service", true);
        check("app.service", true);
        check("0123456789abcdef", true);
        check("0123456789ab", true);
        check("0123456789a", false);
        check("123456789abcdef", false);
        check("app", false);
    }

    #[test]
    fn orphans_leave_out_but_count_what_nobody_can_judge() {
        let (report, unjudged) = orphans(fixture::report());
        assert_eq!((ids(&report), unjudged), (vec!["f3k9-27qd", "f3m2-8x0c"], 1));
    }

    #[test]
    fn an_id_may_be_cut() {
        let check = |what: &str, expect: Result<&str, &str>| {
            let found = named(fixture::report(), OsStr::new(what)).map(|r| ids(&r).join(" "));
            assert_eq!(found.map_err(|e| format!("{e:#}")), expect.map(str::to_owned).map_err(str::to_owned));
        };
        check("f3k9-27qd", Ok("f3k9-27qd"));
        check("f3k", Ok("f3k9-27qd"));
        check("F3K927", Ok("f3k9-27qd"));
        check("f3", Err("f3 is the beginning of 2 ids: f3k9-27qd, f3m2-8x0c"));
        check("x\n", Err("no lock has an id that begins with x\\n, and there is no such file (lockwatch list)"));
        check("-", Err("no lock has an id that begins with -, and there is no such file (lockwatch list)"));
    }

    #[test]
    fn a_path_names_every_lock_of_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut report = fixture::report();
        report.locks[2].file = file_id(file.path()).unwrap();
        assert_eq!(ids(&named(report.clone(), file.path().as_os_str()).unwrap()), ["7a1b-cd42"]);
        assert!(named(report.clone(), OsStr::new("/proc/self")).unwrap().locks.is_empty());
        let error = format!("{:#}", named(report, OsStr::new("/no/such/file")).unwrap_err());
        assert!(error.contains("/no/such/file") && error.contains("No such file"), "{error}");
    }
}
