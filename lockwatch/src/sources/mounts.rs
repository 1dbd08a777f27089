//! Mounted file systems: the device that the kernel prints for a lock, and the type behind it.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use anyhow::Context;
use lockwatch_core::{
    lock::{Device, FileId},
    parse::fdinfo,
    text::Text,
};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, openat, statx},
    path::Arg,
};

use super::processes::device;

/// The identity of a file that a user named, as the kernel prints it for a lock. Links are followed. Errors name the
/// path. The file is not opened; see [`identity`].
pub fn file_id(path: &Path) -> anyhow::Result<FileId> {
    let shown = Text::new(path.as_os_str().as_encoded_bytes());
    identity(CWD, path, AtFlags::empty(), &Mounts::read()).with_context(|| format!("look at {shown}"))
}

/// The identity of a file, as the kernel prints it for a lock. `at` is 0 or AT_SYMLINK_NOFOLLOW.
///
/// `/proc/locks` has the superblock's device and the inode's own number. The device comes from the mount: its id
/// (STATX_MNT_ID, Linux 5.8) leads to a line of mountinfo, and `st_dev` serves where there is none. Where both devices
/// differ (btrfs, overlayfs), `st_ino` may be another number too (fs/overlayfs/inode.c ovl_map_dev_ino, 6.18), and fdinfo
/// has the inode's own (Linux 5.14).
///
/// fdinfo needs a descriptor, and there an O_PATH one does: it opens no file. do_dentry_open (fs/open.c, 6.18) returns
/// for it before it asks for leases, waits for a FIFO's other end or calls the file system, and filp_flush skips
/// locks_remove_posix when it is closed.
pub(super) fn identity(
    dir: impl AsFd,
    path: impl Arg + Copy,
    at: AtFlags,
    mounts: &Mounts,
) -> rustix::io::Result<FileId> {
    let flags = at | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&dir, path, flags, StatxFlags::INO | StatxFlags::MNT_ID)?;
    let (file, plain) = by_stat(&stat, mounts);
    if plain {
        return Ok(file);
    }
    let follow = if at.contains(AtFlags::SYMLINK_NOFOLLOW) { OFlags::NOFOLLOW } else { OFlags::empty() };
    let fd = openat(dir, path, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty())?;
    Ok(FileId { inode: own_inode(&fd).unwrap_or(file.inode), ..file })
}

/// Like [`identity`], of a file that an O_PATH descriptor stands for.
pub(super) fn identity_of(fd: impl AsFd, mounts: &Mounts) -> rustix::io::Result<FileId> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let (file, plain) = by_stat(&statx(&fd, c"", flags, StatxFlags::INO | StatxFlags::MNT_ID)?, mounts);
    let inode = if plain { None } else { own_inode(&fd) };
    Ok(FileId { inode: inode.unwrap_or(file.inode), ..file })
}

/// Like [`identity_of`], where `st_dev` is that of the superblock, as it is on most file systems.
pub(super) fn plain_identity_of(fd: impl AsFd, mounts: &Mounts) -> Option<FileId> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&fd, c"", flags, StatxFlags::INO | StatxFlags::MNT_ID).ok()?;
    let (file, plain) = by_stat(&stat, mounts);
    plain.then_some(file)
}

/// The superblock's device with `st_ino`, and whether `st_dev` is that device too.
fn by_stat(stat: &Statx, mounts: &Mounts) -> (FileId, bool) {
    let own = Device { major: stat.stx_dev_major, minor: stat.stx_dev_minor };
    let mount = (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id);
    let device = mount.and_then(|id| mounts.device(id)).unwrap_or(own);
    (FileId { device, inode: stat.stx_ino }, device == own)
}

fn own_inode(fd: &impl AsFd) -> Option<u64> {
    let info = std::fs::read(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
    fdinfo::parse(&info).ino
}

/// What a mountinfo file says (proc_pid_mountinfo(5)).
///
/// ```text
/// 27 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw
/// ```
#[derive(Debug, Default)]
pub struct Mounts {
    types: HashMap<Device, Text>,
    devices: HashMap<u64, Device>,
    /// What is mounted at a path; what was mounted last is on top, and has the last line.
    points: HashMap<Vec<u8>, Device>,
}

/// What a path leads through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The device that it ends on.
    pub device: Device,
    /// Whether it crosses a file system that a server answers for: a look may wait for ever there.
    pub far: bool,
}

impl Mounts {
    /// Those of our own mount namespace; none if that cannot be read.
    pub fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads the text; a line that cannot be read is left out.
    pub fn parse(text: &[u8]) -> Self {
        let mut mounts = Self::default();
        for line in text.split(|b| *b == b'\n') {
            if let Some(Mount { id, device, point, fs }) = mount(line) {
                mounts.devices.insert(id, device);
                mounts.points.insert(point, device);
                mounts.types.entry(device).or_insert_with(|| Text::new(fs));
            }
        }
        mounts
    }

    /// The type of the file system on a device.
    pub fn fs(&self, device: Device) -> Option<&Text> {
        self.types.get(&device)
    }

