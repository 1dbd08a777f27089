//! Two system calls that lockwatch compares and duplicates descriptors with, tried on itself.

use std::{fs::File, io, os::fd::AsRawFd};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::Check;

/// Tries both.
pub(super) fn checks() -> Vec<Check> {
    let answer = |name, result: io::Result<()>, without: &str, fix: &str| match result {
        Ok(()) => Check::ok(name, "works"),
        Err(error) => Check::degraded(name, format!("{error}: {without}"), fix),
    };
    vec![
        answer(
            "kcmp",
            try_kcmp(),
            "descriptors of one open file cannot be told from those of two",
            "run a kernel with CONFIG_KCMP=y, without a seccomp filter on kcmp",
        ),
        answer(
            "pidfd_getfd",
            try_pidfd_getfd(),
            "a lock cannot be released through a duplicate of its descriptor",
            "run a kernel from 5.6 on, without a seccomp filter on pidfd_getfd",
        ),
    ]
}

/// kcmp(2): a descriptor is the same open file as itself.
fn try_kcmp() -> io::Result<()> {
    /// include/uapi/linux/kcmp.h.
    const KCMP_FILE: libc::c_int = 0;
    let file = File::open("/dev/null")?;
    let (pid, fd) = (getpid().as_raw_nonzero().get(), file.as_raw_fd());
    // SAFETY: kcmp takes five integers and touches no memory of ours.
    match unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, fd, fd) } {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        other => Err(io::Error::other(format!("it says {other} of one descriptor and itself"))),
    }
}

/// pidfd_getfd(2): a duplicate of a descriptor of ours, through our own pidfd.
fn try_pidfd_getfd() -> io::Result<()> {
    let file = File::open("/dev/null")?;
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(&own, file.as_raw_fd(), PidfdGetfdFlags::empty())?;
    Ok(())
}
