//! Holders without a descriptor of the file, or with one that is not theirs alone.

use std::{fs, path::Path};

use super::{Cast, PEACE, Scenario, stage::socket};
use crate::{Locker, Scene, needs_loop, taken};

pub(super) const SCENES: &[Scenario] = &[
    Scenario::new("in flight", in_flight, "orphaned/in_flight", "orphaned/in_flight").says(&["socket"]),
    Scenario::new("in flight, nobody has accepted", in_embryo, "orphaned/in_flight", "orphaned/in_flight")
        .says(&["socket"]),
    Scenario::new("in flight in a socket pair", in_pair, "orphaned/in_flight", "orphaned/in_flight").says(&["socket"]),
    Scenario::new("in flight to its living acquirer", to_itself, "held", PEACE),
    Scenario::new("mapped only, by an heir", mapped, "orphaned/mapped", "orphaned/mapped").says(&["map"]),
    Scenario::new("mapped only, by its acquirer", mapped_by_acquirer, "held", PEACE),
    Scenario::new("io_uring registered, by an heir", ring, "orphaned/io_uring", "orphaned/io_uring")
        .says(&["io_uring"]),
    Scenario::new("io_uring registered, by its acquirer", ring_of_acquirer, "held", PEACE),
    Scenario::new("CLONE_FILES with flock", shared_flock, "orphaned/inherited", "orphaned/shared_files"),
    Scenario::new("CLONE_FILES with POSIX", shared_posix, "orphaned/shared_files", "orphaned/shared_files"),
    Scenario::new("CLONE_FILES with POSIX, both live", shared_by_both, "held", PEACE),
    Scenario::new("loop device", loop_device, "orphaned/kernel", "orphaned/kernel")
        .says(&["/dev/loop"])
        .needs(needs_loop),
];

/// The sender has ended well, and the message waits in a datagram socket.
fn in_flight(scene: &Scene, path: &Path) -> Cast {
    let mut receiver = scene.locker();
    let socket = socket(scene);
    receiver.tell(&format!("bind {socket}"));
    let mut sender = taken(scene, path, "flock 9 ex");
    sender.tell(&format!("sendfd 9 {socket}"));
    Cast::of(path).of_dead(sender.exit(0)).held_by(receiver.pid(), "message").keep(receiver)
}

/// The message waits in a connection that has no descriptor yet.
fn in_embryo(scene: &Scene, path: &Path) -> Cast {
    let mut receiver = scene.locker();
    let socket = socket(scene);
    receiver.tell(&format!("bind {socket} stream"));
    let mut sender = taken(scene, path, "flock 9 ex");
    sender.tell(&format!("sendfd 9 {socket} stream"));
    Cast::of(path).of_dead(sender.kill()).held_by(receiver.pid(), "message").keep(receiver)
}

/// The child has inherited the receiving end.
fn in_pair(scene: &Scene, path: &Path) -> Cast {
    let (mut sender, sockets) = with_pair(scene, path);
    let mut child = sender.fork(scene);
    child.tell("close 9");
    child.tell(&format!("close {}", sockets[0]));
    sender.tell(&format!("sendfd 9 over {}", sockets[0]));
    Cast::of(path).of_dead(sender.kill()).held_by(child.pid(), "message").keep(child)
}

fn to_itself(scene: &Scene, path: &Path) -> Cast {
    let (mut locker, sockets) = with_pair(scene, path);
    locker.tell(&format!("sendfd 9 over {}", sockets[0]));
    locker.tell("close 9");
    Cast::of(path).of_living(locker.pid()).held_by(locker.pid(), "message").keep(locker)
}

fn with_pair(scene: &Scene, path: &Path) -> (Locker, [String; 2]) {
    let mut locker = taken(scene, path, "flock 9 ex");
    let pair = locker.tell("socketpair seqpacket");
    let (one, other) = pair.split_once(' ').unwrap_or_else(|| panic!("{pair:?} is no pair"));
    (locker, [one.to_owned(), other.to_owned()])
}

fn mapped(scene: &Scene, path: &Path) -> Cast {
    left_to_child(scene, path, "mmap 9", "mapping")
}

fn mapped_by_acquirer(scene: &Scene, path: &Path) -> Cast {
    kept(scene, path, "mmap 9", "mapping")
}

fn ring(scene: &Scene, path: &Path) -> Cast {
    left_to_child(scene, path, "uring 9", "io_uring")
}

fn ring_of_acquirer(scene: &Scene, path: &Path) -> Cast {
    kept(scene, path, "uring 9", "io_uring")
}

/// A child keeps the file by `how` and closes its descriptor; its parent is killed.
fn left_to_child(scene: &Scene, path: &Path, how: &str, via: &'static str) -> Cast {
    let mut parent = taken(scene, path, "flock 9 ex");
    let mut child = parent.fork(scene);
    child.tell(how);
    child.tell("close 9");
    Cast::of(path).of_dead(parent.kill()).held_by(child.pid(), via).keep(child)
}

/// The acquirer itself keeps it so.
fn kept(scene: &Scene, path: &Path, how: &str, via: &'static str) -> Cast {
    let mut locker = taken(scene, path, "flock 9 ex");
    locker.tell(how);
    locker.tell("close 9");
    Cast::of(path).of_living(locker.pid()).held_by(locker.pid(), via).keep(locker)
}

fn shared_flock(scene: &Scene, path: &Path) -> Cast {
    shared(scene, path, "flock 9 ex")
}

fn shared_posix(scene: &Scene, path: &Path) -> Cast {
    shared(scene, path, "posix 9 w 0 0")
}

fn shared(scene: &Scene, path: &Path, lock: &str) -> Cast {
    let mut first = taken(scene, path, lock);
    let sharer = first.clone_files(scene);
    Cast::of(path).of_dead(first.kill()).held_by(sharer.pid(), "fd").keep(sharer)
}

fn shared_by_both(scene: &Scene, path: &Path) -> Cast {
    let mut first = taken(scene, path, "posix 9 w 0 0");
    let sharer = first.clone_files(scene);
    let cast = Cast::of(path).of_living(first.pid()).held_by(first.pid(), "fd").held_by(sharer.pid(), "fd");
    cast.keep(first).keep(sharer)
}

fn loop_device(scene: &Scene, path: &Path) -> Cast {
    fs::write(path, vec![0; 1 << 16]).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    let mut locker = taken(scene, path, "flock 9 ex");
    let device = locker.attach_loop(9);
    Cast::of(path).of_dead(locker.kill()).held_by(0, "kernel").keep(device)
}
