//! Ways to keep a file open without a descriptor of it.

use std::{ffi::c_void, os::fd::IntoRawFd};

use anyhow::{Context, Result};
use rustix::io_uring::{IoringRegisterOp, io_uring_params, io_uring_register, io_uring_setup};

use crate::sys;

/// A ring that has `fd` registered (IORING_REGISTER_FILES, io_uring_register(2), 5.1); the ring's descriptor.
pub(super) fn ring(fd: i32) -> Result<i32> {
    let mut params = io_uring_params::default();
    // SAFETY: `params` asks for nothing that needs memory of ours.
    let ring = unsafe { io_uring_setup(1, &mut params) }.map_err(std::io::Error::from)?;
    let files = [fd];
    // SAFETY: `files` is one descriptor, as the last argument says, and lives through the call.
    unsafe { io_uring_register(&ring, IoringRegisterOp::RegisterFiles, files.as_ptr().cast::<c_void>(), 1) }
        .map_err(std::io::Error::from)?;
    Ok(ring.into_raw_fd())
}

/// Gives a free loop device this very open file (LOOP_CONFIGURE, loop(4), 5.8); the device's name.
///
/// The device is left open here, and detaches itself when nobody has it open (LO_FLAGS_AUTOCLEAR): it cannot outlive
/// a test that fails.
pub(super) fn attach_loop(fd: i32) -> Result<String> {
    let control = sys::open(b"/dev/loop-control", libc::O_RDWR | libc::O_CLOEXEC).context("open /dev/loop-control")?;
    // Somebody else may be given the same free number, and be faster.
    let mut attached = Err(anyhow::anyhow!("no loop device is free"));
    for _ in 0..20 {
        let number = sys::ioctl(control, LOOP_CTL_GET_FREE, 0)?;
        let name = format!("/dev/loop{number}");
        let device =
            sys::open(name.as_bytes(), libc::O_RDWR | libc::O_CLOEXEC).with_context(|| format!("open {name}"))?;
        let config = LoopConfig { fd: fd.cast_unsigned(), flags: LO_FLAGS_AUTOCLEAR, ..LoopConfig::default() };
        match sys::ioctl(device, LOOP_CONFIGURE, (&raw const config).addr() as libc::c_ulong) {
            Ok(_) => {
                attached = Ok(name);
                break;
            }
            Err(e) => {
                sys::close(device)?;
                attached = Err(e.into());
            }
        }
    }
    sys::close(control)?;
    attached
}

const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` (include/uapi/linux/loop.h, 5.8), of which only two fields matter here.
#[repr(C)]
#[derive(Default)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// Of the `loop_info64` within: everything before its flags.
    before: [u32; 13],
    flags: u32,
    names_and_keys: [[u64; 4]; 5],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);
