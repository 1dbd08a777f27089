//! Who is orphaned and who is not: every scene of DESIGN section 5 that descriptors can make, cold and watched.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Stdio},
};

use lockwatch_tests::{
    Event, Lines, Locker, Process, Scene, Watcher, holders, items, left_out, locker::words::encode, needs_bpf,
    needs_program, needs_root, numbers_have_wrapped, only, sources_that_see_all, until, verdict,
};
use serde_json::json;

/// What is judged when nobody watched. Whatever `stage` returns lives until the verdict is read.
fn cold<T>(name: &str, stage: impl Fn(&Scene, &Path) -> T, expect: &str) {
    if !needs_root(name) {
        return;
    }
    for source in sources_that_see_all(name) {
        let scene = Scene::new();
        let path = scene.file("lock");
        let _cast = stage(&scene, &path);
        let lock = only(source, &path);
        if verdict(&lock) == "unknown/inherited" && numbers_have_wrapped() {
            left_out(&format!("{name}, cold"), "process numbers have wrapped since boot: ages cannot be told");
            continue;
        }
        assert_eq!(verdict(&lock), expect, "{name}, {source}: {lock:#}");
        assert!(!items(&lock["evidence"]).is_empty(), "{name}, {source}: a verdict without evidence: {lock:#}");
    }
}

