//! When a dying process is through: its descriptors closed, its own releases behind it.
//!
//! `sched_process_exit` fires before a task's files are closed; the pidfd becomes readable in exit_notify, after them
//! (kernel/exit.c do_exit, 6.18; pidfd_open(2), since 5.3).

use std::io;

use lockwatch_core::process::ProcessId;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sources::processes;

/// Waits until nothing of the process is left. Must be polled within a runtime that has its I/O driver on.
pub async fn through(process: ProcessId) -> io::Result<()> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()), // reaped already
        Err(error) => return Err(error.into()),
    };
    if !processes::is_still(process) {
        return Ok(()); // reaped, and the number given to another
    }
    AsyncFd::with_interest(pidfd, Interest::READABLE)?.readable().await?.retain_ready();
    Ok(())
}
