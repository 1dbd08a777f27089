//! Where a log is: a directory that only root or we can change, and a file in it that is nobody else's.
//!
//! Whoever could swap a name on the way could lead our lines into a file of its choice, so each directory is opened from
//! the one before without following a link, and judged by its descriptor. What is refused is named, with what mends it.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use lockwatch_core::text::Text;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, fsync, mkdirat, openat, statat},
    io::Errno,
    process::geteuid,
};

/// How often a file that comes and goes is looked for.
const TRIES: u32 = 16;

/// The directory of a log, open, and the log's name in it.
#[derive(Debug)]
pub(super) struct Place {
    /// Also keeps its inode's number from being given to another one.
    dir: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Goes to a log's directory. If nothing but that is missing, `make` makes it (0700).
    ///
    /// Every directory on the way must belong to root or to us, so that nobody else can put another in its place. The
    /// log's own must not be writable by group or others, sticky or not. Those above may be sticky, like /tmp, or
    /// writable by a group, like Ubuntu's /var/log (rsyslog's tmpfiles.d): whoever is in it can take our directory away,
    /// but cannot make one that belongs to root. Nothing is made there: that would hide that a directory is gone.
    pub(super) fn reach(path: &Path, make: bool) -> Result<Self> {
        ensure!(path.is_absolute(), "{} is not an absolute path", shown(path));
        let name = path.file_name().with_context(|| format!("{} is no name of a file", shown(path)))?.to_owned();
        let parent = path.parent().unwrap_or(Path::new("/"));
        let mut here = PathBuf::new();
        // Opened for nothing but to go on from: that needs no permission to read, and disturbs nobody.
        let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir: Option<OwnedFd> = None;
        let mut steps = parent.components().peekable();
        while let Some(step) = steps.next() {
            here.push(step);
            let at = dir.as_ref().map_or(CWD, AsFd::as_fd);
            let next = match openat(at, step.as_os_str(), way, Mode::empty()) {
                Err(Errno::NOENT) if make && steps.peek().is_none() => begin(at, step.as_os_str(), &here)?,
                Err(Errno::NOTDIR) => {
                    let stat = statat(at, step.as_os_str(), AtFlags::SYMLINK_NOFOLLOW);
                    bail!("{} {}", shown(&here), stat.map_or("is no directory", |stat| kind(&stat)))
                }
                next => next.with_context(|| format!("open the directory {}", shown(&here)))?,
            };
            judge_directory(&next, &here)?;
            dir = Some(next);
        }
        let dir = dir.with_context(|| format!("{} has no directory", shown(path)))?;
        // To be synced it must be open for reading.
        let dir = reopen(&dir).with_context(|| format!("open the directory {}", shown(parent)))?;
        let stat = fstat(&dir)?;
        ensure!(stat.st_mode & 0o022 == 0, "{}: chmod go-w {}", writable(&stat, parent), shown(parent));
        Ok(Self { dir, name, path: path.to_owned() })
    }

    /// Opens the log, and makes it (0600) if there is none.
    pub(super) fn open(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            // Looked at before it is opened: opening a FIFO or a device can do something, or wait.
            let Some(stat) = self.look()? else {
                let new = flags | OFlags::CREATE | OFlags::EXCL;
                match openat(&self.dir, &self.name, new, Mode::RUSR | Mode::WUSR) {
                    Err(Errno::EXIST) => continue,
                    file => return self.keep(file.with_context(|| format!("create {}", shown(&self.path)))?),
                }
            };
            judge_file(&stat, &self.path)?;
            match openat(&self.dir, &self.name, flags | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty()) {
                Err(Errno::NOENT) => {}
                file => {
                    let file = file.with_context(|| format!("open {}", shown(&self.path)))?;
                    judge_file(&fstat(&file)?, &self.path)?;
                    return Ok(file.into());
                }
            }
        }
        bail!("{} comes and goes", shown(&self.path))
    }

    /// Whether the log's name leads to this file now, and the file is as it should be.
    pub(super) fn leads_to(&self, file: &File) -> Result<bool> {
        let Some(stat) = self.look()? else { return Ok(false) };
        judge_file(&stat, &self.path)?;
        Ok(is_same(&stat, &fstat(file)?))
    }

    /// Whether it is the same directory.
    pub(super) fn is_same_as(&self, other: &Place) -> Result<bool> {
        Ok(is_same(&fstat(&self.dir)?, &fstat(&other.dir)?))
    }

    /// The path by which it was reached.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the name leads to; a link is not followed.
    fn look(&self) -> Result<Option<Stat>> {
        match statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => stat.map(Some).with_context(|| format!("look at {}", shown(&self.path))),
        }
    }

    /// A new file whose name outlives a crash.
    fn keep(&self, file: OwnedFd) -> Result<File> {
        // Whatever the umask is.
        fchmod(&file, Mode::RUSR | Mode::WUSR).with_context(|| format!("set the mode of {}", shown(&self.path)))?;
        sync_directory(&self.dir).with_context(|| format!("sync the directory of {}", shown(&self.path)))?;
        Ok(file.into())
    }
}

