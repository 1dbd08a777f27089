//! Commands through an agent: its answer where it has one, a look of one's own where it has none. That every scene gets
//! the same document by both ways is judged in `scenarios.rs`.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::chown,
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use lockwatch_tests::{
    Event, HostAgent, Run, Scene, Watcher, ghost, in_flight, items, lockwatch_command, needs_bpf, opened, plain, run,
    taken,
};
use rustix::{process::Uid, thread::set_thread_res_uid};
use serde_json::Value;

/// Everything an agent can do wrong, as a connection sees it.
type Fault = fn(UnixStream);

fn through(socket: &Path, args: &[&str], path: &Path) -> Run {
    run(lockwatch_command().args(args).arg("--api-socket").arg(socket).arg(path))
}

/// A document without its moment.
fn timeless(run: &Run) -> Value {
    let mut document = run.document();
    document["taken_at"].take();
    document
}

#[test]
fn the_agent_tells_what_it_has_seen() {
    if !needs_bpf("the_agent_tells_what_it_has_seen") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let agent = HostAgent::start(&scene, "");
    let (taker, _heir) = ghost(&scene, &path);
    agent.watcher().wait_about("orphaned", &path);
    let ask = |args: &[&str]| through(agent.api_socket(), args, &path);

    let document = ask(&["list", "--json"]).document();
    let lock = &items(&document["locks"])[0];
    assert_eq!((&lock["verdict"], &lock["cause"]), (&"orphaned".into(), &"leaked".into()), "{lock:#}");
    let history: Vec<_> = items(&lock["history"]).iter().filter_map(|moment| moment["event"].as_str()).collect();
    assert_eq!(history, ["taken", "owner_died", "orphaned"], "{lock:#}");
    assert_eq!(lock["history"][1]["exit"]["signal"], 9, "{lock:#}");

    let told = ask(&["explain"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    let died = format!("pid {taker} (locker) was killed by SIGKILL");
    assert!(told.text().contains("What has happened\n") && told.text().contains(&died), "{}", told.text());
    // An ID, or the beginning of one, does as well as a path.
    let id = lock["id"].as_str().unwrap();
    let by_id = through(agent.api_socket(), &["explain", "--json"], id.split('-').next().unwrap().as_ref()).document();
    assert_eq!(by_id["locks"][0]["id"], id);

    let cold = ask(&["list", "--json", "--no-agent"]).document();
    assert_eq!(cold["locks"][0]["cause"], "inherited");
    assert_eq!(cold["locks"][0].get("history"), None);
    assert_eq!(ask(&["orphans", "--exit-code"]).code, Some(10));
    assert!(ask(&["graph", "--all", "--json"]).text().contains(id));
    let none = ask(&["list", "--json", "--kind", "posix"]);
    assert_eq!(items(&none.document()["locks"]), [Value::Null; 0]);
}

#[test]
fn the_agents_own_operations_and_ends_are_traced() {
    if !needs_bpf("the_agents_own_operations_and_ends_are_traced") {
        return;
    }
    let scene = Scene::new();
    let (path, other) = (scene.file("lock"), scene.file("other"));
    let mut agent = HostAgent::start(&scene, "");
    let trace = |more: &[&str]| {
        let mut command = lockwatch_command();
        command.args(["trace", "--ndjson", "--api-socket"]).arg(agent.api_socket());
        command.arg("--path").arg(&path).args(more);
        Watcher::of(command)
    };
    let (by_agent, own) = (trace(&[]), trace(&["--no-agent"]));
    let posix_only = trace(&["--kind", "posix"]);
    let act = |watchers: &[&Watcher]| {
        taken(&scene, &other, "flock 9 ex").exit(0);
        let mut locker = taken(&scene, &path, "flock 9 ex");
        locker.tell("unflock 9");
        locker.tell("posix 9 w 5 10");
        let pid = locker.pid();
        // A file is named by way of the process, while it lives.
        for watcher in watchers {
            let is_last = |event: &Event| event.is("acquired") && event.json["lock"]["kind"] == "posix";
            watcher.wait_for("last lock", |event| is_last(event) && event.by(pid));
        }
        locker.exit(3);
        pid
    };
    let pid = act(&[&by_agent, &own, &posix_only]);
    let wanted = [("acquired", pid), ("released", pid), ("acquired", pid), ("released", pid), ("process_exit", pid)];
    let said = |watcher: &Watcher| {
        watcher.wait_for("exit", |event| event.is("process_exit") && event.by(pid));
        let events = watcher.events();
        let about = |event: &&Event| event.by(pid);
        let mut said: Vec<_> = events.iter().filter(about).map(|event| event.json.clone()).collect();
        // Each reads the clock for itself, and the sockets differ in what is lost with them.
        said.iter_mut().for_each(|event| drop(event["at"].take()));
        said.sort_by_key(|event| (event["event"].to_string(), event["lock"]["kind"].to_string()));
        said
    };
    let (a, b) = (said(&by_agent), said(&own));
    assert_eq!(a.len(), wanted.len(), "{a:#?}");
    for (a, b) in a.iter().zip(&b) {
        let what = |event: &Value| {
            let process = &event["process"];
            let who = [&process["pid"], &process["comm"], &process["exit"]].map(Value::clone);
            (event["event"].clone(), event["lock"].clone(), who)
        };
        assert_eq!(what(a), what(b), "{a:#}\n{b:#}");
        // Since when it was held is not known where a probe did not run, and then that is told.
        let same_time = a["held_ns"].is_null() == b["held_ns"].is_null();
        assert!(same_time || [&by_agent, &own].iter().any(|watcher| watcher.loses_more_than(0)), "{a:#}\n{b:#}");
    }
    let kinds: Vec<_> = said(&posix_only).iter().map(|event| event["lock"]["kind"].clone()).collect();
    assert_eq!(kinds, ["posix".into(), Value::Null, "posix".into()], "filtered like one's own");
    assert!(!by_agent.events().iter().any(|event| event.about(&other)), "other files are left out");

    // When the agent ends in the middle, the trace goes on.
    by_agent.forget();
    agent.process().kill();
    by_agent.wait_for("second watching", |event| event.is("watching"));
    let pid = act(&[]);
    by_agent.wait_for_each(&[("acquired", pid), ("process_exit", pid)]);
}

#[test]
fn orphans_are_followed_through_the_agent() {
    if !needs_bpf("orphans_are_followed_through_the_agent") {
        return;
    }
    let scene = Scene::new();
    let (before, after, other) = (scene.file("before"), scene.file("after"), scene.file("other"));
    let mut agent = HostAgent::start(&scene, "hot_after = '100ms'");
    let (_, mut heir) = ghost(&scene, &before);
    agent.watcher().wait_about("orphaned", &before);
    let mut command = lockwatch_command();
    command.args(["orphans", "--watch", "--ndjson", "--api-socket"]).arg(agent.api_socket()).args([&before, &after]);
    let watcher = Watcher::of(command);
    let told = watcher.wait_about("orphaned", &before);
    assert!(items(&told.json["history"]).len() >= 3, "{:#}", told.json);
    let (_, _elsewhere) = ghost(&scene, &other);
    let (_, mut second) = ghost(&scene, &after);
    watcher.wait_about("orphaned", &after);
    let mut waiter = opened(&scene, &after);
    let wait = waiter.wait_for(&after, "flock 9 ex");
    watcher.wait_about("hot", &after);
    second.kill();
    waiter.granted(wait);
    watcher.wait_about("cleared", &after);
    watcher.wait_for("all_clear", |event| event.is("all_clear"));
    heir.kill();
    watcher.wait_about("cleared", &before);
    let events = watcher.events();
    let times = |name: &str| events.iter().filter(|event| event.is(name)).count();
    assert_eq!(["orphaned", "hot", "cleared", "all_clear"].map(times), [2, 1, 2, 1], "{events:#?}");
    assert!(!events.iter().any(|event| event.about(&other)), "other files are left out");

    watcher.forget();
    agent.process().kill();
    watcher.wait_for("second watching", |event| event.is("watching"));
    let third = scene.file("before");
    let _heir = ghost(&scene, &third);
    watcher.wait_about("orphaned", &third);
}

#[test]
fn an_agent_that_fails_is_told_and_done_without() {
    if !needs_bpf("an_agent_that_fails_is_told_and_done_without") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let _ghost = in_flight(&scene, &path);
    let own = run(lockwatch_command().args(["list", "--json", "--no-agent"]).arg(&path));
    let expect = timeless(&own);
    assert_eq!(items(&expect["locks"]).len(), 1, "{expect:#}");
    let half: Fault = |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"schema\":\"lockwatch.locks/1\",\"taken_at\":\"2026");
    };
    let cases: [(Fault, &str); 7] = [
        (|stream| hang(stream, b""), "it said nothing for 2 s"),
        (|stream| hang(stream, b"HTTP/1.0 200 OK\r\n\r\n{\"schema\":"), "it fell silent"),
        (|mut stream| read_head(&mut stream), "it ended at once"),
        (half, "understand its answer"),
        (|stream| say(stream, "\u{1}\u{2}\u{3}\r\n\r\n"), "it does not speak HTTP"),
        (
            |stream| say(stream, "HTTP/1.0 503 X\r\n\r\nthe engine is on strike\n"),
            "it says 503: the engine is on strike",
        ),
        (|stream| say(stream, &answer_of_the_future()), "\"lockwatch.locks/2\", of which I know nothing"),
    ];
    for (fault, says) in cases {
        let agent = FakeAgent::start(&scene, fault);
        let begin = Instant::now();
        let run = through(&agent.socket, &["list", "--json"], &path);
        assert!(begin.elapsed() < Duration::from_secs(15), "{says}: {:?}", begin.elapsed());
        assert_eq!(timeless(&run), expect, "{says}");
        let warning = format!("lockwatch: warning: the agent at {} does not answer (", agent.socket.display());
        assert!(run.stderr.starts_with(&warning) && run.stderr.ends_with("): looked without it\n"), "{}", run.stderr);
        assert!(run.stderr.contains(says) && run.stderr.lines().count() == 1, "{says}: {}", run.stderr);
    }
}

