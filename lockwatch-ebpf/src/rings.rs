//! The files that are registered with an io_uring (io_uring_register(2)): each slot keeps its file open.
//!
//! A ring's open file leads to `struct io_ring_ctx`. Since 6.13 its slots are pointers to nodes, from 5.15 to 6.12 they
//! were the files themselves; both keep flags in a file's low bits (io_uring/rsrc.h and filetable.h of these versions).
//!
//! Not followed: a file that only a request in progress keeps. Requests on regular files end by themselves.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lockwatch_common::counter;

use crate::{
    keepers::{Place, check},
    kernel::{Kernel, Probed, at, has, peek, peek32},
    tally::count,
};

/// IORING_MAX_FIXED_FILES (io_uring/rsrc.c, 6.18).
const MOST_SLOTS: u32 = 1 << 20;
/// A `struct file` is aligned to more than that.
const FLAGS: u64 = 7;

struct Ring {
    place: Place,
    slots: u64,
}

/// Looks through a ring's registered files, if this anonymous file is a ring.
#[inline(always)]
pub fn search(file: u64, place: &Place) {
    if !has!(f_private, f_dentry, d_name, ring_slots) || !is_ring(file) {
        return;
    }
    let context = peek(file + at!(f_private) as u64);
    let slots = if has!(ring_nodes, node_file) {
        peek(context + at!(ring_nodes) as u64)
    } else if has!(ring_files, fixed_file) {
        peek(context + at!(ring_files) as u64)
    } else {
        return;
    };
    let len = peek32(context + at!(ring_slots) as u64);
    if slots == 0 {
        return;
    }
    if len > MOST_SLOTS {
        count(counter::SEARCH_CUT);
        return;
    }
    let mut ring = Ring { place: *place, slots };
    // SAFETY: the callback gets the ring on this stack, which outlives the call.
    unsafe { bpf_loop(len, step as *mut c_void, (&raw mut ring).cast(), 0) };
}

unsafe extern "C" fn step(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: `search` passes its ring.
    let ring = unsafe { &*(context as *const Ring) };
    let slot = ring.slots + index as u64 * 8;
    let file = if has!(ring_nodes, node_file) {
        let node = peek(slot);
        if node == 0 { 0 } else { peek(node + at!(node_file) as u64) }
    } else {
        peek(slot + at!(fixed_file) as u64)
    };
    check(&ring.place, file & !FLAGS, index, 0);
    0
}

/// Whether it is named `[io_uring]` (io_uring/io_uring.c io_uring_get_file, 6.18). The caller has seen that it is an
/// anonymous file: those get their names from the kernel alone.
#[inline(always)]
fn is_ring(file: u64) -> bool {
    let dentry = peek(file + at!(f_dentry) as u64);
    let name = peek(dentry + at!(d_name) as u64);
    Probed::load::<[u8; 10]>(name as *const u8, 0) == *b"[io_uring]"
}
