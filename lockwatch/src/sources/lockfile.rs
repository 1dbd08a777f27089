//! A file that carries no kernel lock: who wrote it, whom it names, who has it open.

use std::{
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use lockwatch_core::{
    lock::FileId,
    lockfile::LockFile,
    parse::{
        lockfile::{self, Claim},
        locks,
    },
    process::Process,
    text::Text,
    time::Timestamp,
};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, openat, statx},
    io::Errno,
};

use super::{
    clock::Clock,
    mounts::{self, Mounts},
    procdir::ProcDir,
    processes,
};

/// The most bytes of a text that are looked at: a lock file is smaller.
const LONGEST: u64 = 4096;

/// Looks at a file of which the list of locks has said that it carries none. `sure` says that the list was exact: if it
/// was not, `/proc/locks` is asked once more before the file is opened.
///
/// A file may be opened only here, and only because it carries no lock: opening it cannot break a lease, and closing it
/// drops no lock of ours. A lease that somebody takes in that very moment would be broken; O_NONBLOCK keeps us from
/// waiting for it. Links are followed, but one that leads nowhere is itself the lock.
pub fn look(path: &Path, root: &Path, sure: bool) -> anyhow::Result<LockFile> {
    let shown = Text::new(path.as_os_str().as_encoded_bytes());
    let clock = Clock::read();
    let fd = stand_for(path).with_context(|| format!("look at {shown}"))?;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = statx(&fd, c"", AtFlags::EMPTY_PATH, wanted).with_context(|| format!("look at {shown}"))?;
    let mounts = Mounts::read();
    let file = mounts::identity_of(&fd, &mounts).with_context(|| format!("look at {shown}"))?;
    let fs = mounts.fs(file.device).cloned();
    let doubt = processes::blind_spot(root);
    let (open_by, open_by_complete) = openers(root, &stat, &clock);

    let name = path.file_name().unwrap_or_default().as_bytes();
    let kind = kind(&stat);
    let (claim, unread) = match (kind, fs.as_ref().is_some_and(mounts::is_far)) {
        ("symlink", _) => (link(&fd).and_then(|target| lockfile::link(name, &target)), None),
        ("file", _) if stat.stx_size > LONGEST => (None, Some("it is too long for a lock file".to_owned())),
        ("file", true) => (None, Some("a server answers for its file system, and may never do so".to_owned())),
        ("file", false) if stat.stx_size > 0 => match read(&fd, file, root, sure, doubt.is_none()) {
            Ok(text) => (lockfile::text(name, &text), None),
            Err(why) => (None, Some(why)),
        },
        _ => (None, None),
    };
    let process = claim.as_ref().and_then(|claim| named(claim, &open_by, root, &clock));
    Ok(LockFile {
        path: shown,
        file,
        fs,
        kind,
        size: stat.stx_size,
        uid: stat.stx_uid,
        user: user(stat.stx_uid),
        modified_at: modified(&stat),
        named_like_one: lockfile::is_lock_name(name),
        claim,
        unread,
        process,
        open_by,
        open_by_complete: open_by_complete && doubt.is_none(),
        doubt,
    })
}

/// An O_PATH descriptor of the file, or of a link that leads nowhere. It opens nothing ([`mounts::file_id`]).
fn stand_for(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::LOOP) => openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty()),
        other => other,
    }
}

fn kind(stat: &Statx) -> &'static str {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => "file",
        FileType::Symlink => "symlink",
        FileType::Directory => "directory",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        _ => "device",
    }
}

fn link(fd: &OwnedFd) -> Option<Vec<u8>> {
    Some(rustix::fs::readlinkat(fd, c"", Vec::new()).ok()?.into_bytes())
}

