//! The agent under what its unit gives it: the user, the capabilities, the sockets, no network, nothing to write to. There
//! need be no systemd for that: setpriv(1) does what the unit says, and the test makes the sockets. What only systemd could
//! do is left to it: control groups, devices, and the filter of system calls, which are compared with it instead.

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path};

use lockwatch_tests::{
    Door, HostAgent, Metrics, PATIENCE, Scene, Service, User, ask_tcp, ask_unix, document_of, in_flight, items,
    lockwatch_path, needs_bpf, needs_program, taken, until,
};
use rustix::process::Signal;
use serde_json::Value;

/// The five of the unit, less CAP_SETPCAP (include/uapi/linux/capability.h).
const ALLOWED: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39;

fn can(name: &str) -> bool {
    needs_bpf(name) && ["setpriv", "unshare", "mount"].iter().all(|program| needs_program(name, program))
}

/// An agent with all that the unit gives it.
fn service(scene: &Scene, config: &str) -> HostAgent {
    HostAgent::start_as_service(scene, config, &[], &Service::read("lockwatch.service").rights(User::AGENT))
}

#[test]
fn it_works_with_what_its_unit_gives_it() {
    if !can("it_works_with_what_its_unit_gives_it") {
        return;
    }
    let scene = Scene::new();
    let (held, left) = (scene.file("held"), scene.file("left"));
    let holder = taken(&scene, &held, "flock 9 ex");
    let _receiver = in_flight(&scene, &left);
    let mut agent = service(&scene, "hot_after = '1h'");

    let status = format!("/proc/{}/task", agent.process().pid());
    for task in fs::read_dir(status).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            let rights = u64::from_str_radix(field(set), 16).unwrap();
            assert_eq!(rights & !ALLOWED, 0, "{set} {rights:x}");
        }
        assert_eq!((field("CapInh:"), field("CapAmb:")), ("0000000000000000", "0000000000000000"));
        assert_eq!((field("NoNewPrivs:"), field("Groups:")), ("1", ""));
        let uid = User::AGENT.uid().to_string();
        assert!(field("Uid:").split_whitespace().all(|one| one == uid), "{}", field("Uid:"));
    }

    // What it says of root's processes, by the socket that it was given.
    let asked = |path: &Path| {
        let mut args = ["list", "--json", "--api-socket"].map(OsString::from).to_vec();
        args.extend([agent.api_socket().into(), path.into()]);
        let mut document = document_of(args);
        assert_eq!(items(&document["locks"]).len(), 1, "{document:#}");
        document["locks"][0].take()
    };
    let lock = asked(&held);
    assert_eq!((lock["verdict"].as_str(), lock["file"]["path"].as_str()), (Some("held"), held.to_str()), "{lock:#}");
    for person in [&lock["acquirer"], &lock["holders"][0]] {
        assert_eq!((&person["pid"], &person["uid"]), (&holder.pid().into(), &0.into()), "{lock:#}");
        assert!(person["exe"].as_str().is_some_and(|exe| exe.ends_with("/locker")), "{lock:#}");
    }
    let lock = asked(&left);
    assert_eq!((lock["verdict"].as_str(), lock["cause"].as_str()), (Some("orphaned"), Some("in_flight")), "{lock:#}");
    // Whoever takes one now is seen by probes.
    let later = scene.file("later");
    let _taker = taken(&scene, &later, "flock 9 ex");
    let lock = asked(&later);
    assert!(lock["acquired_at"].is_string(), "{lock:#}");

    agent.configure("hot_after = '50ms'");
    agent.process().signal(Signal::HUP);
    agent.notice("configuration reloaded");
    assert_eq!(Metrics::of(agent.address()).get("lockwatch_config_last_reload_successful"), 1.0);
    agent.process().signal(Signal::TERM);
    agent.notice("STOPPING=1");
    assert!(agent.process().wait_within(PATIENCE).is_some_and(|status| status.success()));
    assert!(agent.api_socket().exists(), "the socket is not its own to take away");
    assert_eq!(fs::read_to_string(scene.path("agent.log")).unwrap(), "", "it has nothing to complain of");
}

