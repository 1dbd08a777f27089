//! Runs of a program that the kernel left out, which aya does not tell.

use std::os::fd::{AsFd, AsRawFd};

/// BPF_OBJ_GET_INFO_BY_FD (include/uapi/linux/bpf.h, since 4.13).
const GET_INFO: libc::c_int = 15;
/// Bytes of struct bpf_prog_info in 6.18; a kernel with less fills in less.
const INFO: usize = 232;
/// Where `recursion_misses` is in it (since 5.12).
const MISSES: usize = 208;

/// The part of union bpf_attr that the command reads.
#[repr(C)]
struct Attributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// How often a program did not run because it ran on that CPU already; `None` where the kernel does not say.
pub fn of(program: impl AsFd) -> Option<u64> {
    let mut info = [0_u64; INFO / 8];
    let mut attributes = Attributes {
        fd: u32::try_from(program.as_fd().as_raw_fd()).ok()?,
        length: INFO as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the attributes are as the command wants them, and `info` has as many bytes as they say and outlives it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, GET_INFO, &raw mut attributes, size_of::<Attributes>()) };
    (result == 0 && attributes.length as usize >= MISSES + 8).then_some(info[MISSES / 8])
}
