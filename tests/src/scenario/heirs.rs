//! Descriptors that are inherited, lent or given away.

use std::path::Path;

use super::{
    Cast, PEACE, Scenario,
    stage::{IDIOM, LAST_COMMAND, shell, socket},
};
use crate::{Locker, Process, Scene, ghost, needs_program, opened, taken};

pub(super) const SCENES: &[Scenario] = &[
    Scenario::new("child heir", child, "orphaned/inherited", "orphaned/child").says(&["locker"]),
    Scenario::new("child heir of an OFD lock", child_of_ofd, "orphaned/inherited", "orphaned/child").by_procfs("held"),
    Scenario::new("child of one that failed", child_of_failed, "orphaned/inherited", "orphaned/child"),
    Scenario::new("another program inherits", leaked, "orphaned/inherited", "orphaned/leaked").says(&["sleep"]),
    Scenario::new("exec heir", exec_heir, "orphaned/inherited", "orphaned/leaked").says(&["sleep"]),
    Scenario::new("heir has it as fd 0", fd_0, "orphaned/inherited", "orphaned/leaked"),
    Scenario::new("daemon with setsid", daemon, "unknown/inherited", PEACE)
        .known("handed_over/daemonized")
        .says(&["daemon"]),
    // An heir without any mark of a daemon, and nobody saw its parent end well: DESIGN section 5, cold.
    Scenario::new("daemon without setsid", plain_daemon, "orphaned/inherited", PEACE).known("handed_over/daemonized"),
    Scenario::new("daemon with setsid and pid file", daemon_with_pid_file, "handed_over/daemonized", PEACE)
        .says(&["the file's text"]),
    Scenario::new("daemon with pid file only", plain_daemon_with_pid_file, "handed_over/daemonized", PEACE),
    Scenario::new("flock(1) idiom", idiom, "handed_over/borrowed", PEACE).needs(needs_flock),
    Scenario::new("flock(1) idiom, last command", last_command, "handed_over/borrowed", PEACE).needs(needs_flock),
    Scenario::new("flock(1) idiom leaks", idiom_leaks, "orphaned/inherited", "orphaned/leaked").needs(needs_flock),
    Scenario::new("helper locks for its parent", borrowed, "handed_over/borrowed", PEACE),
    Scenario::new("helper locks for an older worker", borrowed_by_a_sibling, "handed_over/borrowed", PEACE),
    Scenario::new("passed to its child", passed_to_child, "handed_over/passed", PEACE),
    // The receiver is no relative: for all that can be seen, another process may have got the acquirer's number.
    Scenario::new("passed through a socket, sender lives", passed, "unknown", PEACE).known("handed_over/passed"),
    Scenario::new("passed through a socket, sender killed", delivered, "orphaned/inherited", "orphaned/child"),
    Scenario::new("passed to an older receiver, sender killed", delivered_to_older, "handed_over/borrowed", PEACE),
];

fn needs_flock(name: &str) -> bool {
    needs_program(name, "flock")
}

/// The parent is killed, its fork lives on.
fn child(scene: &Scene, path: &Path) -> Cast {
    forked(scene, path, "flock 9 ex", Locker::kill)
}

fn child_of_ofd(scene: &Scene, path: &Path) -> Cast {
    forked(scene, path, "ofd 9 w 0 0", Locker::kill)
}

fn child_of_failed(scene: &Scene, path: &Path) -> Cast {
    forked(scene, path, "flock 9 ex", |parent| parent.exit(3))
}

fn forked(scene: &Scene, path: &Path, lock: &str, end: fn(Locker) -> u32) -> Cast {
    let mut parent = taken(scene, path, lock);
    let child = parent.fork(scene);
    Cast::of(path).of_dead(end(parent)).held_by(child.pid(), "fd").keep(child)
}

fn leaked(scene: &Scene, path: &Path) -> Cast {
    let (dead, heir) = ghost(scene, path);
    Cast::of(path).of_dead(dead).held_by(heir.pid(), "fd").keep(heir)
}

/// A fork that has become another program by the time its parent dies.
fn exec_heir(scene: &Scene, path: &Path) -> Cast {
    let mut parent = taken(scene, path, "flock 9 ex");
    let heir = parent.fork(scene).exec("sleep 60");
    Cast::of(path).of_dead(parent.kill()).held_by(heir.pid(), "fd").keep(heir)
}

fn fd_0(scene: &Scene, path: &Path) -> Cast {
    let mut parent = scene.locker();
    parent.open(path, "rw as 0");
    parent.tell("flock 0 ex");
    let heir = parent.spawn("sleep 60");
    Cast::of(path).of_dead(parent.kill()).held_by(heir.pid(), "fd").as_fd(0).keep(heir)
}

