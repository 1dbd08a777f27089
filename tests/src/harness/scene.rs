//! Where a test plays.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::{
    locker::Locker,
    program::{lockwatch_path, program},
};

/// A directory of its own, gone when the test is.
#[derive(Debug)]
pub struct Scene {
    dir: TempDir,
    sockets: AtomicU32,
}

impl Scene {
    /// An empty one, open to every user.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("lockwatch-").unwrap_or_else(|e| panic!("make a temporary directory: {e}"));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .unwrap_or_else(|e| panic!("open {} to everybody: {e}", dir.path().display()));
        Self { dir, sockets: AtomicU32::new(0) }
    }

    /// An empty one in this very place, where nothing may be yet.
    ///
    /// # Panics
    ///
    /// When something is.
    pub fn at(path: &Path) -> Self {
        let (dir, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let dir = tempfile::Builder::new().prefix(name).rand_bytes(0).tempdir_in(dir);
        let dir = dir.unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        Self { dir, sockets: AtomicU32::new(0) }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A name in it, of which nothing need exist.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }

    /// An empty file in it.
    pub fn file(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, "").unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// A file of a few pages in it, which can be mapped, and be a disk.
    pub fn pages(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, vec![0; 1 << 16]).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// A copy of lockwatch in it, which every user can run.
    pub fn lockwatch(&self) -> PathBuf {
        self.copy(&lockwatch_path())
    }

    /// A copy of a program in it, which every user can run.
    pub fn copy(&self, program: &Path) -> PathBuf {
        let copy = self.path(program.file_name().unwrap_or_default());
        fs::copy(program, &copy)
            .and_then(|_| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
            .unwrap_or_else(|e| panic!("copy {} to {}: {e}", program.display(), copy.display()));
        copy
    }

    /// A name for a socket that nobody else uses.
    pub fn socket(&self) -> PathBuf {
        self.path(format!("socket-{}", self.sockets.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new locker.
    pub fn locker(&self) -> Locker {
        Locker::start(&program("locker"))
    }

    /// A new locker that is a program of this name, in the scene.
    pub fn locker_as(&self, name: &str) -> Locker {
        let copy = self.path(name);
        fs::copy(program("locker"), &copy).unwrap_or_else(|e| panic!("copy the locker to {}: {e}", copy.display()));
        Locker::start(&copy)
    }
}
