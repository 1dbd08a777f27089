//! The agent's life: what it may, when it is ready, how it is set up anew, what it leaves behind.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs,
    mem::discriminant,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
};

use lockwatch_tests::{
    BpfObject, HostAgent, PATIENCE, Process, Scene, bpf_objects, document_of, ghost, in_flight, items, lockwatch_path,
    needs_bpf, needs_program, opened, taken, until,
};
use rustix::process::Signal;
use serde_json::Value;

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF (include/uapi/linux/capability.h): all that DESIGN section 6
/// allows an agent.
const ALLOWED: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39;

#[test]
fn every_thread_has_only_the_rights_that_a_look_takes() {
    if !needs_bpf("every_thread_has_only_the_rights_that_a_look_takes") {
        return;
    }
    let scene = Scene::new();
    let mut agent = HostAgent::start(&scene, "");
    let tasks = format!("/proc/{}/task", agent.process().pid());
    let threads: Vec<_> = fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path().join("status")).collect();
    // A thread may end before it is read.
    let statuses: Vec<_> = threads.iter().filter_map(|thread| fs::read_to_string(thread).ok()).collect();
    assert!(statuses.len() >= 2, "{threads:?}");
    for status in statuses {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            let rights = u64::from_str_radix(field(set), 16).unwrap();
            assert_eq!(rights & !ALLOWED, 0, "{set} {rights:x}");
        }
        assert_eq!((field("CapInh:"), field("CapAmb:")), ("0000000000000000", "0000000000000000"));
        assert_eq!(field("NoNewPrivs:"), "1");
    }
}

#[test]
fn what_is_orphaned_already_is_told_at_the_start() {
    if !needs_bpf("what_is_orphaned_already_is_told_at_the_start") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let receiver = in_flight(&scene, &path);
    let agent = HostAgent::start(&scene, "");
    let watcher = agent.watcher();
    let told = watcher.wait_about("orphaned", &path);
    let ready = watcher.wait_for("watching", |event| event.is("watching"));
    assert!(told.heard <= ready.heard, "the boot check comes first");
    receiver.kill();
    watcher.wait_about("cleared", &path);
}

