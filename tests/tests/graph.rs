//! The wait-for graph: deadlocks over all kinds, what is none, and every form of it.

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lockwatch_tests::{
    Locker, Run, Scene, Watcher, items, list, lockwatch, needs_bpf, needs_program, only, sources, taken,
};
use roxmltree::Document;
use serde_json::Value;

/// `lockwatch graph --source SOURCE --format FORM PATH`.
fn graph(source: &str, form: &str, path: &Path) -> Run {
    let args = ["graph", "--source", source, "--format", form].map(OsStr::new);
    let run = lockwatch(args.into_iter().chain([path.as_os_str()]));
    assert_eq!(run.code, Some(0), "{form}: {}", run.stderr);
    run
}

fn json(source: &str, path: &Path) -> Value {
    graph(source, "json", path).json()
}

/// The numbers of the processes in each cycle.
fn cycles(graph: &Value) -> Vec<Vec<u64>> {
    let pid = |id: &Value| id.as_str().and_then(|id| id.strip_prefix("pid:")?.parse().ok()).unwrap_or(0);
    let sorted = |cycle: &Value| {
        let mut pids: Vec<u64> = items(&cycle["processes"]).iter().map(pid).collect();
        pids.sort_unstable();
        pids
    };
    items(&graph["cycles"]).iter().map(sorted).collect()
}

fn sorted<const N: usize>(lockers: [&Locker; N]) -> Vec<u64> {
    let mut pids: Vec<u64> = lockers.iter().map(|locker| locker.pid().into()).collect();
    pids.sort_unstable();
    pids
}

/// `waits_for 11 -> /a`: the edges of one type between processes and files.
fn edges(graph: &Value, kind: &str) -> Vec<(String, String, bool)> {
    let name = |id: &Value| {
        let node = items(&graph["nodes"]).iter().find(|node| node["id"] == *id);
        let node = node.unwrap_or_else(|| panic!("{id} is no node of {graph:#}"));
        match node["process"]["pid"].as_u64() {
            Some(pid) => pid.to_string(),
            None => node["lock"]["file"]["path"].as_str().unwrap_or("unseen").rsplit('/').next().unwrap_or("").into(),
        }
    };
    let of_kind = items(&graph["edges"]).iter().filter(|edge| edge["type"] == kind);
    let edge = |edge: &Value| (name(&edge["from"]), name(&edge["to"]), edge["deadlock"] == true);
    let mut found: Vec<_> = of_kind.map(edge).collect();
    found.sort();
    found
}

/// Processes that hold one file each and wait for the next one's, the last for the first one's.
struct Ring {
    lockers: Vec<Locker>,
    files: Vec<PathBuf>,
}

impl Ring {
    /// For each process how it takes its own file, and how somebody else asks for that.
    fn new(scene: &Scene, steps: &[(&str, &str)]) -> Self {
        let files: Vec<PathBuf> = (0..steps.len()).map(|i| scene.file(format!("file{i}"))).collect();
        let mut lockers: Vec<Locker> = files.iter().map(|_| scene.locker()).collect();
        for ((locker, file), (take, _)) in lockers.iter_mut().zip(&files).zip(steps) {
            locker.open(file, "rw as 9");
            locker.tell(take);
        }
        for (i, locker) in lockers.iter_mut().enumerate() {
            let next = (i + 1) % steps.len();
            locker.open(&files[next], "rw as 8");
            locker.block_on(&files[next], steps[next].1);
        }
        Self { lockers, files }
    }

    fn pids(&self) -> Vec<u64> {
        let mut pids: Vec<u64> = self.lockers.iter().map(|locker| locker.pid().into()).collect();
        pids.sort_unstable();
        pids
    }
}

const FLOCK: (&str, &str) = ("flock 9 ex", "flock 8 ex");
const POSIX: (&str, &str) = ("posix 9 w 0 100", "posix 8 w 50 100");
const OFD: (&str, &str) = ("ofd 9 w 0 0", "ofd 8 r 7 1");
/// An OFD lock, and a POSIX request for it: `/proc/locks` names those who make POSIX requests.
const OFD_AND_POSIX: (&str, &str) = ("ofd 9 w 0 0", "posix 8 r 7 1");

