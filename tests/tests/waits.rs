//! How waits end, and who stands in whose way.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::fs;

use lockwatch_tests::{
    KINDS, Scene, Watcher, ghost, items, list, needs_bpf, only, opened, pids, proc_locks_of, sources, taken, until,
};

/// How often a process has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_wait_ends_by_a_signal_by_death_by_time_or_with_the_lock() {
    let name = "a_wait_ends_by_a_signal_by_death_by_time_or_with_the_lock";
    if !needs_bpf(name) {
        return;
    }
    for (ask, let_go) in KINDS {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut taker = taken(&scene, &path, ask);
        let trace = Watcher::trace(&path);
        let waiters = || pids(&only("bpf", &path)["waiters"]);

        let mut one = opened(&scene, &path);
        let wait = one.wait_for(&path, ask);
        assert_eq!(waiters(), [u64::from(one.pid())], "{ask}");
        one.tell(&format!("interrupt {}", wait.0));
        one.ended(wait, "EINTR");
        trace.wait_for_each(&[("waiting", one.pid()), ("wait_ended", one.pid())]);
        assert!(waiters().is_empty(), "{ask}");

        let mut two = opened(&scene, &path);
        two.wait_for(&path, ask);
        let two = two.kill();
        trace.wait_for_each(&[("waiting", two), ("wait_ended", two)]);
        assert!(waiters().is_empty(), "{ask}");

        // The timer is of the process; its only thread waits.
        let mut three = opened(&scene, &path);
        three.tell("alarm 300 interrupt");
        let wait = three.block_on(&path, ask);
        three.ended(wait, "EINTR");
        let ended = trace.wait_for_each(&[("waiting", three.pid()), ("wait_ended", three.pid())]);
        assert!(ended[1].json["waited_ns"].as_u64().is_some_and(|ns| ns > 0), "{:#}", ended[1].json);
        assert!(waiters().is_empty(), "{ask}");

        let mut four = opened(&scene, &path);
        let wait = four.wait_for(&path, ask);
        taker.tell(let_go);
        four.granted(wait);
        trace.wait_for_each(&[("waiting", four.pid()), ("granted", four.pid())]);
        assert!(waiters().is_empty(), "{ask}");
    }
}

#[test]
fn a_wait_that_begins_again_goes_on() {
    let name = "a_wait_that_begins_again_goes_on";
    if !needs_bpf(name) {
        return;
    }
    for way in ["tp_btf", "raw_tracepoint"] {
        for (ask, let_go) in KINDS {
            let scene = Scene::new();
            let path = scene.file("lock");
            let (mut taker, mut waiter) = (opened(&scene, &path), opened(&scene, &path));
            taker.tell(ask);
            let trace = Watcher::trace_by(way, &path);
            waiter.tell("alarm 50 restart");
            let wait = waiter.block_on(&path, ask);
            let (pid, before) = (waiter.pid(), sleeps(waiter.pid()));
            until("the timer has come four times", || (sleeps(pid) >= before + 4).then_some(()));
            taker.tell(let_go);
            waiter.granted(wait);
            let granted = trace.wait_for("granted", |event| event.is("granted") && event.by(pid));
            // Four times 50 ms lie between, and at most one more tick before the first.
            assert!(granted.json["waited_ns"].as_u64().unwrap() > 150_000_000, "{way}, {ask}: {:#}", granted.json);
            let told = trace.events().into_iter().filter(|event| event.by(pid));
            let told: Vec<_> = told.map(|event| event.json["event"].clone()).collect();
            assert_eq!(told, ["waiting", "granted"], "{way}, {ask}");
        }
    }
}

#[test]
fn two_threads_of_one_process_wait_each_for_itself() {
    let name = "two_threads_of_one_process_wait_each_for_itself";
    if !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let (path, other) = (scene.file("lock"), scene.file("other"));
    let watcher = Watcher::orphans(&[&path, &other]);
    let (_, mut heir) = ghost(&scene, &path);
    watcher.wait_about("orphaned", &path);
    let mut waiter = opened(&scene, &path);
    waiter.open(&path, "rw as 10");
    let first = waiter.wait_for(&path, "flock 9 ex");
    let second = waiter.wait_for(&path, "flock 10 ex");
    waiter.tell(&format!("interrupt {}", first.0));
    waiter.ended(first, "EINTR");
    let hot = watcher.wait_about("hot", &path);
    assert_eq!(pids(&hot.json["lock"]["waiters"]), [u64::from(waiter.pid())], "{:#}", hot.json);
    heir.kill();
    waiter.granted(second);
}

#[test]
fn nothing_is_hot_whose_wait_has_ended() {
    let name = "nothing_is_hot_whose_wait_has_ended";
    if !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let (path, other) = (scene.file("lock"), scene.file("other"));
    let watcher = Watcher::orphans(&[&path, &other]);
    let _heirs = [ghost(&scene, &path), ghost(&scene, &other)];
    let mut waiter = opened(&scene, &path);
    let wait = waiter.wait_for(&path, "flock 9 ex");
    waiter.tell(&format!("interrupt {}", wait.0));
    waiter.ended(wait, "EINTR");
    // Somebody who began to wait later gets hot first: then the one before has had its time.
    let mut later = opened(&scene, &other);
    later.wait_for(&other, "flock 9 ex");
    watcher.wait_about("hot", &other);
    let wrong: Vec<_> = watcher.events().into_iter().filter(|e| e.is("hot") && e.about(&path)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_waiter_stands_under_every_lock_in_its_way() {
    for source in sources("a_waiter_stands_under_every_lock_in_its_way") {
        for (share, ask, blockers) in [
            (["flock 9 sh", "flock 9 sh", "flock 9 sh"], "flock 9 ex", 3),
            (["posix 9 w 0 10", "ofd 9 w 10 10", "posix 9 w 100 10"], "posix 9 w 5 10", 2),
        ] {
            let scene = Scene::new();
            let path = scene.file("lock");
            let mut takers = [opened(&scene, &path), opened(&scene, &path), opened(&scene, &path)];
            for (taker, share) in takers.iter_mut().zip(share) {
                taker.tell(share);
            }
            let (mut first, mut second) = (opened(&scene, &path), opened(&scene, &path));
            first.wait_for(&path, ask);
            second.wait_for(&path, ask);
            let locks = list(source, &path);
            let waited: Vec<_> = locks.iter().map(|lock| pids(&lock["waiters"])).collect();
            let both = waited.iter().filter(|pids| pids.len() == 2).count();
            let none = waited.iter().filter(|pids| pids.is_empty()).count();
            assert_eq!((both, none), (blockers, 3 - blockers), "{source}, {ask}: {locks:#?}");
            // Who came second is behind the first, wherever it stands.
            for lock in locks.iter().filter(|lock| !items(&lock["waiters"]).is_empty()) {
                let behind = items(&lock["waiters"]).iter().filter(|w| !items(&w["behind"]).is_empty()).count();
                assert_eq!(behind, 1, "{source}, {ask}: {lock:#}");
            }
            assert_eq!(proc_locks_of(&path).iter().filter(|lock| lock.waits).count(), 2);
        }
    }
}
