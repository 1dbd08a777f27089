//! The one file that lockwatch itself locks: a private memory file, for the anchors of walks and for heartbeats. The
//! probes know it and take no notice of it but by counting.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use lockwatch_common::Beat;
use rustix::fs::{FlockOperation, MemfdFlags, fcntl_lock, flock, fstat, major, memfd_create, minor};

/// The file.
pub struct Anchor {
    file: OwnedFd,
}

/// Its lock, for as long as this lives.
pub struct Held<'a>(&'a Anchor);

impl Anchor {
    /// A file that nobody else knows of.
    pub fn new() -> Result<Self> {
        Ok(Self { file: memfd_create("lockwatch-anchor", MemfdFlags::CLOEXEC).context("create the anchor")? })
    }

    /// How the probes know it.
    pub fn beat(&self) -> Result<Beat> {
        let stat = fstat(&self.file).context("stat the anchor")?;
        // The kernel's own encoding: MKDEV of include/linux/kdev_t.h.
        let device = major(stat.st_dev) << 20 | minor(stat.st_dev);
        Ok(Beat { inode: stat.st_ino, device, pid: std::process::id() })
    }

    /// A flock: the newest lock of the CPU that we run on, and so the head of its list.
    pub fn lock(&self) -> Result<Held<'_>> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive).context("lock the anchor")?;
        Ok(Held(self))
    }

    /// Takes and drops a lock of each kind that has a probe of its own: flock(2), fcntl(2).
    pub fn beat_once(&self) -> Result<()> {
        drop(self.lock()?);
        fcntl_lock(&self.file, FlockOperation::NonBlockingLockExclusive).context("lock the anchor by fcntl")?;
        fcntl_lock(&self.file, FlockOperation::Unlock).context("unlock the anchor by fcntl")
    }
}

impl Held<'_> {
    /// The file.
    pub fn file(&self) -> &OwnedFd {
        &self.0.file
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // If it fails, the lock goes with the file.
        let _ = flock(&self.0.file, FlockOperation::Unlock);
    }
}
