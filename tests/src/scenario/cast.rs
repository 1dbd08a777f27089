//! Who plays in a staged scene, and so what must be said of its locks.

use std::{
    any::Any,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Everything that a stage has set up; it ends when this value does.
pub struct Cast {
    /// The locks that must be seen.
    pub parts: Vec<Part>,
    /// Who has waited and does no more.
    pub waited: Vec<u32>,
    _people: Vec<Box<dyn Any + Send>>,
}

/// One lock, and the people around it.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its file, as it was called when it was opened.
    pub path: PathBuf,
    /// Its inode, for when lockwatch has no name for it.
    pub inode: u64,
    /// Whether that name is gone.
    pub deleted: bool,
    /// Who took it, if the test knows.
    pub acquirer: Option<(u32, Fate)>,
    /// Number and means of each holder; number 0 for the kernel.
    pub holders: Vec<(u32, &'static str)>,
    /// A descriptor that some holder must have.
    pub fd: Option<i32>,
    /// For a lease that somebody breaks: what it must become.
    pub breaking: Option<&'static str>,
    /// Who waits for it.
    pub waiters: Vec<u32>,
    /// Verdicts, cold and watched, where they are not the scene's.
    pub verdicts: Option<[&'static str; 2]>,
}

/// What became of an acquirer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It must never be called dead.
    Alive,
    /// It must never be called alive.
    Dead,
    /// Dead, and its number is a `sleep` now, which must never be named.
    Reused,
}

impl Cast {
    /// One lock of this file, which has its name still. The methods that follow speak of the last lock.
    pub fn of(path: &Path) -> Self {
        Self { parts: Vec::new(), waited: Vec::new(), _people: Vec::new() }.and(path)
    }

    /// Another lock.
    pub fn and(mut self, path: &Path) -> Self {
        self.parts.push(Part {
            path: path.to_owned(),
            inode: fs::metadata(path).map_or(0, |file| file.ino()),
            deleted: false,
            acquirer: None,
            holders: Vec::new(),
            fd: None,
            breaking: None,
            waiters: Vec::new(),
            verdicts: None,
        });
        self
    }

    /// Its acquirer lives.
    pub fn of_living(self, pid: u32) -> Self {
        self.last(|part| part.acquirer = Some((pid, Fate::Alive)))
    }

    /// Its acquirer is dead.
    pub fn of_dead(self, pid: u32) -> Self {
        self.last(|part| part.acquirer = Some((pid, Fate::Dead)))
    }

    /// Its acquirer is dead, and an innocent process has its number.
    pub fn of_reused(self, pid: u32) -> Self {
        self.last(|part| part.acquirer = Some((pid, Fate::Reused)))
    }

    /// One of its holders.
    pub fn held_by(self, pid: u32, via: &'static str) -> Self {
        self.last(|part| part.holders.push((pid, via)))
    }

    /// A descriptor that a holder must have.
    pub fn as_fd(self, fd: i32) -> Self {
        self.last(|part| part.fd = Some(fd))
    }

    /// It is a lease that must become this.
    pub fn breaking(self, to: &'static str) -> Self {
        self.last(|part| part.breaking = Some(to))
    }

    /// One of its waiters.
    pub fn waited_for_by(self, pid: u32) -> Self {
        self.last(|part| part.waiters.push(pid))
    }

    /// Its file has no name any more.
    pub fn deleted(self) -> Self {
        self.last(|part| part.deleted = true)
    }

    /// Its own verdicts, cold and watched.
    pub fn judged(self, cold: &'static str, watched: &'static str) -> Self {
        self.last(|part| part.verdicts = Some([cold, watched]))
    }

    /// Somebody whose wait has ended.
    pub fn waited(mut self, pid: u32) -> Self {
        self.waited.push(pid);
        self
    }

    /// Lives as long as the scene.
    pub fn keep(mut self, somebody: impl Any + Send) -> Self {
        self._people.push(Box::new(somebody));
        self
    }

    fn last(mut self, change: impl FnMut(&mut Part)) -> Self {
        self.parts.last_mut().into_iter().for_each(change);
        self
    }
}
