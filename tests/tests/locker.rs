//! The locker itself, against the kernel: `/proc/locks` must say what the locker was told.

use std::{fs, os::unix::ffi::OsStrExt, path::Path};

use lockwatch_tests::{Locker, Scene, holders, locker::words::encode, proc_locks_of, until};
use rustix::process::Signal;

/// `kind mode pid range`, with `->` before those that wait and `us` for the locker's own number.
fn shown(path: &Path, us: &Locker) -> Vec<String> {
    let name = |pid: Option<u32>| match pid {
        Some(pid) if pid == us.pid() => "us".to_owned(),
        Some(pid) => pid.to_string(),
        None => "nobody".to_owned(),
    };
    let mut lines: Vec<_> = proc_locks_of(path)
        .iter()
        .map(|lock| {
            let arrow = if lock.waits { "-> " } else { "" };
            let end = lock.end.map_or("EOF".to_owned(), |end| end.to_string());
            format!("{arrow}{} {} {} {}-{end}", lock.kind, lock.mode, name(lock.pid), lock.start)
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn takes_every_kind_of_lock_and_lets_go() {
    let check = |how: &str, lock: &str, unlock: &str, expect: &[&str]| {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut locker = scene.locker();
        assert_eq!(locker.open(&path, &format!("{how} as 9")), 9);
        locker.tell(lock);
        assert_eq!(shown(&path, &locker), expect, "{lock}");
        locker.tell(unlock);
        assert_eq!(shown(&path, &locker), [""; 0], "{unlock}");
    };
    check("rw", "flock 9 ex", "unflock 9", &["flock write us 0-EOF"]);
    check("ro", "flock 9 sh", "close 9", &["flock read us 0-EOF"]);
    check("rw", "posix 9 w 0 0", "posixun 9 0 0", &["posix write us 0-EOF"]);
    check("rw", "posix 9 r 5 10", "close 9", &["posix read us 5-14"]);
    check("rw", "ofd 9 w 100 0", "ofdun 9 0 0", &["ofd write nobody 100-EOF"]);
    check("ro", "ofd 9 r 0 1", "close 9", &["ofd read nobody 0-0"]);
    check("ro", "lease 9 r", "unlease 9", &["lease read us 0-EOF"]);
    check("rw", "lease 9 w", "unlease 9", &["lease write us 0-EOF"]);
}

#[test]
fn is_refused_where_somebody_else_is() {
    for (lock, other) in [("flock 3 sh", "flock 3 ex"), ("posix 3 w 0 9", "ofd 3 r 8 1")] {
        let scene = Scene::new();
        let path = scene.file("lock");
        let (mut first, mut second) = (scene.locker(), scene.locker());
        first.open(&path, "rw");
        second.open(&path, "rw");
        first.tell(lock);
        assert_eq!(second.ask(other), Err("EAGAIN".into()), "{other}");
    }
}

#[test]
fn waits_until_granted_or_interrupted() {
    for (lock, unlock) in
        [("flock 3 ex", "unflock 3"), ("posix 3 w 0 0", "posixun 3 0 0"), ("ofd 3 w 0 0", "ofdun 3 0 0")]
    {
        let scene = Scene::new();
        let path = scene.file("lock");
        let (mut first, mut second) = (scene.locker(), scene.locker());
        first.open(&path, "rw");
        second.open(&path, "rw");
        first.tell(lock);

        let wait = second.wait_for(&path, lock);
        second.tell(&format!("interrupt {}", wait.0));
        second.ended(wait, "EINTR");

        let wait = second.block_on(&path, lock);
        second.process().signal(Signal::USR1);
        second.ended(wait, "EINTR");

        let wait = second.wait_for(&path, lock);
        first.tell(unlock);
        second.granted(wait);
        assert_eq!(proc_locks_of(&path).len(), 1);
    }
}

#[test]
fn leaves_its_lock_to_a_child_that_lives_on() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut parent = scene.locker();
    parent.open(&path, "rw");
    parent.tell("flock 3 ex");
    let mut child = parent.fork(&scene);
    child.tell("comm heir");
    child.tell("setsid");
    let parent = parent.kill();
    assert_eq!(proc_locks_of(&path)[0].pid, Some(parent));
    assert_eq!(holders(&path), [(child.pid(), "heir".into())]);
    child.tell("pidfile 3");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", child.pid()));
    child.kill();
    assert_eq!(proc_locks_of(&path), []);
}

#[test]
fn leaves_its_lock_to_another_program() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut locker = scene.locker();
    locker.open(&path, "rw as 0");
    locker.tell("flock 0 ex");
    let mut sleep = locker.spawn("sleep 60");
    let code = locker.exit(3);
    assert_eq!(holders(&path), [(sleep.pid(), "sleep".into())]);
    assert_eq!(proc_locks_of(&path)[0].pid, Some(code));
    sleep.kill();
    assert_eq!(proc_locks_of(&path), []);

    let mut locker = scene.locker();
    locker.open(&path, "rw");
    locker.tell("ofd 3 w 0 0");
    let sleep = locker.exec("sleep 60");
    assert_eq!(holders(&path), [(sleep.pid(), "sleep".into())]);
    assert_eq!(proc_locks_of(&path).len(), 1);
}

#[test]
fn close_on_exec_keeps_a_descriptor_home() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut locker = scene.locker();
    locker.open(&path, "rw cloexec");
    locker.tell("flock 3 ex");
    let _sleep = locker.spawn("sleep 60");
    locker.kill();
    assert_eq!(proc_locks_of(&path), []);
}

