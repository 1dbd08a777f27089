//! A hundred thousand locks of a thousand processes: all of them found, and without `/proc/locks` where BPF works.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    collections::HashSet,
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use lockwatch_tests::{
    Lines, Process, Scene, document_of, items, lockwatch_path, needs_bpf, needs_program, needs_root, program, sources,
};
use serde_json::Value;

const PROCESSES: u32 = 1000;
const LOCKS: u32 = 100;

/// Takes them all; they are gone when both values are.
fn many(scene: &Scene) -> Process {
    let mut many = Command::new(program("many"));
    many.args([PROCESSES.to_string(), LOCKS.to_string()]).arg(scene.dir());
    let mut many = many.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let output = Lines::from(many.stdout.take().unwrap());
    // Its standard input stays open inside the child's handle until the process is dropped.
    let process = Process::of_child(many);
    let ready = format!("ready {}", PROCESSES * LOCKS);
    assert!(output.take(|line| line == ready).is_some(), "no {ready:?}, but {:?}", output.heard());
    process
}

/// How many locks of this scene a document has; their ids must be distinct.
fn ours(document: &Value, scene: &Scene) -> usize {
    let dir = format!("{}/", scene.dir().display());
    let ours = items(&document["locks"])
        .iter()
        .filter(|lock| lock["file"]["path"].as_str().is_some_and(|path| path.starts_with(&dir)));
    ours.map(|lock| lock["id"].as_str().unwrap()).collect::<HashSet<_>>().len()
}

/// One test, because the locks of two would be counted together.
#[test]
fn a_hundred_thousand_locks_are_found() {
    if !needs_root("a_hundred_thousand_locks_are_found") {
        return;
    }
    let scene = Scene::new();
    let _many = many(&scene);
    for source in sources("a_hundred_thousand_locks_are_found") {
        let start = Instant::now();
        let document = document_of(["list", "--json", "--source", source]);
        let took = start.elapsed();
        assert_eq!(ours(&document, &scene), (PROCESSES * LOCKS) as usize, "{source}");
        if source == "bpf" {
            assert_eq!(document["exact"], true, "{:#}", document["warnings"]);
        }
        // Of a debug build on whatever else this machine does: a number to look at, not one to fail by.
        println!("{} locks by {source} in {took:.2?}, parsing included", PROCESSES * LOCKS);
    }
    let name = "a_hundred_thousand_locks_are_found without opening /proc/locks";
    if !needs_bpf(name) || !needs_program(name, "strace") {
        return;
    }
    let log = scene.path("strace.log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=open,openat,openat2", "-o"]).arg(&log).arg(lockwatch_path());
    let status = strace.args(["list", "--json", "--source", "bpf"]).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("openat("), "strace has seen nothing");
    let opened: Vec<_> = log.lines().filter(|line| line.contains("/locks\"") || line.contains("\"locks\"")).collect();
    assert!(opened.is_empty(), "{opened:#?}");
}