/// What a watcher says: the verdict of its `orphaned` event.
fn watched_orphan<T>(name: &str, stage: impl Fn(&Scene, &Path) -> T, expect: &str) -> Option<Event> {
    if !needs_bpf(name) {
        return None;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let watcher = Watcher::orphans(&[&path]);
    let _cast = stage(&scene, &path);
    let event = watcher.wait_for("orphaned", |event| event.is("orphaned") && event.about(&path));
    assert_eq!(verdict(&event.json["lock"]), expect, "{name}: {:#}", event.json);
    Some(event)
}

/// A watcher says nothing of the lock. To know that it has had its chance, a real ghost is made beside it afterwards.
fn watched_peace<T>(name: &str, stage: impl Fn(&Scene, &Path) -> T) {
    if !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let (path, ghost) = (scene.file("lock"), scene.file("ghost"));
    let watcher = Watcher::orphans(&[&path, &ghost]);
    let _cast = stage(&scene, &path);
    let _ghost = leaked(&scene, &ghost);
    watcher.wait_for("orphaned", |event| event.is("orphaned") && event.about(&ghost));
    let wrong: Vec<_> = watcher.events().into_iter().filter(|e| e.is("orphaned") && e.about(&path)).collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
}

fn taken(scene: &Scene, path: &Path, lock: &str) -> Locker {
    let mut locker = scene.locker();
    locker.open(path, "rw as 9");
    locker.tell(lock);
    locker
}

/// The parent is killed, its fork lives on.
fn child(scene: &Scene, path: &Path) -> Locker {
    let mut parent = taken(scene, path, "flock 9 ex");
    let child = parent.fork(scene);
    parent.kill();
    child
}

/// Another program inherited the descriptor from the dead.
fn leaked(scene: &Scene, path: &Path) -> Process {
    let mut parent = taken(scene, path, "flock 9 ex");
    let heir = parent.spawn("sleep 60");
    parent.kill();
    heir
}

/// A fork that has become another program by the time its parent dies.
fn exec_heir(scene: &Scene, path: &Path) -> Process {
    let mut parent = taken(scene, path, "flock 9 ex");
    let heir = parent.fork(scene).exec("sleep 60");
    parent.kill();
    heir
}

/// A daemon takes its lock, forks and exits 0.
fn daemon(scene: &Scene, path: &Path) -> Locker {
    let mut parent = taken(scene, path, "flock 9 ex");
    let mut child = parent.fork(scene);
    child.tell("setsid");
    parent.exit(0);
    child
}

/// A daemon that writes its number into the file that it locks.
fn daemon_with_pid_file(scene: &Scene, path: &Path) -> Locker {
    let mut child = daemon(scene, path);
    child.tell("pidfile 9");
    child
}

/// The acquirer lives, and has given its descriptor away in a message.
fn passed(scene: &Scene, path: &Path) -> [Locker; 2] {
    let socket = scene.socket();
    let word = encode(socket.as_os_str().as_bytes());
    let (mut receiver, mut sender) = (scene.locker(), taken(scene, path, "flock 9 ex"));
    let inbox: i32 = receiver.number(&format!("bind {word}"));
    sender.tell(&format!("sendfd 9 {word}"));
    receiver.tell(&format!("recvfd {inbox}"));
    sender.tell("close 9");
    [sender, receiver]
}

/// The acquirer lives, and only its child still has the descriptor.
fn passed_to_child(scene: &Scene, path: &Path) -> [Locker; 2] {
    let mut parent = taken(scene, path, "flock 9 ex");
    let child = parent.fork(scene);
    parent.tell("close 9");
    [parent, child]
}

/// A helper locks a descriptor that its parent has too, and exits: flock(1) without a shell.
fn borrowed(scene: &Scene, path: &Path) -> Locker {
    let mut parent = scene.locker();
    parent.open(path, "rw as 9");
    let mut helper = parent.fork(scene);
    helper.tell("flock 9 ex");
    let helper = helper.exit(0);
    parent.tell(&format!("wait {helper}"));
    parent
}

/// A helper locks a descriptor for a worker that is there already; their parent lets go of it.
fn borrowed_by_a_sibling(scene: &Scene, path: &Path) -> (Locker, Process) {
    let mut parent = scene.locker();
    parent.open(path, "rw as 9");
    let worker = parent.spawn("sleep 60");
    let mut helper = parent.fork(scene);
    parent.tell("close 9");
    helper.tell("flock 9 ex");
    let helper = helper.exit(0);
    parent.tell(&format!("wait {helper}"));
    (parent, worker)
}

/// The main thread is gone, another one lives.
fn zombie_leader(scene: &Scene, path: &Path) -> Locker {
    let mut locker = taken(scene, path, "flock 9 ex");
    locker.tell("leader-exit");
    locker
}

/// Dead, and nobody has waited for it: its number and its name are still in /proc.
fn zombie(scene: &Scene, path: &Path) -> (Locker, Process) {
    let mut parent = scene.locker();
    let mut child = parent.fork(scene);
    child.open(path, "rw");
    child.tell("flock 3 ex");
    let heir = child.spawn("sleep 60");
    child.kill();
    (parent, heir)
}

/// Runs a shell script on the file until a program holds it; every process that has the file open.
fn shell(script: &str, path: &Path, program: &str) -> (Process, Vec<(Process, String)>) {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let output = Lines::from(shell.stdout.take().unwrap());
    let shell = Process::of_child(shell);
    assert!(output.take(|line| line == "locked").is_some(), "the shell has no lock");
    let found = until("the shell's program runs", || {
        let found = holders(path);
        found.iter().any(|(_, comm)| comm == program).then_some(found)
    });
    (shell, found.into_iter().map(|(pid, comm)| (Process::of_pid(pid), comm)).collect())
}

/// The commonest lock there is. The `:` keeps dash from becoming the sleep itself.
const IDIOM: &str = r#"( flock -n 9 || exit 1; echo locked; sleep 60; : ) 9>"$1""#;

/// The issue's own words, where the last command of the subshell may replace it.
const LAST_COMMAND: &str = r#"( flock -n 9 && echo locked || exit 1; sleep 60 ) 9>"$1""#;

/// The shell of [`IDIOM`] is killed, its sleep lives on.
fn shell_killed(path: &Path) -> Process {
    let (mut outer, found) = shell(IDIOM, path, "sleep");
    let (mut sleeps, mut shells): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, comm)| comm == "sleep");
    // Nobody may reap or follow while the rest dies: the outer shell goes first.
    outer.kill();
    shells.iter_mut().for_each(|(shell, _)| shell.kill());
    sleeps.remove(0).0
}

#[test]
fn a_child_of_the_dead() {
    cold("a_child_of_the_dead, cold", child, "orphaned/inherited");
    if let Some(event) = watched_orphan("a_child_of_the_dead, watched", child, "orphaned/child") {
        let acquirer = &event.json["lock"]["acquirer"];
        assert_eq!((&acquirer["state"], &acquirer["comm"]), (&json!("dead"), &json!("locker")), "{acquirer:#}");
        assert_eq!(acquirer["exit"]["signal"], 9, "{acquirer:#}");
        assert_eq!(acquirer["exit"]["sender"]["pid"], std::process::id(), "{acquirer:#}");
        assert!(acquirer["died_at"].is_string() && event.json["lock"]["acquired_at"].is_string(), "{:#}", event.json);
    }
}