#[test]
fn sends_a_descriptor_in_a_message() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let socket = scene.socket();
    let word = encode(socket.as_os_str().as_bytes());
    let (mut sender, mut receiver) = (scene.locker(), scene.locker());
    assert_eq!(receiver.tell(&format!("bind {word}")), "3");
    sender.open(&path, "rw");
    sender.tell("flock 3 ex");
    sender.tell(&format!("sendfd 3 {word}"));
    let sender = sender.exit(0);
    assert_eq!(holders(&path), [], "the descriptor is in the message alone");
    assert_eq!(proc_locks_of(&path)[0].pid, Some(sender));
    assert_eq!(receiver.tell("recvfd 3 as 7"), "7");
    assert_eq!(holders(&path), [(receiver.pid(), "locker".into())]);
    receiver.tell("close 7");
    assert_eq!(proc_locks_of(&path), []);
}

#[test]
fn lives_on_without_its_leader() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut locker = scene.locker();
    locker.open(&path, "rw");
    locker.tell("posix 3 w 0 0");
    locker.tell("leader-exit");
    let stat = fs::read_to_string(format!("/proc/{}/stat", locker.pid())).unwrap();
    assert!(stat.contains(") Z "), "{stat}");
    assert!(locker.process().lives());
    assert_eq!(shown(&path, &locker), ["posix write us 0-EOF"]);
    locker.tell("posixun 3 0 0");
    assert_eq!(proc_locks_of(&path), []);
    locker.exit(0);
}

#[test]
fn dies_as_told() {
    let scene = Scene::new();
    let mut parent = scene.locker();
    let mut child = parent.fork(&scene);
    let pid = child.pid();
    assert_eq!(child.ask("dance"), Err("unknown command: dance".into()));
    child.process().signal(Signal::TERM);
    child.process().wait();
    assert_eq!(parent.tell(&format!("wait {pid}")), "signal 15");
    let child = parent.fork(&scene).exit(7);
    assert_eq!(parent.tell(&format!("wait {child}")), "code 7");
}

#[test]
fn ends_when_its_test_does() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let pid = {
        let mut locker = scene.locker();
        locker.open(&path, "rw");
        locker.pid()
    };
    until("the locker is gone", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    assert_eq!(holders(&path), []);
}