#[test]
fn where_no_agent_is_nothing_is_said() {
    if !needs_bpf("where_no_agent_is_nothing_is_said") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let _holder = taken(&scene, &path, "flock 9 ex");
    let silent = |args: &[&str], socket: &Path| {
        let run = through(socket, args, &path);
        assert_eq!((items(&run.document()["locks"]).len(), run.stderr.as_str()), (1, ""), "{args:?}");
    };
    silent(&["list", "--json"], &scene.path("none.sock"));
    silent(&["list", "--json"], "/nonexistent/dir/agent.sock".as_ref());
    // One that is not asked may be as it likes.
    let mute = FakeAgent::start(&scene, |stream| hang(stream, b""));
    for more in [["--no-agent", "--json"], ["--source=bpf", "--json"]] {
        silent(&["list", more[0], more[1]], &mute.socket);
    }
    // A socket that a dead agent has left is worth a word.
    let left = scene.path("left.sock");
    drop(UnixListener::bind(&left).unwrap());
    let run = through(&left, &["list", "--json"], &path);
    assert!(run.stderr.contains("(nobody listens there any more): looked without it"), "{}", run.stderr);
    assert_eq!(items(&run.document()["locks"]).len(), 1);
}

#[test]
fn the_agent_must_be_roots_or_ones_own() {
    if !needs_bpf("the_agent_must_be_roots_or_ones_own") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let place = scene.path("other");
    fs::create_dir(&place).unwrap();
    chown(&place, Some(61_002), None).unwrap();
    let socket = place.join("agent.sock");
    // The kernel notes who listens when it begins to (SO_PEERCRED, unix(7)); a user is a thread's own.
    let listen = || {
        set_thread_res_uid(Uid::from_raw(61_002), Uid::from_raw(61_002), Uid::from_raw(61_002)).unwrap();
        UnixListener::bind(&socket).unwrap()
    };
    let _listener = thread::scope(|scope| scope.spawn(listen).join().unwrap());
    let run = through(&socket, &["list", "--json"], &path);
    assert!(run.stderr.contains("uid 61002 listens there, who is neither root nor you"), "{}", run.stderr);
    run.document();
}

