//! Loop devices, the last place where a lock that nothing else keeps can be kept. Swap files are none: swapon(2) opens
//! its file by name (mm/swapfile.c, 6.18), and nobody can lock the open file that the kernel then has.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
};

use lockwatch_core::{
    lock::{FileId, Kind, OwnerKey},
    observation::LockSeen,
};

use crate::sources::hidden::loops::{self, Loop};

/// Names the loop device over the file of a lock that nothing else keeps, and says whether everything was searched;
/// `gaps` say what was not, and become warnings.
///
/// A loop device keeps the very open file that it was given, but which one that was is not to be seen: it is taken for
/// the keeper only when everything else was searched, and when there are as many devices as locks to explain.
pub fn explain(locks: &mut [LockSeen], gaps: &[String], warnings: &mut Vec<String>) -> bool {
    let mut gaps = gaps.to_vec();
    if gaps.is_empty() && locks.iter().any(is_unexplained) {
        add_loops(locks, loops::list(Path::new("/sys/block")), &mut gaps);
    }
    let complete = gaps.is_empty();
    warnings.extend(gaps.into_iter().map(|gap| format!("what keeps locks without a descriptor: {gap}")));
    complete
}

fn add_loops(locks: &mut [LockSeen], devices: io::Result<Vec<Loop>>, gaps: &mut Vec<String>) {
    let devices = match devices {
        Ok(devices) => devices,
        Err(error) => return gaps.push(format!("list loop devices in /sys/block: {error}")),
    };
    let mut owners: HashMap<FileId, HashSet<OwnerKey>> = HashMap::new();
    for lock in locks.iter().filter(|lock| is_unexplained(lock)) {
        owners.entry(lock.file).or_default().insert(lock.owner);
    }
    for lock in locks.iter_mut().filter(|lock| is_unexplained(lock)) {
        let over_it: Vec<&Loop> = devices.iter().filter(|device| device.file == Some(lock.file)).collect();
        if over_it.len() >= owners[&lock.file].len() {
            lock.holders = over_it.iter().map(|device| device.holder()).collect();
        }
    }
    let unknown = devices.iter().filter(|device| device.file.is_none());
    gaps.extend(unknown.map(|device| {
        format!("loop device {} has a backing file that cannot be identified: {}", device.name, device.backing)
    }));
}

/// Whether nothing is known to keep it, though it is the lock of an open file.
fn is_unexplained(lock: &LockSeen) -> bool {
    lock.kind != Kind::Posix && lock.holders.is_empty()
}

#[cfg(test)]
mod tests {
    use lockwatch_core::{
        lock::{Device, Mode, Range},
        observation::{HolderSeen, Via},
        text::Text,
    };

    use super::*;

    const FILE: FileId = FileId { device: Device { major: 8, minor: 1 }, inode: 7 };

    fn lock(kind: Kind, owner: u64, holders: Vec<HolderSeen>) -> LockSeen {
        LockSeen {
            file: FILE,
            kind,
            mode: Mode::Read,
            range: Range::WHOLE,
            owner: OwnerKey(owner),
            acquirer: None,
            acquired_at: None,
            ancestors: Vec::new(),
            breaking: None,
            watched: false,
            holders,
        }
    }

    fn device(name: &str, file: Option<FileId>) -> Loop {
        Loop { name: Text::from(name), backing: Text::from("/disk.img"), file }
    }

    #[test]
    fn a_device_explains_only_what_nothing_else_does() {
        let other = FileId { inode: 8, ..FILE };
        let mapping = || HolderSeen { via: Via::Mapping, ..device("x", None).holder() };
        let check = |mut locks: Vec<LockSeen>, devices: &[Loop], expect: &[usize], gaps: usize| {
            let mut said = Vec::new();
            add_loops(&mut locks, Ok(devices.to_vec()), &mut said);
            let found = |lock: &LockSeen| lock.holders.iter().filter(|h| h.via == Via::Kernel).count();
            assert_eq!(locks.iter().map(found).collect::<Vec<_>>(), expect, "{devices:?}");
            assert_eq!(said.len(), gaps, "{said:?}");
        };
        let zero = || device("/dev/loop0", Some(FILE));
        let flock = |owner| lock(Kind::Flock, owner, Vec::new());
        check(vec![flock(1)], &[zero()], &[1], 0);
        check(vec![flock(1)], &[device("/dev/loop0", Some(other))], &[0], 0);
        check(vec![flock(1)], &[device("/dev/loop0", None)], &[0], 1);
        check(vec![lock(Kind::Flock, 1, vec![mapping()])], &[zero()], &[0], 0);
        check(vec![lock(Kind::Posix, 1, Vec::new())], &[zero()], &[0], 0);
        // One device has one of the two, and nobody can say which.
        check(vec![flock(1), flock(2)], &[zero()], &[0, 0], 0);
        check(vec![flock(1), flock(2)], &[zero(), device("/dev/loop1", Some(FILE))], &[2, 2], 0);
        check(vec![flock(1), lock(Kind::Ofd, 1, Vec::new())], &[zero()], &[1, 1], 0);
    }

    #[test]
    fn no_list_is_a_gap() {
        let mut gaps = Vec::new();
        add_loops(&mut [lock(Kind::Flock, 1, Vec::new())], Err(io::ErrorKind::PermissionDenied.into()), &mut gaps);
        assert_eq!(gaps.len(), 1, "{gaps:?}");
    }
}
