//! The table over time: pictures, events, and what is kept between them.

use super::*;
use crate::{
    lock::{Device, Mode, Range},
    process::{Death, Exit},
    report::{Cause, Host, LockReport, Report, Verdict},
};

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

fn file(inode: u64) -> FileId {
    FileId { device: Device { major: 8, minor: 1 }, inode }
}

fn id(pid: u32, start: u64) -> ProcessId {
    ProcessId { pid, start: Some(StartTime(start)) }
}

fn number(pid: u32) -> ProcessId {
    ProcessId { pid, start: None }
}

/// A living process that runs the executable of its own name.
fn process(id: ProcessId, comm: &str) -> Process {
    let mut process = Process::unknown(id, Life::Alive);
    process.comm = Some(Text::from(comm));
    process.exe_file = Some(file(comm.bytes().map(u64::from).sum()));
    process.daemon_looks = Some(false);
    process
}

fn killed(process: Process, seconds: u64) -> Event {
    let exit = Exit::Signal { signal: 9, core_dumped: false, sender: None, oom: false, raised: None };
    let death = Death { at: Some(at(seconds)), exit: Some(exit), number_reused_by: None };
    Event::Died { at: at(seconds), process: Arc::new(Process { life: Life::Dead(death), ..process }) }
}

fn fd(process: ProcessId) -> HolderSeen {
    HolderSeen { process: Some(process), via: Via::Fd, fd: Some(9), cloexec: Some(false), opened: None, detail: None }
}

/// A flock on file 1 by owner 1.
fn flock(acquirer: ProcessId, holders: &[ProcessId]) -> LockSeen {
    LockSeen {
        file: file(1),
        kind: Kind::Flock,
        mode: Mode::Write,
        range: Range::WHOLE,
        owner: OwnerKey(1),
        acquirer: Some(acquirer),
        acquired_at: None,
        ancestors: Vec::new(),
        watched: false,
        holders: holders.iter().map(|p| fd(*p)).collect(),
        breaking: None,
    }
}

fn wait(process: ProcessId, mode: Mode) -> WaitSeen {
    WaitSeen { file: file(1), kind: Kind::Flock, mode, range: Range::WHOLE, process: Some(process), since: None }
}

fn picture(seconds: u64, locks: Vec<LockSeen>, living: &[Process]) -> Picture {
    let living = living.iter().map(|p| (p.id.pid, Arc::new(p.clone()))).collect();
    Picture {
        taken_at: at(seconds),
        locks,
        waits: Vec::new(),
        census: Census { living, ..Census::default() },
        files: Map::default(),
        fds_complete: true,
        search_complete: true,
        exact: true,
        warnings: Vec::new(),
    }
}

fn event(seconds: u64, what: LockEventKind, process: ProcessId, owner: u64) -> LockEvent {
    LockEvent {
        at: at(seconds),
        what,
        file: file(1),
        kind: Kind::Flock,
        mode: Mode::Write,
        range: Range::WHOLE,
        owner: OwnerKey(owner),
        process,
        comm: Text::from("newcomer"),
        remote: false,
        waited_ns: None,
    }
}

fn table(pictures: impl IntoIterator<Item = Picture>) -> Table {
    let mut table = Table::new(Settings::default());
    pictures.into_iter().for_each(|picture| table.see(picture));
    table
}

fn report(table: &Table, seconds: u64) -> Report {
    table.report(at(seconds), &Host::default(), &[])
}

