//! Who keeps a wanted file open without a descriptor of it (DESIGN section 3.3): a mapping, a message in a unix socket,
//! an io_uring. User space writes the addresses of the open files to `WANTED`, and runs both programs to their end.
//!
//! Nothing is locked while we look, and what changes underfoot may be missed. A wanted file may be closed meanwhile, and
//! its address given to another: one of another inode is told apart here, and user space believes a find only if the
//! lock stands there still when the search is over.

use core::{ffi::c_void, ptr::read_volatile};

use lockwatch_common::keeper;

use crate::{
    fds,
    keepers::{Place, is_wanted, send},
    kernel::{Kernel, Typed, at, has},
    queues, rings,
    sockets::SOCKFS_MAGIC,
};

/// The file system of anonymous inodes (include/uapi/linux/magic.h).
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;

/// Every descriptor of a socket or a ring. A process has each of them as often as it has descriptors of it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn hidden_fds(context: *const c_void) -> u32 {
    // SAFETY: the kernel calls with its context; the verifier types what is loaded from it.
    unsafe { visit_fd(context.cast()) };
    0
}

#[inline(always)]
unsafe fn visit_fd(context: *const fds::Context) {
    // SAFETY: fields of the context.
    let (task, file, fd) = unsafe {
        (
            read_volatile(&raw const (*context).task),
            read_volatile(&raw const (*context).file),
            read_volatile(&raw const (*context).fd),
        )
    };
    if task.is_null() || file.is_null() || !has!(s_magic, f_private) {
        return;
    }
    let inode: *const u8 = Typed::load(file, at!(f_inode));
    let superblock: *const u8 = Typed::load(inode, at!(i_sb));
    match Typed::load::<u64>(superblock, at!(s_magic)) {
        SOCKFS_MAGIC => {
            let place = Typed::load(inode, at!(i_ino));
            let place = Place { task: task as u64, place, fd, what: keeper::MESSAGE };
            queues::search(file as u64, &place);
        }
        ANON_INODE_FS_MAGIC => {
            rings::search(file as u64, &Place { task: task as u64, place: 0, fd, what: keeper::RING });
        }
        _ => {}
    }
}

/// struct bpf_iter__task_vma (kernel/bpf/task_iter.c): pointers in 8 bytes each.
#[repr(C)]
struct Context {
    meta: *const u8,
    task: *const u8,
    vma: *const u8,
}

/// Every mapping of a file (`iter/task_vma`, since 5.12), and the rings that are mapped: their last descriptor may be
/// closed.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
extern "C" fn hidden_mappings(context: *const c_void) -> u32 {
    // SAFETY: as above.
    unsafe { visit_mapping(context.cast()) };
    0
}

#[inline(always)]
unsafe fn visit_mapping(context: *const Context) {
    // SAFETY: fields of the context.
    let (task, vma) = unsafe { (read_volatile(&raw const (*context).task), read_volatile(&raw const (*context).vma)) };
    if task.is_null() || vma.is_null() || !has!(vm_file, vm_start, vm_end, vm_flags) {
        return;
    }
    let file: *const u8 = Typed::load(vma, at!(vm_file));
    if file.is_null() {
        return;
    }
    let start: u64 = Typed::load(vma, at!(vm_start));
    let mapping = Place { task: task as u64, place: start, fd: u32::MAX, what: keeper::MAPPING };
    if is_wanted(file as u64) {
        let extent = (Typed::load(vma, at!(vm_end)), Typed::load(vma, at!(vm_flags)));
        send(&mapping, file as u64, extent, 0, 0);
    }
    let inode: *const u8 = Typed::load(file, at!(f_inode));
    let superblock: *const u8 = Typed::load(inode, at!(i_sb));
    if has!(s_magic, f_private) && Typed::load::<u64>(superblock, at!(s_magic)) == ANON_INODE_FS_MAGIC {
        rings::search(file as u64, &Place { what: keeper::RING, ..mapping });
    }
}
