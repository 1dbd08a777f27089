//! Small reads below a directory of procfs that stay with the process they began with.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, StatxFlags},
    io::Errno,
    path::Arg,
};

/// An open directory. `/proc/PID` kept open stays that process: once it is gone every read fails with ESRCH or
/// ENOENT, even if its number belongs to another one by then.
pub struct ProcDir(OwnedFd);

impl ProcDir {
    /// Opens a directory such as `/proc/4711`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens the directory of a process.
    pub fn process(root: &Path, pid: u32) -> io::Result<Self> {
        Self::open(&root.join(pid.to_string()))
    }

    /// Opens a directory below this one.
    pub fn dir(&self, name: &str) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(&self.0, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// The whole of a file.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(name, &mut bytes)?;
        Ok(bytes)
    }

    /// Opens a file below this directory.
    pub fn open_file(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.0, name, flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The whole of a file, into a buffer that is used again and again. Returns how many pieces the kernel gave it in:
    /// a procfs file of one piece is of one moment.
    pub fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        bytes.clear();
        drain(&file, bytes)
    }

    /// Where a symbolic link points.
    pub fn read_link(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// The file behind a name, following links.
    pub fn stat(&self, name: impl Arg) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.0, name, AtFlags::empty())?)
    }

    /// Device and inode of the file behind a name, as stat(2) gives them, without asking a server for news.
    pub fn identity(&self, name: &str) -> io::Result<(u32, u32, u64)> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(&self.0, name, flags, StatxFlags::INO)?;
        Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
    }

    /// The entries of a directory that are numbers: processes, threads, descriptors. In order.
    pub fn numbers(&self, name: &str) -> io::Result<Vec<u32>> {
        let dir = rustix::fs::openat(&self.0, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut numbers = Vec::new();
        for entry in Dir::new(dir)? {
            let entry = entry?;
            numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The whole of a procfs file. std's way asks for its size first, which is no news here.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    drain(&file, &mut bytes)?;
    Ok(bytes)
}

fn drain(file: &OwnedFd, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut pieces = 0;
    loop {
        bytes.reserve(4096);
        match rustix::io::read(file, rustix::buffer::spare_capacity(bytes)) {
            Ok(0) => return Ok(pieces),
            Ok(_) => pieces += 1,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_lists_numbers_only() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [("7", ""), ("12", ""), ("self", ""), ("big", &*"x".repeat(10_000))] {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("/some/where", root.path().join("link")).unwrap();
        let dir = ProcDir::open(root.path()).unwrap();
        assert_eq!(dir.numbers(".").unwrap(), [7, 12]);
        assert_eq!(dir.read("big").unwrap().len(), 10_000);
        assert_eq!(dir.read_link("link").unwrap(), b"/some/where");
        assert_eq!(dir.read("none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_that_is_gone_stays_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let dir = ProcDir::process(Path::new("/proc"), child.id()).unwrap();
        assert!(dir.read("stat").is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(dir.read("stat").is_err());
    }
}
