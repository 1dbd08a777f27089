//! io_urings: each keeps the open files that are registered with it, and the locks on them.

use std::{collections::HashSet, ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path};

use lockwatch_core::{
    lock::{Device, FileId},
    parse::fdinfo,
    text::Text,
};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::Seen;
use crate::sources::{fds, mounts::Mounts, procdir::ProcDir, processes::is_gone};

/// The io_urings of one process.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// The files that are registered. Only their paths are known, and the same file may have been opened twice: these
    /// are candidates.
    pub files: Vec<Seen>,
    /// The inodes of its rings.
    pub inodes: HashSet<u64>,
    /// What could not be seen, one sentence each.
    pub gaps: Vec<String>,
}

/// Looks for rings in the file tables of a process, and for what is registered with them. Errors are those of reading
/// its descriptors.
///
/// A ring that a thread has registered with itself and closed (IORING_REGISTER_RING_FDS, Linux 5.18) or that never
/// had a descriptor (IORING_SETUP_REGISTERED_FD_ONLY, 6.5) stands in no table; what it maps gives it away (`maps`).
pub fn of(root: &Path, dir: &ProcDir, pid: u32, our_numbers: bool) -> io::Result<Rings> {
    let mut rings = Rings::default();
    for sharers in fds::tables(dir, pid, our_numbers) {
        let Some(task) = sharers.first() else { continue };
        let table = if *task == pid { String::new() } else { format!("task/{task}/") };
        let fds = match dir.numbers(&format!("{table}fd")) {
            Err(error) if is_gone(&error) || !fds::may_have_fds(dir) => continue,
            other => other?,
        };
        for fd in fds {
            match dir.read_link(&format!("{table}fd/{fd}")) {
                Ok(name) if name == b"anon_inode:[io_uring]" => {
                    rings.add(root, dir, &format!("{table}fdinfo/{fd}"), pid, fd)?
                }
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(rings)
}

impl Rings {
    fn add(&mut self, root: &Path, dir: &ProcDir, path: &str, pid: u32, fd: u32) -> io::Result<()> {
        let ring = format!("the io_uring at fd {fd} of pid {pid}");
        // The kernel does not wait for a ring that is busy, and prints nothing of it.
        for _ in 0..8 {
            let info = match dir.read(path) {
                Err(error) if is_gone(&error) => return Ok(()),
                other => fdinfo::parse(&other?),
            };
            self.inodes.extend(info.ino);
            let Some(registered) = info.ring else { continue };
            // Before its lock was asked for in one place, a busy ring printed the number and no names; a table of
            // nothing but free slots looks the same.
            if registered.slots > 0 && registered.files.is_empty() {
                self.gaps.push(format!("{ring} does not show whether files are registered with it"));
            }
            for name in &registered.files {
                match identify(root, pid, name) {
                    Registered::File(files) => {
                        let detail = format!("registered with io_uring fd {fd}");
                        let name = Text::new(&name[..]);
                        self.files.extend(files.into_iter().map(|file| Seen {
                            file,
                            name: name.clone(),
                            detail: detail.clone(),
                        }));
                    }
                    Registered::Other => {}
                    Registered::Unclear => {
                        let name = Text::new(&name[..]);
                        self.gaps.push(format!("{ring} has a file registered that cannot be told by its name: {name}"));
                    }
                }
            }
            return Ok(());
        }
        self.gaps.push(format!("{ring} is busy and does not show its files"));
        Ok(())
    }
}

/// What a name in a ring's list stands for.
enum Registered {
    /// Any of these: what the path leads to from here, and from the process's own root.
    File(Vec<FileId>),
    /// A pipe, a socket, an epoll: no file that could be found by path.
    Other,
    /// It cannot be said.
    Unclear,
}

/// The kernel prints paths as seen from our root, and those outside it as seen from their own mount namespace's.
fn identify(root: &Path, pid: u32, name: &[u8]) -> Registered {
    let Some(relative) = name.strip_prefix(b"/").filter(|_| !name.ends_with(b" (deleted)")) else {
        let known = [&b"pipe:["[..], b"socket:[", b"anon_inode:"].iter().any(|prefix| name.starts_with(prefix));
        return if known { Registered::Other } else { Registered::Unclear };
    };
    let mountinfo = |pid: &str| Mounts::parse(&std::fs::read(root.join(pid).join("mountinfo")).unwrap_or_default());
    let pid = pid.to_string();
    let views = ["self", &pid];
    let mut files: Vec<FileId> = views
        .iter()
        .filter_map(|pid| {
            let path = root.join(pid).join("root").join(OsStr::from_bytes(relative));
            let stat = statx(CWD, path, AtFlags::NO_AUTOMOUNT, StatxFlags::INO | StatxFlags::MNT_ID).ok()?;
            let device = Some(stat.stx_mnt_id).filter(|_| stat.stx_mask & StatxFlags::MNT_ID.bits() != 0);
            let device = device.and_then(|mount| mountinfo(pid).device(mount));
            let device = device.unwrap_or(Device { major: stat.stx_dev_major, minor: stat.stx_dev_minor });
            Some(FileId { device, inode: stat.stx_ino })
        })
        .collect();
    files.dedup();
    if files.is_empty() { Registered::Unclear } else { Registered::File(files) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn names_become_files() {
        let root = tempfile::tempdir().unwrap();
        let file = tempfile::Builder::new().prefix("a b").tempfile().unwrap();
        let name = file.path().to_str().unwrap().replace(' ', "\\040");
        for dir in ["8/fd", "8/fdinfo", "self"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for view in ["8", "self"] {
            symlink("/", root.path().join(view).join("root")).unwrap();
            fs::copy("/proc/self/mountinfo", root.path().join(view).join("mountinfo")).unwrap();
        }
        let info = format!(
            "pos:\t0\nino:\t77\nUserFiles:\t9\n    0: {name}\n    1: pipe:[7]\n    2: <none>\n    3: {name}\\040(deleted)\n\
             UserBufs:\t0\n"
        );
        fs::write(root.path().join("8/fdinfo/4"), info).unwrap();
        symlink("anon_inode:[io_uring]", root.path().join("8/fd/4")).unwrap();
        symlink("/dev/null", root.path().join("8/fd/5")).unwrap();
        let rings = of(root.path(), &ProcDir::process(root.path(), 8).unwrap(), 8, false).unwrap();
        let id = crate::sources::mounts::file_id(file.path()).unwrap();
        let path = Text::new(file.path().as_os_str().as_encoded_bytes());
        let detail = "registered with io_uring fd 4".to_owned();
        let gap = format!(
            "the io_uring at fd 4 of pid 8 has a file registered that cannot be told by its name: {path} (deleted)"
        );
        let expect = Rings { files: vec![Seen { file: id, name: path, detail }], inodes: [77].into(), gaps: vec![gap] };
        assert_eq!(rings, expect);
    }
}
