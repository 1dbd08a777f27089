//! Those who wait: for each other, or no more.

use std::path::{Path, PathBuf};

use super::{Cast, DEADLOCK, PEACE, Scenario};
use crate::{Locker, Scene, opened, taken};

pub(super) const SCENES: &[Scenario] = &[
    Scenario::new("AB-BA deadlock of flocks", two, "held", DEADLOCK),
    Scenario::new("three-cycle over mixed kinds", three, "held", DEADLOCK),
    Scenario::new("a waiter", waiting, "held", PEACE),
    Scenario::new("an interrupted waiter", interrupted, "held", PEACE).traced(),
    Scenario::new("a killed waiter", killed, "held", PEACE).traced(),
    Scenario::new("a timed-out waiter", timed_out, "held", PEACE).traced(),
];

/// Each has one file and wants the other's.
fn two(scene: &Scene, path: &Path) -> Cast {
    cycle(scene, path, &["flock", "flock"])
}

fn three(scene: &Scene, path: &Path) -> Cast {
    cycle(scene, path, &["flock", "ofd", "posix"])
}

/// So many processes: each has a file, with a lock of its kind, and wants its neighbour's.
fn cycle(scene: &Scene, path: &Path, kinds: &[&str]) -> Cast {
    let request = |kind: &str, fd: i32| match kind {
        "flock" => format!("flock {fd} ex"),
        kind => format!("{kind} {fd} w 0 0"),
    };
    let mut all: Vec<(PathBuf, Locker)> = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let path = if i == 0 { path.to_owned() } else { scene.file(format!("lock-{i}")) };
        let locker = taken(scene, &path, &request(kind, 9));
        all.push((path, locker));
    }
    for i in 0..all.len() {
        let next = (i + 1) % all.len();
        let wanted = all[next].0.clone();
        let locker = &mut all[i].1;
        locker.open(&wanted, "rw as 10");
        locker.wait_for(&wanted, &request(kinds[next], 10));
    }
    let pids: Vec<_> = all.iter().map(|(_, locker)| locker.pid()).collect();
    let casts = all.iter().enumerate().fold(None::<Cast>, |cast, (i, (path, _))| {
        let cast = cast.map_or_else(|| Cast::of(path), |cast| cast.and(path));
        let before = pids[(i + pids.len() - 1) % pids.len()];
        // Its waiter has the file open, but not the lock's description.
        Some(cast.of_living(pids[i]).held_by(pids[i], "fd").waited_for_by(before))
    });
    casts.unwrap_or_else(|| Cast::of(path)).keep(all)
}

/// One has the lock, another wants it.
fn rivals(scene: &Scene, path: &Path) -> (Cast, Locker, Locker) {
    let (holder, waiter) = (taken(scene, path, "flock 9 ex"), opened(scene, path));
    (Cast::of(path).of_living(holder.pid()).held_by(holder.pid(), "fd"), holder, waiter)
}

fn waiting(scene: &Scene, path: &Path) -> Cast {
    let (cast, holder, mut waiter) = rivals(scene, path);
    waiter.wait_for(path, "flock 9 ex");
    cast.waited_for_by(waiter.pid()).keep(holder).keep(waiter)
}

fn interrupted(scene: &Scene, path: &Path) -> Cast {
    let (cast, holder, mut waiter) = rivals(scene, path);
    let wait = waiter.wait_for(path, "flock 9 ex");
    waiter.tell(&format!("interrupt {}", wait.0));
    waiter.ended(wait, "EINTR");
    cast.waited(waiter.pid()).keep(holder).keep(waiter)
}

fn killed(scene: &Scene, path: &Path) -> Cast {
    let (cast, holder, mut waiter) = rivals(scene, path);
    waiter.wait_for(path, "flock 9 ex");
    cast.waited(waiter.kill()).keep(holder)
}

/// What `flock --timeout` does.
fn timed_out(scene: &Scene, path: &Path) -> Cast {
    let (cast, holder, mut waiter) = rivals(scene, path);
    waiter.tell("timer 50");
    let wait = waiter.block_briefly("flock 9 ex");
    waiter.ended(wait, "EINTR");
    cast.waited(waiter.pid()).keep(holder).keep(waiter)
}
