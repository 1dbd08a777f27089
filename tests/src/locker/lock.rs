//! One lock operation, of any kind.

use std::{ffi::c_int, io};

use crate::sys::{self, RangeKind};

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// flock(2) with LOCK_SH, LOCK_EX or LOCK_UN.
    Flock(c_int),
    /// A byte range: F_RDLCK, F_WRLCK or F_UNLCK, start and length.
    Range(RangeKind, c_int, i64, i64),
    /// F_RDLCK, F_WRLCK or F_UNLCK.
    Lease(c_int),
}

/// What to do if somebody is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Give up.
    None,
    /// Wait in a thread, and go on taking commands.
    InThread,
    /// Wait here, and be deaf.
    Here,
}

impl Request {
    /// Asks the kernel.
    pub(super) fn perform(self, fd: i32, wait: bool) -> io::Result<()> {
        match self {
            Request::Flock(operation) => sys::flock(fd, if wait { operation } else { operation | libc::LOCK_NB }),
            Request::Range(kind, lock, start, len) => sys::range_lock(fd, kind, lock, start, len, wait),
            Request::Lease(lock) => sys::lease(fd, lock),
        }
    }
}

/// The name of an error as the manual pages have it, else its text.
pub(super) fn error_name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::EAGAIN) => "EAGAIN",
        Some(libc::EINTR) => "EINTR",
        Some(libc::EDEADLK) => "EDEADLK",
        Some(libc::EBADF) => "EBADF",
        Some(libc::EACCES) => "EACCES",
        Some(libc::ENOENT) => "ENOENT",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::ECHILD) => "ECHILD",
        _ => return error.to_string().replace('\n', " "),
    };
    name.into()
}
