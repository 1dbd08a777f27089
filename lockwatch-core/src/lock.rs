//! What a lock is: kind, mode, range, file. DESIGN section 2 has the vocabulary.

use std::fmt;

use crate::time::Timestamp;

/// Which of the kernel's advisory locks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// flock(2): belongs to the open file description.
    Flock,
    /// fcntl(2) F_SETLK: belongs to the process, more exactly to its file table (`struct files_struct`).
    Posix,
    /// fcntl(2) F_OFD_SETLK: a range like POSIX, belongs to the open file description.
    Ofd,
    /// fcntl(2) F_SETLEASE.
    Lease,
    /// A lease that nfsd gave to a client.
    Delegation,
}

impl Kind {
    /// Every kind, in the order in which outputs list them.
    pub const ALL: [Kind; 5] = [Kind::Flock, Kind::Posix, Kind::Ofd, Kind::Lease, Kind::Delegation];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Flock => "flock",
            Kind::Posix => "posix",
            Kind::Ofd => "ofd",
            Kind::Lease => "lease",
            Kind::Delegation => "delegation",
        }
    }

    /// Whether two kinds can stand in each other's way: POSIX and OFD share a list in the kernel, leases and
    /// delegations another, flock has its own (fs/locks.c `struct file_lock_context`, 6.18).
    pub fn conflicts_with(self, other: Kind) -> bool {
        let family = |k| match k {
            Kind::Flock => 0,
            Kind::Posix | Kind::Ofd => 1,
            Kind::Lease | Kind::Delegation => 2,
        };
        family(self) == family(other)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Shared: LOCK_SH, F_RDLCK.
    Read,
    /// Exclusive: LOCK_EX, F_WRLCK.
    Write,
}

impl Mode {
    /// Both.
    pub const ALL: [Mode; 2] = [Mode::Read, Mode::Write];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Read => "read",
            Mode::Write => "write",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A range of bytes, both ends inclusive. `end: None` is "to the end of the file, however long it grows"
/// (the kernel's OFFSET_MAX, `EOF` in `/proc/locks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: Option<u64>,
}

impl Range {
    /// The whole file.
    pub const WHOLE: Range = Range { start: 0, end: None };

    /// The last byte as the kernel counts it: OFFSET_MAX (include/linux/fs.h) for the end of the file.
    pub const OFFSET_MAX: u64 = i64::MAX as u64;

    /// From the kernel's inclusive pair.
    pub fn from_kernel(start: u64, end: u64) -> Self {
        Self { start, end: (end < Self::OFFSET_MAX).then_some(end) }
    }

    /// The last byte, with OFFSET_MAX for the end of the file.
    pub fn last(self) -> u64 {
        self.end.unwrap_or(Self::OFFSET_MAX)
    }

    /// Whether two ranges share a byte.
    pub fn overlaps(self, other: Range) -> bool {
        self.start <= other.last() && other.start <= self.last()
    }
}

/// `all`, `0-99` or `100-EOF`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (0, None) => f.pad("all"),
            (start, None) => f.pad(&format!("{start}-EOF")),
            (start, Some(end)) => f.pad(&format!("{start}-{end}")),
        }
    }
}

/// A file system's device number. The kernel's own encodings differ (`major << 20 | minor` inside, glibc's in
/// `st_dev`): sources convert at their edge, and this is what remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Which driver; 0 for file systems without a device.
    pub major: u32,
    /// Which device of that driver.
    pub minor: u32,
}

impl Device {
    /// From the kernel's own `dev_t`: MAJOR and MINOR of include/linux/kdev_t.h.
    pub fn from_kernel(dev: u32) -> Self {
        Self { major: dev >> 20, minor: dev & 0xf_ffff }
    }
}

/// `fe:00`, as `/proc/locks` prints it.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Device { major, minor } = self;
        match f.width() {
            None => write!(f, "{major:02x}:{minor:02x}"),
            Some(_) => f.pad(&format!("{major:02x}:{minor:02x}")),
        }
    }
}

/// Which file: the superblock's device (not always `st_dev`: btrfs and overlayfs differ) and the inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The superblock's device.
    pub device: Device,
    /// The inode's number.
    pub inode: u64,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.device, self.inode))
    }
}

/// A lease that its holder has been asked to give up, because somebody opens or truncates the file (fcntl(2), F_SETLEASE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaking {
    /// What it is to become; `None` if it must go.
    pub to: Option<Mode>,
    /// When the kernel takes it away from a holder that does not answer (`/proc/sys/fs/lease-break-time`), if known.
    pub deadline: Option<Timestamp>,
}

/// Tells owners of locks on one file apart: the kernel's `flc_owner` pointer where BPF shows it, else a number that
/// the source made up for this picture. Two equal keys of one picture are one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerKey(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_touch_where_they_share_a_byte() {
        let r = |start, end| Range { start, end };
        assert!(r(0, Some(9)).overlaps(r(9, Some(20))));
        assert!(!r(0, Some(9)).overlaps(r(10, None)));
        assert!(Range::WHOLE.overlaps(r(1 << 40, Some(1 << 41))));
        assert_eq!(Range::from_kernel(0, i64::MAX as u64), Range::WHOLE);
    }

    #[test]
    fn devices_read_as_proc_locks_prints_them() {
        assert_eq!(Device::from_kernel(0x0fe0_0000).to_string(), "fe:00");
        assert_eq!(Device { major: 259, minor: 1 }.to_string(), "103:01");
    }
}
