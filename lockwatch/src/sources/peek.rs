//! The first bytes of a locked file, without opening it: a pid file names its owner.

use lockwatch_core::{lock::FileId, text::Text};
use rustix::{
    fs::{FileType, OFlags},
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// At most the first 64 bytes of a small regular file that a process has open for reading; `None` for any other file,
/// and where it is not permitted. `file` says which file is meant, for the number may have been given to another one since;
/// `fs` is its file system's type.
///
/// The file is read through a duplicate of the holder's own open file description (pidfd_getfd(2), Linux 5.6), which
/// is closed at once. It is never opened: an open(2) breaks leases, and may wait for whoever holds one; and the
/// close(2) that follows would drop every POSIX lock of ours on the file. A read at an offset does not move the
/// holder's own position.
///
/// On a file system that a server answers for, a read may wait for ever, so there is none.
pub fn first_bytes(pid: u32, fd: u32, file: FileId, fs: Option<&Text>) -> Option<Vec<u8>> {
    const LONGEST_PID_FILE: i64 = 4096;
    if fs.is_some_and(super::mounts::is_far) {
        return None;
    }
    let process = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    let copy = pidfd_getfd(&process, i32::try_from(fd).ok()?, PidfdGetfdFlags::empty()).ok()?;
    let flags = rustix::fs::fcntl_getfl(&copy).ok()?;
    let readable = !flags.contains(OFlags::PATH) && (flags & OFlags::ACCMODE) != OFlags::WRONLY;
    let stat = rustix::fs::fstat(&copy).ok()?;
    let same = stat.st_ino == file.inode && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !readable || !same || stat.st_size > LONGEST_PID_FILE {
        return None;
    }
    let mut bytes = vec![0; 64];
    let length = loop {
        match rustix::io::pread(&copy, &mut bytes[..], 0) {
            Err(Errno::INTR) => {}
            other => break other.ok()?,
        }
    };
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Seek, Write},
        os::fd::AsRawFd,
    };

    use super::*;

    fn id(file: &File) -> FileId {
        super::super::mounts::id_of_stat(&rustix::fs::fstat(file).unwrap())
    }

    fn peek(file: &File, fs: &str) -> Option<Vec<u8>> {
        first_bytes(std::process::id(), file.as_raw_fd().unsigned_abs(), id(file), Some(&Text::from(fs)))
    }

    #[test]
    fn reads_a_pid_file_and_leaves_its_position() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"4711\n").unwrap();
        assert_eq!(peek(&file, "ext4").as_deref(), Some(&b"4711\n"[..]));
        assert_eq!(file.stream_position().unwrap(), 5);
        assert_eq!(peek(&file, "fuse.sshfs"), None);
        file.write_all(&[b'x'; 200]).unwrap();
        assert_eq!(peek(&file, "ext4").unwrap().len(), 64);
        file.set_len(5000).unwrap();
        assert_eq!(peek(&file, "ext4"), None);
    }

    #[test]
    fn leaves_alone_what_is_not_a_readable_file() {
        let path = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(peek(&File::options().write(true).open(path.path()).unwrap(), "ext4"), None);
        assert_eq!(peek(&File::open("/dev/null").unwrap(), "ext4"), None);
        let file = path.reopen().unwrap();
        let (me, fd, id) = (std::process::id(), file.as_raw_fd().unsigned_abs(), id(&file));
        assert_eq!(first_bytes(me, fd, FileId { inode: id.inode + 1, ..id }, None), None);
        assert_eq!(first_bytes(me, 1 << 20, id, None), None);
        assert_eq!(first_bytes(me, fd, id, None), Some(vec![]));
    }
}