/// A path as it may be printed.
pub(super) fn shown(path: &Path) -> Text {
    Text::new(path.as_os_str().as_bytes())
}

/// Makes a directory that is ours alone, where nobody else can make, move or remove one.
fn begin(parent: impl AsFd, name: &OsStr, path: &Path) -> Result<OwnedFd> {
    let above = fstat(&parent)?;
    let words = || format!("{} is missing, and is not made in a directory that others can change", shown(path));
    ensure!(above.st_mode & 0o022 == 0 || is_sticky(&above), "{}: install -d -m 0700 {}", words(), shown(path));
    match mkdirat(&parent, name, Mode::RWXU) {
        // Somebody else made it just now: it will be judged.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).with_context(|| format!("create the directory {}", shown(path))),
    }
    let open = || {
        sync_directory(&reopen(&parent)?)?;
        openat(&parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    open().with_context(|| format!("open the directory {}", shown(path)))
}

fn reopen(dir: impl AsFd) -> rustix::io::Result<OwnedFd> {
    openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Some file systems cannot sync a directory and say EINVAL (fsync(2)); they promise nothing about names anyway.
fn sync_directory(dir: &OwnedFd) -> rustix::io::Result<()> {
    match fsync(dir) {
        Err(Errno::INVAL) => Ok(()),
        result => result,
    }
}

fn judge_directory(dir: &OwnedFd, path: &Path) -> Result<()> {
    let stat = fstat(dir)?;
    ensure!(is_ours(&stat), "{} belongs to uid {}, who could put another in its place", shown(path), stat.st_uid);
    ensure!(stat.st_mode & 0o002 == 0 || is_sticky(&stat), "{}: chmod o-w {}", writable(&stat, path), shown(path));
    Ok(())
}

fn judge_file(stat: &Stat, path: &Path) -> Result<()> {
    let path_shown = shown(path);
    ensure!(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile, "{path_shown} {}", kind(stat));
    let us = geteuid().as_raw();
    ensure!(stat.st_uid == us, "{path_shown} belongs to uid {}, not to uid {us}", stat.st_uid);
    ensure!(stat.st_nlink == 1, "{path_shown} has {} names (hard links), not one", stat.st_nlink);
    ensure!(stat.st_mode & 0o022 == 0, "{}: chmod go-w {path_shown}", writable(stat, path));
    Ok(())
}

/// `is a symbolic link`.
fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => "is a symbolic link",
        FileType::Directory => "is a directory",
        FileType::RegularFile => "is a regular file",
        FileType::Fifo => "is a FIFO",
        FileType::Socket => "is a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "is a device",
        FileType::Unknown => "is no regular file",
    }
}

fn writable(stat: &Stat, path: &Path) -> String {
    format!("{} can be written by others (mode {:04o})", shown(path), stat.st_mode & 0o7777)
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

/// Where only a file's owner can move or remove it (inode(7), sticky bit).
fn is_sticky(stat: &Stat) -> bool {
    stat.st_mode & 0o1000 != 0
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
