//! What verdicts rest on beyond the scenes: how an acquirer ended, and parties that have let go. `scenarios.rs` has all
//! the rest.

use lockwatch_tests::{Event, Locker, Scene, Watcher, ghost, needs_bpf, opened, taken, verdict};
use serde_json::json;

/// The `orphaned` event of a lock whose acquirer has left it to its fork and ended so.
fn left_to_a_fork(lock: &str, end: fn(Locker) -> u32) -> Event {
    let scene = Scene::new();
    let path = scene.file("lock");
    let watcher = Watcher::orphans(&[&path]);
    let mut parent = taken(&scene, &path, lock);
    let _child = parent.fork(&scene);
    end(parent);
    watcher.wait_about("orphaned", &path)
}

#[test]
fn a_killed_acquirer_has_a_signal_and_a_killer() {
    if !needs_bpf("a_killed_acquirer_has_a_signal_and_a_killer") {
        return;
    }
    let event = left_to_a_fork("flock 9 ex", Locker::kill);
    let acquirer = &event.json["lock"]["acquirer"];
    assert_eq!((&acquirer["state"], &acquirer["comm"]), (&json!("dead"), &json!("locker")), "{acquirer:#}");
    assert_eq!(acquirer["exit"]["signal"], 9, "{acquirer:#}");
    assert_eq!(acquirer["exit"]["sender"]["pid"], std::process::id(), "{acquirer:#}");
    assert!(acquirer["died_at"].is_string() && event.json["lock"]["acquired_at"].is_string(), "{:#}", event.json);
}

#[test]
fn an_acquirer_that_failed_has_a_code() {
    if !needs_bpf("an_acquirer_that_failed_has_a_code") {
        return;
    }
    let event = left_to_a_fork("ofd 9 w 0 0", |parent| parent.exit(3));
    assert_eq!(event.json["lock"]["acquirer"]["exit"]["code"], 3, "{:#}", event.json);
    assert_eq!(verdict(&event.json["lock"]), "orphaned/child", "{:#}", event.json);
}

#[test]
fn a_party_that_has_let_go_still_counts_until_it_dies() {
    if !needs_bpf("a_party_that_has_let_go_still_counts_until_it_dies") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let ghosts = [scene.file("ghost"), scene.file("another ghost")];
    let watcher = Watcher::orphans(&[&path, &ghosts[0], &ghosts[1]]);
    let seen = |event: &str, path: &std::path::Path| watcher.wait_for(event, |e| e.is(event) && e.about(path));
    let mut parent = opened(&scene, &path);
    let mut helper = parent.fork(&scene);
    helper.tell("flock 9 ex");
    let helper = helper.exit(0);
    parent.tell(&format!("wait {helper}"));
    let _ghost = ghost(&scene, &ghosts[0]);
    seen("orphaned", &ghosts[0]);
    let _heir = parent.spawn("sleep 60");
    parent.tell("close 9");
    let _ghost = ghost(&scene, &ghosts[1]);
    seen("orphaned", &ghosts[1]);
    assert!(!watcher.events().iter().any(|e| e.is("orphaned") && e.about(&path)));
    parent.kill();
    seen("orphaned", &path);
}