fn only_row(table: &Table) -> LockReport {
    let mut rows = report(table, 1000).locks;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

fn verdict(row: &LockReport) -> (Verdict, Option<Cause>) {
    (row.verdict, row.cause)
}

#[test]
fn the_holders_are_all_when_every_search_was_made_that_they_call_for() {
    let (taker, other) = (process(id(10, 1), "taker"), process(id(20, 2), "other"));
    let by = |via| HolderSeen { via, fd: None, ..fd(other.id) };
    let check = |holders: Vec<HolderSeen>, searched: bool, dies: bool, expect: (usize, bool)| {
        let lock = LockSeen { holders, ..flock(taker.id, &[]) };
        let look = picture(20, vec![lock], &[taker.clone(), other.clone()]);
        let mut table = table([Picture { search_complete: searched, ..look }]);
        if dies {
            table.apply(&killed(other.clone(), 30));
        }
        let row = only_row(&table);
        assert_eq!((row.holders.len(), row.holders_complete), expect, "{row:?}");
    };
    check(vec![by(Via::Fd)], false, false, (1, true));
    check(vec![by(Via::Mapping)], false, false, (1, false));
    check(vec![by(Via::Mapping)], true, false, (1, true));
    check(vec![], false, false, (0, false));
    check(vec![], true, false, (0, true));
    // The holder dies after the look: a descriptor may have been the reason not to search.
    check(vec![by(Via::Fd)], true, true, (0, false));
    check(vec![by(Via::Mapping)], true, true, (0, true));
}

const SHELL: u32 = 400;
const FLOCK: u32 = 410;
const SLEEP: u32 = 420;

#[test]
fn a_script_keeps_its_lock_until_it_dies() {
    let (shell, sleep) = (process(id(SHELL, 1), "bash"), process(id(SLEEP, 3), "sleep"));
    let taken = LockSeen {
        acquired_at: Some(at(10)),
        ancestors: vec![shell.id],
        watched: true,
        ..flock(id(FLOCK, 2), &[shell.id, sleep.id])
    };
    let mut look = picture(20, vec![taken], &[shell.clone(), sleep.clone()]);
    let Event::Died { process: flock_1, .. } = killed(process(id(FLOCK, 2), "flock"), 11) else { panic!() };
    look.census.dead.insert(flock_1.id, flock_1);
    let mut table = table([look]);
    assert_eq!(verdict(&only_row(&table)), (Verdict::HandedOver, Some(Cause::Borrowed)));

    // The event alone says it, and so does a later picture that knows nothing of the past.
    table.apply(&killed(Process::unknown(shell.id, Life::Alive), 30));
    let row = only_row(&table);
    assert_eq!(verdict(&row), (Verdict::Orphaned, Some(Cause::Leaked)));
    assert!(
        row.evidence.iter().any(|e| e.starts_with("pid 400 (bash) was killed by SIGKILL at")),
        "{:?}",
        row.evidence
    );
    assert_eq!(row.holders.len(), 1);

    table.see(picture(40, vec![flock(id(FLOCK, 2), &[sleep.id])], &[sleep]));
    let row = only_row(&table);
    assert_eq!(verdict(&row), (Verdict::Orphaned, Some(Cause::Leaked)));
    assert_eq!(row.acquired_at, Some(at(10)));
    assert!(
        row.evidence.iter().any(|e| e.starts_with("pid 400 (bash) was killed by SIGKILL at")),
        "{:?}",
        row.evidence
    );
    assert_eq!(table.locks()[0].ancestors, [shell.id]);
}

#[test]
fn the_next_user_of_a_number_is_never_the_acquirer() {
    let (owner, heir) = (process(id(500, 10), "owner"), process(id(510, 20), "heir"));
    let innocent = process(id(500, 99), "innocent");
    let lock = |holders: &[ProcessId]| vec![flock(number(500), holders)];

    let known = table([
        picture(10, lock(&[owner.id, heir.id]), &[owner.clone(), heir.clone()]),
        picture(20, lock(&[heir.id]), &[innocent.clone(), heir.clone()]),
        picture(30, lock(&[heir.id]), &[innocent.clone(), heir.clone()]),
    ]);
    let row = only_row(&known);
    let acquirer = row.acquirer.as_ref().unwrap();
    assert_eq!((acquirer.id, acquirer.comm.clone()), (owner.id, owner.comm.clone()));
    assert_eq!(acquirer.life, Life::Dead(Death { number_reused_by: Some(innocent.id), ..Death::default() }));
    assert_eq!(verdict(&row), (Verdict::Orphaned, Some(Cause::Inherited)));

    let check = |pictures: Vec<Picture>, expect: &str| {
        let acquirer = only_row(&table(pictures)).acquirer.unwrap();
        assert_eq!((acquirer.life.name(), &acquirer.comm, &acquirer.exe_file), (expect, &None, &None));
    };
    let before = |living: &[Process]| picture(10, lock(&[heir.id]), living);
    let after = || picture(20, lock(&[heir.id]), &[innocent.clone(), heir.clone()]);
    // Nobody had the number, or another one had it, when the lock was there already.
    check(vec![before(std::slice::from_ref(&heir)), after()], "dead");
    check(vec![before(&[owner.clone(), heir.clone()]), after()], "dead");
    // It has had the number for as long as we know.
    check(vec![after()], "unknown");
    check(vec![after(), after()], "unknown");
}

#[test]
fn a_lock_taken_anew_has_no_past() {
    let (old, new) = (process(id(500, 10), "old"), process(id(500, 99), "new"));
    let table = table([
        picture(10, vec![flock(number(500), &[old.id])], &[old]),
        picture(20, vec![flock(number(500), &[new.id])], std::slice::from_ref(&new)),
    ]);
    let row = only_row(&table);
    assert_eq!(row.acquirer.as_ref().unwrap().id, new.id);
    assert_eq!(verdict(&row), (Verdict::Held, None));
}

#[test]
fn events_take_and_release() {
    let a = process(id(600, 1), "a");
    let b = id(601, 2);
    let mut table = table([picture(10, vec![], std::slice::from_ref(&a))]);
    table.apply(&Event::Lock(event(11, LockEventKind::Acquired, a.id, 1)));
    table.apply(&Event::Lock(event(12, LockEventKind::Refused, b, 2)));
    table.apply(&Event::Lock(event(12, LockEventKind::Waiting, b, 2)));
    let row = only_row(&table);
    assert_eq!(verdict(&row), (Verdict::Held, None));
    assert_eq!(row.waiters.len(), 1);
    assert_eq!(row.waiters[0].since, Some(at(12)));
    assert_eq!(row.waiters[0].process.as_ref().unwrap().to_string(), "pid 601 (newcomer)");

    // A close by somebody who holds nothing.
    assert_eq!(table.apply(&Event::Lock(event(13, LockEventKind::Released, b, 3))), []);
    let released = table.apply(&Event::Lock(event(14, LockEventKind::Released, a.id, 1)));
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].held(), Some(Duration::from_secs(3)));
    table.apply(&Event::Lock(event(14, LockEventKind::Granted, b, 2)));
    let row = only_row(&table);
    assert_eq!((row.acquirer.as_ref().unwrap().id, row.waiters.len()), (b, 0));

    // It changes its lock to a shared one: the same lock, not a second.
    table.apply(&Event::Lock(LockEvent { mode: Mode::Read, ..event(15, LockEventKind::Acquired, b, 2) }));
    assert_eq!(only_row(&table).mode, Mode::Read);
    table.apply(&killed(Process::unknown(b, Life::Alive), 16));
    let row = only_row(&table);
    assert_eq!(verdict(&row), (Verdict::Unknown, None));
    assert_eq!(row.holders.len(), 0);
}

