//! What a watcher says, and in which order.

use lockwatch_tests::{KINDS, Scene, Watcher, ghost, needs_bpf, opened};

#[test]
fn trace_tells_what_happens_in_order() {
    if !needs_bpf("trace_tells_what_happens_in_order") {
        return;
    }
    for (lock, unlock) in KINDS {
        let scene = Scene::new();
        let path = scene.file("lock");
        let (mut one, mut two) = (scene.locker(), scene.locker());
        for locker in [&mut one, &mut two] {
            locker.open(&path, "rw as 9");
        }
        let trace = Watcher::trace(&path);
        let (first, second) = (one.pid(), two.pid());

        one.tell(lock);
        assert_eq!(two.ask(lock), Err("EAGAIN".into()));
        let wait = two.wait_for(&path, lock);
        one.tell(unlock);
        two.granted(wait);
        let wait = one.wait_for(&path, lock);
        one.tell(&format!("interrupt {}", wait.0));
        one.ended(wait, "EINTR");
        two.kill();

        let events = trace.wait_for_each(&[
            ("acquired", first),
            ("refused", second),
            ("waiting", second),
            ("released", first),
            ("granted", second),
            ("waiting", first),
            ("wait_ended", first),
            ("released", second),
        ]);
        trace.wait_for("process_exit", |event| event.is("process_exit") && event.by(second));
        for event in &events {
            assert!(event.about(&path), "{:#}", event.json);
            assert_eq!(event.json["lock"]["mode"], "write", "{:#}", event.json);
            assert_eq!(event.json["process"]["comm"], "locker", "{:#}", event.json);
            assert!(event.json["at"].is_string(), "{:#}", event.json);
        }
        for ended in [&events[4], &events[6]] {
            assert!(ended.json["waited_ns"].as_u64().is_some_and(|ns| ns > 0), "{:#}", ended.json);
        }
    }
}

#[test]
fn a_wait_that_dies_with_its_process_has_ended() {
    if !needs_bpf("a_wait_that_dies_with_its_process_has_ended") {
        return;
    }
    for (lock, _) in KINDS {
        let scene = Scene::new();
        let path = scene.file("lock");
        let (mut one, mut two) = (scene.locker(), scene.locker());
        one.open(&path, "rw as 9");
        two.open(&path, "rw as 9");
        one.tell(lock);
        let trace = Watcher::trace(&path);
        two.wait_for(&path, lock);
        let pid = two.kill();
        trace.wait_for_each(&[("waiting", pid), ("wait_ended", pid)]);
    }
}

#[test]
fn a_ghost_becomes_hot_and_all_is_clear_when_its_heir_dies() {
    if !needs_bpf("a_ghost_becomes_hot_and_all_is_clear_when_its_heir_dies") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let watcher = Watcher::orphans(&[&path]);
    let (acquirer, mut heir) = ghost(&scene, &path);
    let orphaned = watcher.wait_about("orphaned", &path);
    assert_eq!(orphaned.json["lock"]["acquirer"]["pid"], acquirer, "{:#}", orphaned.json);
    assert_eq!(orphaned.json["lock"]["holders"][0]["pid"], heir.pid(), "{:#}", orphaned.json);

    let mut waiter = opened(&scene, &path);
    let wait = waiter.wait_for(&path, "flock 9 ex");
    // Somebody must have waited for hot_after (5 s): the watcher's own clock, nothing to be hurried here.
    let hot = watcher.wait_about("hot", &path);
    assert_eq!(hot.json["lock"]["hot"], true, "{:#}", hot.json);
    assert_eq!(hot.json["lock"]["waiters"][0]["pid"], waiter.pid(), "{:#}", hot.json);

    heir.kill();
    waiter.granted(wait);
    let clear = watcher.wait_for("all_clear", |event| event.is("all_clear"));
    assert!(clear.heard >= hot.heard);
    watcher.wait_about("cleared", &path);
}

#[test]
fn ghosts_from_before_the_start_are_told_first() {
    if !needs_bpf("ghosts_from_before_the_start_are_told_first") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let (_, mut heir) = ghost(&scene, &path);
    let watcher = Watcher::orphans(&[&path]);
    watcher.wait_about("orphaned", &path);
    heir.kill();
    watcher.wait_about("cleared", &path);
}
