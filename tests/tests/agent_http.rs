//! The agent's doors, as they are on a host.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Command, Stdio},
    time::Duration,
};

use lockwatch_tests::{
    HostAgent, Metrics, PATIENCE, Scene, ask_tcp, ask_unix, connect_unix, contract, ghost, needs_bpf, needs_program,
    taken, until,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

#[test]
fn each_door_has_what_is_meant_for_it() {
    if !needs_bpf("each_door_has_what_is_meant_for_it") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, "");
    let meta = fs::symlink_metadata(agent.api_socket()).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o600, 0));
    let tcp = |request: &str| ask_tcp(agent.address(), request, &[]);
    let unix = |request: &str| ask_unix(agent.api_socket(), request, &[]);
    for (request, by_tcp, by_unix) in [
        ("GET /", 200, 200),
        ("GET /metrics", 200, 200),
        ("HEAD /metrics", 200, 200),
        ("GET /healthz", 200, 200),
        ("GET /readyz", 200, 200),
        ("GET /api/v1/locks", 403, 200),
        ("GET /api/v1/events", 403, 0),
        ("GET /api/v1/clear", 404, 404),
        ("POST /api/v1/locks", 405, 405),
        ("DELETE /metrics", 405, 405),
        ("PUT /nowhere", 404, 404),
    ] {
        assert_eq!(tcp(request).status, by_tcp, "{request} by TCP");
        // The stream of events has no end.
        if by_unix != 0 {
            assert_eq!(unix(request).status, by_unix, "{request} by the socket");
        }
    }
    let called = |name: &str| ask_tcp(agent.address(), "GET /metrics", &[&format!("Host: {name}")]).status;
    assert_eq!((called("localhost:9954"), called("evil.example.com")), (200, 403));
    let document: Value = serde_json::from_str(&unix("GET /api/v1/locks").body).unwrap();
    assert_eq!(contract::differences(&document, contract::LOCKS), [""; 0]);
}

#[test]
fn the_api_is_on_tcp_where_the_owner_says_so() {
    if !needs_bpf("the_api_is_on_tcp_where_the_owner_says_so") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, "api_on_tcp = true");
    assert_eq!(ask_tcp(agent.address(), "GET /api/v1/locks", &[]).status, 200);
}

#[test]
fn the_numbers_move_with_the_locks() {
    if !needs_bpf("the_numbers_move_with_the_locks") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let agent = HostAgent::start(&scene, "");
    let number = |series: &str| Metrics::of(agent.address()).get(series);
    let acquired = "lockwatch_acquisitions_total{kind=\"flock\",mode=\"write\"}";
    let before = number(acquired);
    let mut locker = taken(&scene, &path, "flock 9 ex");
    assert!(number(acquired) >= before + 1.0);
    assert!(number("lockwatch_locks{kind=\"flock\",mode=\"write\"}") >= 1.0);
    assert_eq!(number("lockwatch_state_exact"), 1.0);
    let (detected, leaked) =
        ("lockwatch_orphans_detected_total{cause=\"leaked\"}", "lockwatch_orphaned_locks{cause=\"leaked\"}");
    let so_far = number(detected);
    locker.tell("unflock 9");
    let other = scene.file("other");
    let (_, mut heir) = ghost(&scene, &other);
    agent.watcher().wait_about("orphaned", &other);
    assert!(
        number(detected) >= so_far + 1.0 && number(leaked) >= 1.0 && number("lockwatch_oldest_orphan_seconds") > 0.0
    );
    heir.kill();
    agent.watcher().wait_about("cleared", &other);
}

#[test]
fn promtool_has_no_complaint() {
    if !needs_bpf("promtool_has_no_complaint") || !needs_program("promtool_has_no_complaint", "promtool") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, "");
    let plain = ask_tcp(agent.address(), "GET /metrics", &[]);
    assert!(plain.head.contains("content-type: text/plain; version=0.0.4"), "{}", plain.head);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(plain.body.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].map(|words| String::from_utf8_lossy(&words).into_owned());
    assert_eq!((said.status.code(), words), (Some(0), ["".to_owned(), "".to_owned()]));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = ask_tcp(agent.address(), "GET /metrics", &[accept]);
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
}

#[test]
fn changes_stream_with_their_stories() {
    if !needs_bpf("changes_stream_with_their_stories") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let agent = HostAgent::start(&scene, "");
    let mut stream = connect_unix(agent.api_socket());
    stream.write_all(b"GET /api/v1/events HTTP/1.0\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut events =
        lines.skip_while(|line| !line.is_empty()).filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    assert_eq!(events.next().unwrap()["event"], "watching");
    let (_, mut heir) = ghost(&scene, &path);
    let about = |event: &Value, name: &str| {
        event["event"] == name && event["lock"]["file"]["path"].as_str().is_some_and(|p| path.as_os_str() == p)
    };
    let orphaned = events.find(|event| about(event, "orphaned")).expect("an orphaned event");
    assert!(orphaned["history"].as_array().is_some_and(|history| history.len() >= 3), "{orphaned:#}");
    heir.kill();
    events.find(|event| about(event, "cleared")).expect("a cleared event");
}

#[test]
fn who_does_not_speak_or_read_is_cut_off() {
    if !needs_bpf("who_does_not_speak_or_read_is_cut_off") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, "");
    let silent = connect_unix(agent.api_socket());
    let mut half = connect_unix(agent.api_socket());
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    // Asks for so much that the answers fit nowhere, and reads nothing.
    let mut deaf = connect_unix(agent.api_socket());
    deaf.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    while deaf.write_all(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)).is_ok() {}
    for (who, stream) in [("silent", &silent), ("half", &half), ("deaf", &deaf)] {
        let mut fds = [PollFd::new(stream, PollFlags::empty())];
        let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed() * 2, tv_nsec: 0 };
        poll(&mut fds, Some(&patience)).unwrap();
        assert!(fds[0].revents().contains(PollFlags::HUP), "{who}: {:?}", fds[0].revents());
    }
    assert_eq!(ask_unix(agent.api_socket(), "GET /healthz", &[]).status, 200);
}

#[test]
fn too_many_are_turned_away() {
    if !needs_bpf("too_many_are_turned_away") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, "max_connections = 3");
    let crowd: Vec<_> = (0..3).map(|_| connect_unix(agent.api_socket())).collect();
    until("another one is turned away", || {
        (ask_unix(agent.api_socket(), "GET /healthz", &[]).status == 0).then_some(())
    });
    assert_eq!(ask_tcp(agent.address(), "GET /healthz", &[]).status, 200, "the other door is not concerned");
    drop(crowd);
    until("there is room again", || (ask_unix(agent.api_socket(), "GET /healthz", &[]).status == 200).then_some(()));
    let page = ask_tcp(agent.address(), "GET /metrics", &[]).body;
    assert!(!page.contains("lockwatch_http_turned_away_total{door=\"unix\"} 0"), "{page}");
}
