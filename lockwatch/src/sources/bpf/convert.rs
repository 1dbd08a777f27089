//! From the wire's numbers to the vocabulary.

use lockwatch_common::{LockKey, ProcessKey, kind, ty};
use lockwatch_core::{
    lock::{Device, FileId, Kind, Mode},
    process::ProcessId,
    time::StartTime,
};

/// Which file a lock is on.
pub fn file_id(lock: &LockKey) -> FileId {
    FileId { device: Device::from_kernel(lock.device), inode: lock.inode }
}

/// A process's identity.
pub fn process_id(process: &ProcessKey) -> ProcessId {
    let start = (process.start_ns != 0).then(|| StartTime::from_boot_ns(process.start_ns));
    ProcessId { pid: process.pid, start }
}

/// An executable's identity; `None` for kernel threads.
pub fn exe_file(inode: u64, device: u32) -> Option<FileId> {
    (inode != 0).then(|| FileId { device: Device::from_kernel(device), inode })
}

/// A lock's kind.
pub fn kind_of(kind: u32) -> Kind {
    match kind {
        kind::FLOCK => Kind::Flock,
        kind::POSIX => Kind::Posix,
        kind::OFD => Kind::Ofd,
        kind::DELEGATION => Kind::Delegation,
        _ => Kind::Lease,
    }
}

/// A lock's mode. A lease that is being broken down to nothing still counts as what it can do least.
pub fn mode_of(ty: u32) -> Mode {
    if ty == ty::WRITE { Mode::Write } else { Mode::Read }
}
