//! The locker itself, against the kernel: `/proc/locks` must say what the locker was told.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use lockwatch_tests::{
    Locker, Scene, becomes_free, holders, locker::words::encode, needs_loop, needs_root, proc_locks_of, until,
};
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

/// A locker that has a file open as fd 3 and has done `lock` with it.
fn locked(lock: &str) -> (Scene, PathBuf, Locker) {
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut locker = scene.locker();
    locker.open(&path, "rw");
    locker.tell(lock);
    (scene, path, locker)
}

/// Another one, that has nothing yet.
fn another(scene: &Scene, path: &Path) -> Locker {
    let mut locker = scene.locker();
    locker.open(path, "rw");
    locker
}

/// The lock lives, of the process of this number, and no descriptor of the file is left.
fn outlives(path: &Path, pid: u32) {
    assert_eq!(holders(path), []);
    assert_eq!(proc_locks_of(path).iter().map(|lock| lock.pid).collect::<Vec<_>>(), [Some(pid)]);
}

/// No lock is left.
fn is_free(path: &Path) {
    assert_eq!(proc_locks_of(path), []);
}

fn word(path: &Path) -> String {
    encode(path.as_os_str().as_bytes())
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
        let (scene, path, _first) = locked(lock);
        assert_eq!(another(&scene, &path).ask(other), Err("EAGAIN".into()), "{other}");
    }
}

/// Lock and unlock of the kinds that wait.
const KINDS: [(&str, &str); 3] =
    [("flock 3 ex", "unflock 3"), ("posix 3 w 0 0", "posixun 3 0 0"), ("ofd 3 w 0 0", "ofdun 3 0 0")];