#[test]
fn a_child_of_one_that_failed() {
    let stage = |scene: &Scene, path: &Path| {
        let mut parent = taken(scene, path, "ofd 9 w 0 0");
        let child = parent.fork(scene);
        parent.exit(3);
        child
    };
    if let Some(event) = watched_orphan("a_child_of_one_that_failed, watched", stage, "orphaned/child") {
        assert_eq!(event.json["lock"]["acquirer"]["exit"]["code"], 3, "{:#}", event.json);
    }
}

#[test]
fn another_program_inherits() {
    cold("another_program_inherits, cold", leaked, "orphaned/inherited");
    watched_orphan("another_program_inherits, watched", leaked, "orphaned/leaked");
    cold("a fork becomes another program, cold", exec_heir, "orphaned/inherited");
    watched_orphan("a fork becomes another program, watched", exec_heir, "orphaned/leaked");
}

#[test]
fn a_daemon_is_no_orphan() {
    cold("a daemon by its looks, cold", daemon, "unknown/inherited");
    cold("a daemon with a pid file, cold", daemon_with_pid_file, "handed_over/daemonized");
    watched_peace("a daemon, watched", daemon);
}

#[test]
fn a_living_acquirer_passes_its_lock_on() {
    // The receiver is no relative: for all that can be seen, another process may have got the acquirer's number.
    cold("a_living_acquirer_passes_its_lock_on, cold", passed, "unknown");
    cold("a_living_acquirer_passes_its_lock_to_its_child, cold", passed_to_child, "handed_over/passed");
    watched_peace("a_living_acquirer_passes_its_lock_on, watched", passed);
}

#[test]
fn a_helper_locks_for_its_parent() {
    cold("a_helper_locks_for_its_parent, cold", borrowed, "handed_over/borrowed");
    watched_peace("a_helper_locks_for_its_parent, watched", borrowed);
}

#[test]
fn a_helper_locks_for_an_older_worker() {
    cold("a_helper_locks_for_an_older_worker, cold", borrowed_by_a_sibling, "handed_over/borrowed");
    watched_peace("a_helper_locks_for_an_older_worker, watched", borrowed_by_a_sibling);
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
    let seen = |event: &str, path: &Path| watcher.wait_for(event, |e| e.is(event) && e.about(path));
    let mut parent = borrowed(&scene, &path);
    let _ghost = leaked(&scene, &ghosts[0]);
    seen("orphaned", &ghosts[0]);
    let _heir = parent.spawn("sleep 60");
    parent.tell("close 9");
    let _ghost = leaked(&scene, &ghosts[1]);
    seen("orphaned", &ghosts[1]);
    assert!(!watcher.events().iter().any(|e| e.is("orphaned") && e.about(&path)));
    parent.kill();
    seen("orphaned", &path);
}

#[test]
fn a_shell_borrows_its_lock_from_flock() {
    let name = "a_shell_borrows_its_lock_from_flock";
    if !needs_program(name, "flock") {
        return;
    }
    for script in [IDIOM, LAST_COMMAND] {
        let stage = |_: &Scene, path: &Path| shell(script, path, "sleep");
        cold(&format!("{name}, cold"), stage, "handed_over/borrowed");
        watched_peace(&format!("{name}, watched"), stage);
    }
}

#[test]
fn a_killed_shell_leaves_its_lock_to_a_sleep() {
    let name = "a_killed_shell_leaves_its_lock_to_a_sleep";
    if !needs_program(name, "flock") {
        return;
    }
    let stage = |_: &Scene, path: &Path| shell_killed(path);
    cold(&format!("{name}, cold"), stage, "orphaned/inherited");
    watched_orphan(&format!("{name}, watched"), stage, "orphaned/leaked");
}

#[test]
fn a_process_without_its_leader_lives() {
    cold("a_process_without_its_leader_lives, cold", zombie_leader, "held");
    watched_peace("a_process_without_its_leader_lives, watched", zombie_leader);
}

#[test]
fn a_zombie_is_dead() {
    cold("a_zombie_is_dead, cold", zombie, "orphaned/inherited");
    watched_orphan("a_zombie_is_dead, watched", zombie, "orphaned/leaked");
}
