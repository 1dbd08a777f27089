//! Clears against an adversary: is anything ever unlocked or signalled that was not planned?
//!
//! Everything happens in a pid namespace with few numbers and on two file systems whose inodes have the same numbers.
//! **Holders** have all descriptions, put now this and now that one at the numbers that plans speak of, release locks,
//! take them anew, fork, exec and exit; whoever is born next gets the number of whoever has died last. **Takers** lock
//! what is free and die, so that there is always a ghost. The **clearer** looks at one descriptor, plans, pins, looks
//! again, and carries out. Beside each locked file (a *target*) there are *decoys*: the same lock on the file of the
//! same inode number on the other file system, on a neighbour, and locks of other kinds and ranges on the target itself.
//! Nobody but a clear gone wrong can end those. The first process of the namespace reaps everybody, and so sees every
//! signal that ends a process; which serial number was planned, the clearer knows.

mod clearer;
mod holder;
mod nest;
mod props;
mod shared;
mod tally;

use std::{env, fs, path::Path, process};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::UnshareFlags,
};

pub use holder::again as holder;

use crate::sys;

/// What is raced for.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// How many plans are carried out.
    pub clears: u64,
    /// What chance follows from.
    pub seed: u64,
    /// Without an adversary: for measuring.
    pub calm: bool,
}

impl Race {
    /// Runs it to its end and prints what was counted. The caller has one thread, and ends soon after.
    ///
    /// # Errors
    ///
    /// It could not be staged, took too long, or something was wrong.
    pub fn run(self) -> Result<()> {
        // A clear takes a few milliseconds with all that goes on beside it; many times that is a hang.
        let seconds = u32::try_from(60 + self.clears / 25).unwrap_or(u32::MAX);
        sys::alarm(seconds);
        sys::new_pids().context("get a pid namespace of our own")?;
        let Some(init) = sys::fork().context("fork")? else {
            let code = match self.inside() {
                Ok(code) => code,
                Err(error) => {
                    eprintln!("race: {error:#}");
                    1
                }
            };
            sys::exit(code);
        };
        match sys::wait_for(init).context("wait for the race")?.success() {
            true => Ok(()),
            false => bail!("the race failed; --seed {} begins alike", self.seed),
        }
    }

    /// As the first process of the namespace.
    fn inside(self) -> Result<i32> {
        sys::die_with_parent()?;
        ensure!(process::id() == 1, "the pid namespace is not new");
        // SAFETY: this process has one thread, and no descriptors are unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("get mounts of our own")?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            .context("make mounts private")?;
        mount("proc", "/proc", "proc", MountFlags::empty(), None).context("mount /proc")?;
        // Over what is there, for us alone: nothing is left of it, however this ends.
        let tmpfs = |place: &Path| {
            let mounted = mount("race", place, "tmpfs", MountFlags::empty(), None);
            mounted.with_context(|| format!("mount a tmpfs on {}", place.display()))
        };
        let dir = env::temp_dir();
        tmpfs(&dir)?;
        let places = ["a", "b"].map(|name| dir.join(name));
        for place in &places {
            fs::create_dir(place).with_context(|| format!("make {}", place.display()))?;
            tmpfs(place)?;
        }
        nest::Nest::build(self, &places)?.run()
    }
}
