//! Who stands in whose way: blockers of a request, the queue ahead of it, deadlocks.

use std::collections::HashMap;

use crate::{
    circles::components,
    lock::{FileId, Kind, Mode},
    observation::{LockSeen, WaitSeen},
    process::ProcessId,
};

/// For each wait the locks that block it, as indices into `locks`, in ascending order.
///
/// A lock blocks a request for bytes of the same file if both are of one family and one of them writes (fs/locks.c
/// `posix_locks_conflict`, `flock_locks_conflict`, 6.18). More exactly:
/// - POSIX locks never block their own process. Flock and OFD locks do, if it asks through another open of the file,
///   and whether it did cannot be told from here, so they count.
/// - Leases block whatever waits for them to break, whatever the modes: a breaking lease already shows the mode that
///   it will have (`target_leasetype`). Only who waits for a delegation does not mind a lease (`leases_conflict`).
///
/// A wait without a blocker comes from a torn picture: the lock went while it was taken.
pub fn blockers(locks: &[LockSeen], waits: &[WaitSeen]) -> Vec<Vec<usize>> {
    let mut of_file: HashMap<FileId, Vec<usize>> = waits.iter().map(|wait| (wait.file, Vec::new())).collect();
    for (i, lock) in locks.iter().enumerate() {
        if let Some(list) = of_file.get_mut(&lock.file) {
            list.push(i);
        }
    }
    let blocking = |wait: &WaitSeen| {
        let candidates = of_file.get(&wait.file).into_iter().flatten().copied();
        candidates.filter(|&i| blocks(&locks[i], wait)).collect()
    };
    waits.iter().map(blocking).collect()
}

/// For each wait the numbers of the processes whose conflicting requests on the same file came earlier: by `since`;
/// a request of unknown age keeps its place in the list. The requests that wait for leases do not mind each other.
pub fn behind(waits: &[WaitSeen]) -> Vec<Vec<u32>> {
    let mut queues: HashMap<FileId, Vec<usize>> = HashMap::new();
    for (i, wait) in waits.iter().enumerate() {
        queues.entry(wait.file).or_default().push(i);
    }
    let mut behind = vec![Vec::new(); waits.len()];
    for queue in queues.values_mut() {
        sort_the_dated(queue, waits);
        for (place, &i) in queue.iter().enumerate() {
            for &earlier in &queue[..place] {
                let process = waits[earlier].process.filter(|_| queues_behind(&waits[i], &waits[earlier]));
                if let Some(process) = process.filter(|p| !behind[i].contains(&p.pid)) {
                    behind[i].push(process.pid);
                }
            }
        }
    }
    behind
}

/// For each lock whether it stands on a cycle of the wait-for graph, from waiting process to the processes that keep
/// the lock alive, over all kinds (the kernel looks for cycles of POSIX locks only). `blockers` is [`blockers`] of
/// the same `waits`; `holders[i]` are the numbers of the processes that keep lock `i` alive.
///
/// The graph knows processes, not threads, as the kernel's own search does (fs/locks.c posix_locks_deadlock, 6.18):
/// another thread of a process on the cycle may still break it. Where a process waits for a lock that it keeps alive
/// itself that is the common case: one thread works, another waits. So such a lock is deadlocked only if the process is
/// known to have no thread that does not wait; `threads` tells how many a process has.
pub fn deadlocked(
    blockers: &[Vec<usize>],
    waits: &[WaitSeen],
    holders: &[Vec<u32>],
    threads: impl Fn(u32) -> Option<u32>,
) -> Vec<bool> {
    // Who does not wait is on no cycle, so the waiting processes are all the nodes there are.
    let mut nodes: HashMap<u32, usize> = HashMap::new();
    let mut requests: Vec<u32> = Vec::new();
    for process in waits.iter().filter_map(|wait| wait.process) {
        let node = *nodes.entry(process.pid).or_insert(requests.len());
        requests.resize(nodes.len(), 0);
        // A thread sleeps in one request at a time.
        requests[node] += 1;
    }
    let mut stuck = vec![false; nodes.len()];
    for (&pid, &node) in &nodes {
        stuck[node] = threads(pid).is_some_and(|threads| threads <= requests[node]);
    }
    let waiting_holders: Vec<Vec<usize>> =
        holders.iter().map(|pids| pids.iter().filter_map(|pid| nodes.get(pid).copied()).collect()).collect();
    let edges = || {
        waits
            .iter()
            .zip(blockers)
            .filter_map(|(wait, locks)| Some((nodes[&wait.process?.pid], locks)))
            .flat_map(|(from, locks)| locks.iter().flat_map(move |&lock| [(from, lock)]))
    };

    let mut graph = vec![Vec::new(); nodes.len()];
    for (from, lock) in edges() {
        graph[from].extend(waiting_holders.get(lock).into_iter().flatten());
    }
    for targets in &mut graph {
        targets.sort_unstable();
        targets.dedup();
    }
    let component = components(&graph);

    let mut deadlocked = vec![false; holders.len()];
    for (from, lock) in edges() {
        let closes = |to: usize| if to == from { stuck[from] } else { component[to] == component[from] };
        let on_cycle = |holders: &Vec<usize>| holders.iter().any(|&to| closes(to));
        if waiting_holders.get(lock).is_some_and(on_cycle) {
            deadlocked[lock] = true;
        }
    }
    deadlocked
}

