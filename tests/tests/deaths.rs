//! How a process that holds a lock died, and who or what ended it: as a watcher tells it, in each way of attaching.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use lockwatch_tests::{
    Locker, Scene, Watcher, ghost, left_out, locker::words::encode, lockwatch, needs_bpf, sys, taken,
};
use serde_json::{Value, json};

/// tp_btf and raw tracepoints see all; the classic ones need tracefs.
const WAYS: [&str; 2] = ["tp_btf", "raw_tracepoint"];

/// How often somebody dies at most, where the kernel leaves out runs of probes.
const ATTEMPTS: usize = 3;

/// How somebody with a lock died, says a trace; and the trace.
fn death(way: &str, end: impl Fn(&Scene, Locker)) -> (Value, Watcher) {
    let scene = Scene::new();
    let path = scene.file("lock");
    let trace = Watcher::trace_by(way, &path);
    let locker = taken(&scene, &path, "flock 9 ex");
    let pid = locker.pid();
    end(&scene, locker);
    let event = trace.wait_for("process_exit", |event| event.is("process_exit") && event.by(pid));
    (event.json["process"]["exit"].clone(), trace)
}

/// What `expect` names is so; the rest of `exit` may be anything.
fn check(name: &str, end: impl Fn(&Scene, Locker), expect: Value) {
    if !needs_bpf(name) {
        return;
    }
    let differs = |exit: &Value| expect.as_object().unwrap().iter().any(|(field, value)| exit[field] != *value);
    for way in WAYS {
        let (mut exit, mut trace) = death(way, &end);
        for _ in 1..ATTEMPTS {
            if !differs(&exit) || !trace.loses_more_than(0) {
                break;
            }
            (exit, trace) = death(way, &end);
        }
        for (field, value) in expect.as_object().unwrap() {
            assert_eq!(&exit[field], value, "{name}, {way}, {field}: {exit:#}");
        }
    }
}

/// Killed by this test, in some way.
fn killed(signal: i32) -> Value {
    json!({"code": null, "signal": signal, "raised_by": "process", "sender": {"pid": std::process::id(), "comm": comm()},
           "oom": false})
}

fn comm() -> String {
    fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned()
}

fn pid(locker: &Locker) -> i32 {
    locker.pid().cast_signed()
}

#[test]
fn an_exit_has_a_code() {
    let end = |_: &Scene, locker: Locker| {
        locker.exit(3);
    };
    check("an_exit_has_a_code", end, json!({"code": 3, "signal": null, "raised_by": null}));
}

#[test]
fn a_signal_has_a_sender() {
    let pidfd = |_: &Scene, locker: Locker| {
        locker.kill();
    };
    check("a pidfd's signal", pidfd, killed(9));
    let kill = |_: &Scene, mut locker: Locker| {
        sys::kill(pid(&locker), libc::SIGTERM).unwrap();
        locker.process().wait();
    };
    check("kill", kill, killed(15));
    let thread = |_: &Scene, mut locker: Locker| {
        sys::kill_thread_of(pid(&locker), pid(&locker), libc::SIGUSR2).unwrap();
        locker.process().wait();
    };
    check("tgkill", thread, killed(12));
    let group = |_: &Scene, mut locker: Locker| {
        locker.tell("setsid");
        sys::kill(-pid(&locker), libc::SIGTERM).unwrap();
        locker.process().wait();
    };
    check("kill of a group", group, killed(15));
    // A signal that was sent before and did not kill must not be taken for the one that did.
    let two = |_: &Scene, mut locker: Locker| {
        sys::kill(pid(&locker), libc::SIGUSR1).unwrap();
        locker.tell("raise 15");
        locker.process().wait();
    };
    let own = json!({"signal": 15, "sender": null, "raised_by": "itself", "core_dumped": false});
    check("raise after a harmless signal", two, own);
}

#[test]
fn a_process_may_end_itself() {
    let timer = |_: &Scene, mut locker: Locker| {
        locker.tell("alarm 20 die");
        locker.process().wait();
    };
    check("its own timer", timer, json!({"signal": 14, "sender": null, "raised_by": "timer"}));
    let crash = |scene: &Scene, mut locker: Locker| {
        locker.tell(&format!("crash {}", encode(scene.dir().as_os_str().as_encoded_bytes())));
        locker.process().wait();
    };
    let dumps = fs::read_to_string("/proc/sys/kernel/core_pattern").is_ok_and(|pattern| pattern.trim() == "core");
    let mut fault = json!({"signal": 11, "sender": null, "raised_by": "fault"});
    if dumps {
        fault["core_dumped"] = json!(true);
    }
    check("a fault", crash, fault);
}

#[test]
fn a_terminal_is_no_innocent_process() {
    let terminal = |_: &Scene, mut locker: Locker| {
        let (master, slave) = sys::open_terminal().unwrap();
        locker.tell("setsid");
        // Who leads a session and has no terminal gets the one that it opens.
        locker.tell(&format!("open {slave}"));
        sys::write(master, &[3]).unwrap();
        locker.process().wait();
        sys::close(master).unwrap();
    };
    check("Ctrl-C", terminal, json!({"signal": 2, "sender": null, "raised_by": "terminal"}));
}

/// A group of processes with little memory, gone when this value is.
struct Narrow(PathBuf);

impl Narrow {
    /// In the version of cgroups that has the memory controller here; `None` if none does.
    fn new() -> Option<Self> {
        let name = format!("lockwatch-test-{}", std::process::id());
        let places = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        // Below version 1's mounts lies a tmpfs, which takes any file.
        let controls = |(root, limit): &(&str, &str)| {
            *limit != "memory.max" || fs::read_to_string(format!("{root}/cgroup.controllers")).is_ok()
        };
        places.into_iter().filter(controls).find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), "16M").ok()?;
            // Without swap there is nothing to wait for.
            let _ = fs::write(group.0.join("memory.swap.max"), "0");
            let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), "16M");
            Some(group)
        })
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn the_oom_killer_is_named() {
    let name = "the_oom_killer_is_named";
    if !needs_bpf(name) {
        return;
    }
    let Some(narrow) = Narrow::new() else {
        return left_out(name, "needs a memory controller of cgroups that it may use");
    };
    let eat = |_: &Scene, mut locker: Locker| {
        fs::write(narrow.0.join("cgroup.procs"), locker.pid().to_string()).unwrap();
        locker.tell("eat");
        locker.process().wait();
    };
    check(name, eat, json!({"signal": 9, "sender": null, "oom": true, "raised_by": "kernel"}));
}

#[test]
fn the_story_says_how_it_died() {
    let name = "the_story_says_how_it_died";
    if !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let watcher = Watcher::orphans(&[&path]);
    let (pid, _heir) = ghost(&scene, &path);
    let orphaned = watcher.wait_about("orphaned", &path);
    let evidence = orphaned.json["lock"]["evidence"].to_string();
    let expect = format!("pid {pid} (locker) was killed by SIGKILL from pid {} ({})", std::process::id(), comm());
    assert!(evidence.contains(&expect), "no {expect:?} in {evidence}");
    let id = orphaned.json["lock"]["id"].as_str().unwrap();
    assert!(lockwatch(["explain", id]).text().contains("orphaned"));
}
