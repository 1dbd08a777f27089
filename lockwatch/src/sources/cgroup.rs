//! From the kernel's number of a control group to where its processes come from.

use std::{
    mem::offset_of,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::OnceLock,
};

use lockwatch_core::{parse::cgroup, process::Origin};
use rustix::fs::{CWD, Mode, OFlags};

use super::mounts::Mounts;

/// Where a process of this control group of version 2 comes from. Nothing is known of a group that is gone by now, of
/// number 0, and where we may not ask (CAP_DAC_READ_SEARCH).
///
/// The number is the group's node in the kernel's file system (cgroup_id, include/linux/cgroup.h, 6.18), and so a file
/// handle: no directory is searched. On a host where systemd keeps its tree in version 1, it leads to the root of
/// version 2, which tells nothing.
pub fn origin(id: u64) -> Origin {
    static ROOT: OnceLock<Option<Root>> = OnceLock::new();
    let root = ROOT.get_or_init(Root::open).as_ref();
    let path = root.filter(|_| id != 0).and_then(|root| root.path_of(id));
    path.map_or_else(Origin::default, |path| cgroup::of_path(&path))
}

/// The mount of version 2.
struct Root {
    dir: OwnedFd,
    path: Vec<u8>,
}

/// struct file_handle of open_by_handle_at(2) with room for one of FILEID_KERNFS.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

impl Root {
    fn open() -> Option<Self> {
        let path = Mounts::read().point_of(b"cgroup2")?.as_bytes().to_vec();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path.as_slice(), flags, Mode::empty()).ok()?;
        Some(Self { dir, path })
    }

    /// The group's path below the mount.
    fn path_of(&self, id: u64) -> Option<Vec<u8>> {
        /// include/linux/exportfs.h: the file handle is the 64-bit number of the node (since 5.5).
        const FILEID_KERNFS: i32 = 0xfe;
        const { assert!(offset_of!(Handle, id) == 8) };
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `handle` is laid out as struct file_handle, says how long it is, and lives through the call.
        let fd = unsafe { libc::open_by_handle_at(self.dir.as_raw_fd(), (&raw mut handle).cast(), flags) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel has just given us this descriptor.
        let group = unsafe { OwnedFd::from_raw_fd(fd) };
        let link = rustix::fs::readlink(format!("/proc/self/fd/{}", group.as_raw_fd()), Vec::new()).ok()?;
        let path = link.as_bytes().strip_prefix(self.path.as_slice())?;
        (path.is_empty() || path.starts_with(b"/")).then(|| path.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

    use super::*;

    /// A group of our own, gone at the end.
    struct Group(PathBuf);

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn a_number_leads_to_its_group() {
        let Some(root) = Root::open() else { return };
        let name = format!("lockwatch-test-{}.service", std::process::id());
        let path = PathBuf::from(str::from_utf8(&root.path).unwrap()).join(&name);
        if let Err(error) = fs::create_dir(&path) {
            return println!("LEFT OUT: {}: {error}", path.display());
        }
        let group = Group(path);
        let id = fs::metadata(&group.0).unwrap().ino();
        assert_eq!(origin(id).unit, Some(name.as_str().into()));
        drop(group);
        assert_eq!(origin(id), Origin::default());
        assert_eq!((origin(0), origin(u64::MAX)), (Origin::default(), Origin::default()));
    }
}
