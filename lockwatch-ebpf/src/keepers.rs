//! What the search says of an open file that it has met: who keeps it, and where.

use lockwatch_common::{KeeperRecord, counter};

use crate::{
    kernel::{Probed, at, peek},
    maps::{WALK, WANTED},
    sockets,
    tally::count,
    tasks,
};

/// Where the search stands: what a find is told with.
#[derive(Clone, Copy)]
pub struct Place {
    /// The visited thread's `struct task_struct`.
    pub task: u64,
    /// [`KeeperRecord::place`].
    pub place: u64,
    /// [`KeeperRecord::fd`].
    pub fd: u32,
    /// [`KeeperRecord::what`].
    pub what: u32,
}

/// Whether user space asks for this open file.
#[inline(always)]
pub fn is_wanted(file: u64) -> bool {
    let Some(inode) = WANTED.get_ptr(file) else { return false };
    // SAFETY: a live map value; user space does not change the map while the programs run.
    let wanted = unsafe { *inode };
    peek(peek(file + at!(f_inode) as u64) + at!(i_ino) as u64) == wanted
}

/// Tells of a file that a message carries or a ring has registered, if it is wanted. Such a file may itself be a socket
/// that no descriptor shows: its messages are not followed, only told of as a place that nobody looked into.
#[inline(always)]
pub fn check(place: &Place, file: u64, index: u32, of: u32) {
    if file == 0 {
        return;
    }
    if is_wanted(file) {
        send(place, file, (0, 0), index, of);
    }
    let inode = peek(file + at!(f_inode) as u64);
    let superblock = peek(inode + at!(i_sb) as u64);
    if peek(superblock + at!(s_magic) as u64) == sockets::SOCKFS_MAGIC && sockets::has_messages(file) {
        count(counter::SEARCH_CUT);
    }
}

#[inline(always)]
pub fn send(place: &Place, file: u64, (end, vm_flags): (u64, u64), index: u32, of: u32) {
    let Some(mut entry) = WALK.reserve::<KeeperRecord>(0) else {
        count(counter::SEARCH_CUT);
        return;
    };
    let task = place.task as *const u8;
    let (exe_inode, exe_device) = tasks::executable::<Probed>(task);
    entry.write(KeeperRecord {
        process: tasks::key::<Probed>(task),
        file,
        place: place.place,
        end,
        vm_flags,
        exe_inode,
        exe_device,
        what: place.what,
        fd: place.fd,
        index,
        count: of,
        opened: (peek(file + at!(f_cred) as u64) == peek(place.task + at!(task_cred) as u64)) as u32,
    });
    entry.submit(1); // BPF_RB_NO_WAKEUP: user space drains while it reads the iterator
}
