//! What has happened to a lock: as `explain --watch` prints it, and in the events of `orphans --watch`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::process::Stdio;

use lockwatch_tests::{
    Event, Lines, Process, Scene, Watcher, ghost, items, lockwatch_command, needs_bpf, opened, taken,
};

#[test]
fn a_story_goes_on_until_the_lock_is_gone() {
    if !needs_bpf("a_story_goes_on_until_the_lock_is_gone") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut taker = taken(&scene, &path, "flock 9 ex");
    let mut command = lockwatch_command();
    let mut story = command.args(["explain", "--watch"]).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let lines = Lines::from(story.stdout.take().unwrap());
    let mut story = Process::of_child(story);
    let hear = |what: &str, of: &str| {
        let heard = lines.take(|line| line.contains(what) && line.contains(of));
        assert!(heard.is_some(), "no {what:?} of {of:?} in:\n{}", lines.heard().join("\n"));
    };
    let pid = |pid: u32| format!("pid {pid} ");
    hear("held: ", "lock");
    hear("What has happened", "");
    // Nobody watched it being taken.
    hear(" found ", &pid(taker.pid()));

    let mut waiter = opened(&scene, &path);
    let wait = waiter.wait_for(&path, "flock 9 ex");
    hear(" waiting ", &pid(waiter.pid()));
    waiter.tell(&format!("interrupt {}", wait.0));
    waiter.ended(wait, "EINTR");
    hear(" wait-ended ", &pid(waiter.pid()));

    let heir = taker.fork(&scene);
    hear(" passed-on ", &pid(heir.pid()));
    let taker = taker.kill();
    hear(" let-go ", &pid(taker));
    hear(" owner-died ", "was killed by SIGKILL");
    heir.kill();
    hear(" released ", "it is gone");
    hear("The lock is gone.", "");
    story.wait();
}

#[test]
fn who_asks_for_a_lock_that_is_not_there_is_told_so() {
    let name = "who_asks_for_a_lock_that_is_not_there_is_told_so";
    if !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let run = lockwatch_tests::lockwatch(["explain", "--watch", path.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.text().contains("Nobody holds a lock on "), "{}", run.text());
}

#[test]
fn ghosts_carry_their_history() {
    if !needs_bpf("ghosts_carry_their_history") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let watcher = Watcher::orphans(&[&path]);
    let (taker, _heir) = ghost(&scene, &path);
    let history = |event: &Event| -> Vec<(String, Option<u64>)> {
        let moments = items(&event.json["history"]);
        let moment = |m: &serde_json::Value| (m["event"].as_str().unwrap().to_owned(), m["process"]["pid"].as_u64());
        assert!(moments.is_sorted_by_key(|m| m["at"].as_str().unwrap()), "{moments:#?}");
        // Another lockwatch on this host may have a duplicate of the ghost's descriptor for a moment, to read the file.
        let passing = |m: &&serde_json::Value| m["event"] == "passed_on" || m["event"] == "let_go";
        moments.iter().filter(|m| !passing(m)).map(moment).collect()
    };
    let taken = [("taken".to_owned(), Some(taker.into())), ("owner_died".to_owned(), Some(taker.into()))];
    let orphaned = watcher.wait_about("orphaned", &path);
    assert_eq!(history(&orphaned), [&taken[..], &[("orphaned".to_owned(), None)]].concat(), "{:#}", orphaned.json);

    let mut waiter = opened(&scene, &path);
    waiter.wait_for(&path, "flock 9 ex");
    let hot = watcher.wait_about("hot", &path);
    let since =
        [("orphaned".to_owned(), None), ("waiting".to_owned(), Some(waiter.pid().into())), ("hot".to_owned(), None)];
    assert_eq!(history(&hot), [&taken[..], &since[..]].concat(), "{:#}", hot.json);
}