/// A policy's clears are asked for by the agent's user, who may have nothing else cleared.
#[test]
fn policies_are_carried_out_as_the_agents_user() {
    if !can("policies_are_carried_out_as_the_agents_user") {
        return;
    }
    let scene = Scene::new();
    fs::create_dir(scene.path("locks")).unwrap();
    let (meant, other) = (scene.file("locks/meant"), scene.file("other"));
    let _receivers = [&meant, &other].map(|path| in_flight(&scene, path));
    let said = format!(
        "agent_user = '{}'\n[[policy]]\nname = 'stale'\nmatch.paths = ['{}/*']\nmin_age = '0s'\naction = 'clear'\n\
         stage = 'enforce'",
        User::AGENT.uid(),
        scene.path("locks").display()
    );
    let door = Door::open(&scene, &format!("settle = '0s'\n{said}"));
    // root's alone, as the record of a real host.
    let log = scene.path("door/log/audit.jsonl");
    let config =
        format!("interval = '100ms'\ncontrol_socket = {:?}\n[control]\naudit_log = {log:?}\n{said}", door.socket());
    let agent = service(&scene, &config);
    until("the policy's lock is cleared", || {
        let done = |record: &Value| record["phase"] == "outcome" && record["outcome"] == "cleared";
        let records = door.records();
        let record = records.iter().find(|record| done(record))?;
        assert_eq!((&record["actor"]["uid"], &record["reason"]), (&User::AGENT.uid().into(), &"policy stale".into()));
        assert_eq!(record["file"].as_str(), meant.to_str());
        Some(())
    });
    until("it is counted from the record", || {
        let cleared = "lockwatch_clears_total{method=\"release\",outcome=\"cleared\"}";
        (Metrics::of(agent.address()).get(cleared) == 1.0).then_some(())
    });

    // Whoever has become the agent has no more than that.
    let id = document_of([OsString::from("orphans"), "--json".into(), other.into()])["locks"][0]["id"].take();
    let id = id.as_str().unwrap();
    for args in [&["clear", id, "--dry-run"][..], &["clear", id, "--method", "kill", "--dry-run"]] {
        let run = door.lockwatch(User::AGENT, args);
        let document: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!((run.code, document["outcome"].as_str()), (Some(3), Some("refused")), "{document:#}");
    }
}

/// Every call from its start to its end is one that the unit allows.
#[test]
fn its_calls_are_those_that_its_unit_allows() {
    let name = "its_calls_are_those_that_its_unit_allows";
    if !can(name) || !needs_program(name, "strace") || !needs_program(name, "systemd-analyze") {
        return;
    }
    let scene = Scene::new();
    let left = scene.file("left");
    let _receiver = in_flight(&scene, &left);
    let service = Service::read("lockwatch.service");
    let trace = scene.path("trace");
    // -D: what is traced keeps its number, which is that of LISTEN_PID.
    let strace = ["strace", "-D", "-f", "-q", "-o", trace.to_str().unwrap()];
    let mut agent = HostAgent::start_as_service(&scene, "", &strace, &service.rights(User::AGENT));
    agent.watcher().wait_about("orphaned", &left);
    for page in ["/", "/metrics", "/api/v1/locks"] {
        assert_eq!(ask_unix(agent.api_socket(), &format!("GET {page}"), &[]).status, 200, "{page}");
    }
    assert_eq!(ask_tcp(agent.address(), "GET /metrics", &[]).status, 200);
    agent.process().signal(Signal::HUP);
    agent.notice("configuration reloaded");
    agent.process().signal(Signal::TERM);
    assert!(agent.process().wait_within(PATIENCE).is_some_and(|status| status.success()));

    let pid = agent.process().pid().to_string();
    let ended = |line: &str| line.strip_prefix(&pid).is_some_and(|said| said.trim() == "+++ exited with 0 +++");
    let text = until("strace has written all of it", || {
        fs::read_to_string(&trace).ok().filter(|text| text.lines().any(ended))
    });
    // It begins where setpriv becomes it.
    let program = format!("execve({:?}", lockwatch_path());
    let calls = text.lines().skip_while(|line| !line.contains(&program));
    let calls: BTreeSet<&str> = calls.filter_map(call).collect();
    assert!(["bpf", "capset", "accept4"].iter().all(|call| calls.contains(call)), "{calls:?}");
    let allowed = service.calls();
    let refused: Vec<_> = calls.iter().filter(|call| !allowed.contains(**call)).collect();
    assert_eq!(refused, [&""; 0], "add them to SystemCallFilter=, or do without");
}

/// `4711 bpf(BPF_MAP_CREATE, …`.
fn call(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}
