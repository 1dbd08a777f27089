//! The locks that every tool is asked about: how each lost its owner, who waits for it, and who has nothing to do with it.

use std::path::{Path, PathBuf};

use crate::{
    Locker, Scene, opened, proc_locks_of,
    scenario::{Cast, Fate, scenes},
};

/// The scenes, what README calls them, and how somebody asks for the lock.
const SCENES: [(&str, &str, &str); 7] = [
    ("another program inherits", "a program that inherited the descriptor", "flock 9 ex"),
    ("in flight", "a message that waits in a socket", "flock 9 ex"),
    ("mapped only, by an heir", "a memory mapping", "flock 9 ex"),
    ("io_uring registered, by an heir", "an io_uring", "flock 9 ex"),
    ("CLONE_FILES with POSIX", "a POSIX lock's shared table of descriptors", "posix 9 w 0 0"),
    ("flock(1) idiom", HEALTHY, "flock 9 ex"),
    ("PID reuse", REUSED, "flock 9 ex"),
];

/// The one whose owner is not gone: the shell that called flock(1) has it.
pub(super) const HEALTHY: &str = "healthy";
/// The one whose dead taker's number an innocent process has.
pub(super) const REUSED: &str = "reused";

/// A lock, and the people around it.
pub(super) struct Case {
    /// What keeps it, in README's words.
    pub(super) name: &'static str,
    /// Its file.
    pub(super) path: PathBuf,
    /// Who took it, and is dead; 0 where the stage does not know.
    pub(super) acquirer: u32,
    /// Who keeps it.
    pub(super) holders: Vec<u32>,
    /// Who waits for it.
    pub(super) waiter: u32,
    /// Who must not be named as its holder: one that only has the file open, and one that only has the dead one's number.
    pub(super) innocent: Vec<u32>,
    _people: Option<(Cast, Locker, Locker, Scene)>,
}

/// All of them, side by side; they end when the value does. A scene that this host cannot stage is not among them.
///
/// # Panics
///
/// When a scene cannot be staged.
pub(super) fn staged() -> Vec<Case> {
    let known = scenes();
    let wanted = SCENES.iter().map(|(scene, name, request)| {
        let scenario = known.iter().find(|scenario| scenario.name == *scene);
        (scenario.unwrap_or_else(|| panic!("no scene {scene}")), *name, *request)
    });
    wanted
        .filter(|(scenario, ..)| (scenario.needs)(scenario.name))
        .map(|(scenario, name, request)| {
            let scene = Scene::new();
            let path = scene.file("app.lock");
            let cast = (scenario.stage)(&scene, &path);
            let bystander = opened(&scene, &path);
            let mut waiter = opened(&scene, &path);
            waiter.wait_for(&path, request);
            let part = &cast.parts[0];
            let (acquirer, fate) = part.acquirer.unwrap_or((0, Fate::Dead));
            let reused = (fate == Fate::Reused).then_some(acquirer);
            Case {
                name,
                path,
                acquirer,
                holders: part.holders.iter().map(|(pid, _)| *pid).collect(),
                waiter: waiter.pid(),
                innocent: reused.into_iter().chain([bystander.pid()]).collect(),
                _people: Some((cast, waiter, bystander, scene)),
            }
        })
        .collect()
}

impl Case {
    /// Whether it is still as it was staged: everybody in it lives only so long, and a machine may be very slow.
    pub(super) fn stands(&self) -> bool {
        let waits = proc_locks_of(&self.path).iter().any(|lock| lock.waits && lock.pid == Some(self.waiter));
        let people = self.holders.iter().chain(&self.innocent);
        waits && people.into_iter().all(|pid| Path::new("/proc").join(pid.to_string()).exists())
    }
}

#[cfg(test)]
impl Case {
    /// For tests of what is said of it: taken by 10, who is dead, kept by 11, wanted by 12, open in 13.
    pub(super) fn of(name: &'static str) -> Self {
        let (acquirer, holders, waiter, innocent) = (10, vec![11], 12, vec![13]);
        Self { name, path: PathBuf::new(), acquirer, holders, waiter, innocent, _people: None }
    }
}
