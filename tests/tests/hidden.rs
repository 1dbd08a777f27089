//! Locks that no descriptor keeps, as BPF finds their holders by the kernel's own pointers.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use lockwatch_tests::{Scene, becomes_free, items, locker::words::encode, needs_bpf, needs_loop, only, taken};

/// The only lock of the file is orphaned for this cause, and kept by this alone: `pid via`. Its detail.
fn orphaned(path: &Path, cause: &str, holder: &str) -> String {
    let lock = only("bpf", path);
    assert_eq!((&lock["verdict"], &lock["cause"]), (&"orphaned".into(), &cause.into()), "{lock:#}");
    assert_eq!(lock["holders_complete"], true, "{lock:#}");
    assert_eq!(lock["file"]["path"].as_str(), path.to_str(), "{lock:#}");
    let holders: Vec<String> =
        items(&lock["holders"]).iter().map(|h| format!("{} {}", h["pid"], h["via"].as_str().unwrap())).collect();
    assert_eq!(holders, [holder], "{lock:#}");
    lock["holders"][0]["detail"].as_str().unwrap_or_else(|| panic!("no detail: {lock:#}")).to_owned()
}

fn inode_of(pid: u32, fd: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/fd/{fd}")).unwrap().ino()
}

#[test]
fn messages_in_flight() {
    if !needs_bpf("messages_in_flight") {
        return;
    }
    for (kind, lock, before) in [("dgram", "flock 9 ex", 0), ("dgram", "flock 9 sh", 2), ("stream", "flock 9 ex", 0)] {
        let scene = Scene::new();
        let path = scene.pages("lock");
        let mut sender = taken(&scene, &path, lock);
        let socket = scene.socket();
        let name = encode(socket.as_os_str().as_bytes());
        let mut receiver = scene.locker();
        let inbox: i32 = receiver.number(&format!("bind {name} {kind}"));
        if before > 0 {
            let mut other = scene.locker();
            other.open(Path::new("/dev/null"), "ro");
            (0..before).for_each(|_| drop(other.tell(&format!("sendfd 3 {name} {kind}"))));
        }
        sender.tell(&format!("sendfd 9 {name} {kind}"));
        sender.kill();
        let pid = receiver.pid();
        let queue = if kind == "stream" { "a connection not yet accepted from unix socket" } else { "unix socket" };
        let behind = if before > 0 { format!(", behind {before} messages") } else { String::new() };
        let expect = format!(
            "queued in {queue} inode {} of pid {pid}, 1 descriptor; the socket is its fd {inbox}{behind}",
            inode_of(pid, inbox)
        );
        assert_eq!(orphaned(&path, "in_flight", &format!("{pid} message")), expect);
    }
}

#[test]
fn a_received_message_is_a_descriptor() {
    if !needs_bpf("a_received_message_is_a_descriptor") {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("lock");
    let mut sender = taken(&scene, &path, "flock 9 ex");
    let name = encode(scene.socket().as_os_str().as_bytes());
    let mut receiver = scene.locker();
    let inbox: i32 = receiver.number(&format!("bind {name} dgram"));
    sender.tell(&format!("sendfd 9 {name} dgram"));
    sender.tell("close 9");
    let via = || {
        let lock = only("bpf", &path);
        (lock["verdict"].as_str().unwrap().to_owned(), lock["holders"][0]["via"].as_str().unwrap().to_owned())
    };
    // A process of the sender's number lives and holds nothing. Nobody watched, so it may be another than the sender.
    assert_eq!(via(), ("unknown".to_owned(), "message".to_owned()));
    receiver.tell(&format!("recvfd {inbox} as 7"));
    assert_eq!(via(), ("unknown".to_owned(), "fd".to_owned()));
    receiver.tell("close 7");
    becomes_free(&path);
}

#[test]
fn mappings_and_rings_of_an_heir() {
    if !needs_bpf("mappings_and_rings_of_an_heir") {
        return;
    }
    for (how, cause, via) in [("mmap 9", "mapped", "mapping"), ("uring 9", "io_uring", "io_uring")] {
        let scene = Scene::new();
        let path = scene.pages("lock");
        let mut locker = taken(&scene, &path, "flock 9 ex");
        let mut heir = locker.fork(&scene);
        let place: u64 = heir.number(how);
        heir.tell("close 9");
        locker.kill();
        let detail = orphaned(&path, cause, &format!("{} {via}", heir.pid()));
        match via {
            "mapping" => assert!(detail.starts_with(&format!("mapped at {place:x}-")), "{detail}"),
            _ => assert_eq!(detail, format!("registered as file 0 of io_uring fd {place}")),
        }
    }
}

#[test]
fn loop_devices() {
    if !needs_bpf("loop_devices") || !needs_loop("loop_devices") {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("lock");
    let mut locker = taken(&scene, &path, "flock 9 ex");
    let device = locker.attach_loop(3);
    locker.kill();
    let name = device.name.display();
    let expect = format!("loop device {name} (losetup -d {name} detaches it)");
    assert_eq!(orphaned(&path, "kernel", "null kernel"), expect);
}

#[test]
fn a_shared_file_table() {
    if !needs_bpf("a_shared_file_table") {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("lock");
    let mut locker = taken(&scene, &path, "posix 9 w 0 9");
    let sharer = locker.clone_files(&scene);
    locker.kill();
    let detail = orphaned(&path, "shared_files", &format!("{} fd", sharer.pid()));
    assert_eq!(detail, "shares its file table with the dead acquirer");
}
