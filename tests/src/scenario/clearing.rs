//! Clears what a scene leaves behind, as a human would, and says what went wrong with that.
//!
//! What is orphaned is cleared with the least force: where a descriptor leads to the lock, nobody is ended. Everything
//! else is refused, and stays as it was.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Cast, Part, Scenario, judge::is};
use crate::{
    Locker, Run, Scene, Wait, document, items, left_out, lockwatch_command, numbers_have_wrapped, opened, run, verdict,
};

/// How a lock is to be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Without a kill.
    Release,
    /// By asking the holders to end.
    Terminate,
    /// The same, but that turns out only when a release is tried: no descriptor leads to a connection that nobody has
    /// accepted.
    OnlyTerminate,
    /// Not at all.
    Refused,
}

/// Stages a scene with somebody in line for its lock, clears it, and tells what is not as it should be.
///
/// # Panics
///
/// When it cannot be staged.
pub fn clear(scenario: &Scenario) -> Vec<String> {
    let scene = Scene::new();
    let path = scene.file("lock");
    let cast = (scenario.stage)(&scene, &path);
    let Some(part) = cast.parts.first().cloned() else { return vec!["nothing is staged".into()] };
    let clearing = Clearing { scene: &scene, part: &part, faults: Vec::new() };
    clearing.run(scenario, &cast)
}

struct Clearing<'a> {
    scene: &'a Scene,
    part: &'a Part,
    faults: Vec<String>,
}

