//! lockwatch is killed at every point of a clear that `lockwatch_control::fault` numbers: nobody stays frozen, no duplicate
//! lives on, what was begun is on record, and a repeat works.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{fs, os::unix::ffi::OsStrExt, path::Path};

use lockwatch_tests::{
    Echo, Run, Scene, holders, locker::words::encode, lockwatch_command, needs_bpf, needs_root, only, proc_locks_of,
    run, taken, until,
};
use serde_json::Value;

/// The last of them, and those before which nothing is unlocked, and before which no intent is on record.
const LAST: u32 = 12;
const UNLOCKED: [u32; 3] = [8, 9, 10];
const INTENT: [u32; 5] = [6, 7, 8, 9, 10];

#[test]
fn a_repeat_works_wherever_lockwatch_was_killed() {
    let name = "a_repeat_works_wherever_lockwatch_was_killed";
    if !needs_root(name) || !needs_bpf(name) {
        return;
    }
    let mut echo = Echo::start();
    for point in 1..=LAST {
        let scene = Scene::new();
        let path = scene.file("lock");
        let log = scene.path("audit.jsonl");
        // In flight: orphaned by all means, also where nobody can say who is older.
        let mut heir = scene.locker();
        let socket = encode(scene.path("socket").as_os_str().as_bytes());
        let inbox = heir.tell(&format!("bind {socket}"));
        let mut sender = taken(&scene, &path, "flock 9 ex");
        sender.tell(&format!("sendfd 9 {socket}"));
        sender.kill();

        let id = only("auto", &path)["id"].as_str().unwrap().to_owned();
        let hold = echo.pid().to_string();
        let clear = |fault: Option<u32>, more: &[&str]| -> Run {
            let mut command = lockwatch_command();
            command.args(["clear", &id, "--json", "--settle", "0s", "--hold", &hold, "--audit-log"]).arg(&log);
            run(command.args(more).envs(fault.map(|point| ("LOCKWATCH_FAULT", point.to_string()))))
        };
        let code = code(&clear(None, &[]));
        let died = clear(Some(point), &["--confirm", &code]);
        assert_eq!(died.code, Some(1), "{point}: {} {}", died.text(), died.stderr);

        until("it goes on", || (echo.state() != 'T').then_some(()));
        echo.runs();
        until("nobody has a duplicate", || holders(&path).is_empty().then_some(()));
        let begun = phases(&log).iter().any(|phase| phase == "intent");
        assert_eq!(begun, INTENT.contains(&point), "{point}: {:?}", phases(&log));

        let again = clear(None, &["--confirm", &code]);
        let said: Value = serde_json::from_slice(&again.stdout).unwrap();
        if UNLOCKED.contains(&point) {
            assert_eq!((again.code, &said["outcome"]), (Some(6), &"changed".into()), "{point}: {said:#}");
        } else {
            assert_eq!((again.code, &said["outcome"]), (Some(0), &"cleared".into()), "{point}: {said:#}");
        }
        assert!(proc_locks_of(&path).is_empty(), "{point}");
        // The message is still there for whoever is to have it.
        heir.tell(&format!("recvfd {inbox}"));
    }
}

fn code(planned: &Run) -> String {
    assert_eq!(planned.code, Some(4), "{} {}", planned.text(), planned.stderr);
    let said: Value = serde_json::from_slice(&planned.stdout).unwrap();
    said["plan"]["code"].as_str().unwrap().to_owned()
}

/// The phases on record, in order. A line that was not finished is none.
fn phases(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["phase"].as_str().map(str::to_owned)).collect()
}