/// The text of a regular file without locks, or why it stays closed.
fn read(fd: &OwnedFd, file: FileId, root: &Path, sure: bool, all_visible: bool) -> Result<Vec<u8>, String> {
    if !all_visible {
        return Err("whether it is locked cannot be seen from here, so it was not opened".into());
    }
    if !sure && is_listed(root, file).unwrap_or(true) {
        return Err("the list of locks is not exact, so it was not opened".into());
    }
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Without leaving a trace, where that is permitted (open(2), O_NOATIME).
    let open = openat(CWD, &path, flags | OFlags::NOATIME, Mode::empty());
    let open = match open {
        Err(Errno::PERM) => openat(CWD, &path, flags, Mode::empty()),
        other => other,
    };
    let mut bytes = vec![0; LONGEST as usize];
    let read = open.and_then(|open| rustix::io::pread(&open, &mut bytes[..], 0)).map_err(|error| error.to_string())?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Whether `/proc/locks` has a lock on the file, or one on a file that it does not name.
fn is_listed(root: &Path, file: FileId) -> Option<bool> {
    let text = ProcDir::open(root).and_then(|root| root.read("locks")).ok()?;
    let (lines, bad) = locks::parse(&text);
    Some(!bad.is_empty() || lines.iter().any(|line| line.file.is_none_or(|listed| listed == file)))
}

/// Everybody who has the file open, and whether every process could be asked.
fn openers(root: &Path, stat: &Statx, clock: &Clock) -> (Vec<(Arc<Process>, u32)>, bool) {
    let wanted = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
    let (mut found, mut complete) = (Vec::new(), true);
    let pids = ProcDir::open(root).and_then(|root| root.numbers("."));
    complete &= pids.is_ok();
    for pid in pids.unwrap_or_default().into_iter().filter(|pid| *pid != std::process::id()) {
        let Ok(dir) = ProcDir::process(root, pid) else { continue };
        let fds = match dir.numbers("fd") {
            Ok(fds) => fds,
            Err(error) => {
                complete &= processes::is_gone(&error);
                continue;
            }
        };
        let same: Vec<u32> =
            fds.into_iter().filter(|fd| dir.identity(&format!("fd/{fd}")).is_ok_and(|id| id == wanted)).collect();
        if same.is_empty() {
            continue;
        }
        if let Some(process) = processes::read(&dir, pid, clock).map(Arc::new) {
            found.extend(same.into_iter().map(|fd| (process.clone(), fd)));
        }
    }
    (found, complete)
}

/// The living process that a claim means: one that has the file open and has this number, be it in its own pid
/// namespace, or else whoever has the number here.
fn named(claim: &Claim, open_by: &[(Arc<Process>, u32)], root: &Path, clock: &Clock) -> Option<Arc<Process>> {
    let inner = open_by.iter().map(|(process, _)| process).find(|process| process.inner_pid == Some(claim.pid));
    inner.cloned().or_else(|| processes::process(root, claim.pid, clock).map(Arc::new))
}

fn modified(stat: &Statx) -> Option<Timestamp> {
    let seconds = u64::try_from(stat.stx_mtime.tv_sec).ok()?;
    Some(Timestamp(seconds.checked_mul(1_000_000_000)? + u64::from(stat.stx_mtime.tv_nsec)))
}

/// The name in /etc/passwd: asking a directory service could take for ever.
fn user(uid: u32) -> Option<Text> {
    let text = std::fs::read("/etc/passwd").ok()?;
    let wanted = uid.to_string();
    text.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number == wanted.as_bytes()).then(|| Text::new(name))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn seen(path: &Path) -> LockFile {
        look(path, Path::new("/proc"), false).unwrap()
    }

    #[test]
    fn reads_whom_a_file_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        let file = seen(&path);
        assert_eq!((file.kind, file.uid, file.named_like_one), ("file", rustix::process::getuid().as_raw(), true));
        assert_eq!(file.unread, None);
        assert_eq!(file.claim.map(|claim| claim.pid), Some(std::process::id()));
        assert_eq!(file.process.map(|process| process.id.pid), Some(std::process::id()));
        fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(seen(&path).unread.is_some());
        let link = dir.path().join("lock");
        std::os::unix::fs::symlink("127.0.0.1:+1", &link).unwrap();
        let file = seen(&link);
        assert_eq!((file.kind, file.claim.map(|claim| claim.pid)), ("symlink", Some(1)));
    }

    #[test]
    fn a_fifo_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        rustix::fs::mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
        let file = seen(&path);
        assert_eq!((file.kind, file.claim, file.unread), ("fifo", None, None));
    }

    #[test]
    fn a_locked_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        fs::write(&path, "1\n").unwrap();
        let file = fs::File::open(&path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
        assert!(seen(&path).unread.is_some());
        drop(file);
        assert_eq!(seen(&path).unread, None);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = look(Path::new("/no/such"), Path::new("/proc"), false).unwrap_err();
        assert!(format!("{error:#}").starts_with("look at /no/such: "), "{error:#}");
    }
}
