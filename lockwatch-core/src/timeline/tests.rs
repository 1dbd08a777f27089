//! Stories of locks, told report by report.

use super::*;
use crate::{
    lock::{Device, OwnerKey},
    observation::Via,
    process::Exit,
    report::{Holder, Host, Waiter},
    text::Text,
    time::StartTime,
};

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

fn process(pid: u32, life: Life) -> Arc<Process> {
    Arc::new(Process::unknown(ProcessId { pid, start: Some(StartTime(u64::from(pid))) }, life))
}

const FILE: FileId = FileId { device: Device { major: 254, minor: 0 }, inode: 1 };

fn lock(id: &str, taker: Arc<Process>, holders: &[u32]) -> LockReport {
    let holder = |pid: &u32| Holder {
        process: Some(process(*pid, Life::Alive)),
        via: Via::Fd,
        fd: Some(3),
        cloexec: None,
        opened: None,
        detail: None,
    };
    LockReport {
        id: LockId(id.into()),
        kind: Kind::Posix,
        mode: Mode::Write,
        range: Range::WHOLE,
        file: FILE,
        file_seen: Arc::default(),
        acquirer: Some(taker),
        acquired_at: Some(at(1)),
        breaking: None,
        holders: holders.iter().map(holder).collect(),
        holders_complete: true,
        waiters: Vec::new(),
        verdict: Verdict::Held,
        cause: None,
        hot: false,
        deadlock: false,
        evidence: Vec::new(),
        history: Vec::new(),
    }
}

fn with_waiter(pid: u32, since: u64, lock: LockReport) -> LockReport {
    let process = Some(process(pid, Life::Alive));
    let waiter = Waiter { process, mode: Mode::Write, range: Range::WHOLE, since: Some(at(since)), behind: Vec::new() };
    LockReport { waiters: vec![waiter], ..lock }
}

fn report(seconds: u64, locks: Vec<LockReport>) -> Report {
    let (sources, warnings) = (Vec::new(), Vec::new());
    Report { taken_at: at(seconds), host: Host::default(), sources, exact: true, warnings, locks }
}

fn event(seconds: u64, what: LockEventKind, pid: u32) -> LockEvent {
    LockEvent {
        at: at(seconds),
        what,
        file: FILE,
        kind: Kind::Posix,
        mode: Mode::Write,
        range: Range::WHOLE,
        owner: OwnerKey(1),
        process: ProcessId { pid, start: None },
        comm: Text::from("x"),
        remote: false,
        waited_ns: Some(2_000_000_000),
    }
}

