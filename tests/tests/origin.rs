//! Where processes come from: unit, slice, container and pod, in every role, by groups that the tests make.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use lockwatch_tests::{
    Scene, Watcher, document_of, items, left_out, lockwatch, needs_bpf, needs_root, only, sources, until,
};
use serde_json::Value;

const ID: &str = "4f1b0c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9";
const UID: &str = "3b9e2f8c-1d2e-4f50-8a9b-0c1d2e3f4a5b";

/// A tree of control groups, gone at the end.
struct Group {
    dir: PathBuf,
    /// Every directory that was made, outermost first.
    made: Vec<PathBuf>,
}

impl Group {
    /// `path` below the mount of a hierarchy; `None`, said loudly, where there is none that may be written.
    fn new(name: &str, hierarchy: &str, path: &str) -> Option<Self> {
        if !needs_root(name) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let found = mounts.lines().find_map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let wanted = match hierarchy {
                "cgroup2" => words[2] == "cgroup2",
                controller => words[2] == "cgroup" && words[3].split(',').any(|option| option == controller),
            };
            wanted.then(|| PathBuf::from(words[1]))
        });
        let Some(mount) = found else {
            left_out(name, &format!("needs a control group hierarchy {hierarchy}"));
            return None;
        };
        let mut group = Self { dir: mount, made: Vec::new() };
        for part in path.split('/') {
            group.dir.push(part);
            if let Err(error) = fs::create_dir(&group.dir) {
                left_out(name, &format!("needs {}: {error}", group.dir.display()));
                return None;
            }
            group.made.push(group.dir.clone());
        }
        Some(group)
    }

    fn enter(&self, pid: u32) {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            // Whoever was killed a moment ago may not have left it yet.
            if dir.exists() {
                until("the group is empty", || fs::remove_dir(dir).is_ok().then_some(()));
            }
        }
    }
}

fn unique(name: &str) -> String {
    format!("lockwatch{}{name}", std::process::id())
}

fn who(lock: &Value, role: &str) -> Value {
    if role == "acquirer" { lock["acquirer"].clone() } else { items(&lock[role])[0].clone() }
}

#[test]
fn every_role_has_its_unit() {
    let (slice, service) = (unique("a.slice"), unique("a.service"));
    let Some(group) = Group::new("every_role_has_its_unit", "cgroup2", &format!("{slice}/{service}")) else { return };
    let scene = Scene::new();
    let path = scene.file("lock");
    let (mut taker, mut waiter) = (scene.locker(), scene.locker());
    group.enter(taker.pid());
    group.enter(waiter.pid());
    taker.open(&path, "rw");
    taker.tell("flock 3 ex");
    waiter.open(&path, "rw");
    waiter.wait_for(&path, "flock 3 ex");
    for source in sources("every_role_has_its_unit") {
        let lock = only(source, &path);
        for role in ["acquirer", "holders", "waiters"] {
            let person = who(&lock, role);
            assert_eq!(
                (&person["unit"], &person["slice"]),
                (&service.as_str().into(), &slice.as_str().into()),
                "{lock:#}"
            );
            assert!(
                person["container"].is_null() && person["runtime"].is_null() && person["pod"].is_null(),
                "{lock:#}"
            );
        }
        for (unit, expect) in [(&*service, 1), ("other.service", 0), (&service[1..], 0)] {
            let document = document_of(["list", "--json", "--source", source, "--unit", unit]);
            let found = items(&document["locks"]).iter().filter(|other| other["id"] == lock["id"]).count();
            assert_eq!(found, expect, "--unit {unit}");
        }
        let told = lockwatch(["explain", "--source", source, lock["id"].as_str().unwrap()]);
        assert!(told.text().contains(&service), "{}", told.text());
    }
}

#[test]
fn a_container_is_named_whole_or_not_at_all() {
    let pod = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let name = "a_container_is_named_whole_or_not_at_all";
    let check = |hierarchy: &str, path: &str, expect: (Option<&str>, Option<&str>, Option<&str>)| {
        let Some(group) = Group::new(&format!("{name} in {hierarchy}"), hierarchy, path) else { return };
        let scene = Scene::new();
        let file = scene.file("lock");
        let mut taker = scene.locker();
        group.enter(taker.pid());
        taker.open(&file, "rw");
        taker.tell("flock 3 ex");
        for source in sources(name) {
            let lock = only(source, &file);
            let person = &lock["acquirer"];
            let found = (person["container"].as_str(), person["runtime"].as_str(), person["pod"].as_str());
            assert_eq!(found, expect, "{source}: {lock:#}");
            if expect.0.is_some() {
                let document = document_of(["list", "--json", "--source", source, "--unit", &ID[..12]]);
                assert!(items(&document["locks"]).iter().any(|other| other["id"] == lock["id"]), "{document:#}");
            }
        }
    };
    let top = unique("b.slice");
    check("cgroup2", &format!("{top}/docker-{ID}.scope"), (Some(ID), Some("docker"), None));
    check("cgroup2", &format!("{top}/{pod}/cri-containerd-{ID}.scope"), (Some(ID), Some("containerd"), Some(UID)));
    check("cgroup2", &format!("{top}/docker-{}.scope", &ID[..63]), (None, None, None));
    // Version 1, with the cgroupfs driver's names.
    let top = unique("c");
    check("pids", &format!("{top}/kubepods/burstable/pod{UID}/{ID}"), (Some(ID), None, Some(UID)));
    check("pids", &format!("{top}/{ID}"), (None, None, None));
}

#[test]
fn a_dead_acquirer_has_its_unit_too() {
    let name = "a_dead_acquirer_has_its_unit_too";
    let service = unique("d.service");
    if !needs_bpf(name) {
        return;
    }
    let Some(group) = Group::new(name, "cgroup2", &service) else { return };
    let scene = Scene::new();
    let path: &Path = &scene.file("lock");
    let watcher = Watcher::orphans(&[path]);
    let mut taker = scene.locker();
    group.enter(taker.pid());
    taker.open(path, "rw");
    taker.tell("flock 3 ex");
    let _heir = taker.spawn("sleep 60");
    taker.kill();
    let orphaned = watcher.wait_about("orphaned", path);
    assert_eq!(orphaned.json["lock"]["acquirer"]["unit"], service, "{:#}", orphaned.json);
}
