//! The doors with an engine that is played by the test.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
};

use lockwatch_core::{
    report::Report,
    timeline::{Moment, What},
};
use tokio::{runtime, sync::oneshot};

use super::*;
use crate::{
    agent::{
        hub::{self, Answer, Ask, Hub},
        metrics,
    },
    fixture,
    output::{json, schema::Schema},
};

/// Longer than anything takes, so that a busy machine is no failure.
const LONG: Duration = Duration::from_secs(30);

/// Doors that are open as long as this lives, on a thread of their own as in the agent.
struct Open {
    tcp: SocketAddr,
    unix: PathBuf,
    hub: Option<Hub>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Result<()>>>,
    _dir: tempfile::TempDir,
}

impl Open {
    /// `None` without root: the directory of the socket must be root's.
    fn new(api_on_tcp: bool, max_connections: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("LEFT OUT: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let unix = dir.path().join("made/agent.sock");
        let on_tcp = OnTcp { api: api_on_tcp, names: api_on_tcp };
        let local = "127.0.0.1:0".parse().unwrap();
        let doors = Doors::new(Sockets::bind(Some(local), &unix, None).unwrap(), on_tcp, max_connections);
        let tcp = doors.address().unwrap();
        let (hub, door) = hub::open();
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(doors.serve(door, async { drop(ended.await) }))
        });
        Some(Self { tcp, unix, hub: Some(hub), end: Some(end), thread: Some(thread), _dir: dir })
    }

    /// Has the engine answer all questions with these locks.
    fn play(&mut self, report: Report, histories: HashMap<lockwatch_core::id::LockId, Vec<Moment>>) {
        let mut hub = self.hub.take().unwrap();
        let answer = Arc::new(Answer { report, histories });
        thread::spawn(move || {
            while let Some(ask) = hub.asked.blocking_recv() {
                match ask {
                    Ask::Look(reply) => drop(reply.send(Ok(Arc::clone(&answer)))),
                    Ask::Numbers(reply) => drop(reply.send(Ok(metrics::sample()))),
                    Ask::Operations(reply) => drop(reply.send(Ok(()))),
                }
            }
        });
    }

    fn unix(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.unix).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// What comes of a request over the unix socket: head and body.
    fn get(&self, request: &str) -> (String, String) {
        exchange(self.unix(), request)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.end.take());
        self.thread.take().unwrap().join().unwrap().unwrap();
        assert!(!self.unix.exists(), "a socket is left behind");
    }
}

/// Sends a request of HTTP/1.0, to which the answer ends with the connection.
fn exchange(mut stream: impl Read + Write, request: &str) -> (String, String) {
    let text = format!("{request} HTTP/1.0\r\n\r\n").replace('|', "\r\n");
    let text = if request.contains('|') { format!("{}\r\n\r\n", request.replace('|', "\r\n")) } else { text };
    // Who is refused in mid-request may see that before the answer is through.
    let _ = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_ascii_lowercase(), body.to_owned())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[test]
fn names_leave_the_host_only_where_its_owner_says_so() {
    let check = |listen: &str, api_on_tcp, page, expect| {
        let config = Agent { listen: Some(listen.parse().unwrap()), api_on_tcp, page, ..Agent::default() };
        assert_eq!(OnTcp::of(&config, config.listen).names, expect, "{listen} {api_on_tcp} {page}");
    };
    check("127.0.0.1:9954", false, true, true);
    check("[::1]:9954", false, true, true);
    check("127.0.0.1:9954", false, false, false);
    check("0.0.0.0:9954", false, true, false);
    check("10.1.2.3:9954", false, true, false);
    check("10.1.2.3:9954", true, true, true);
    check("10.1.2.3:9954", true, false, false);
}