    /// The superblock's device of a mount.
    pub fn device(&self, mount: u64) -> Option<Device> {
        self.devices.get(&mount).copied()
    }

    /// Where a file system of this type is mounted; the first such place by name.
    pub fn point_of(&self, fs: &[u8]) -> Option<Text> {
        let of_type = |device: &Device| self.fs(*device).is_some_and(|known| known.as_bytes() == fs);
        self.points.iter().filter(|(_, device)| of_type(device)).map(|(point, _)| Text::new(point)).min()
    }

    /// Whether something is mounted at this very path.
    pub fn is_point(&self, path: &[u8]) -> bool {
        self.points.contains_key(path)
    }

    /// What an absolute path without links leads through.
    pub fn way(&self, path: &[u8]) -> Option<Way> {
        let ends = (0..path.len()).filter(|at| path[*at] == b'/').map(|at| &path[..at.max(1)]).chain([path]);
        let mut crossed = ends.filter_map(|point| self.points.get(point).copied());
        let first = crossed.next()?;
        let far = |device| self.fs(device).is_some_and(is_far);
        Some(
            crossed.fold(Way { device: first, far: far(first) }, |way, device| Way {
                device,
                far: way.far || far(device),
            }),
        )
    }
}

/// Whether a server answers for a file system of this type, on this machine or another, and may take for ever.
pub fn is_far(fs: &Text) -> bool {
    const FAR: [&[u8]; 9] = [b"fuse", b"nfs", b"cifs", b"smb", b"9p", b"ceph", b"afs", b"virtiofs", b"autofs"];
    FAR.iter().any(|prefix| fs.as_bytes().starts_with(prefix))
}

/// A line of mountinfo.
struct Mount<'a> {
    id: u64,
    device: Device,
    point: Vec<u8>,
    fs: &'a [u8],
}

fn mount(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|b| *b == b' ');
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (major, minor) = str::from_utf8(fields.nth(1)?).ok()?.split_once(':')?;
    let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
    let point = unescaped(fields.nth(1)?);
    // The optional fields have no fixed number: a lone dash ends them.
    fields.find(|f| *f == b"-")?;
    Some(Mount { id, device, point, fs: fields.next()? })
}

/// Blanks, line feeds and backslashes are printed in octal: `\040` (mangle_path, fs/seq_file.c).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => out.push(*byte),
        }
    }
    out
}

/// The identity of a file by its stat alone: `st_dev` for the device.
pub(super) fn id_of_stat(stat: &rustix::fs::Stat) -> FileId {
    FileId { device: device(stat.st_dev), inode: stat.st_ino }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mountinfo() {
        let mounts = Mounts::parse(
            b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
              27 1 254:0 / / rw shared:1 master:2 - ext4 /dev/vda rw\n\
              30 27 0:40 /sub /mnt/a\\040b\xff rw - btrfs /dev/vdb rw\n\
              junk\n31 27 x:1 / /x rw - tmpfs x rw\n32 27 0:5 / /x rw\n",
        );
        let check = |device: Device, fs: Option<&str>| assert_eq!(mounts.fs(device), fs.map(Text::from).as_ref());
        check(Device { major: 254, minor: 0 }, Some("ext4"));
        check(Device { major: 0, minor: 40 }, Some("btrfs"));
        check(Device { major: 0, minor: 5 }, None);
        assert_eq!(mounts.device(30), Some(Device { major: 0, minor: 40 }));
        assert_eq!(mounts.device(31), None);
        assert_eq!(mounts.point_of(b"btrfs"), Some(Text::new(b"/mnt/a b\xff")));
    }

    #[test]
    fn a_path_ends_on_the_innermost_mount() {
        let mounts = Mounts::parse(
            b"27 1 254:0 / / rw - ext4 /dev/vda rw\n30 27 0:40 / /mnt rw - nfs4 x:/ rw\n\
              31 30 0:41 / /mnt/x rw - tmpfs t rw\n32 30 0:42 / /mnt/x rw - tmpfs u rw\n",
        );
        let check = |path: &str, major, minor, far| {
            assert_eq!(mounts.way(path.as_bytes()), Some(Way { device: Device { major, minor }, far }), "{path}");
        };
        check("/", 254, 0, false);
        check("/mntx/y", 254, 0, false);
        check("/mnt", 0, 40, true);
        check("/mnt/y", 0, 40, true);
        check("/mnt/x/y/z", 0, 42, true);
        assert_eq!(Mounts::default().way(b"/x"), None);
        assert_eq!(mounts.way(b"pipe:[7]"), None);
    }

    #[test]
    fn names_a_file_as_the_kernel_names_its_lock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let id = file_id(file.path()).unwrap();
        let locks = std::fs::read("/proc/locks").unwrap();
        let (lines, _) = lockwatch_core::parse::locks::parse(&locks);
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(lines.iter().any(|l| l.pid == pid && l.file == Some(id)), "{id} is not in /proc/locks");
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = file_id(Path::new("/no/such\nfile")).unwrap_err();
        assert_eq!(format!("{error:#}"), "look at /no/such\\nfile: No such file or directory (os error 2)");
    }
}