fn blocks(lock: &LockSeen, wait: &WaitSeen) -> bool {
    if !lock.kind.conflicts_with(wait.kind) || !lock.range.overlaps(wait.range) {
        return false;
    }
    match (lock.kind, wait.kind) {
        (Kind::Lease, Kind::Delegation) => false,
        (Kind::Lease | Kind::Delegation, _) => true,
        (Kind::Posix, Kind::Posix) if same_process(lock.acquirer, wait.process) => false,
        _ => lock.mode.max(wait.mode) == Mode::Write,
    }
}

fn queues_behind(wait: &WaitSeen, earlier: &WaitSeen) -> bool {
    match (wait.kind, earlier.kind) {
        (Kind::Lease | Kind::Delegation, _) => false,
        (Kind::Posix, Kind::Posix) if same_process(wait.process, earlier.process) => false,
        _ => {
            wait.kind.conflicts_with(earlier.kind)
                && wait.range.overlaps(earlier.range)
                && wait.mode.max(earlier.mode) == Mode::Write
        }
    }
}

/// Whether two are one process, as far as is known: a start that only one of them has cannot tell them apart.
fn same_process(a: Option<ProcessId>, b: Option<ProcessId>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.pid == b.pid && (a.start == b.start || a.start.is_none() || b.start.is_none()),
        _ => false,
    }
}