#[test]
fn every_route_answers() {
    let Some(mut open) = Open::new(false, 8) else { return };
    open.play(fixture::report(), HashMap::new());
    let check = |request: &str, code: u16, says: &str| {
        let (head, body) = open.get(request);
        assert_eq!(status(&head), code, "{request}: {head}\n{body}");
        assert!(head.contains(says) || body.contains(says), "{request}: no {says} in {head}\n{body}");
    };
    check("GET /", 200, "/api/v1/events");
    check("GET /metrics", 200, "content-type: text/plain; version=0.0.4");
    check("GET /metrics", 200, "# TYPE lockwatch_acquisitions_total counter");
    check(
        "GET /metrics HTTP/1.0|Accept: application/openmetrics-text",
        200,
        "application/openmetrics-text; version=1.0.0",
    );
    check("GET /metrics HTTP/1.0|Accept: application/openmetrics-text", 200, "# EOF");
    check("GET /healthz", 200, "ok");
    check("GET /readyz", 503, "the first picture is not complete");
    check("GET /api/v1/locks", 200, "content-type: application/json");
    check("GET /api/v1/locks?x=y", 200, "f3k9-27qd");
    check("GET /api/v1/", 404, "no such page");
    check("GET /nowhere", 404, "no such page");
    check("POST /nowhere", 404, "no such page");
    check("POST /api/v1/locks", 405, "allow: get, head");
    check("DELETE /", 405, "nothing can be changed here");
    check("HEAD /metrics", 200, "content-type: text/plain");
    check("HEAD /page/stream", 200, "text/event-stream");
    check("GET / HTTP/1.0|Accept: text/html", 200, "frame-ancestors 'none'");
    check("HEAD /api/v1/events", 200, "application/x-ndjson");
    check("nonsense", 400, "");
    for request in ["HEAD /metrics", "HEAD /api/v1/locks", "HEAD /", "HEAD /api/v1/events"] {
        assert_eq!(open.get(request).1, "", "{request}");
    }
}

#[test]
fn readiness_follows_the_engine() {
    let Some(open) = Open::new(false, 8) else { return };
    assert_eq!(status(&open.get("GET /readyz").0), 503);
    open.hub.as_ref().unwrap().pulse.set_ready();
    assert_eq!(status(&open.get("GET /readyz").0), 200);
}

#[test]
fn the_api_is_not_for_everybody_who_can_reach_a_port() {
    for (api_on_tcp, code) in [(false, 403), (true, 200)] {
        let Some(mut open) = Open::new(api_on_tcp, 8) else { return };
        open.play(fixture::report(), HashMap::new());
        let get = |request: &str| status(&exchange(open.tcp(), request).0);
        assert_eq!(get("GET /api/v1/locks"), code);
        assert_eq!(get("GET /metrics"), 200);
        assert_eq!(get("GET /metrics HTTP/1.1|Host: 127.0.0.1:9954|Connection: close"), 200);
        assert_eq!(get("GET /metrics HTTP/1.1|Host: evil.example.com|Connection: close"), 403);
        assert_eq!(get("GET http://evil.example.com/metrics HTTP/1.1|Host: localhost|Connection: close"), 403);
        let over_unix = open.get("GET /metrics HTTP/1.1|Host: evil.example.com|Connection: close");
        assert_eq!(status(&over_unix.0), 200);
    }
}