#[test]
fn two_and_more_processes_over_all_kinds_are_deadlocked() {
    let name = "two_and_more_processes_over_all_kinds_are_deadlocked";
    let rings: [&[(&str, &str)]; 4] = [
        &[FLOCK, FLOCK],
        &[FLOCK, POSIX, OFD],
        &[FLOCK, POSIX, OFD_AND_POSIX],
        &[POSIX, FLOCK, OFD, FLOCK, OFD_AND_POSIX],
    ];
    for source in sources(name) {
        for steps in rings {
            if source == "procfs" && steps.contains(&OFD) {
                continue; // /proc/locks does not tell who makes an OFD request.
            }
            let scene = Scene::new();
            let ring = Ring::new(&scene, steps);
            let graph = json(source, &ring.files[0]);
            assert_eq!(cycles(&graph), [ring.pids()], "{source} {steps:?} {graph:#}");
            assert_eq!(items(&graph["cycles"][0]["circle"]).len(), 2 * steps.len());
            assert_eq!(edges(&graph, "waits_for").len(), steps.len());
            for edge in edges(&graph, "waits_for").iter().chain(&edges(&graph, "held_by")) {
                assert!(edge.2, "{source} {steps:?} {edge:?} is no part of the deadlock");
            }
            for file in &ring.files {
                let lock = only(source, file);
                assert_eq!(lock["deadlock"], true, "{source} {steps:?} {lock:#}");
                let told = items(&lock["evidence"]).iter().any(|sentence| {
                    let sentence = sentence.as_str().unwrap_or_default();
                    ring.files.iter().all(|file| sentence.contains(file.to_str().expect("a plain path")))
                });
                assert!(told, "{source} {lock:#}");
            }
        }
    }
}

#[test]
fn who_makes_an_ofd_request_is_not_guessed() {
    let scene = Scene::new();
    let ring = Ring::new(&scene, &[FLOCK, OFD]);
    let graph = json("procfs", &ring.files[1]);
    assert_eq!(cycles(&graph), [[0_u64; 0]; 0]);
    assert!(items(&graph["nodes"]).iter().any(|node| node["type"] == "unseen"), "{graph:#}");
}

#[test]
fn a_deadlock_becomes_hot_and_ends_with_one_of_it() {
    if !needs_bpf("a_deadlock_becomes_hot_and_ends_with_one_of_it") {
        return;
    }
    let scene = Scene::new();
    let mut ring = Ring::new(&scene, &[FLOCK, POSIX, OFD]);
    let files: Vec<&Path> = ring.files.iter().map(PathBuf::as_path).collect();
    let watcher = Watcher::orphans(&files);
    for file in &files {
        // Somebody must have waited for hot_after (5 s): the watcher's own clock, nothing to be hurried here.
        let hot = watcher.wait_about("hot", file);
        assert_eq!(hot.json["lock"]["deadlock"], true, "{:#}", hot.json);
        let lock = only("bpf", file);
        assert_eq!((&lock["deadlock"], &lock["hot"]), (&true.into(), &true.into()), "{lock:#}");
    }
    let explained = lockwatch([OsStr::new("explain"), files[0].as_os_str()]);
    let circle = format!("which waits for the ofd lock on {}, held by pid", files[2].display());
    assert!(explained.text().contains(&circle), "{}", explained.text());

    ring.lockers.remove(0).kill();
    watcher.wait_for("all_clear", |event| event.is("all_clear"));
}

#[test]
fn a_chain_is_no_deadlock() {
    for source in sources("a_chain_is_no_deadlock") {
        let scene = Scene::new();
        let (a, b) = (scene.file("a"), scene.file("b"));
        let (mut one, mut two, mut three) = (scene.locker(), scene.locker(), scene.locker());
        one.open(&a, "rw as 9");
        one.tell("flock 9 ex");
        two.open(&b, "rw as 9");
        two.tell("posix 9 w 0 10");
        two.open(&a, "rw as 8");
        two.block_on(&a, "flock 8 ex");
        three.open(&b, "rw as 8");
        three.block_on(&b, "posix 8 w 0 1");
        let [p1, p2, p3] = [&one, &two, &three].map(|locker| locker.pid().to_string());
        let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned(), false);
        // Either file brings the other along.
        for path in [&a, &b] {
            let graph = json(source, path);
            assert!(cycles(&graph).is_empty(), "{source} {graph:#}");
            let mut waits = [edge(&p2, "a"), edge(&p3, "b")];
            waits.sort();
            assert_eq!(edges(&graph, "waits_for"), waits, "{source}");
            assert_eq!(edges(&graph, "held_by"), [edge("a", &p1), edge("b", &p2)], "{source}");
        }
        assert_eq!((&only(source, &a)["deadlock"], &only(source, &b)["deadlock"]), (&false.into(), &false.into()));
        let text = graph(source, "text", &a);
        assert!(text.text().starts_with("2 requests wait for 2 locks, no deadlock."), "{}", text.text());
    }
}