#[test]
fn posix_locks_are_cut_by_range() {
    let a = process(id(600, 1), "a");
    let mut table = table([picture(10, vec![], std::slice::from_ref(&a))]);
    let posix = |seconds, what, start, end| {
        let range = Range { start, end };
        Event::Lock(LockEvent { kind: Kind::Posix, range, ..event(seconds, what, a.id, 1) })
    };
    table.apply(&posix(11, LockEventKind::Acquired, 0, Some(99)));
    let gone = table.apply(&posix(12, LockEventKind::Released, 10, Some(19)));
    let ranges = |locks: &[LockSeen]| locks.iter().map(|l| l.range.to_string()).collect::<Vec<_>>();
    assert_eq!(ranges(&[gone[0].lock.clone()]), ["10-19"]);
    assert_eq!(ranges(&table.locks()), ["0-9", "20-99"]);
    assert_eq!(table.apply(&posix(13, LockEventKind::Released, 0, None)).len(), 2);
    assert_eq!(table.locks(), []);
}

#[test]
fn losses_last_until_the_next_picture() {
    let mut table = table([picture(10, vec![], &[])]);
    assert!(report(&table, 10).exact);
    table.apply(&Event::Lost { at: at(11), count: 7 });
    let lossy = report(&table, 12);
    assert!(!lossy.exact);
    assert!(lossy.warnings[0].starts_with("7 events were lost"), "{:?}", lossy.warnings);
    table.see(picture(13, vec![], &[]));
    assert!(report(&table, 13).exact);
    assert!(!report(&Table::new(Settings::default()), 13).exact);
}

