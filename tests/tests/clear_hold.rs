//! `lockwatch clear --hold`: who is held still goes on in the end, whatever becomes of lockwatch.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use lockwatch_tests::{
    ControlGroup, Echo, Hierarchy, Lines, Locker, Process, Run, Scene, lockwatch_command, lockwatch_path, needs_bpf,
    needs_program, needs_root, only, opened, run, taken, until, verdict,
};
use serde_json::Value;

/// An orphaned lock, and somebody to hold still while it is cleared.
struct Stage {
    scene: Scene,
    path: PathBuf,
    id: String,
    heir: Locker,
    echo: Echo,
}

impl Stage {
    fn set(name: &str) -> Option<Self> {
        if !needs_root(name) || !needs_bpf(name) {
            return None;
        }
        let scene = Scene::new();
        let path = scene.file("lock");
        // Mapped only: orphaned by all means, also where nobody can say who is older.
        let mut parent = taken(&scene, &path, "flock 9 ex");
        let mut heir = parent.fork(&scene);
        heir.tell("mmap 9");
        heir.tell("close 9");
        parent.kill();
        let id = only("auto", &path)["id"].as_str().unwrap().to_owned();
        Some(Self { scene, path, id, heir, echo: Echo::start() })
    }

    fn clear(&self, command: &mut Command, hold: &str, more: &[&str]) -> Run {
        command.args(["clear", &self.id, "--json", "--settle", "0s", "--hold", hold, "--audit-log"]);
        run(command.arg(self.scene.path("audit.jsonl")).args(more))
    }

    fn plan(&self, hold: &str, more: &[&str]) -> Value {
        self.clear(&mut lockwatch_command(), hold, more).json_of(4)["plan"].clone()
    }

    fn is_orphaned(&self) -> bool {
        verdict(&only("auto", &self.path)).starts_with("orphaned")
    }

    fn goes_on(&mut self) {
        until("it goes on", || (self.echo.state() != 'T').then_some(()));
        self.echo.runs();
    }
}

trait Json {
    fn json_of(&self, code: i32) -> Value;
}

impl Json for Run {
    fn json_of(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{} {}", String::from_utf8_lossy(&self.stdout), self.stderr);
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

#[test]
fn who_was_held_still_goes_on_when_it_is_done() {
    let Some(mut stage) = Stage::set("who_was_held_still_goes_on_when_it_is_done") else { return };
    let hold = stage.echo.pid().to_string();
    let plan = stage.plan(&hold, &[]);
    let expect = format!("pid {hold}: stopped meanwhile, which its parent can see, for 90 s at most");
    assert!(plan["effects"].as_array().unwrap().contains(&expect.as_str().into()), "{plan:#}");
    // Nobody was there to confirm it, so nobody was held.
    stage.goes_on();
    let done = stage.clear(&mut lockwatch_command(), &hold, &["--confirm", plan["code"].as_str().unwrap()]).json_of(0);
    assert_eq!((&done["outcome"], &done["verified"]), (&"cleared".into(), &true.into()), "{done:#}");
    stage.goes_on();
}

/// Where the first in line is held still, the second gets the lock.
#[test]
fn who_is_held_still_does_not_get_the_lock() {
    let Some(stage) = Stage::set("who_is_held_still_does_not_get_the_lock") else { return };
    let (mut first, mut second) = (opened(&stage.scene, &stage.path), opened(&stage.scene, &stage.path));
    first.wait_for(&stage.path, "flock 9 ex");
    let its = second.wait_for(&stage.path, "flock 9 ex");
    let group = ControlGroup::new(Hierarchy::Unified);
    if let Some(group) = &group {
        group.add(first.pid());
    }
    let hold = group.as_ref().map_or(first.pid().to_string(), |group| group.path().to_owned());
    let plan = stage.plan(&hold, &[]);
    let done = stage.clear(&mut lockwatch_command(), &hold, &["--confirm", plan["code"].as_str().unwrap()]).json_of(0);
    assert_eq!(done["next_owner"]["pid"], second.pid(), "{done:#}");
    second.granted(its);
    second.tell("unflock 9");
    until("the other has it", || {
        let lock = only("auto", &stage.path);
        (lock["acquirer"]["pid"] == first.pid()).then_some(())
    });
}

#[test]
fn whoever_must_go_on_is_no_reason_to_clear_without_it() {
    let Some(stage) = Stage::set("whoever_must_go_on_is_no_reason_to_clear_without_it") else { return };
    // One of our ancestors is refused in the plan, and one in a group when it is to be frozen.
    let refused = stage.clear(&mut lockwatch_command(), &std::process::id().to_string(), &[]).json_of(3);
    assert_eq!(refused["outcome"], "refused");
    let Some(group) = ControlGroup::new(Hierarchy::Unified) else { return };
    group.add(stage.heir.pid());
    group.add(stage.echo.pid());
    let kill = &["--method", "kill"];
    let plan = stage.plan(group.path(), kill);
    let confirm = ["--confirm", plan["code"].as_str().unwrap()];
    let refused = stage.clear(&mut lockwatch_command(), group.path(), &[&kill[..], &confirm].concat()).json_of(3);
    let why = format!("pid {} (locker) is in it: it is to be signalled", stage.heir.pid());
    assert!(refused["notes"].to_string().contains(&why), "{refused:#}");
    assert!(stage.is_orphaned() && !group.is_frozen());
}

/// lockwatch is killed right before somebody is held still, and right before it acts.
#[test]
fn nobody_stays_frozen_when_lockwatch_is_killed() {
    let Some(mut stage) = Stage::set("nobody_stays_frozen_when_lockwatch_is_killed") else { return };
    let hold = stage.echo.pid().to_string();
    let plan = stage.plan(&hold, &[]);
    let confirm = ["--confirm", plan["code"].as_str().unwrap()];
    for point in [11, 6] {
        let mut command = lockwatch_command();
        let died = stage.clear(command.env("LOCKWATCH_FAULT", point.to_string()), &hold, &confirm);
        assert!(!matches!(died.code, Some(0 | 3 | 4)), "{point}: {died:?}");
        stage.goes_on();
    }
    let done = stage.clear(&mut lockwatch_command(), &hold, &confirm).json_of(0);
    assert_eq!(done["outcome"], "cleared");
    stage.goes_on();
}

/// At a terminal that asks for the code.
#[test]
fn ctrl_c_lets_everybody_go_on() {
    let name = "ctrl_c_lets_everybody_go_on";
    if !needs_program(name, "script") {
        return;
    }
    let Some(mut stage) = Stage::set(name) else { return };
    let log = stage.scene.path("audit.jsonl");
    // Whoever started these tests in the background may have them ignore it.
    let typed = format!(
        "env --default-signal=INT {} clear {} --settle 0s --hold {} --audit-log {}",
        lockwatch_path().display(),
        stage.id,
        stage.echo.pid(),
        log.display()
    );
    let mut script = Command::new("script");
    script.args(["-qec", &typed, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let (mut keys, lines) = (child.stdin.take().unwrap(), Lines::from(child.stdout.take().unwrap()));
    let mut script = Process::of_child(child);
    until("it is held still", || {
        assert!(script.lives(), "{:?}", lines.heard());
        (stage.echo.state() == 'T').then_some(())
    });
    keys.write_all(b"\x03").unwrap();
    script.wait();
    stage.goes_on();
    assert!(stage.is_orphaned());
}
