//! Locks that no descriptor keeps, as the source without BPF sees them. Where some process may not be looked into, not
//! even by root, nothing is proven by elimination; what is found is listed all the same.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use lockwatch_tests::{Scene, becomes_free, items, locker::words::encode, needs_loop, needs_root, only, opened, taken};
use serde_json::Value;

/// The only lock of the file: its holders as `pid via`, sorted, after what must be true of every answer.
fn look(path: &Path) -> (Value, Vec<String>) {
    let lock = only("procfs", path);
    assert_eq!(lock["file"]["path"].as_str(), path.to_str());
    let mut holders: Vec<String> = items(&lock["holders"])
        .iter()
        .map(|holder| {
            assert!(holder["via"] == "fd" || holder["detail"].is_string(), "{holder}");
            format!("{} {}", holder["pid"], holder["via"].as_str().unwrap())
        })
        .collect();
    holders.sort();
    // A process that is closed to everybody may hold it too.
    if closed_to_all() {
        assert_eq!(lock["holders_complete"], false, "{lock:#}");
        assert_ne!(lock["verdict"], "orphaned", "{lock:#}");
    }
    (lock, holders)
}

fn closed_to_all() -> bool {
    fs::read_dir("/proc/1/fd").is_err()
}

fn detail(lock: &Value) -> &str {
    lock["holders"][0]["detail"].as_str().unwrap()
}

#[test]
fn a_message_in_flight_is_a_holder_and_arrives() {
    if !needs_root("a_message_in_flight_is_a_holder_and_arrives") {
        return;
    }
    for (kind, lock) in [("dgram", "flock 9 ex"), ("dgram", "ofd 9 w 0 9"), ("dgram", "lease 9 w")] {
        let scene = Scene::new();
        let path = scene.pages("lock");
        let mut sender = taken(&scene, &path, lock);
        let socket = scene.socket();
        let name = encode(socket.as_os_str().as_bytes());
        let mut receiver = scene.locker();
        let inbox: i32 = receiver.number(&format!("bind {name} {kind}"));
        sender.tell(&format!("sendfd 9 {name} {kind}"));
        let sender = sender.exit(0);
        let pid = receiver.pid();
        for _ in 0..3 {
            let (seen, holders) = look(&path);
            assert_eq!(holders, [format!("{pid} message")], "{lock}");
            let inode = fs::metadata(format!("/proc/{pid}/fd/{inbox}")).unwrap().ino();
            let expect =
                format!("queued in unix socket inode {inode} of pid {pid}, 1 descriptor; the socket is its fd {inbox}");
            assert_eq!(detail(&seen), expect);
            if lock.starts_with("flock") {
                assert_eq!(
                    (seen["acquirer"]["pid"].as_u64(), &seen["acquirer"]["state"]),
                    (Some(sender.into()), &"dead".into())
                );
            }
        }
        assert_eq!(receiver.tell(&format!("recvfd {inbox} as 7")), "7");
        assert_eq!(look(&path).1, [format!("{pid} fd")], "{lock}");
        receiver.tell("close 7");
        becomes_free(&path);
    }
}

#[test]
fn a_mapping_is_a_holder() {
    if !needs_root("a_mapping_is_a_holder") {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("lock");
    let mut locker = taken(&scene, &path, "flock 9 sh");
    let mut heir = locker.fork(&scene);
    let address: usize = heir.number("mmap 9");
    heir.tell("close 9");
    locker.kill();
    let (lock, holders) = look(&path);
    assert_eq!(holders, [format!("{} mapping", heir.pid())]);
    assert!(detail(&lock).starts_with(&format!("mapped at {address:x}-")), "{lock:#}");
    heir.tell(&format!("munmap {address}"));
    becomes_free(&path);
}

#[test]
fn a_descriptor_explains_a_lock_and_a_mapping_beside_it_does_not_matter() {
    if !needs_root("a_descriptor_explains_a_lock_and_a_mapping_beside_it_does_not_matter") {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("lock");
    let locker = taken(&scene, &path, "flock 9 ex");
    let mut other = opened(&scene, &path);
    other.tell("mmap 9");
    other.tell("close 9");
    assert_eq!(look(&path).1, [format!("{} fd", locker.pid())]);
}

#[test]
fn a_registered_file_is_a_holder() {
    if !needs_root("a_registered_file_is_a_holder") {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("lock");
    let mut locker = taken(&scene, &path, "flock 9 ex");
    let mut heir = locker.fork(&scene);
    let ring: i32 = heir.number("uring 9");
    heir.tell("close 9");
    locker.kill();
    let (lock, holders) = look(&path);
    assert_eq!(holders, [format!("{} io_uring", heir.pid())]);
    assert_eq!(detail(&lock), format!("registered with io_uring fd {ring}"));
}

#[test]
fn a_loop_device_is_a_holder() {
    let name = "a_loop_device_is_a_holder";
    if !needs_root(name) || !needs_loop(name) {
        return;
    }
    let scene = Scene::new();
    let path = scene.pages("lock");
    let mut locker = taken(&scene, &path, "flock 9 ex");
    let device = locker.attach_loop(3);
    locker.kill();
    let (lock, holders) = look(&path);
    assert_eq!(holders, ["null kernel"]);
    let device = device.name.display();
    assert_eq!(detail(&lock), format!("loop device {device} (losetup -d {device} detaches it)"));
}

#[test]
fn who_shares_the_table_holds_its_posix_locks() {
    if !needs_root("who_shares_the_table_holds_its_posix_locks") {
        return;
    }
    for lock in ["posix 9 w 0 9", "flock 9 ex"] {
        let scene = Scene::new();
        let path = scene.pages("lock");
        let mut locker = taken(&scene, &path, lock);
        let sharer = locker.clone_files(&scene);
        let both = |mut pids: Vec<String>| {
            pids.sort();
            pids
        };
        let expect = both(vec![format!("{} fd", locker.pid()), format!("{} fd", sharer.pid())]);
        assert_eq!(look(&path).1, expect, "{lock}");
        let dead = locker.kill();
        let (seen, holders) = look(&path);
        assert_eq!(holders, [format!("{} fd", sharer.pid())], "{lock}");
        assert_eq!((seen["acquirer"]["pid"].as_u64(), &seen["acquirer"]["state"]), (Some(dead.into()), &"dead".into()));
    }
}