/// A daemon takes its lock, forks and exits 0.
fn daemon(scene: &Scene, path: &Path) -> Cast {
    daemonized(scene, path, &["setsid"])
}

fn plain_daemon(scene: &Scene, path: &Path) -> Cast {
    daemonized(scene, path, &[])
}

fn daemon_with_pid_file(scene: &Scene, path: &Path) -> Cast {
    daemonized(scene, path, &["setsid", "pidfile 9"])
}

fn plain_daemon_with_pid_file(scene: &Scene, path: &Path) -> Cast {
    daemonized(scene, path, &["pidfile 9"])
}

fn daemonized(scene: &Scene, path: &Path, commands: &[&str]) -> Cast {
    let mut parent = taken(scene, path, "flock 9 ex");
    let mut child = parent.fork(scene);
    for command in commands {
        child.tell(command);
    }
    Cast::of(path).of_dead(parent.exit(0)).held_by(child.pid(), "fd").keep(child)
}

fn idiom(_: &Scene, path: &Path) -> Cast {
    shells(IDIOM, path)
}

fn last_command(_: &Scene, path: &Path) -> Cast {
    shells(LAST_COMMAND, path)
}

fn shells(script: &str, path: &Path) -> Cast {
    let (shell, found) = shell(script, path);
    let cast = found.iter().fold(Cast::of(path), |cast, process| cast.held_by(process.pid(), "fd"));
    cast.keep(shell).keep(found)
}

/// The shells are killed, their sleep lives on.
fn idiom_leaks(_: &Scene, path: &Path) -> Cast {
    let (mut outer, mut found) = shell(IDIOM, path);
    let sleep = found.pop();
    // Nobody may reap or follow while the rest dies: the outer shell goes first.
    outer.kill();
    found.iter_mut().for_each(Process::kill);
    let cast = Cast::of(path).held_by(sleep.as_ref().map_or(0, Process::pid), "fd");
    cast.keep(sleep)
}

/// A helper locks a descriptor that its parent has too, and exits: flock(1) without a shell.
fn borrowed(scene: &Scene, path: &Path) -> Cast {
    let mut parent = opened(scene, path);
    let mut helper = parent.fork(scene);
    helper.tell("flock 9 ex");
    let helper = helper.exit(0);
    parent.tell(&format!("wait {helper}"));
    Cast::of(path).of_dead(helper).held_by(parent.pid(), "fd").keep(parent)
}

/// A helper locks a descriptor for a worker that is there already; their parent lets go of it.
fn borrowed_by_a_sibling(scene: &Scene, path: &Path) -> Cast {
    let mut parent = opened(scene, path);
    let worker = parent.spawn("sleep 60");
    let mut helper = parent.fork(scene);
    parent.tell("close 9");
    helper.tell("flock 9 ex");
    let helper = helper.exit(0);
    parent.tell(&format!("wait {helper}"));
    Cast::of(path).of_dead(helper).held_by(worker.pid(), "fd").keep(parent).keep(worker)
}

/// The acquirer lives, and only its child still has the descriptor.
fn passed_to_child(scene: &Scene, path: &Path) -> Cast {
    let mut parent = taken(scene, path, "flock 9 ex");
    let child = parent.fork(scene);
    parent.tell("close 9");
    Cast::of(path).of_living(parent.pid()).held_by(child.pid(), "fd").keep(parent).keep(child)
}

/// The acquirer lives, and has given its descriptor away in a message.
fn passed(scene: &Scene, path: &Path) -> Cast {
    let receiver = scene.locker();
    let mut sender = taken(scene, path, "flock 9 ex");
    let receiver = deliver(scene, &mut sender, receiver);
    sender.tell("close 9");
    Cast::of(path).of_living(sender.pid()).held_by(receiver.pid(), "fd").keep(sender).keep(receiver)
}

/// To one that was born after the lock.
fn delivered(scene: &Scene, path: &Path) -> Cast {
    let mut sender = taken(scene, path, "flock 9 ex");
    let receiver = deliver(scene, &mut sender, scene.locker());
    Cast::of(path).of_dead(sender.kill()).held_by(receiver.pid(), "fd").keep(receiver)
}

/// To a server, say, that was there before.
fn delivered_to_older(scene: &Scene, path: &Path) -> Cast {
    let receiver = scene.locker();
    let mut sender = taken(scene, path, "flock 9 ex");
    let receiver = deliver(scene, &mut sender, receiver);
    Cast::of(path).of_dead(sender.kill()).held_by(receiver.pid(), "fd").keep(receiver)
}

fn deliver(scene: &Scene, sender: &mut Locker, mut receiver: Locker) -> Locker {
    let socket = socket(scene);
    let inbox: i32 = receiver.number(&format!("bind {socket}"));
    sender.tell(&format!("sendfd 9 {socket}"));
    receiver.tell(&format!("recvfd {inbox}"));
    receiver
}
