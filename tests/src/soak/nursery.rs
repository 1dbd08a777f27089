//! Where actors come from: a process that starts the first of them and stays their parent of last resort.

use std::{
    io::Read,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::Ordering::SeqCst,
};

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::{
    actor::Actor,
    shared::{SLOTS, Shared, TAKEN},
};
use crate::{Process, locker::LIFE_SECONDS, program, sys};

/// How many actors there are at first.
pub(super) const FIRST: usize = SLOTS / 2;

/// Memory that can be given to the nursery.
pub(super) fn memory() -> Result<(&'static Shared, OwnedFd)> {
    let memory = memfd_create("soak", MemfdFlags::empty()).context("make a memfd")?;
    ftruncate(&memory, size_of::<Shared>() as u64).context("size the memfd")?;
    Ok((Shared::map(memory.as_raw_fd())?, memory))
}

/// Starts the nursery as a process of its own: whoever starts it may have threads, and cannot fork.
pub(super) fn start(memory: &OwnedFd, dir: &Path, seed: u64) -> Result<Process> {
    let mut nursery = Command::new(program("soak"));
    nursery.arg("--nursery").arg(memory.as_raw_fd().to_string()).arg(dir).arg(seed.to_string());
    let nursery = nursery.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("start the nursery")?;
    Ok(Process::of_child(nursery))
}

/// The nursery: starts actors, and ends them when its standard input closes.
pub fn nursery(memory: i32, dir: &Path, seed: u64) -> Result<()> {
    sys::alarm(100 * LIFE_SECONDS);
    let shared = Shared::map(memory)?;
    sys::close(memory)?;
    sys::adopt_orphans().context("become a subreaper")?;
    // Nobody waits for an actor.
    sys::ignore(libc::SIGCHLD)?;
    for slot in 0..FIRST {
        shared.slots[slot].state.store(TAKEN, SeqCst);
        if sys::fork().context("fork")?.is_none() {
            let Err(e) = Actor::begin(shared, dir, seed, slot) else { sys::exit(0) };
            eprintln!("soak: actor of slot {slot}: {e:#}");
            sys::exit(1);
        }
    }
    std::io::stdin().read_to_end(&mut Vec::new()).context("wait for the end")?;
    shared.over.store(1, SeqCst);
    Ok(())
}