#[test]
fn all_locks_come_in_pieces_and_with_their_stories() {
    let Some(mut open) = Open::new(false, 8) else { return };
    let locks: Vec<_> = fixture::report().locks.into_iter().cycle().take(2500).collect();
    let mut report = Report { locks, ..fixture::report() };
    let who = report.locks[0].acquirer.clone();
    let moment = Moment { at: fixture::ago(60), what: What::OwnerDied, who, waited: None, number: 7 };
    let histories = HashMap::from([(report.locks[0].id.clone(), vec![moment.clone()])]);
    open.play(report.clone(), histories);
    let (_, body) = open.get("GET /api/v1/locks");
    for lock in report.locks.iter_mut().filter(|lock| lock.id.0 == "f3k9-27qd") {
        lock.history = vec![moment.clone()];
    }
    assert_eq!(body, fixture::written(|out| json::write(&report, &fixture::options(), out)));
    assert!(body.contains(r#""history":[{"at":"#));
    report.locks.truncate(4);
    Schema::Locks.assert_valid(&fixture::written(|out| json::write(&report, &fixture::options(), out)));
}

#[test]
fn an_engine_that_does_not_know_says_why() {
    let Some(mut open) = Open::new(false, 8) else { return };
    let mut hub = open.hub.take().unwrap();
    let engine = thread::spawn(move || {
        for _ in 0..2 {
            match hub.asked.blocking_recv() {
                Some(Ask::Look(reply)) => drop(reply.send(Err("the kernel is on strike".into()))),
                Some(Ask::Operations(reply)) => drop(reply.send(Err("no tracepoint".into()))),
                other => panic!("{other:?}"),
            }
        }
        // Takes the next question with it into the grave.
        hub.asked.blocking_recv()
    });
    let check = |path: &str, says: &str| {
        let (head, body) = open.get(&format!("GET {path}"));
        assert_eq!((status(&head), body.trim_end()), (503, says), "{path}");
    };
    check("/api/v1/locks", "the kernel is on strike");
    check("/api/v1/events?operations=1", "no tracepoint");
    let last = thread::scope(|scope| {
        let waits = scope.spawn(|| open.get("GET /metrics"));
        drop(engine.join().unwrap());
        waits.join().unwrap()
    });
    assert_eq!((status(&last.0), last.1.trim_end()), (503, "the agent is ending"));
    check("/metrics", "the agent is ending");
}

#[test]
fn a_second_agent_is_told_of_the_first() {
    let Some(open) = Open::new(false, 8) else { return };
    let error = format!("{:#}", Sockets::bind(None, &open.unix, None).unwrap_err());
    assert!(error.contains("somebody listens at") && error.contains("agent.sock"), "{error}");
    let error = format!("{:#}", Sockets::bind(Some(open.tcp), &open.unix, None).unwrap_err());
    assert!(error.contains(&format!("listen at http://{}", open.tcp)), "{error}");
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let Some(mut open) = Open::new(false, 2) else { return };
    open.play(fixture::report(), HashMap::new());
    let ask = |stream: &mut UnixStream| {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    let (mut first, mut second) = (open.unix(), open.unix());
    assert_eq!(&ask(&mut first).unwrap(), b"HTTP/1.1 200");
    assert_eq!(&ask(&mut second).unwrap(), b"HTTP/1.1 200");
    let mut third = open.unix();
    let _ = third.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let refused = third.read(&mut [0; 1]);
    assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
    // The other door has room of its own, and tells of it.
    let (_, page) = exchange(open.tcp(), "GET /metrics");
    assert!(page.contains("lockwatch_http_turned_away_total{door=\"unix\"} 1"), "{page}");
    assert!(page.contains("lockwatch_http_turned_away_total{door=\"tcp\"} 0"), "{page}");
    drop(first);
    let deadline = std::time::Instant::now() + LONG;
    while ask(&mut open.unix()).is_err() {
        assert!(std::time::Instant::now() < deadline, "a place does not become free");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_head_has_its_limits() {
    let Some(open) = Open::new(false, 8) else { return };
    let check = |request: String, codes: &[u16]| {
        let (head, _) = open.get(&request);
        assert!(codes.contains(&status(&head)), "{head}");
    };
    check(format!("GET /{} HTTP/1.0", "x".repeat(100 << 10)), &[414, 431]);
    check(format!("GET / HTTP/1.0|X: {}", "x".repeat(100 << 10)), &[431]);
    check(format!("GET / HTTP/1.0|{}", vec!["A: b"; 100].join("|")), &[431]);
}

mod streams {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn lines(stream: &mut BufReader<UnixStream>, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                line
            })
            .collect()
    }

    /// A stream behind its head.
    fn stream(open: &Open, request: &str) -> BufReader<UnixStream> {
        let mut stream = open.unix();
        write!(stream, "{}\r\n\r\n", request.replace('|', "\r\n")).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(stream.read_line(&mut line).unwrap(), 0, "no answer");
        }
        stream
    }

    #[test]
    fn changes_come_as_lines() {
        let Some(open) = Open::new(false, 8) else { return };
        let mut stream = stream(&open, "GET /api/v1/events HTTP/1.0");
        let watching = lines(&mut stream, 1).remove(0);
        assert!(watching.contains(r#""event":"watching""#), "{watching}");
        Schema::Event.assert_valid(&watching);
        let hub = open.hub.as_ref().unwrap();
        hub.operations.send("nobody asked for it".into()).unwrap_err();
        hub.changes.send("{\"one\":1}".into()).unwrap();
        hub.changes.send("{\"two\":2}".into()).unwrap();
        assert_eq!(lines(&mut stream, 2), ["{\"one\":1}\n", "{\"two\":2}\n"]);
    }

    #[test]
    fn browsers_get_events() {
        let Some(open) = Open::new(false, 8) else { return };
        let mut stream = stream(&open, "GET /api/v1/events HTTP/1.0|Accept: text/event-stream");
        let watching = lines(&mut stream, 2);
        assert!(watching[0].starts_with("data: {") && watching[1] == "\n", "{watching:?}");
        open.hub.as_ref().unwrap().changes.send("{}".into()).unwrap();
        assert_eq!(lines(&mut stream, 2), ["data: {}\n", "\n"]);
    }

    #[test]
    fn operations_come_to_who_asks() {
        let Some(mut open) = Open::new(false, 8) else { return };
        let operations = open.hub.as_ref().unwrap().operations.clone();
        open.play(fixture::report(), HashMap::new());
        let mut stream = stream(&open, "GET /api/v1/events?operations=1 HTTP/1.0");
        lines(&mut stream, 1);
        operations.send("{\"acquired\":1}".into()).unwrap();
        assert_eq!(lines(&mut stream, 1), ["{\"acquired\":1}\n"]);
    }

    #[test]
    fn who_is_behind_is_told_and_goes_on() {
        let Some(open) = Open::new(false, 8) else { return };
        let mut stream = stream(&open, "GET /api/v1/events HTTP/1.0");
        lines(&mut stream, 1);
        let hub = open.hub.as_ref().unwrap();
        // Far more than the socket and all queues take; nobody reads meanwhile.
        let long: Arc<str> = format!("{{\"x\":\"{}\"}}", "x".repeat(10_000)).into();
        let sent = 20_000;
        for _ in 0..sent {
            hub.changes.send(Arc::clone(&long)).unwrap();
        }
        hub.changes.send("{\"last\":true}".into()).unwrap();
        let (mut heard, mut lost) = (0, 0);
        loop {
            let line = lines(&mut stream, 1).remove(0);
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            match event["lost"].as_u64() {
                Some(count) => lost += count,
                None if event["last"] == true => break,
                None => heard += 1,
            }
        }
        assert!(lost > 0 && heard > 0, "{heard} heard, {lost} lost");
        assert_eq!(heard + lost, sent);
        let numbers = exchange(open.tcp(), "GET /healthz");
        assert_eq!(status(&numbers.0), 200);
    }

    #[test]
    fn a_reader_that_has_gone_is_forgotten() {
        let Some(open) = Open::new(false, 8) else { return };
        let mut stream = stream(&open, "GET /api/v1/events HTTP/1.0");
        lines(&mut stream, 1);
        let hub = open.hub.as_ref().unwrap();
        assert_eq!(hub.changes.receiver_count(), 1);
        drop(stream);
        let deadline = std::time::Instant::now() + LONG;
        while hub.changes.receiver_count() > 0 {
            assert!(std::time::Instant::now() < deadline, "it is still there");
            thread::sleep(Duration::from_millis(2));
        }
    }
}
