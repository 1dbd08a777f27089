//! A control group of a test, in a hierarchy of its choice, gone at the end.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::Signal;

use super::until::until;

/// Which hierarchy. What is of version 1 is there on few hosts any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2.
    Unified,
    /// The freezer of version 1.
    Freezer,
    /// Another one of version 1, which can freeze nobody.
    Plain,
}

/// A group of this test's own.
#[derive(Debug)]
pub struct ControlGroup {
    hierarchy: Hierarchy,
    path: String,
    dir: PathBuf,
    /// What was made for it, from the outside to the inside.
    made: Vec<PathBuf>,
}

impl Hierarchy {
    /// Where it is mounted, for writing.
    pub fn mount(self) -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let (fs_type, options) = after.split_once(' ')?;
            let is = match self {
                Hierarchy::Unified => fs_type == "cgroup2",
                Hierarchy::Freezer => fs_type == "cgroup" && options.contains("freezer"),
                Hierarchy::Plain => fs_type == "cgroup" && options.contains("pids"),
            };
            let mut fields = before.split(' ').skip(3);
            let (root, point, how) = (fields.next()?, fields.next()?, fields.next()?);
            (is && root == "/" && how.starts_with("rw")).then(|| PathBuf::from(point))
        })
    }
}

impl ControlGroup {
    /// Makes one; `None` if that hierarchy is not mounted here, or not for us.
    pub fn new(hierarchy: Hierarchy) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(hierarchy, &format!("/lockwatch-test-{}-{n}", std::process::id()))
    }

    /// Makes one of this path below the hierarchy's root; groups on the way that are not there are its own too.
    pub fn named(hierarchy: Hierarchy, path: &str) -> Option<Self> {
        let mut group = Self { hierarchy, path: path.to_owned(), dir: hierarchy.mount()?, made: Vec::new() };
        for name in path.split('/').filter(|name| !name.is_empty()) {
            group.dir.push(name);
            if !group.dir.exists() {
                fs::create_dir(&group.dir).ok()?;
                group.made.push(group.dir.clone());
            }
        }
        Some(group)
    }

    /// One of the same path in another hierarchy.
    pub fn also_in(&self, hierarchy: Hierarchy) -> Option<Self> {
        Self::named(hierarchy, &self.path)
    }

    /// One inside of it.
    pub fn inside(&self, name: &str) -> Option<Self> {
        Self::named(self.hierarchy, &format!("{}/{name}", self.path))
    }

    /// Below the hierarchy's root, as in `/proc/PID/cgroup`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Puts a process in.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn add(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// Who is in it.
    pub fn members(&self) -> Vec<u32> {
        members(&self.dir)
    }

    /// Whether it was told to freeze and has obeyed.
    pub fn is_frozen(&self) -> bool {
        match self.hierarchy {
            Hierarchy::Unified => self.read("cgroup.events").contains("frozen 1"),
            Hierarchy::Freezer => self.read("freezer.state").trim() == "FROZEN",
            Hierarchy::Plain => false,
        }
    }

    /// Freezes it or lets it go on, by its own freezer.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn freeze(&self, frozen: bool) {
        match self.hierarchy {
            Hierarchy::Unified => self.write("cgroup.freeze", if frozen { "1" } else { "0" }),
            Hierarchy::Freezer => self.write("freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
            Hierarchy::Plain => {}
        }
        until("the group obeys", || (self.hierarchy == Hierarchy::Plain || self.is_frozen() == frozen).then_some(()));
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.file(file)).unwrap_or_default()
    }

    fn write(&self, file: &str, what: &str) {
        let path = self.file(file);
        fs::write(&path, what).unwrap_or_else(|e| panic!("write {what} to {}: {e}", path.display()));
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Not `freeze`: a panic in a drop hides the failure that led here.
        let dir = self.dir.as_path();
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
        let _ = fs::write(dir.join("freezer.state"), "THAWED");
        for _ in 0..1000 {
            let members = members(dir);
            if members.is_empty() {
                break;
            }
            for pid in members {
                end(dir, pid);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        for dir in self.made.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

fn members(dir: &Path) -> Vec<u32> {
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Ends a member. Who is listed after its pidfd was opened is the one behind the pidfd.
fn end(dir: &Path, pid: u32) {
    let Some(raw) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
    let opened = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty());
    if let (Ok(pidfd), true) = (opened, members(dir).contains(&pid)) {
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    }
}
