//! Leases: held, being broken, and left behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{fs, path::Path};

use lockwatch_tests::{
    Locker, Scene, Watcher, document, items, list, locker::words::encode, lockwatch, needs_bpf, only, pids, sources,
    sources_that_see_all, verdict,
};
use serde_json::json;

fn taken(scene: &Scene, path: &Path, how: &str, lease: &str) -> Locker {
    let mut locker = scene.locker();
    locker.open(path, how);
    locker.tell(lease);
    locker
}

fn word(path: &Path) -> String {
    encode(path.as_os_str().as_encoded_bytes())
}

#[test]
fn a_lease_says_what_it_is_to_become_and_who_waits() {
    for source in sources("a_lease_says_what_it_is_to_become_and_who_waits") {
        // What is taken, who comes, what is left.
        for (how, lease, comes, to) in [
            ("rw as 9", "lease 9 w", "w", "none"),
            ("rw as 9", "lease 9 w", "r", "read"),
            ("ro as 9", "lease 9 r", "w", "none"),
        ] {
            let scene = Scene::new();
            let path = scene.file("lease");
            let mut holder = taken(&scene, &path, how, lease);
            assert!(only(source, &path)["breaking"].is_null(), "{source}, {lease}");
            let mut comer = scene.locker();
            let wait = comer.wait_for(&path, &format!("break {} {comes}", word(&path)));
            let report = document(source, &[&path]);
            let lock = &items(&report["locks"])[0];
            assert_eq!((&lock["kind"], &lock["breaking"]["to"]), (&json!("lease"), &json!(to)), "{source}: {lock:#}");
            assert_eq!(pids(&lock["waiters"]), [u64::from(comer.pid())], "{source}: {lock:#}");
            assert_eq!(verdict(lock), "held", "{source}: {lock:#}");
            if source == "bpf" {
                assert_eq!(lock["mode"], if lease.ends_with('w') { "write" } else { "read" }, "{lock:#}");
                let (now, end) = (seconds(&report["taken_at"]), seconds(&lock["breaking"]["deadline"]));
                let patience: i64 =
                    fs::read_to_string("/proc/sys/fs/lease-break-time").unwrap().trim().parse().unwrap();
                assert!((patience - 10..=patience + 1).contains(&(end - now).rem_euclid(86_400)), "{report:#}");
            }
            let story = lockwatch(["explain", "--source", source, path.to_str().unwrap()]);
            assert!(story.text().contains("breaking"), "{}", story.text());
            holder.tell("unlease 9");
            comer.granted(wait);
            assert!(list(source, &path).is_empty(), "{source}");
        }
    }
}

/// The second of the day in `2026-11-22T03:12:07.123456789Z`.
fn seconds(time: &serde_json::Value) -> i64 {
    let part = |range: std::ops::Range<usize>| -> i64 { time.as_str().unwrap()[range].parse().unwrap() };
    part(11..13) * 3600 + part(14..16) * 60 + part(17..19)
}

#[test]
fn a_lease_of_the_dead_is_judged_like_any_lock() {
    let name = "a_lease_of_the_dead_is_judged_like_any_lock";
    for source in sources_that_see_all(name) {
        let scene = Scene::new();
        let path = scene.file("lease");
        let mut taker = taken(&scene, &path, "rw as 9", "lease 9 w");
        let _heir = taker.spawn("sleep 60");
        taker.kill();
        let lock = only(source, &path);
        let fair = ["orphaned/inherited", "unknown/inherited"]; // the latter where process numbers have wrapped
        assert!(fair.contains(&verdict(&lock).as_str()), "{source}: {lock:#}");
    }
    if !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lease");
    let watcher = Watcher::orphans(&[&path]);
    let mut taker = taken(&scene, &path, "rw as 9", "lease 9 w");
    let mut heir = taker.spawn("sleep 60");
    taker.kill();
    let orphaned = watcher.wait_about("orphaned", &path);
    assert_eq!(verdict(&orphaned.json["lock"]), "orphaned/leaked", "{:#}", orphaned.json);
    let mut comer = scene.locker();
    let wait = comer.wait_for(&path, &format!("break {} w", word(&path)));
    let hot = watcher.wait_about("hot", &path);
    assert_eq!(hot.json["lock"]["breaking"]["to"], "none", "{:#}", hot.json);
    assert_eq!(pids(&hot.json["lock"]["waiters"]), [u64::from(comer.pid())], "{:#}", hot.json);
    heir.kill();
    comer.granted(wait);
    watcher.wait_for("all_clear", |event| event.is("all_clear"));
}

#[test]
fn a_lease_that_ends_with_a_descriptor_is_noticed() {
    if !needs_bpf("a_lease_that_ends_with_a_descriptor_is_noticed") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lease");
    let watcher = Watcher::orphans(&[&path]);
    let mut taker = taken(&scene, &path, "rw as 9", "lease 9 w");
    let mut heir = taker.fork(&scene);
    taker.kill();
    watcher.wait_about("orphaned", &path);
    heir.tell("close 9");
    watcher.wait_about("cleared", &path);
}

#[test]
fn trace_tells_of_leases_what_is_certain() {
    if !needs_bpf("trace_tells_of_leases_what_is_certain") {
        return;
    }
    for way in ["tp_btf", "raw_tracepoint"] {
        let scene = Scene::new();
        let path = scene.file("lease");
        let trace = Watcher::trace_by(way, &path);
        let mut holder = taken(&scene, &path, "rw as 9", "lease 9 w");
        let mut comer = scene.locker();
        let wait = comer.wait_for(&path, &format!("break {} w", word(&path)));
        holder.tell("unlease 9");
        comer.granted(wait);
        trace.wait_for_each(&[("waiting", comer.pid()), ("released", holder.pid())]);
        let ended = trace.wait_for("wait_ended", |event| event.is("wait_ended") && event.by(comer.pid()));
        assert_eq!(ended.json["lock"]["kind"], "lease", "{:#}", ended.json);
    }
}