impl Clearing<'_> {
    fn run(mut self, scenario: &Scenario, cast: &Cast) -> Vec<String> {
        let Some(before) = self.seen() else { return vec!["the lock is not seen".into()] };
        let way = way(scenario, &before, self.part.verdicts.map_or(scenario.cold, |[cold, _]| cold));
        // Where others hold the file too, nobody gets it when one of them goes.
        let alone = cast.parts.len() == 1;
        let waiter = if way == Way::Refused || !alone { None } else { self.queue_up(&before) };
        let id = before["id"].as_str().unwrap_or_default().to_owned();
        let planned = self.ask(&id, &[]);
        if way == Way::Refused {
            self.check("exit code", planned.code, Some(3));
            let said: Value = serde_json::from_slice(&planned.stdout).unwrap_or_default();
            self.check("outcome", said["outcome"].as_str(), Some("refused"));
            let refusals = items(&said["plan"]["refusals"]).len();
            self.check("gives a reason", refusals > 0, true);
            let after = self.seen();
            let holders = |lock: &Value| {
                items(&lock["holders"]).iter().map(|h| (h["pid"].clone(), h["fd"].clone())).collect::<Vec<_>>()
            };
            let facts = |lock: &Value| (lock["id"].clone(), holders(lock), lock["verdict"].clone());
            self.check("the lock", after.as_ref().map(facts), Some(facts(&before)));
            return self.faults;
        }
        let said: Value = serde_json::from_slice(&planned.stdout).unwrap_or_default();
        if said["plan"]["refusals"].to_string().contains("cannot be said") && numbers_have_wrapped() {
            left_out(scenario.name, "process numbers have wrapped since boot: ages cannot be told");
            return Vec::new();
        }
        self.check("exit code of the plan", planned.code, Some(4));
        let method = if way == Way::Terminate { "terminate" } else { "release" };
        self.check("method", said["plan"]["method"].as_str(), Some(method));
        let Some(code) = said["plan"]["code"].as_str() else {
            self.faults.push(format!("no code: {said:#} {}", planned.stderr));
            return self.faults;
        };
        let mut cleared = self.ask(&id, &["--confirm", code]);
        if way == Way::OnlyTerminate {
            // What cannot be reached is said when it is tried, and nothing is done; then the next way is asked for.
            self.check("exit code of what cannot be released", cleared.code, Some(6));
            let said: Value = serde_json::from_slice(&cleared.stdout).unwrap_or_default();
            self.check("names the way that is left", said["notes"].to_string().contains("--method terminate"), true);
            let planned = self.ask(&id, &["--method", "terminate", "--dry-run"]);
            let said: Value = serde_json::from_slice(&planned.stdout).unwrap_or_default();
            let code = said["plan"]["code"].as_str().unwrap_or_default();
            cleared = self.ask(&id, &["--method", "terminate", "--confirm", code]);
        }
        let said: Value = serde_json::from_slice(&cleared.stdout).unwrap_or_default();
        self.check("exit code", cleared.code, Some(0));
        self.check("verified", said["verified"].as_bool(), Some(true));
        self.check("outcome", said["outcome"].as_str(), Some("cleared"));
        self.check("gone", self.seen().is_none_or(|lock| lock["acquirer"]["pid"] != before["acquirer"]["pid"]), true);
        if let Some((waiter, wait)) = &waiter {
            self.check("the next owner", said["next_owner"]["pid"].as_u64(), Some(waiter.pid().into()));
            if said["verified"] == true {
                waiter.granted(*wait);
            }
        }
        self.look_after_holders(way, &before);
        if !self.faults.is_empty() {
            self.faults.push(format!("{said:#} {}", cleared.stderr));
        }
        self.faults
    }

    fn seen(&self) -> Option<Value> {
        let document = document("auto", &[]);
        items(&document["locks"]).iter().find(|lock| is(self.part, lock)).cloned()
    }

    /// Somebody who wants it, where there is a way to want it.
    fn queue_up(&self, lock: &Value) -> Option<(Locker, Wait)> {
        let ask = match lock["kind"].as_str()? {
            "flock" => "flock 9 ex",
            "ofd" => "ofd 9 w 0 0",
            "posix" => "posix 9 w 0 0",
            _ => return None,
        };
        let path: &Path = &self.part.path;
        path.exists().then(|| {
            let mut waiter = opened(self.scene, path);
            let wait = waiter.wait_for(path, ask);
            (waiter, wait)
        })
    }

    fn ask(&self, id: &str, more: &[&str]) -> Run {
        let mut command = lockwatch_command();
        command.args(["clear", id, "--json", "--settle", "0s", "--grace", "5s", "--audit-log"]);
        run(command.arg(self.scene.path("audit.jsonl")).args(more))
    }

    /// Who was not to be ended lives, and has every descriptor that it had; what was on its way to it still is.
    fn look_after_holders(&mut self, way: Way, before: &Value) {
        for holder in items(&before["holders"]) {
            let Some(pid) = holder["pid"].as_u64() else { continue };
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let lives = status.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']));
            let lives = lives && !status.is_empty();
            self.check(&format!("pid {pid} lives"), lives, way == Way::Release);
            if let Some(fd) = holder["fd"].as_u64().filter(|_| way == Way::Release) {
                let link = fs::metadata(format!("/proc/{pid}/fd/{fd}"));
                let inode = link.map(|file| std::os::unix::fs::MetadataExt::ino(&file)).ok();
                self.check(&format!("fd {fd} of pid {pid}"), inode, before["file"]["inode"].as_u64());
            }
            if holder["via"] == "message" && way == Way::Release {
                self.check("the message waits", self.queued(pid), true);
            }
        }
    }

    fn queued(&self, pid: u64) -> bool {
        let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
        let waits = |text: String| {
            let count = text.lines().find_map(|line| line.strip_prefix("scm_fds:"))?;
            count.trim().parse::<u32>().ok().filter(|count| *count > 0)
        };
        texts.filter_map(waits).next().is_some()
    }

    fn check<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, seen: T, expect: T) {
        if seen != expect {
            self.faults.push(format!("{what}: {expect:?} expected, got {seen:?}"));
        }
    }
}

fn way(scenario: &Scenario, lock: &Value, cold: &str) -> Way {
    let via = |means: &str| items(&lock["holders"]).iter().any(|holder| holder["via"] == means);
    match () {
        // What was staged decides; what is said of it is judged elsewhere.
        () if !cold.starts_with("orphaned") || !verdict(lock).starts_with("orphaned") => Way::Refused,
        () if via("kernel") => Way::Refused,
        () if lock["kind"] == "posix" => Way::Terminate,
        () if scenario.name.contains("nobody has accepted") => Way::OnlyTerminate,
        () if via("fd") || via("message") => Way::Release,
        () => Way::Terminate,
    }
}
