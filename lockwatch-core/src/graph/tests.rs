use std::sync::Arc;

use super::*;
use crate::{
    id::LockId,
    lock::{Device, FileId, Kind, Mode, Range},
    observation::{FileSeen, Via},
    process::{Life, ProcessId},
    report::{Host, Verdict},
    text::Text,
    time::{StartTime, Timestamp},
};

fn process(pid: u32) -> Arc<Process> {
    let id = ProcessId { pid, start: Some(StartTime(1)) };
    let comm = Some(Text::new(format!("p{pid}")));
    Arc::new(Process { comm, threads: Some(1), ..Process::unknown(id, Life::Alive) })
}

fn holder(pid: u32) -> Holder {
    let process = (pid != 0).then(|| process(pid));
    let via = if pid == 0 { Via::Kernel } else { Via::Fd };
    Holder { process, via, fd: Some(3), cloexec: None, opened: None, detail: None }
}

fn waiter(pid: u32, behind: &[u32]) -> Waiter {
    let process = (pid != 0).then(|| process(pid));
    Waiter { process, mode: Mode::Write, range: Range::WHOLE, since: Some(Timestamp(5)), behind: behind.to_vec() }
}

/// A lock on `/NAME`, its holders and its waiters by number; 0 is one without a process.
fn lock(name: &str, deadlock: bool, holders: &[u32], waiters: &[u32]) -> LockReport {
    let inode = u64::from(name.as_bytes()[0]);
    LockReport {
        id: LockId(name.into()),
        kind: Kind::Flock,
        mode: Mode::Write,
        range: Range::WHOLE,
        file: FileId { device: Device { major: 254, minor: 0 }, inode },
        file_seen: Arc::new(FileSeen { path: Some(Text::new(format!("/{name}"))), ..FileSeen::default() }),
        acquirer: None,
        acquired_at: None,
        breaking: None,
        holders: holders.iter().map(|pid| holder(*pid)).collect(),
        holders_complete: true,
        waiters: waiters.iter().enumerate().map(|(i, pid)| waiter(*pid, &waiters[..i])).collect(),
        verdict: Verdict::Held,
        cause: None,
        hot: false,
        deadlock,
        evidence: Vec::new(),
        history: Vec::new(),
    }
}

fn report(locks: Vec<LockReport>) -> Report {
    let host = Host::default();
    Report { taken_at: Timestamp(9), host, sources: Vec::new(), exact: true, warnings: Vec::new(), locks }
}

fn three_and_a_chain() -> Report {
    report(vec![
        lock("a", true, &[1], &[3, 9]),
        lock("b", true, &[2, 2], &[1]),
        lock("c", true, &[3], &[2]),
        // 9 waits for the deadlock, and 8 for 9.
        lock("d", false, &[9], &[8]),
        lock("e", false, &[20], &[21, 22]),
        lock("f", false, &[30], &[]),
    ])
}

fn names(graph: &Graph<'_>) -> String {
    graph.locks.iter().map(|node| node.lock.id.0.as_str()).collect::<Vec<_>>().join("")
}

#[test]
fn cycles_are_told_from_what_hangs_on_them() {
    let report = three_and_a_chain();
    let graph = Graph::of(&report);
    assert_eq!(names(&graph), "abcde");
    assert_eq!(graph.cycles.len(), 1);
    let cycle = &graph.cycles[0];
    let pid = |party: usize| match graph.parties[party].who {
        Who::Process(process) => process.id.pid,
        _ => 0,
    };
    assert_eq!(cycle.parties.iter().map(|p| pid(*p)).collect::<Vec<_>>(), [1, 3, 2]);
    assert_eq!(cycle.locks, [0, 1, 2]);
    assert_eq!(cycle.circle.iter().map(|(p, l)| (pid(*p), *l)).collect::<Vec<_>>(), [(3, 0), (1, 1), (2, 2)]);
    let on: Vec<_> = graph.waits.iter().map(|w| (pid(w.party), w.lock, w.cycle)).collect();
    let expect = [(3, 0, Some(0)), (9, 0, None), (1, 1, Some(0)), (2, 2, Some(0)), (8, 3, None), (21, 4, None)];
    assert_eq!(on[..6], expect);
    assert_eq!(graph.waits.iter().map(|w| w.ahead.map(pid)).collect::<Vec<_>>()[1], Some(3));
    // Two descriptors of one process are one edge.
    assert_eq!(graph.holds.iter().map(|h| h.means.len()).collect::<Vec<_>>(), [1, 2, 1, 1, 1]);
    assert_eq!(names(&Graph::of_all(&report)), "abcdef");
}

