//! Mounted file systems: the device that the kernel prints for a lock, and the type behind it.

use std::{collections::HashMap, path::Path};

use anyhow::Context;
use lockwatch_core::{
    lock::{Device, FileId},
    text::Text,
};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::processes::device;

/// The identity of a file that a user named, as the kernel prints it for a lock. It is not opened: that could break a
/// lease, wait for a FIFO's other end, or drop POSIX locks of ours when it is closed.
///
/// `/proc/locks` has the superblock's device, and `st_dev` is another one on btrfs and overlayfs. So the mount is
/// looked up by its id (STATX_MNT_ID, Linux 5.8) in mountinfo, which has the superblock's; `st_dev` serves where there
/// is no such mount. Links are followed. Errors name the path.
pub fn file_id(path: &Path) -> anyhow::Result<FileId> {
    let shown = Text::new(path.as_os_str().as_encoded_bytes());
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let stat = statx(CWD, path, AtFlags::empty(), wanted).with_context(|| format!("look at {shown}"))?;
    let mount = (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id);
    let by_mount = mount.and_then(|id| Mounts::read().device(id));
    let device = by_mount.unwrap_or(Device { major: stat.stx_dev_major, minor: stat.stx_dev_minor });
    Ok(FileId { device, inode: stat.stx_ino })
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
            if let Some((id, device, fs)) = mount(line) {
                mounts.devices.insert(id, device);
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
}

fn mount(line: &[u8]) -> Option<(u64, Device, &[u8])> {
    let mut fields = line.split(|b| *b == b' ');
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (major, minor) = str::from_utf8(fields.nth(1)?).ok()?.split_once(':')?;
    let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
    // The optional fields have no fixed number: a lone dash ends them.
    fields.find(|f| *f == b"-")?;
    Some((id, device, fields.next()?))
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
