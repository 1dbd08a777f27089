//! `iter/task_file` (since 5.8): every descriptor of a file that carries locks, with the description's address.
//!
//! Visits each thread group's leader, and any thread whose file table is another (kernel/bpf/task_iter.c, 6.18): so
//! a leader that exited before its threads hides nothing.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{
    bindings::{path, seq_file},
    helpers::generated::{bpf_d_path, bpf_seq_write},
};
use lockwatch_common::{FdRecord, Wire};

use crate::{
    kernel::{Kernel, Probed, Typed, at, has},
    maps::PATH_BYTES,
    tasks,
};

/// struct bpf_iter__task_file (kernel/bpf/task_iter.c): pointers in 8 bytes each.
#[repr(C)]
pub struct Context {
    meta: *const *mut seq_file, // struct bpf_iter_meta begins with its seq_file
    pub task: *const u8,
    pub fd: u32,
    _pad: u32,
    pub file: *const u8,
}

/// aya-ebpf 0.2.1 has no macro for iterators; the section's name makes it one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn fds(context: *const c_void) -> u32 {
    // SAFETY: the kernel calls with its context; the verifier types what is loaded from it.
    unsafe { visit(context.cast()) };
    0
}

#[inline(always)]
unsafe fn visit(context: *const Context) {
    // SAFETY: fields of the context.
    let (task, file) =
        unsafe { (read_volatile(&raw const (*context).task), read_volatile(&raw const (*context).file)) };
    if task.is_null() || file.is_null() {
        return; // the end of the iteration
    }
    let inode: *const u8 = Typed::load(file, at!(f_inode));
    if !carries_locks(inode) {
        return;
    }
    // SAFETY: as above.
    let (fd, meta) = unsafe { (read_volatile(&raw const (*context).fd), read_volatile(&raw const (*context).meta)) };
    let superblock: *const u8 = Typed::load(inode, at!(i_sb));
    let files: *const u8 = Typed::load(task, at!(task_files));
    let (exe_inode, exe_device) = tasks::executable::<Typed>(task);
    let mut record = FdRecord {
        process: tasks::key::<Typed>(task),
        file: file as u64,
        files: files as u64,
        inode: Typed::load(inode, at!(i_ino)),
        device: Typed::load(superblock, at!(s_dev)),
        fd,
        f_flags: Typed::load(file, at!(f_flags)),
        cloexec: closes_on_exec(files, fd),
        path_len: 0,
        tid: Typed::load(task, at!(task_pid)),
        exe_inode,
        exe_device,
        opened: (Typed::load::<u64>(file, at!(f_cred)) == Typed::load::<u64>(task, at!(task_cred))) as u32,
        directory: directory(file, inode),
    };
    let Some(buffer) = PATH_BYTES.get_ptr_mut(0) else { return };
    // SAFETY: `file` is a trusted pointer, and f_path lies in it; the helper is allowed in iterators since 5.10.
    let length = unsafe { bpf_d_path(file.add(at!(f_path)) as *mut path, buffer.cast(), 4096) };
    if length > 1 && length < 4096 {
        record.path_len = length as u32 - 1; // without its NUL
    }
    // SAFETY: the sequence file of this iteration; a write that overflows it makes the kernel repeat this visit.
    unsafe {
        let seq = read_volatile(meta);
        bpf_seq_write(seq, record.bytes().as_ptr() as *const c_void, size_of::<FdRecord>() as u32);
        bpf_seq_write(seq, buffer as *const c_void, record.path_len & 0xfff);
    }
}

/// The inode number of the directory whose entry in the kernel's cache leads to this very file: whoever looks up the
/// name there gets it, if the file system trusts the cache (fs/namei.c lookup_fast, 6.18).
#[inline(always)]
fn directory(file: *const u8, inode: *const u8) -> u64 {
    /// DCACHE_OP_REVALIDATE (include/linux/dcache.h): it does not.
    const REVALIDATED: u32 = 1 << 2;
    if !has!(f_dentry, d_parent, d_pprev, d_inode, d_flags) {
        return 0;
    }
    let entry: *const u8 = Typed::load(file, at!(f_dentry));
    if entry.is_null() {
        return 0;
    }
    let flags: u32 = Typed::load(entry, at!(d_flags));
    let gone = Typed::load::<u64>(entry, at!(d_pprev)) == 0;
    if gone || flags & REVALIDATED != 0 || Typed::load::<u64>(entry, at!(d_inode)) != inode as u64 {
        return 0;
    }
    let parent: *const u8 = Typed::load(entry, at!(d_parent));
    if parent.is_null() {
        return 0;
    }
    let directory: *const u8 = Typed::load(parent, at!(d_inode));
    if directory.is_null() { 0 } else { Typed::load(directory, at!(i_ino)) }
}

/// Whether any lock hangs on the inode.
#[inline(always)]
fn carries_locks(inode: *const u8) -> bool {
    let context: *const u8 = Typed::load(inode, at!(i_flctx));
    if context.is_null() {
        return false;
    }
    let busy = |list: usize| Typed::load::<u64>(context, list) != context as u64 + list as u64;
    busy(at!(ctx_flock)) || busy(at!(ctx_posix)) || busy(at!(ctx_lease))
}

/// 1 if the table's bit for this descriptor says so.
#[inline(always)]
fn closes_on_exec(files: *const u8, fd: u32) -> u32 {
    let table: *const u8 = Typed::load(files, at!(files_fdt));
    let bitmap: *const u8 = Typed::load(table, at!(fdt_close_on_exec));
    // To the verifier a pointer to numbers is a number.
    let word: u64 = Probed::load(bitmap, (fd / 64 * 8) as usize);
    (word >> (fd % 64) & 1) as u32
}