#[test]
fn members_of_its_group_may_ask_and_see_all() {
    if !needs_bpf("members_of_its_group_may_ask_and_see_all") {
        return;
    }
    const GROUP: u32 = 61_234;
    let scene = Scene::new();
    let path = scene.file("lock");
    let agent = HostAgent::start(&scene, &format!("api_socket_group = '{GROUP}'"));
    let (_, _heir) = ghost(&scene, &path);
    agent.watcher().wait_about("orphaned", &path);
    let lockwatch = scene.lockwatch();
    let ask = |gid: u32| {
        let mut command = plain(&lockwatch);
        command.args(["list", "--json", "--api-socket"]).arg(agent.api_socket()).arg(&path).uid(61_001).gid(gid);
        run(&mut command)
    };
    let member = ask(GROUP);
    let document = member.document();
    assert_eq!((document["locks"][0]["cause"].as_str(), member.stderr.as_str()), (Some("leaked"), ""), "{document:#}");
    let other = ask(61_235);
    assert!(other.stderr.contains("its socket is for root and the members of its group"), "{}", other.stderr);
    assert_eq!(other.document()["locks"][0].get("history"), None);
}

/// Somebody who listens where an agent should, and treats everybody alike.
struct FakeAgent {
    socket: PathBuf,
}

impl FakeAgent {
    fn start(scene: &Scene, fault: Fault) -> Self {
        let socket = scene.socket();
        let listener = UnixListener::bind(&socket).unwrap_or_else(|e| panic!("bind {}: {e}", socket.display()));
        // Ends with the test's process; nobody connects any more.
        thread::spawn(move || listener.incoming().flatten().for_each(fault));
        Self { socket }
    }
}

fn read_head(stream: &mut UnixStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
}

fn say(mut stream: UnixStream, text: &str) {
    read_head(&mut stream);
    let _ = stream.write_all(text.as_bytes());
}

/// Says that much, and no more until the other one has had enough.
fn hang(mut stream: UnixStream, text: &[u8]) {
    let _ = stream.write_all(text);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn answer_of_the_future() -> String {
    let document = r#"{"schema":"lockwatch.locks/2","taken_at":"2026-11-22T03:12:07Z","host":{"hostname":"x","kernel":"y",
        "boot_id":"z"},"sources":[],"exact":true,"warnings":[],"locks":[]}"#;
    format!("HTTP/1.0 200 OK\r\n\r\n{document}")
}
