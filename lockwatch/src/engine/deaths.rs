//! When a dying process is through: its descriptors closed, its own releases behind it.
//!
//! `sched_process_exit` fires before a task's files are closed; the pidfd becomes readable in exit_notify, after them
//! (kernel/exit.c do_exit, 6.18; pidfd_open(2), since 5.3).

use std::{io, os::fd::AsRawFd};

use lockwatch_core::process::ProcessId;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sources::processes;

/// Waits until nothing of a process that is on its way out is left. Must be polled within a runtime that has its I/O driver on.
pub async fn through(process: ProcessId) -> io::Result<()> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()), // reaped already
        Err(error) => return Err(error.into()),
    };
    if !processes::is_exiting(process) {
        return Ok(()); // reaped, and the number given to another, perhaps within a tick
    }
    poll(pidfd)?.readable().await?.retain_ready();
    Ok(())
}

/// Registers something that owns a descriptor for reading.
pub fn poll<T: AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: every type that is polled here (a pidfd, a ring) owns its descriptor, and always answers with the same.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}