#[test]
fn waits_until_granted_or_interrupted() {
    for (lock, unlock) in KINDS {
        let (scene, path, mut first) = locked(lock);
        let mut second = another(&scene, &path);

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
fn a_timer_ends_a_wait_or_interrupts_it() {
    for (lock, unlock) in KINDS {
        let (scene, path, mut first) = locked(lock);
        let mut second = another(&scene, &path);
        second.tell("timer 50");
        let wait = second.block_briefly(lock);
        second.ended(wait, "EINTR");

        second.tell("timer 0 restart");
        let wait = second.block_on(&path, lock);
        // It has been interrupted when the thread has given up its processor once more (proc_pid_status(5)).
        let before = switches(second.pid());
        second.process().signal(Signal::USR2);
        until("the signal has come", || (switches(second.pid()) > before).then_some(()));
        until("the wait goes on", || proc_locks_of(&path).iter().any(|lock| lock.waits).then_some(()));
        first.tell(unlock);
        second.granted(wait);
    }
}

fn switches(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_child_may_live_in_another_pid_namespace() {
    if !needs_root("a_child_may_live_in_another_pid_namespace") {
        return;
    }
    let (scene, path, mut parent) = locked("flock 3 ex");
    parent.tell("new-pids");
    let mut init = parent.fork(&scene);
    assert_eq!(init.tell("pid"), "1");
    let mut child = init.fork(&scene);
    assert_eq!(child.tell("pid"), "2");
    parent.kill();
    init.tell("close 3");
    assert_eq!(holders(&path), [(child.pid(), "locker".into())]);
    init.kill();
    is_free(&path);
    child.process().wait();
}

#[test]
fn leaves_its_lock_to_a_child_that_lives_on() {
    let (scene, path, mut parent) = locked("flock 3 ex");
    let mut child = parent.fork(&scene);
    child.tell("comm heir");
    child.tell("setsid");
    let parent = parent.kill();
    assert_eq!(proc_locks_of(&path)[0].pid, Some(parent));
    assert_eq!(holders(&path), [(child.pid(), "heir".into())]);
    child.tell("pidfile 3");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", child.pid()));
    child.kill();
    is_free(&path);
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
    is_free(&path);

    let (_scene, path, locker) = locked("ofd 3 w 0 0");
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
    is_free(&path);
}

#[test]
fn shares_its_table_of_descriptors() {
    // A POSIX lock belongs to the table, so it too outlives whoever took it.
    for lock in ["flock 3 ex", "posix 3 w 0 0"] {
        let (scene, path, mut first) = locked(lock);
        let mut sharer = first.clone_files(&scene);
        first.open(&path, "rw as 9");
        sharer.tell("close 9");
        assert_eq!(first.ask("close 9"), Err("EBADF".into()), "one has closed what the other has opened");
        if lock.starts_with("posix") {
            // Closing any descriptor of the file drops it (fcntl(2)).
            is_free(&path);
            first.tell(lock);
        }
        let first = first.kill();
        assert_eq!(proc_locks_of(&path)[0].pid, Some(first), "{lock}");
        assert_eq!(holders(&path), [(sharer.pid(), "locker".into())]);
        sharer.kill();
        is_free(&path);
    }
}

#[test]
fn sends_a_descriptor_in_a_message() {
    for kind in ["dgram", "stream", "seqpacket"] {
        let (scene, path, mut sender) = locked("flock 3 ex");
        let socket = word(&scene.socket());
        let mut receiver = scene.locker();
        let inbox: i32 = receiver.number(&format!("bind {socket} {kind}"));
        sender.tell(&format!("sendfd 3 {socket} {kind}"));
        let sender = sender.exit(0);
        // The descriptor is in the message alone; where one listens, in a connection that nobody has accepted.
        outlives(&path, sender);
        let inbox = if kind == "dgram" { inbox } else { receiver.number(&format!("accept {inbox}")) };
        assert_eq!(receiver.tell(&format!("recvfd {inbox} as 7")), "7");
        assert_eq!(holders(&path), [(receiver.pid(), "locker".into())], "{kind}");
        receiver.tell("close 7");
        is_free(&path);
    }
}

#[test]
fn sends_a_descriptor_to_itself() {
    for kind in ["dgram", "stream", "seqpacket"] {
        let (_scene, path, mut locker) = locked("flock 3 ex");
        assert_eq!(locker.tell(&format!("socketpair {kind}")), "4 5");
        locker.tell("sendfd 3 over 4");
        locker.tell("close 3");
        outlives(&path, locker.pid());
        // What waits in a queue goes with the queue.
        locker.tell("close 5");
        becomes_free(&path);
    }
}

#[test]
fn keeps_only_a_mapping() {
    let (_scene, path, mut locker) = locked("flock 3 ex");
    let address = locker.tell("mmap 3");
    locker.tell("close 3");
    outlives(&path, locker.pid());
    locker.tell(&format!("munmap {address}"));
    is_free(&path);
}

#[test]
fn keeps_only_a_registered_file() {
    let (_scene, path, mut locker) = locked("ofd 3 w 0 0");
    let ring = locker.tell("uring 3");
    locker.tell("close 3");
    assert_eq!(holders(&path), []);
    assert_eq!(proc_locks_of(&path).len(), 1);
    locker.tell(&format!("close {ring}"));
    // A ring ends in a worker of the kernel (io_uring/io_uring.c io_ring_exit_work).
    becomes_free(&path);
}

#[test]
fn leaves_its_lock_to_a_loop_device() {
    if !needs_loop("leaves_its_lock_to_a_loop_device") {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("disk");
    let mut locker = another(&scene, &path);
    locker.tell("flock 3 ex");
    let device = locker.attach_loop(3);
    let name = device.name.file_name().unwrap().to_str().unwrap().to_owned();
    let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).unwrap();
    assert_eq!(Path::new(backing.trim_end()), path);
    let locker = locker.kill();
    outlives(&path, locker);
    drop(device);
    becomes_free(&path);
}

#[test]
fn lives_on_without_its_leader() {
    let (_scene, path, mut locker) = locked("posix 3 w 0 0");
    locker.tell("leader-exit");
    let stat = fs::read_to_string(format!("/proc/{}/stat", locker.pid())).unwrap();
    assert!(stat.contains(") Z "), "{stat}");
    assert!(locker.process().lives());
    assert_eq!(shown(&path, &locker), ["posix write us 0-EOF"]);
    locker.tell("posixun 3 0 0");
    is_free(&path);
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
    let pid = another(&scene, &path).pid();
    until("the locker is gone", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    assert_eq!(holders(&path), []);
}