#[test]
fn a_selection_brings_its_whole_component() {
    let report = three_and_a_chain();
    let check = |wanted: &str, expect: &str| {
        let graph = Graph::of_all(&report).around(|lock| wanted.contains(&lock.id.0));
        assert_eq!(names(&graph), expect, "{wanted}");
    };
    check("d", "abcd");
    check("e", "e");
    check("f", "f");
    check("ef", "ef");
    check("abcdef", "abcdef");
    check("x", "");
}

#[test]
fn two_deadlocks_are_two() {
    let report = report(vec![
        lock("a", true, &[1], &[2]),
        lock("b", true, &[2], &[1, 3]),
        lock("c", true, &[3], &[4]),
        lock("d", true, &[4], &[3]),
        lock("e", true, &[7], &[7]),
    ]);
    let graph = Graph::of(&report);
    let locks: Vec<_> = graph.cycles.iter().map(|cycle| cycle.locks.clone()).collect();
    assert_eq!(locks, [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(graph.circle(3).len(), 2);
    assert_eq!(graph.circle(4).len(), 1);
}

#[test]
fn who_has_no_name_is_somebody_else_each_time() {
    let mut two = lock("a", false, &[0], &[0, 0]);
    two.waiters[1].range = Range { start: 1, end: None };
    // The same requests are blocked by another lock of the file.
    let again = LockReport { holders: vec![holder(0)], ..two.clone() };
    let report = report(vec![two, again]);
    let graph = Graph::of(&report);
    assert_eq!(graph.parties.iter().filter(|p| matches!(p.who, Who::Unseen)).count(), 2);
    assert_eq!(graph.parties.iter().filter(|p| matches!(p.who, Who::Kernel(_))).count(), 2);
    assert_eq!(graph.waits.len(), 4);
}

#[test]
fn a_report_of_two_minds_has_no_cycle_and_no_panic() {
    let report = report(vec![lock("a", true, &[1], &[2]), lock("b", true, &[], &[])]);
    let graph = Graph::of_all(&report);
    assert!(graph.cycles.is_empty() && graph.locks.iter().all(|node| node.cycle.is_none()));
}

#[test]
fn the_circle_is_told_in_words() {
    let mut report = three_and_a_chain();
    report.locks[1].kind = Kind::Ofd;
    report.locks[1].range = Range { start: 0, end: Some(9) };
    let busy = Process { threads: Some(4), ..Process::clone(&process(2)) };
    report.locks[2].waiters[0].process = Some(Arc::new(busy.clone()));
    for holder in &mut report.locks[1].holders {
        holder.process = Some(Arc::new(busy.clone()));
    }
    testify(&mut report);
    let circle = "pid 3 (p3) waits for the flock on /a, held by pid 1 (p1), which waits for the ofd lock on 0-9 of /b, \
                  held by pid 2 (p2), which waits for the flock on /c, held by pid 3 (p3)";
    let thread = "pid 2 (p2) has 4 threads: one that does not wait may still release what it holds";
    assert_eq!(report.locks[0].evidence, [circle, thread]);
    assert!(report.locks[1].evidence[0].starts_with("pid 1 (p1) waits for the ofd lock"));
    assert!(report.locks[3..].iter().all(|lock| lock.evidence.is_empty()));
}

#[test]
fn a_long_circle_is_cut_short() {
    let many: Vec<u32> = (0..20).collect();
    let next = |i: u32| (i + 1) % 20 + 1;
    let locks = many.iter().map(|&i| lock(&format!("{}", char::from(b'a' + i as u8)), true, &[i + 1], &[next(i)]));
    let mut report = report(locks.collect());
    testify(&mut report);
    let told = &report.locks[0].evidence[0];
    assert!(told.ends_with("and so on through 12 more processes, back to pid 2 (p2)"), "{told}");
}
