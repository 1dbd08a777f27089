//! After PID reuse the innocent process is not named. Alone in its file: it turns the kernel's PID counter back, and
//! tests that compare ages by numbers must not run beside it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use lockwatch_tests::{Locker, Process, Scene, Watcher, left_out, needs_bpf, needs_root, only, sources};
use serde_json::Value;

const COUNTER: &str = "/proc/sys/kernel/ns_last_pid";

/// Puts the counter back where it was, so that later processes have later numbers again.
struct Counter(String);

impl Counter {
    fn hold(name: &str) -> Option<Self> {
        if !needs_root(name) {
            return None;
        }
        let now = fs::read_to_string(COUNTER).and_then(|now| fs::write(COUNTER, now.trim()).map(|()| now));
        match now {
            Ok(now) => Some(Self(now.trim().to_owned())),
            Err(e) => {
                left_out(name, &format!("needs {COUNTER}: {e}"));
                None
            }
        }
    }

    /// Starts a process with this very number. Somebody else may fork in between, so it takes some tries.
    fn reuse(&self, pid: u32) -> Process {
        for _ in 0..500 {
            fs::write(COUNTER, (pid - 1).to_string()).unwrap();
            let child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
            let innocent = Process::of_child(child);
            if innocent.pid() == pid {
                return innocent;
            }
        }
        panic!("number {pid} could not be had again")
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = fs::write(COUNTER, &self.0);
    }
}

/// A ghost: its number, free again, and its heir.
fn ghost(scene: &Scene, path: &Path) -> (u32, Locker) {
    let mut parent = scene.locker();
    parent.open(path, "rw");
    parent.tell("flock 3 ex");
    let mut heir = parent.fork(scene);
    heir.tell("comm heir");
    (parent.kill(), heir)
}

fn accuses_no_innocent(lock: &Value) {
    let acquirer = &lock["acquirer"];
    assert_ne!(acquirer["state"], "alive", "{lock:#}");
    assert_ne!(acquirer["comm"], "sleep", "{lock:#}");
    assert!(acquirer["exe"].as_str().is_none_or(|exe| !exe.ends_with("sleep")), "{lock:#}");
    assert_ne!(lock["verdict"], "held", "{lock:#}");
}

#[test]
fn the_innocent_is_not_named() {
    let Some(counter) = Counter::hold("the_innocent_is_not_named") else { return };
    for source in sources("the_innocent_is_not_named, cold") {
        let scene = Scene::new();
        let path = scene.file("lock");
        let (pid, _heir) = ghost(&scene, &path);
        let _innocent = counter.reuse(pid);
        accuses_no_innocent(&only(source, &path));
    }
    if !needs_bpf("the_innocent_is_not_named, watched") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let watcher = Watcher::orphans(&[&path]);
    let (pid, heir) = ghost(&scene, &path);
    let orphaned = watcher.wait_for("orphaned", |event| event.is("orphaned") && event.about(&path));
    let _innocent = counter.reuse(pid);
    heir.kill();
    let cleared = watcher.wait_for("cleared", |event| event.is("cleared") && event.about(&path));
    for event in [orphaned, cleared] {
        accuses_no_innocent(&event.json["lock"]);
    }
}
