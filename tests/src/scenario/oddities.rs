//! Odd processes, odd files, and several locks of one file.

use std::{fs, path::Path};

use rustix::fs::{Mode, OFlags, open};

use super::{Cast, PEACE, Scenario, reuse};
use crate::{Scene, ghost, needs_root, opened, taken};

pub(super) const SCENES: &[Scenario] = &[
    Scenario::new("two readers, one of them a ghost", readers, "held", PEACE),
    Scenario::new("zombie leader", zombie_leader, "held", PEACE),
    Scenario::new("zombie", zombie, "orphaned/inherited", "orphaned/leaked"),
    // For all that can be seen afterwards, the process of that number has taken the lock and passed it on.
    Scenario::new("PID reuse", reuse::reused, "unknown", "orphaned/child").needs(reuse::needed).alone(),
    Scenario::new("pid namespace, held", inside, "held", PEACE).needs(needs_root),
    Scenario::new("pid namespace, child heir", heir_inside, "orphaned/inherited", "orphaned/child").needs(needs_root),
    Scenario::new("deleted file", deleted, "orphaned/inherited", "orphaned/leaked"),
    Scenario::new("lease", lease, "held", PEACE),
    Scenario::new("lease, being broken", breaking, "held", PEACE),
    Scenario::new("lease, child heir", inherited_lease, "orphaned/inherited", "orphaned/child"),
];

/// Two open file descriptions share a lock; one has lost its owner.
fn readers(scene: &Scene, path: &Path) -> Cast {
    let mut first = taken(scene, path, "flock 9 sh");
    let second = taken(scene, path, "flock 9 sh");
    let heir = first.spawn("sleep 60");
    Cast::of(path)
        .of_dead(first.kill())
        .held_by(heir.pid(), "fd")
        .judged("orphaned/inherited", "orphaned/leaked")
        .and(path)
        .of_living(second.pid())
        .held_by(second.pid(), "fd")
        .keep(heir)
        .keep(second)
}

/// The main thread is gone, another one lives.
fn zombie_leader(scene: &Scene, path: &Path) -> Cast {
    let mut locker = taken(scene, path, "flock 9 ex");
    locker.tell("leader-exit");
    Cast::of(path).of_living(locker.pid()).held_by(locker.pid(), "fd").keep(locker)
}

/// Dead, and nobody has waited for it: its number and its name are still in /proc.
fn zombie(scene: &Scene, path: &Path) -> Cast {
    let mut parent = scene.locker();
    let mut child = parent.fork(scene);
    child.open(path, "rw");
    child.tell("flock 3 ex");
    let heir = child.spawn("sleep 60");
    Cast::of(path).of_dead(child.kill()).held_by(heir.pid(), "fd").keep(parent).keep(heir)
}

/// Everybody in a pid namespace of their own; numbers are this one's.
fn inside(scene: &Scene, path: &Path) -> Cast {
    let mut outer = scene.locker();
    outer.tell("new-pids");
    let mut init = outer.fork(scene);
    let mut locker = init.fork(scene);
    locker.open(path, "rw as 9");
    locker.tell("flock 9 ex");
    let cast = Cast::of(path).of_living(locker.pid()).held_by(locker.pid(), "fd");
    cast.keep(outer).keep(locker).keep(init)
}

fn heir_inside(scene: &Scene, path: &Path) -> Cast {
    let mut outer = scene.locker();
    outer.tell("new-pids");
    let mut init = outer.fork(scene);
    let mut parent = init.fork(scene);
    parent.open(path, "rw as 9");
    parent.tell("flock 9 ex");
    let child = parent.fork(scene);
    let cast = Cast::of(path).of_dead(parent.kill()).held_by(child.pid(), "fd");
    cast.keep(outer).keep(child).keep(init)
}

fn deleted(scene: &Scene, path: &Path) -> Cast {
    let (dead, heir) = ghost(scene, path);
    let cast = Cast::of(path).deleted().of_dead(dead).held_by(heir.pid(), "fd").keep(heir);
    fs::remove_file(path).unwrap_or_else(|e| panic!("remove {}: {e}", path.display()));
    cast
}

fn lease(scene: &Scene, path: &Path) -> Cast {
    let locker = taken(scene, path, "lease 9 w");
    Cast::of(path).of_living(locker.pid()).held_by(locker.pid(), "fd").keep(locker)
}

/// Somebody opens the file; its lease's owner has been told (SIGIO) and has not answered yet.
fn breaking(scene: &Scene, path: &Path) -> Cast {
    let mut locker = opened(scene, path);
    locker.tell("ignore 29");
    locker.tell("lease 9 w");
    let refused = open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    assert_eq!(refused.err(), Some(rustix::io::Errno::WOULDBLOCK), "open a file with a lease");
    Cast::of(path).of_living(locker.pid()).held_by(locker.pid(), "fd").breaking("read").keep(locker)
}

fn inherited_lease(scene: &Scene, path: &Path) -> Cast {
    let mut parent = scene.locker();
    parent.open(path, "ro as 9");
    parent.tell("lease 9 r");
    let child = parent.fork(scene);
    Cast::of(path).of_dead(parent.kill()).held_by(child.pid(), "fd").keep(child)
}
