//! The files, and what is locked of them.

use std::{fs, os::unix::ffi::OsStrExt, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    ProcLock,
    sys::{self, RangeKind},
};

/// How many files there are to be cleared.
pub(super) const TARGETS: usize = 12;

/// Descriptors: targets, decoys with the same inode numbers, and neighbours. Everybody has all of them.
pub(super) const TARGET: i32 = 100;
pub(super) const TWIN: i32 = 200;
pub(super) const NEIGHBOUR: i32 = 300;

/// Descriptors that plans speak of.
pub(super) const FIRST: i32 = 9;
pub(super) const PLANNED: i32 = 6;

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Flock,
    Ofd { start: i64, len: i64 },
    Lease,
}

/// The lock of a target, and of its twin and its neighbour.
pub(super) fn lock_of(target: usize) -> How {
    match target % 3 {
        0 => How::Flock,
        1 => How::Ofd { start: 100, len: 50 },
        _ => How::Lease,
    }
}

/// Locks that the same description has besides, and that nobody ends.
fn besides(target: usize) -> &'static [How] {
    match lock_of(target) {
        How::Flock => &[How::Ofd { start: 0, len: 0 }],
        How::Ofd { .. } => &[How::Flock, How::Ofd { start: 0, len: 99 }, How::Ofd { start: 151, len: 0 }],
        How::Lease => &[How::Flock],
    }
}

/// Makes the files and opens them; the file systems are new, so that they number their inodes alike.
pub(super) fn open(places: &[PathBuf; 2]) -> Result<()> {
    let open = |place: &PathBuf, name: String, target: usize, number: i32| -> Result<()> {
        let path = place.join(name);
        fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
        // A read lease is given only on files that nobody writes.
        let flags = if lock_of(target) == How::Lease { libc::O_RDONLY } else { libc::O_RDWR };
        let fd = sys::open(path.as_os_str().as_bytes(), flags).with_context(|| format!("open {}", path.display()))?;
        sys::dup_as(fd, number, false)?;
        Ok(sys::close(fd)?)
    };
    for target in 0..TARGETS {
        let number = i32::try_from(target)?;
        open(&places[0], format!("target-{target}"), target, TARGET + number)?;
        open(&places[1], format!("twin-{target}"), target, TWIN + number)?;
        open(&places[0], format!("neighbour-{target}"), target, NEIGHBOUR + number)?;
        open(&places[1], format!("filler-{target}"), target, NEIGHBOUR + number + 100)?;
        sys::close(NEIGHBOUR + number + 100)?;
    }
    Ok(())
}

/// Takes every decoy. Who does that dies at once.
pub(super) fn take_decoys() -> Result<()> {
    for (number, target) in (0..).zip(0..TARGETS) {
        besides(target).iter().try_for_each(|how| take(TARGET + number, *how))?;
        [TWIN, NEIGHBOUR].into_iter().try_for_each(|from| take(from + number, lock_of(target)))?;
    }
    Ok(())
}

/// Takes a lock if nobody else has it.
pub(super) fn take(fd: i32, how: How) -> Result<()> {
    let taken = match how {
        How::Flock => sys::flock(fd, libc::LOCK_EX | libc::LOCK_NB),
        How::Ofd { start, len } => sys::range_lock(fd, RangeKind::Ofd, libc::F_WRLCK, start, len, false),
        How::Lease => sys::lease(fd, libc::F_RDLCK),
    };
    taken.with_context(|| format!("take {how:?} of fd {fd}"))
}

/// Releases it.
pub(super) fn release(fd: i32, how: How) -> Result<()> {
    Ok(match how {
        How::Flock => sys::flock(fd, libc::LOCK_UN),
        How::Ofd { start, len } => sys::range_lock(fd, RangeKind::Ofd, libc::F_UNLCK, start, len, false),
        How::Lease => sys::lease(fd, libc::F_UNLCK),
    }?)
}

/// The locks of a description, as `/proc` shows them. `None` if there is no such descriptor.
pub(super) fn locks(pid: &str, fd: i32) -> Option<Vec<ProcLock>> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    text.lines().filter_map(|line| line.strip_prefix("lock:")).map(|line| ProcLock::parse(line, None)).collect()
}

/// Whether a line is of a lock that was taken so.
pub(super) fn is(how: How, lock: &ProcLock) -> bool {
    let range = (lock.start, lock.end);
    match how {
        How::Flock => lock.kind == "flock",
        How::Lease => lock.kind == "lease",
        How::Ofd { start, len } => {
            let end = (len > 0).then(|| (start + len - 1).unsigned_abs());
            lock.kind == "ofd" && range == (start.unsigned_abs(), end)
        }
    }
}

/// Every target's lock, once everything is taken; says if the decoys are not what they are to be.
pub(super) fn learn() -> Result<Vec<ProcLock>> {
    let learn = |(number, target): (i32, usize)| -> Result<ProcLock> {
        let of = |fd: i32| -> Result<ProcLock> {
            let locks = locks("self", fd).context("read our own fdinfo")?;
            locks.into_iter().find(|lock| is(lock_of(target), lock)).with_context(|| format!("no lock on fd {fd}"))
        };
        let (lock, twin) = (of(TARGET + number)?, of(TWIN + number)?);
        ensure!(lock.inode == twin.inode && lock.minor != twin.minor, "{twin:?} is no twin of {lock:?}");
        ensure!(ProcLock { minor: lock.minor, ..twin } == lock, "a twin can be told by more than its device");
        Ok(lock)
    };
    (0..).zip(0..TARGETS).map(learn).collect()
}

/// The decoys that are gone, in words.
pub(super) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    for (number, target) in (0..).zip(0..TARGETS) {
        let mut check = |fd: i32, how: How| {
            let there = locks("self", fd).is_some_and(|locks| locks.iter().any(|lock| is(how, lock)));
            missing.extend((!there).then(|| format!("{how:?} of fd {fd}")));
        };
        besides(target).iter().for_each(|how| check(TARGET + number, *how));
        [TWIN, NEIGHBOUR].into_iter().for_each(|from| check(from + number, lock_of(target)));
    }
    missing
}
