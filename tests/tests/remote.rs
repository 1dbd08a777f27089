//! Locks that a file system keeps to itself: FUSE, with a server that takes them over.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lockwatch_tests::{Process, Scene, Watcher, document, items, needs_bpf, needs_program, needs_root, sources, until};
use serde_json::json;

/// A directory shown at another place by bindfs(1), gone when this value is.
struct Mirror {
    place: PathBuf,
    _server: Process,
}

impl Mirror {
    fn new(scene: &Scene, source: &str, place: &str, more: &[&str]) -> Self {
        let (source, place) = (scene.path(source), scene.path(place));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&place).unwrap();
        let outside = fs::metadata(&place).unwrap().dev();
        let mut server = Command::new("bindfs");
        server.args(["-f", "--multithreaded"]).args(more).args([&source, &place]).stdin(Stdio::null());
        let mirror = Self { place, _server: Process::of_child(server.spawn().unwrap()) };
        until("bindfs serves", || fs::metadata(&mirror.place).is_ok_and(|m| m.dev() != outside).then_some(()));
        mirror
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // Even with somebody in it, and whether or not its server lives.
        let _ = rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH);
    }
}

fn ready(name: &str) -> bool {
    if !Path::new("/dev/fuse").exists() {
        lockwatch_tests::left_out(name, "needs /dev/fuse");
        return false;
    }
    needs_root(name) && needs_program(name, "bindfs")
}

#[test]
fn trace_marks_what_a_file_system_keeps_to_itself() {
    let name = "trace_marks_what_a_file_system_keeps_to_itself";
    if !ready(name) || !needs_bpf(name) {
        return;
    }
    for (more, remote) in [(&["--enable-lock-forwarding"][..], true), (&[], false)] {
        let scene = Scene::new();
        let mirror = Mirror::new(&scene, "source", "mirror", more);
        let path = mirror.place.join("lock");
        fs::write(&path, "").unwrap();
        let trace = Watcher::trace(&path);
        let (mut one, mut two) = (scene.locker(), scene.locker());
        one.open(&path, "rw as 9");
        two.open(&path, "rw as 9");
        one.tell("ofd 9 w 5 10");
        if !remote {
            // The server of a forwarded lock is one process for all, to whom POSIX locks never conflict.
            assert_eq!(two.ask("ofd 9 w 5 10"), Err("EAGAIN".into()));
        }
        one.tell("ofdun 9 5 10");
        let events = trace.wait_for_each(&[("acquired", one.pid()), ("released", one.pid())]);
        for event in &events {
            assert_eq!(event.json["lock"]["remote"], json!(remote), "{:#}", event.json);
        }
        let told = trace.events().into_iter().filter(|event| event.is("acquired") && event.by(one.pid())).count();
        assert_eq!(told, 1, "{more:?}");
    }
}

#[test]
fn lists_warn_of_what_they_cannot_show() {
    let name = "lists_warn_of_what_they_cannot_show";
    if !ready(name) {
        return;
    }
    let scene = Scene::new();
    let mirror = Mirror::new(&scene, "source", "mirror", &[]);
    for source in sources(name) {
        let report = document(source, &[scene.dir()]);
        let place = mirror.place.to_str().unwrap();
        let warned = items(&report["warnings"]).iter().any(|warning| warning.as_str().unwrap().contains(place));
        assert!(warned, "{source}: {}", report["warnings"]);
    }
}
