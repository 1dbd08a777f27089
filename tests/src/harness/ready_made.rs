//! Lockers that have something already, and what they leave behind: how most tests begin.

use std::{os::unix::ffi::OsStrExt, path::Path};

use super::{locker::Locker, process::Process, scene::Scene};
use crate::locker::words::encode;

/// How to take the file that is open as fd 9 and how to let it go, by kind of lock.
pub const KINDS: [(&str, &str); 3] =
    [("flock 9 ex", "unflock 9"), ("posix 9 w 5 10", "posixun 9 5 10"), ("ofd 9 w 5 10", "ofdun 9 5 10")];

/// A locker that has the file open as fd 9.
pub fn opened(scene: &Scene, path: &Path) -> Locker {
    let mut locker = scene.locker();
    locker.open(path, "rw as 9");
    locker
}

/// A locker that has the file open as fd 9 and has done `lock` with it.
pub fn taken(scene: &Scene, path: &Path, lock: &str) -> Locker {
    let mut locker = opened(scene, path);
    locker.tell(lock);
    locker
}

/// A ghost: its acquirer was killed, and another program inherited the descriptor. The acquirer's number, and the heir.
pub fn ghost(scene: &Scene, path: &Path) -> (u32, Process) {
    let mut parent = taken(scene, path, "flock 9 ex");
    let heir = parent.spawn("sleep 60");
    (parent.kill(), heir)
}

/// A lock that is orphaned whoever looks, and however many processes this host has started: its taker is dead, and its
/// descriptor waits in a socket of this locker, who knows nothing of it.
pub fn in_flight(scene: &Scene, path: &Path) -> Locker {
    let mut receiver = scene.locker();
    let socket = encode(scene.socket().as_os_str().as_bytes());
    receiver.tell(&format!("bind {socket}"));
    let mut sender = taken(scene, path, "flock 9 ex");
    sender.tell(&format!("sendfd 9 {socket}"));
    sender.exit(0);
    receiver
}