/// Sorts the requests of known age among the places that they have together.
fn sort_the_dated(queue: &mut [usize], waits: &[WaitSeen]) {
    let places: Vec<usize> = (0..queue.len()).filter(|&place| waits[queue[place]].since.is_some()).collect();
    let mut dated: Vec<usize> = places.iter().map(|&place| queue[place]).collect();
    dated.sort_by_key(|&i| waits[i].since);
    for (place, i) in places.into_iter().zip(dated) {
        queue[place] = i;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lock::{Device, OwnerKey, Range},
        time::Timestamp,
    };
    use Kind::{Delegation, Flock, Lease, Ofd, Posix};
    use Mode::{Read, Write};

    const ALL: (u64, Option<u64>) = (0, None);

    fn file(inode: u64) -> FileId {
        FileId { device: Device { major: 254, minor: 0 }, inode }
    }

    fn process(pid: u32) -> Option<ProcessId> {
        (pid != 0).then_some(ProcessId { pid, start: None })
    }

    /// Inode, kind, mode, bytes, process (0: unknown).
    type Row = (u64, Kind, Mode, (u64, Option<u64>), u32);

    fn lock((inode, kind, mode, (start, end), pid): Row) -> LockSeen {
        LockSeen {
            file: file(inode),
            kind,
            mode,
            range: Range { start, end },
            owner: OwnerKey(0),
            acquirer: process(pid),
            acquired_at: None,
            ancestors: Vec::new(),
            watched: false,
            holders: Vec::new(),
            breaking: None,
        }
    }

    fn wait((inode, kind, mode, (start, end), pid): Row) -> WaitSeen {
        WaitSeen { file: file(inode), kind, mode, range: Range { start, end }, process: process(pid), since: None }
    }

    /// Each lock is kept alive by its acquirer.
    fn check(locks: &[Row], waits: &[Row], expect: &[&[usize]], expect_deadlocked: &[usize]) {
        let holders: Vec<Vec<u32>> = locks.iter().map(|row| vec![row.4]).collect();
        let locks: Vec<_> = locks.iter().copied().map(lock).collect();
        let waits: Vec<_> = waits.iter().copied().map(wait).collect();
        let found = blockers(&locks, &waits);
        assert_eq!(found, expect);
        let dead = deadlocked(&found, &waits, &holders, |_| Some(1));
        let dead: Vec<_> = (0..locks.len()).filter(|&i| dead[i]).collect();
        assert_eq!(dead, expect_deadlocked);
    }

    #[test]
    fn a_request_is_blocked_by_all_that_conflict() {
        let readers = [(1, Flock, Read, ALL, 10), (1, Flock, Read, ALL, 11), (2, Flock, Write, ALL, 12)];
        check(&readers, &[(1, Flock, Write, ALL, 20)], &[&[0, 1]], &[]);
        check(&readers, &[(1, Flock, Read, ALL, 20)], &[&[]], &[]);
        check(&[(1, Flock, Write, ALL, 10)], &[(1, Posix, Write, ALL, 20)], &[&[]], &[]);
        let ranges = [(1, Posix, Write, (0, Some(9)), 10), (1, Ofd, Write, (10, None), 0)];
        check(&ranges, &[(1, Posix, Write, (9, Some(10)), 20), (1, Ofd, Read, (0, Some(9)), 0)], &[&[0, 1], &[0]], &[]);
    }

    #[test]
    fn leases_block_whoever_waits_for_them() {
        let waits = [(1, Lease, Read, ALL, 20), (1, Delegation, Write, ALL, 21), (1, Flock, Write, ALL, 22)];
        check(&[(1, Lease, Read, ALL, 10)], &waits, &[&[0], &[], &[]], &[]);
        check(&[(1, Delegation, Read, ALL, 10)], &waits, &[&[0], &[0], &[]], &[]);
    }

    #[test]
    fn only_posix_locks_know_their_own_process() {
        check(&[(1, Posix, Write, ALL, 10)], &[(1, Posix, Write, ALL, 10)], &[&[]], &[]);
        check(&[(1, Flock, Write, ALL, 10)], &[(1, Flock, Write, ALL, 10)], &[&[0]], &[0]);
        check(&[(1, Posix, Write, ALL, 10)], &[(1, Ofd, Write, ALL, 10)], &[&[0]], &[0]);
        let born = |start| Some(ProcessId { pid: 10, start: Some(crate::time::StartTime(start)) });
        assert!(!same_process(born(1), born(2)) && same_process(born(1), process(10)) && !same_process(None, None));
    }

    #[test]
    fn cycles_are_found_over_all_kinds() {
        let two = [(1, Flock, Write, ALL, 10), (2, Flock, Write, ALL, 11), (3, Flock, Write, ALL, 11)];
        check(&two, &[(2, Flock, Write, ALL, 10), (1, Flock, Write, ALL, 11)], &[&[1], &[0]], &[0, 1]);
        check(&two, &[(2, Flock, Write, ALL, 10), (1, Flock, Write, ALL, 0)], &[&[1], &[0]], &[]);

        let three = [(1, Flock, Write, ALL, 10), (2, Posix, Write, ALL, 11), (3, Ofd, Read, ALL, 12)];
        let waits = [
            (2, Ofd, Read, ALL, 10),
            (3, Posix, Write, ALL, 11),
            (1, Flock, Read, ALL, 12),
            // Stands before the cycle, not on it.
            (1, Flock, Read, ALL, 13),
        ];
        check(&three, &waits, &[&[1], &[2], &[0], &[0]], &[0, 1, 2]);
    }

    #[test]
    fn any_holder_may_close_the_cycle() {
        let waits = [wait((2, Flock, Write, ALL, 10)), wait((1, Flock, Write, ALL, 11))];
        let found = [vec![1], vec![0]];
        let deadlocked = |holders: &[Vec<u32>]| deadlocked(&found, &waits, holders, |_| Some(1));
        assert_eq!(deadlocked(&[vec![9, 10], vec![11, 99]]), [true, true]);
        assert_eq!(deadlocked(&[vec![9], vec![11]]), [false, false]);
    }

    #[test]
    fn longer_cycles_and_what_hangs_on_them() {
        // Five processes over three kinds, of which two wait through read locks of several readers; a chain beside it.
        let locks = [
            (1, Flock, Write, ALL, 10),
            (2, Posix, Write, (0, Some(9)), 11),
            (3, Ofd, Read, ALL, 12),
            (3, Ofd, Read, ALL, 50),
            (4, Flock, Read, ALL, 13),
            (5, Posix, Write, (5, Some(5)), 14),
            (6, Flock, Write, ALL, 60),
        ];
        let waits = [
            (2, Posix, Read, (9, Some(12)), 10),
            (3, Posix, Write, ALL, 11),
            (4, Flock, Write, ALL, 12),
            (5, Ofd, Write, ALL, 13),
            (1, Flock, Write, ALL, 14),
            // 60 waits for a deadlocked lock and has one of its own, for which 61 waits: neither is on the cycle.
            (1, Flock, Write, ALL, 60),
            (6, Flock, Write, ALL, 61),
        ];
        let blockers: &[&[usize]] = &[&[1], &[2, 3], &[4], &[5], &[0], &[0], &[6]];
        check(&locks, &waits, blockers, &[0, 1, 2, 4, 5]);
    }

    #[test]
    fn a_process_waits_for_itself_only_with_all_of_its_threads() {
        let check = |threads: Option<u32>, pids: [u32; 4], expect: [bool; 2]| {
            let waits = [wait((2, Flock, Write, ALL, pids[2])), wait((1, Flock, Write, ALL, pids[3]))];
            let holders = [vec![pids[0]], vec![pids[1]]];
            assert_eq!(deadlocked(&[vec![1], vec![0]], &waits, &holders, |_| threads), expect, "{threads:?} {pids:?}");
        };
        check(Some(2), [10, 10, 10, 10], [true, true]);
        check(Some(3), [10, 10, 10, 10], [false, false]);
        check(None, [10, 10, 10, 10], [false, false]);
        // Between processes the other threads are not asked.
        check(Some(3), [10, 11, 10, 11], [true, true]);
        check(Some(1), [10, 11, 11, 10], [true, true]);
        check(Some(2), [10, 11, 11, 10], [false, false]);
    }

    #[test]
    fn requests_queue_by_age_behind_those_that_conflict() {
        let check = |waits: &[(Row, u64)], expect: &[&[u32]]| {
            let dated = |&(row, since)| WaitSeen { since: (since != 0).then_some(Timestamp(since)), ..wait(row) };
            assert_eq!(behind(&waits.iter().map(dated).collect::<Vec<_>>()), expect);
        };
        let writer = |pid| (1, Flock, Write, ALL, pid);
        let reader = |pid| (1, Flock, Read, ALL, pid);
        check(&[(writer(10), 0), (writer(11), 0), (writer(12), 0)], &[&[], &[10], &[10, 11]]);
        check(&[(writer(10), 3), (writer(11), 1), (writer(12), 2)], &[&[11, 12], &[], &[11]]);
        check(&[(writer(10), 3), (writer(11), 0), (writer(12), 2)], &[&[12, 11], &[12], &[]]);
        check(&[(reader(10), 1), (reader(11), 2), (writer(12), 3)], &[&[], &[], &[10, 11]]);
        check(&[(writer(0), 1), (writer(11), 2), (writer(11), 3), (reader(12), 4)], &[&[], &[], &[11], &[11]]);
        let other = (1, Posix, Write, ALL, 30);
        check(&[(writer(10), 1), (other, 2), ((2, Flock, Write, ALL, 31), 3), (other, 4)], &[&[], &[], &[], &[]]);
        check(&[((1, Lease, Write, ALL, 10), 1), ((1, Lease, Write, ALL, 11), 2)], &[&[], &[]]);
    }

    #[test]
    fn a_busy_host_is_no_trouble() {
        let locks: Vec<_> = (0..100_000).map(|i| lock((i, Flock, Write, ALL, i as u32 + 1))).collect();
        let waits: Vec<_> = (0..1000).map(|i| wait(((i + 1) % 1000, Flock, Write, ALL, i as u32 + 1))).collect();
        let holders: Vec<_> = (0..100_000).map(|i| vec![i + 1]).collect();
        let dead = deadlocked(&blockers(&locks, &waits), &waits, &holders, |_| None);
        assert_eq!(dead.iter().filter(|dead| **dead).count(), 1000);
        assert!(behind(&waits).iter().all(Vec::is_empty));
    }
}