#[test]
fn who_waits_for_a_deadlock_is_not_in_it() {
    for source in sources("who_waits_for_a_deadlock_is_not_in_it") {
        let scene = Scene::new();
        let ring = Ring::new(&scene, &[FLOCK, FLOCK]);
        let own = scene.file("own");
        let (mut outside, mut last) = (scene.locker(), scene.locker());
        outside.open(&own, "rw as 9");
        outside.tell("flock 9 ex");
        outside.open(&ring.files[0], "rw as 8");
        outside.block_on(&ring.files[0], "flock 8 ex");
        last.open(&own, "rw as 8");
        last.block_on(&own, "flock 8 ex");

        let graph = json(source, &own);
        assert_eq!(cycles(&graph), [ring.pids()], "{source} {graph:#}");
        let marked = |wanted: bool| {
            let nodes = items(&graph["nodes"]).iter().filter(|node| node["deadlock"] == wanted);
            let mut pids: Vec<u64> = nodes.filter_map(|node| node["process"]["pid"].as_u64()).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(marked(true), ring.pids(), "{source} {graph:#}");
        assert_eq!(marked(false), sorted([&outside, &last]), "{source} {graph:#}");
        assert_eq!(only(source, &own)["deadlock"], false, "{source}");
        let ahead = items(&graph["edges"]).iter().find(|edge| edge["type"] == "queued_behind").expect("a queue");
        assert_eq!(ahead["from"], format!("pid:{}", outside.pid()), "{source} {ahead}");
    }
}

#[test]
fn a_process_waits_for_itself_only_if_no_thread_is_left() {
    for source in sources("a_process_waits_for_itself_only_if_no_thread_is_left") {
        let scene = Scene::new();
        let (alone, shared) = (scene.file("alone"), scene.file("shared"));
        let (mut one, mut many) = (scene.locker(), scene.locker());
        for (locker, file) in [(&mut one, &alone), (&mut many, &shared)] {
            locker.open(file, "rw as 9");
            locker.open(file, "rw as 8");
            locker.tell("flock 9 ex");
        }
        one.block_on(&alone, "flock 8 ex");
        let wait = many.wait_for(&shared, "flock 8 ex");
        assert_eq!(cycles(&json(source, &alone)), [sorted([&one])], "{source}");
        assert!(cycles(&json(source, &shared)).is_empty(), "{source}");
        // It was right not to cry: the other thread goes on and releases it.
        many.tell("unflock 9");
        many.granted(wait);
    }
}

#[test]
fn locks_that_nobody_waits_for_are_shown_on_demand() {
    for source in sources("locks_that_nobody_waits_for_are_shown_on_demand") {
        let scene = Scene::new();
        let file = scene.file("idle");
        let one = taken(&scene, &file, "flock 9 ex");
        assert!(items(&json(source, &file)["nodes"]).is_empty(), "{source}");
        let args = ["graph", "--json", "--all", "--source", source].map(OsStr::new);
        let all = lockwatch(args.into_iter().chain([file.as_os_str()])).json();
        assert_eq!(edges(&all, "held_by"), [("idle".to_owned(), one.pid().to_string(), false)], "{source} {all:#}");
    }
}

#[test]
fn every_form_is_sound_whatever_the_names() {
    let name = "every_form_is_sound_whatever_the_names";
    let source = if needs_bpf(&format!("{name} with --source bpf")) { "bpf" } else { "procfs" };
    let hostile = b"1. q\"uote]; \\N \n--> |x| %%{init}%% bidi\xe2\x80\xae <script>alert('1')<\xff\xfe> <b>&amp;";
    for name in [b"plain".as_slice(), hostile] {
        let scene = Scene::new();
        let path = scene.file(OsStr::from_bytes(name));
        let (mut one, mut two) = (scene.locker(), scene.locker());
        one.open(&path, "rw as 9");
        one.tell("flock 9 ex");
        one.tell("comm \"%3Cb%3E%0A");
        two.open(&path, "rw as 9");
        two.block_on(&path, "flock 9 ex");

        let svg = graph(source, "svg", &path);
        let document = Document::parse(svg.text()).unwrap_or_else(|e| panic!("{e} in {}", svg.text()));
        let cards = document.descendants().filter(|node| node.attribute("class") == Some("card")).count();
        assert_eq!(cards, 3, "{}", svg.text());
        assert!(!document.descendants().any(|node| node.has_tag_name("script") || node.has_tag_name("b")));
        assert_eq!(items(&json(source, &path)["edges"]).len(), 2);
        let mermaid = graph(source, "mermaid", &path);
        assert_eq!(mermaid.text().matches("-->|\"").count(), 2, "{}", mermaid.text());
        let dot = graph(source, "dot", &path);
        if needs_program("every_form_is_sound: DOT", "dot") {
            let canonical = canonical(dot.text()).unwrap_or_else(|| panic!("dot refuses {}", dot.text()));
            assert_eq!(canonical.matches(" -> ").count(), 2, "{}", dot.text());
        }
        for run in [&svg, &mermaid, &dot, &graph(source, "text", &path)] {
            let bad = |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{200b}".contains(*c);
            assert_eq!(run.text().chars().find(bad), None, "{}", run.text());
        }
        // Nobody asked for a form, and nobody is at a terminal.
        let args = ["graph", "--source", source].map(OsStr::new);
        assert!(lockwatch(args.into_iter().chain([path.as_os_str()])).text().starts_with("digraph"));
        assert_eq!(list(source, &path).len(), 1);
    }
}

/// What Graphviz makes of it, without what stands in quotes: arrows in names are none. `None` if it refuses.
fn canonical(dot: &str) -> Option<String> {
    let mut child = Command::new("dot").arg("-Tcanon").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take()?.write_all(dot.as_bytes()).ok()?;
    let output = child.wait_with_output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.replace("\\\"", "");
    Some(text.split('"').step_by(2).collect())
}
