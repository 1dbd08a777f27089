//! What an open file is called, name by name from the file up to the root of its mount namespace: for files that no
//! descriptor shows, of which nobody else can tell (fs/d_path.c prepend_path, 6.18, without its locks: user space tries
//! the path before it believes it).

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_loop, bpf_probe_read_kernel_str},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use lockwatch_common::NameRecord;

use crate::{
    kernel::{at, has, peek},
    maps::{NAMED, WALK},
};

/// Names and mounts on the way up.
const MOST_STEPS: u32 = 128;

struct Climb {
    dentry: u64,
    /// The `struct vfsmount` that it is seen through.
    mount: u64,
}

/// Run by BPF_PROG_TEST_RUN for the open file in `NAMED`; never attached. An empty name ends a path that is whole.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn names(_ctx: RawTracePointContext) -> i32 {
    if !has!(f_dentry, f_mount, d_name, d_parent, d_pprev, mount_root, mount_mnt, mount_parent, mount_point) {
        return 1;
    }
    let Some(file) = NAMED.get(0) else { return 1 };
    let mut climb = Climb { dentry: peek(*file + at!(f_dentry) as u64), mount: peek(*file + at!(f_mount) as u64) };
    // SAFETY: the callback gets the climb on this stack, which outlives the call.
    unsafe { bpf_loop(MOST_STEPS, step as *mut c_void, (&raw mut climb).cast(), 0) };
    0
}

unsafe extern "C" fn step(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: `names` passes its climb.
    let climb = unsafe { &mut *(context as *mut Climb) };
    if climb.dentry == peek(climb.mount + at!(mount_root) as u64) {
        let mount = climb.mount - at!(mount_mnt) as u64;
        let parent = peek(mount + at!(mount_parent) as u64);
        if parent == mount || parent == 0 {
            tell(0);
            return 1;
        }
        climb.dentry = peek(mount + at!(mount_point) as u64);
        climb.mount = parent + at!(mount_mnt) as u64;
        return 0;
    }
    let parent = peek(climb.dentry + at!(d_parent) as u64);
    if parent == climb.dentry || parent == 0 {
        return 1;
    }
    tell(climb.dentry);
    climb.dentry = parent;
    0
}

#[inline(always)]
fn tell(dentry: u64) {
    let Some(mut entry) = WALK.reserve::<NameRecord>(0) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: a reserved record, written field by field; the helper checks the address and ends the text with NUL.
    unsafe {
        (*record).pad = 0;
        (*record).name[0] = 0;
        (*record).unhashed = (dentry != 0 && peek(dentry + at!(d_pprev) as u64) == 0) as u32;
        if dentry != 0 {
            let text = peek(dentry + at!(d_name) as u64) as *const c_void;
            bpf_probe_read_kernel_str((&raw mut (*record).name).cast(), 256, text);
        }
    }
    entry.submit(1); // BPF_RB_NO_WAKEUP: user space drains after each run
}