/// `1 taken 7, 5 waiting 8`.
fn story(timelines: &Timelines, id: &str) -> String {
    let word = |moment: &Moment| {
        let who = moment.who.as_ref().map(|who| format!(" {}", who.id.pid)).unwrap_or_default();
        let waited = moment.waited.map(|waited| format!(" after {}", waited.as_secs())).unwrap_or_default();
        format!("{} {}{who}{waited}", moment.at.0 / 1_000_000_000, moment.what.name())
    };
    timelines.of(&LockId(id.into())).iter().map(word).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_ghost_has_a_story() {
    let mut timelines = Timelines::default();
    let alive = || process(7, Life::Alive);
    timelines.see(&report(10, vec![lock("a", alive(), &[7, 8])]), |_| true);
    assert_eq!(story(&timelines, "a"), "1 taken 7");
    timelines.note(&event(11, LockEventKind::Waiting, 9));
    timelines.note(&event(12, LockEventKind::WaitEnded, 9));
    timelines.see(&report(13, vec![with_waiter(10, 12, lock("a", alive(), &[7, 8]))]), |_| true);
    assert_eq!(story(&timelines, "a"), "1 taken 7, 11 waiting 9, 12 wait_ended 9 after 2, 12 waiting 10");

    let exit = Some(Exit::Code(1));
    let dead = process(7, Life::Dead(Death { at: Some(at(14)), exit, number_reused_by: None }));
    let orphan = || LockReport { verdict: Verdict::Orphaned, ..with_waiter(10, 12, lock("a", dead.clone(), &[8])) };
    let gone = process(7, Life::Dead(Death::default()));
    timelines.see(&report(15, vec![LockReport { acquirer: Some(gone), ..orphan() }]), |_| true);
    assert!(story(&timelines, "a").ends_with("15 owner_died 7, 15 let_go 7, 15 orphaned"), "{timelines:?}");
    timelines.see(&report(16, vec![orphan()]), |_| true);
    timelines.see(&report(19, vec![LockReport { hot: true, ..orphan() }]), |_| true);
    timelines.see(&report(20, vec![LockReport { hot: true, ..orphan() }]), |_| true);
    let tail = "14 owner_died 7, 15 let_go 7, 15 orphaned, 19 hot";
    assert!(story(&timelines, "a").ends_with(tail), "{timelines:?}");

    timelines.note(&event(21, LockEventKind::Released, 8));
    timelines.note(&event(22, LockEventKind::Granted, 10));
    timelines.see(&report(23, Vec::new()), |_| true);
    assert!(timelines.is_gone(&LockId("a".into())));
    assert!(story(&timelines, "a").ends_with("19 hot, 21 released 8, 22 granted 10 after 2"), "{timelines:?}");
}

#[test]
fn who_is_seen_waiting_before_the_news_of_it_waits_once() {
    let mut timelines = Timelines::default();
    let waited_for = || with_waiter(9, 12, lock("a", process(7, Life::Alive), &[7]));
    timelines.see(&report(13, vec![waited_for()]), |_| true);
    timelines.note(&event(12, LockEventKind::Waiting, 9));
    timelines.see(&report(14, vec![waited_for()]), |_| true);
    assert_eq!(story(&timelines, "a"), "1 taken 7, 12 waiting 9");
    // Another thread of it, which that look has not seen.
    timelines.note(&event(15, LockEventKind::Waiting, 9));
    timelines.note(&event(16, LockEventKind::WaitEnded, 9));
    timelines.see(&report(17, vec![waited_for()]), |_| true);
    assert_eq!(story(&timelines, "a"), "1 taken 7, 12 waiting 9, 15 waiting 9, 16 wait_ended 9 after 2");
}

#[test]
fn what_is_left_of_a_lock_keeps_its_story() {
    let mut timelines = Timelines::default();
    let taker = || process(7, Life::Alive);
    let part = |id: &str, start, end| LockReport { range: Range { start, end }, ..lock(id, taker(), &[7]) };
    timelines.see(&report(10, vec![part("a", 0, None)]), |_| true);
    let renamed = timelines.see(&report(11, vec![part("b", 0, Some(9)), part("c", 20, None)]), |_| false);
    assert_eq!(renamed.iter().map(|(old, new)| format!("{old}{new}")).collect::<Vec<_>>(), ["ab", "ac"]);
    for id in ["b", "c"] {
        assert_eq!(story(&timelines, id), "1 taken 7, 11 released_in_part 7");
    }
    assert_eq!(story(&timelines, "a"), "");
}

#[test]
fn nothing_grows_without_end() {
    let mut timelines = Timelines::default();
    let taker = || process(7, Life::Alive);
    timelines.see(&report(1, vec![lock("a", taker(), &[7])]), |_| true);
    for second in 2..100 {
        timelines.note(&event(second, LockEventKind::Waiting, 9));
        timelines.note(&event(second, LockEventKind::WaitEnded, 9));
    }
    assert_eq!(timelines.of(&LockId("a".into())).len(), MOST);
    for second in 100..300 {
        timelines
            .see(&report(second, vec![lock(&second.to_string(), process(second as u32, Life::Alive), &[7])]), |_| true);
    }
    assert_eq!(timelines.lines.len(), MOST_GONE + 1);
    let many = (0..2 * MOST_LOCKS).map(|i| lock(&format!("m{i}"), process(i as u32 + 1000, Life::Alive), &[7]));
    timelines.see(&report(300, many.collect()), |_| true);
    assert!(timelines.lines.len() <= MOST_LOCKS + MOST_GONE);
    timelines.see(&report(301, vec![lock("plain", taker(), &[7])]), |_| false);
    assert_eq!(story(&timelines, "plain"), "");
}
