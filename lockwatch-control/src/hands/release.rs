//! Unlocking through a duplicate of the open file description that owns the lock.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use lockwatch_core::{
    clear::Case,
    lock::{Kind, Range},
};
use lockwatch_sys::{
    fdinfo,
    kcmp::{self, Descriptor},
};
use rustix::{
    fs::{AtFlags, FlockOperation, StatxFlags, flock, statx},
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::{Acted, Failure, grip::Pinned, namesake::Namesake, planned, tables};
use crate::fault;

/// Releases the lock through this descriptor of the process's.
pub(super) fn descriptor(case: &Case, holder: &Pinned, fd: u32) -> Result<Acted, Failure> {
    holder.is_as_it_was()?;
    let what = format!("fd {fd} of {}", holder.name);
    // A duplicate keeps whatever it is of alive for a moment: it is made only of what looks right from outside.
    let task = match tables::with_the_lock(case, holder, fd) {
        Ok(Some(task)) => task,
        // Before Linux 5.14 that is for its owner alone. The duplicate proves itself anyway.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => holder.pid(),
        Ok(None) => {
            holder.is_alive()?;
            return Failure::changed(format!("{what} no longer has the lock"));
        }
        Err(error) if tables::is_gone(&error) => return Failure::changed(format!("{} has ended", holder.name)),
        Err(error) => return Err(anyhow!(error).context(format!("look at {what}")).into()),
    };
    let namesake = Namesake::find(case)?;
    let taken = Instant::now();
    let duplicate = duplicate(holder, task, fd, &what)?;
    same_description(&duplicate, Descriptor { task, fd }, &what)?;
    // By now the number that kcmp was given can be trusted.
    holder.is_as_it_was()?;
    let gone = unlock_if_planned(case, &namesake, &duplicate, &what)?;
    drop(duplicate);
    Ok(acted(what, gone, taken.elapsed()))
}

/// What to tell of a release.
pub(super) fn acted(what: String, gone: bool, held: Duration) -> Acted {
    let after = if gone { "" } else { ", and it has a lock like it again" };
    Acted { words: vec![format!("unlocked through a duplicate of {what}{after}")], duplicate_held: Some(held), gone }
}

/// Unlocks exactly the planned lock, if this description of ours has it. Returns whether it is gone from there.
pub(super) fn unlock_if_planned(
    case: &Case,
    namesake: &Namesake,
    duplicate: &OwnedFd,
    what: &str,
) -> Result<bool, Failure> {
    fault::point(7);
    // A server that does not answer would keep us here with the duplicate; what is known without it is enough.
    let stat = statx(duplicate, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
    if stat.with_context(|| format!("look at {what}"))?.stx_ino != case.file.inode {
        return Failure::changed(format!("{what} is another file"));
    }
    let seen = fdinfo::own(duplicate).with_context(|| format!("look at our duplicate of {what}"))?;
    let line = planned::only(case, &seen).or_else(|doubt| Failure::changed(format!("{what}: {doubt}")))?;
    namesake.is_the_same(line)?;
    if !unlock(duplicate.as_fd(), case.kind, case.range).with_context(|| format!("unlock {what}"))? {
        return Failure::changed(format!("{what}: it no longer has the lock"));
    }
    fault::point(8);
    let seen = fdinfo::own(duplicate).with_context(|| format!("unlocked {what}, but could not look at it again"))?;
    Ok(!planned::is_in(case, &seen))
}

fn duplicate(holder: &Pinned, task: u32, fd: u32, what: &str) -> Result<OwnedFd, Failure> {
    let number = i32::try_from(fd).context("no descriptor has this number")?;
    let duplicate = match task == holder.pid() {
        true => pidfd_getfd(holder, number, PidfdGetfdFlags::empty()),
        false => thread(task).and_then(|thread| pidfd_getfd(thread, number, PidfdGetfdFlags::empty())),
    };
    match duplicate {
        Ok(duplicate) => Ok(duplicate),
        Err(Errno::INVAL) if task != holder.pid() => {
            let why = format!("{what} is in a thread's own file table, which can be reached since Linux 6.9");
            Err(Failure::Failed(anyhow!(why)))
        }
        Err(Errno::SRCH) => Failure::changed(format!("{} has ended", holder.name)),
        Err(Errno::BADF) => Failure::changed(format!("{what} is closed")),
        Err(error) => Err(anyhow!(error).context(format!("duplicate {what}")).into()),
    }
}

/// A pidfd of one thread.
fn thread(task: u32) -> Result<OwnedFd, Errno> {
    const PIDFD_THREAD: u32 = libc::O_EXCL as u32; // include/uapi/linux/pidfd.h
    let number = i32::try_from(task).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    pidfd_open(number, PidfdFlags::from_bits_retain(PIDFD_THREAD))
}

/// That two descriptors are one description still.
pub(super) fn same_description(ours: impl AsFd, theirs: Descriptor, what: &str) -> Result<(), Failure> {
    let me = rustix::thread::gettid().as_raw_pid().unsigned_abs();
    let ours = Descriptor { task: me, fd: ours.as_fd().as_raw_fd().unsigned_abs() };
    match kcmp::files(ours, theirs) {
        Ok(std::cmp::Ordering::Equal) => Ok(()),
        Ok(_) => Failure::changed(format!("{what} is another open file by now")),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EBADF)) => {
            Failure::changed(format!("{what} is closed"))
        }
        Err(error) => Err(anyhow!(error).context(format!("compare our duplicate with {what} (kcmp)")).into()),
    }
}

/// Returns whether there was a lock, as far as the kernel says so: it does for leases.
fn unlock(file: BorrowedFd, kind: Kind, range: Range) -> anyhow::Result<bool> {
    match kind {
        Kind::Flock => Ok(flock(file, FlockOperation::Unlock).map(|()| true)?),
        Kind::Ofd => Ok(unlock_range(file, range).map(|()| true)?),
        Kind::Lease => match end_lease(file) {
            Ok(()) => Ok(true),
            // fs/locks.c generic_delete_lease, 6.18.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
            // fs/locks.c vfs_setlease, 6.18: giving one back needs what taking it does.
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                Err(anyhow!(error).context("a lease on another user's file needs CAP_LEASE"))
            }
            Err(error) => Err(error.into()),
        },
        Kind::Posix | Kind::Delegation => Err(anyhow!("a {kind} lock cannot be unlocked through a duplicate")),
    }
}

/// fcntl(2) F_OFD_SETLK; a length of 0 is to the end of the file.
fn unlock_range(file: BorrowedFd, range: Range) -> io::Result<()> {
    let number = |n: u64| libc::off64_t::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let length = range.end.map_or(Ok(0), |end| number(end - range.start + 1))?;
    // SAFETY: flock64 is plain numbers, for which zeros are valid; l_pid must be 0.
    let mut request: libc::flock64 = unsafe { std::mem::zeroed() };
    (request.l_type, request.l_whence) = (libc::F_UNLCK as _, libc::SEEK_SET as _);
    (request.l_start, request.l_len) = (number(range.start)?, length);
    // SAFETY: `request` is what this command reads, and lives through the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// fcntl(2) F_SETLEASE.
fn end_lease(file: BorrowedFd) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
