//! Too much of everything: tables that are too small, operations that are too many, a probe that somebody takes away.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Error, Result};
use lockwatch_tests::{
    ControlGroup, Event, Hierarchy, HostAgent, Metrics, PATIENCE, Process, Resident, Scene, ghost, needs_bpf, opened,
    program, taken, until,
};
use serde_json::Value;

/// As small as the configuration allows.
const SMALL: &str = "resync_min = '1s'\n\
    tables = { held = 64, waits = 64, processes = 64, watched = 64, ring = 4096 }";

#[test]
fn full_tables_make_no_false_orphan_and_are_over_when_it_is_quiet() {
    if !needs_bpf("full_tables_make_no_false_orphan_and_are_over_when_it_is_quiet") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, SMALL);
    let metrics = || Metrics::of(agent.address());
    until("the agent knows everything", || (metrics().get("lockwatch_state_exact") == 1.0).then_some(()));

    // More locks and processes than there is room for, and more waits.
    let crowd = crowd(&scene, 80, 5).unwrap();
    let contended = scene.file("contended");
    let mut holder = taken(&scene, &contended, "flock 9 ex");
    let mut waiter = opened(&scene, &contended);
    let waits: Vec<_> = (0..80).map(|_| waiter.wait_for(&contended, "flock 9 ex")).collect();
    until("the tables are full", || {
        let metrics = metrics();
        let full = |table: &str| metrics.get(&format!("lockwatch_table_full_total{{table=\"{table}\"}}")) > 0.0;
        let lost = |stage: &str| metrics.get(&format!("lockwatch_events_lost_total{{stage=\"{stage}\"}}")) > 0.0;
        let told = ["held", "waits", "processes"].iter().all(|name| full(name) && lost(name));
        (told && metrics.get("lockwatch_state_exact") == 0.0).then_some(())
    });
    // An orphan among them is found all the same.
    let path = scene.file("ghost");
    let (_, mut heir) = ghost(&scene, &path);
    agent.watcher().wait_about("orphaned", &path);
    heir.kill();
    agent.watcher().wait_about("cleared", &path);

    drop(crowd);
    holder.tell("unflock 9");
    waits.into_iter().for_each(|wait| waiter.granted(wait));
    until("everything is known again", || (metrics().get("lockwatch_state_exact") == 1.0).then_some(()));
    assert!(metrics().get("lockwatch_resyncs_total{reason=\"held\"}") >= 1.0);
    let told: Vec<Event> = agent.watcher().events();
    let false_ones =
        told.iter().filter(|event| event.is("orphaned") && in_dir(event, scene.dir()) && !event.about(&path));
    assert_eq!(false_ones.count(), 0, "{told:?}");

    // And it works as if nothing had been.
    let path = scene.file("another");
    let (_, mut heir) = ghost(&scene, &path);
    agent.watcher().wait_about("orphaned", &path);
    heir.kill();
    agent.watcher().wait_about("cleared", &path);
}

#[test]
fn a_probe_that_somebody_detaches_is_missed_and_attached_again() {
    if !needs_bpf("a_probe_that_somebody_detaches_is_missed_and_attached_again") {
        return;
    }
    for point in ["flock_lock_inode", "sched_process_exit"] {
        let scene = Scene::new();
        let agent = HostAgent::start_with(&scene, "", |command| {
            command.env("LOCKWATCH_FAULT_DETACH", point);
        });
        let metrics = || Metrics::of(agent.address());
        until("it is missed", || (metrics().get("lockwatch_resyncs_total{reason=\"detached\"}") == 1.0).then_some(()));
        agent.watcher().wait_for("lost", |event| event.is("lost"));
        until("everything is known again", || (metrics().get("lockwatch_state_exact") == 1.0).then_some(()));
        let path = scene.file("lock");
        let (_, mut heir) = ghost(&scene, &path);
        agent.watcher().wait_about("orphaned", &path);
        heir.kill();
        agent.watcher().wait_about("cleared", &path);
        assert_eq!(metrics().get("lockwatch_resyncs_total{reason=\"detached\"}"), 1.0, "{point}");
    }
}

#[test]
fn a_group_that_floods_the_trace_is_throttled_and_hides_no_orphan() {
    if !needs_bpf("a_group_that_floods_the_trace_is_throttled_and_hides_no_orphan") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, "trace_limit = 100");
    let stream = operations(agent.api_socket()).unwrap();
    let flooded = scene.file("flooded");
    let mut flood =
        Process::of_child(Command::new(program("mix")).arg("1").arg(&flooded).stdin(Stdio::null()).spawn().unwrap());
    let group = ControlGroup::new(Hierarchy::Unified);
    if let Some(group) = &group {
        group.add(flood.pid());
    }
    let mut lines = stream.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let throttled = lines.find(|event| event["event"] == "throttled").unwrap();
    assert!(throttled["group"]["cgroup"].is_u64(), "{throttled:#}");

    let path = scene.file("ghost");
    let (_, mut heir) = ghost(&scene, &path);
    agent.watcher().wait_about("orphaned", &path);
    heir.kill();
    agent.watcher().wait_about("cleared", &path);
    flood.kill();
    // One may have begun before the process came into its group.
    let over = lines.find(|event| event["event"] == "unthrottled" && event["group"] == throttled["group"]).unwrap();
    assert!(over["lost"].as_u64().is_some_and(|count| count > 0), "{over:#}");
    let metrics = Metrics::of(agent.address());
    assert_eq!(metrics.get("lockwatch_events_lost_total{stage=\"ring\"}"), 0.0);
    assert_eq!(metrics.get("lockwatch_state_exact"), 1.0);
}

/// So many processes with so many locks each.
fn crowd(scene: &Scene, processes: u32, locks: u32) -> Result<Resident> {
    let dir = scene.path("crowd");
    fs::create_dir(&dir)?;
    for process in 0..processes {
        for name in (0..locks).map(|lock| format!("{process}-{lock}")).chain([format!("{process}-ranges")]) {
            fs::write(dir.join(name), "")?;
        }
    }
    let mut many = Command::new(program("many"));
    many.args([processes.to_string(), locks.to_string()]).arg(&dir);
    Resident::start_saying(&mut many, &format!("ready {}", processes * locks)).map_err(Error::msg)
}

/// What an agent streams when it is asked for every operation.
fn operations(socket: &Path) -> Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /api/v1/events?operations=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    Ok(BufReader::new(stream))
}

fn in_dir(event: &Event, dir: &Path) -> bool {
    event.json["lock"]["file"]["path"].as_str().is_some_and(|path| Path::new(path).starts_with(dir))
}