#[test]
fn sigterm_ends_it_and_says_so() {
    if !needs_bpf("sigterm_ends_it_and_says_so") {
        return;
    }
    let scene = Scene::new();
    let mut agent = HostAgent::start(&scene, "");
    agent.process().signal(Signal::TERM);
    agent.notice("STOPPING=1");
    let status = agent.process().wait_within(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_watchdog_is_fed_by_the_engine() {
    if !needs_bpf("the_watchdog_is_fed_by_the_engine") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start_with(&scene, "", |command| {
        command.env("WATCHDOG_USEC", "10000000");
    });
    for _ in 0..2 {
        agent.notice("WATCHDOG=1");
    }
}

#[test]
fn a_reload_takes_all_or_nothing() {
    if !needs_bpf("a_reload_takes_all_or_nothing") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut agent = HostAgent::start(&scene, "hot_after = '1h'");
    let (_, _heir) = ghost(&scene, &path);
    let mut waiter = opened(&scene, &path);
    let _wait = waiter.wait_for(&path, "flock 9 ex");
    agent.watcher().wait_about("orphaned", &path);

    // A wrong line: the right one before it must not hold either.
    agent.configure("hot_after = '1ms'\nlisten_to = 'me'");
    agent.process().signal(Signal::HUP);
    agent.notice("RELOADING=1");
    let notice = agent.notice("READY=1");
    assert!(notice.contains("nothing has changed") && notice.contains("unknown key listen_to"), "{notice}");
    // What only a start can change is refused as a whole, too.
    agent.configure("hot_after = '1ms'\nmax_connections = 7");
    agent.process().signal(Signal::HUP);
    let notice = agent.notice("nothing has changed");
    assert!(notice.contains("agent.max_connections can only change with a restart"), "{notice}");
    assert!(!agent.watcher().events().iter().any(|event| event.is("hot") && event.about(&path)));

    agent.configure("hot_after = '100ms'");
    agent.process().signal(Signal::HUP);
    agent.notice("configuration reloaded");
    agent.watcher().wait_about("hot", &path);
}

#[test]
fn killed_it_leaves_nothing_and_another_sees_the_same() {
    if !needs_bpf("killed_it_leaves_nothing_and_another_sees_the_same") {
        return;
    }
    let scene = Scene::new();
    let (left, held) = (scene.file("left"), scene.file("held"));
    let _receiver = in_flight(&scene, &left);
    let _holder = taken(&scene, &held, "flock 9 ex");
    let mut agent = HostAgent::start(&scene, "");
    let before = picture(&agent, &[&left, &held]);
    let objects = bpf_objects(agent.process().pid());
    let kinds: HashSet<_> = objects.iter().map(discriminant).collect();
    assert_eq!(kinds.len(), 3, "programs, maps and links: {objects:?}");
    assert!(objects.iter().all(|object| object.exists()), "{objects:?}");
    agent.process().kill();
    // The kernel frees them after a grace period of its own.
    until("every BPF object is gone", || (!objects.iter().copied().any(BpfObject::exists)).then_some(()));

    let again = HostAgent::start(&scene, "");
    assert_eq!(picture(&again, &[&left, &held]), before);
    again.watcher().wait_about("orphaned", &left);
}

/// What this agent says of these files, but for what it has seen itself.
fn picture(agent: &HostAgent, paths: &[&Path]) -> Value {
    let mut args = ["list", "--json", "--api-socket"].map(OsString::from).to_vec();
    args.push(agent.api_socket().into());
    args.extend(paths.iter().map(OsString::from));
    let mut locks = document_of(args)["locks"].take();
    assert_eq!(items(&locks).len(), paths.len(), "{locks:#}");
    let all = locks.as_array_mut().into_iter().flatten();
    all.filter_map(Value::as_object_mut).for_each(|lock| drop(lock.remove("history")));
    locks
}

/// The journal's socket is at a fixed place: the agent sees ours there, in a mount namespace of its own.
#[test]
fn the_journal_gets_fields() {
    let name = "the_journal_gets_fields";
    if !needs_bpf(name) || !needs_program(name, "unshare") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let receiver = in_flight(&scene, &path);
    let journal = UnixDatagram::bind(scene.path("journal.sock")).unwrap();
    journal.set_read_timeout(Some(PATIENCE)).unwrap();
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && touch /run/systemd/journal/socket \
                  && mount --bind \"$JOURNAL\" /run/systemd/journal/socket && exec \"$@\"";
    let config = scene.path("journal.toml");
    let text = format!("[agent]\nlisten = 'none'\napi_socket = '{}'\n", scene.path("j.sock").display());
    fs::write(&config, text).unwrap();
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(lockwatch_path())
        .args(["agent", "--log", "journal", "--config"])
        .arg(&config)
        .env("JOURNAL", scene.path("journal.sock"))
        .spawn();
    let _agent = Process::of_child(child.unwrap());
    let entry = |event: &str| {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = journal.recv(&mut buffer).unwrap_or_else(|e| panic!("no entry of {event}: {e}"));
            let fields = fields(&buffer[..length]);
            let is = |name: &str, value: &str| fields.get(name).is_some_and(|found| found == value);
            if is("LOCKWATCH_EVENT", event) && is("LOCKWATCH_FILE", &path.to_string_lossy()) {
                return fields;
            }
        }
    };
    let orphaned = entry("orphaned");
    let next = format!("lockwatch explain {}", orphaned["LOCKWATCH_ID"]);
    for (name, value) in [
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "lockwatch"),
        ("LOCKWATCH_CAUSE", "in_flight"),
        ("LOCKWATCH_NEXT", next.as_str()),
    ] {
        assert_eq!(orphaned[name], value, "{orphaned:#?}");
    }
    assert!(orphaned["MESSAGE"].starts_with("ORPHANED") && orphaned["MESSAGE"].ends_with(&next), "{orphaned:#?}");
    receiver.kill();
    entry("cleared");
}

/// Fields of an entry as the journal takes them: `NAME=value`, or the name, eight bytes of length, and the value
/// (systemd.io/JOURNAL_NATIVE_PROTOCOL).
#[allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]
fn fields(entry: &[u8]) -> HashMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut fields = HashMap::new();
    let mut rest = entry;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                fields.insert(text(&line[..equals]), text(&line[equals + 1..]));
                rest = after;
            }
            None => {
                let (length, after) = after.split_first_chunk().unwrap();
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                fields.insert(text(line), text(&after[..length]));
                rest = &after[length + 1..];
            }
        }
    }
    fields
}