#[test]
fn waiters_stand_under_every_lock_that_blocks_them() {
    let people = [process(id(700, 1), "a"), process(id(701, 2), "b"), process(id(702, 3), "w")];
    let reader = |pid: u32, start: u64, owner: u64| LockSeen {
        mode: Mode::Read,
        owner: OwnerKey(owner),
        ..flock(id(pid, start), &[id(pid, start)])
    };
    let readers = || vec![reader(700, 1, 1), reader(701, 2, 2)];
    let waits = || vec![wait(id(702, 3), Mode::Write), WaitSeen { file: file(2), ..wait(id(702, 3), Mode::Write) }];
    let look = |seconds| Picture { waits: waits(), ..picture(seconds, readers(), &people) };
    let since = |table: &Table| -> Vec<_> {
        report(table, 1000).locks.iter().map(|row| (row.waiters.len(), row.waiters[0].since)).collect()
    };
    assert_eq!(since(&table([look(10)])), [(1, None); 2]);
    // First seen at 10, so it has been waiting since then at least.
    let twice = table([look(10), look(20), look(30)]);
    assert_eq!(since(&twice), [(1, Some(at(10))); 2]);
    assert!(report(&twice, 30).warnings[0].starts_with("1 requests wait for locks that went"));
}

#[test]
fn the_hot_come_first_then_the_orphaned_then_by_path() {
    let heir = process(id(800, 9), "heir");
    let row = |inode: u64, acquirer: ProcessId| LockSeen {
        file: file(inode),
        owner: OwnerKey(inode),
        ..flock(acquirer, &[heir.id])
    };
    // Files 1 and 2 have lost their acquirer, 3 and 4 have not; 5 has no name.
    let gone = id(790, 5);
    let locks = vec![row(5, heir.id), row(4, heir.id), row(3, heir.id), row(2, gone), row(1, gone)];
    let named = |path: &str| Arc::new(FileSeen { path: Some(Text::from(path)), ..FileSeen::default() });
    let name = |inode: u64, path: &str| (file(inode), named(path));
    let files = Map::from_iter([name(1, "/z"), name(2, "/y"), name(3, "/b"), name(4, "/a")]);
    let waiter = process(id(801, 9), "w");
    let look = |seconds| Picture {
        waits: vec![wait(waiter.id, Mode::Write)],
        files: files.clone(),
        ..picture(seconds, locks.clone(), &[heir.clone(), waiter.clone()])
    };
    let table = table([look(10), look(11)]);
    let order = |seconds| -> Vec<_> { report(&table, seconds).locks.iter().map(|r| (r.file.inode, r.hot)).collect() };
    assert_eq!(order(15), [(2, false), (1, false), (4, false), (3, false), (5, false)]);
    assert_eq!(order(16), [(1, true), (2, false), (4, false), (3, false), (5, false)]);
}

#[test]
#[ignore = "a measurement: cargo test --release -p lockwatch-core hundred_thousand -- --ignored --nocapture"]
fn a_hundred_thousand_locks() {
    let people: Vec<Process> = (0..1000).map(|n| process(id(1000 + n, 1), "worker")).collect();
    let locks: Vec<LockSeen> = (0..100_000u64)
        .map(|n| {
            let owner = people[n as usize % 1000].id;
            let file = file(n / 100);
            LockSeen {
                kind: Kind::Posix,
                range: Range { start: n, end: Some(n) },
                file,
                owner: OwnerKey(n % 1000),
                ..flock(owner, &[owner])
            }
        })
        .collect();
    let files = (0..1000)
        .map(|n| {
            let path = Some(Text::new(format!("/var/lib/some/where/{n}")));
            (file(n), Arc::new(FileSeen { path, ..FileSeen::default() }))
        })
        .collect();
    let look = Picture { files, ..picture(10, locks, &people) };
    let again = look.clone();
    let clock = std::time::Instant::now();
    let mut table = table([look]);
    let first = clock.elapsed();
    table.see(again);
    let second = clock.elapsed() - first;
    let clock = std::time::Instant::now();
    let rows = report(&table, 10).locks;
    println!("see {first:?}, see again {second:?}, report {:?}", clock.elapsed());
    assert_eq!(rows.len(), 100_000);
    assert!(rows.iter().all(|r| r.verdict == Verdict::Held));
}
