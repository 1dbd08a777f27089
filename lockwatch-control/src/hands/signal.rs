//! Ending those who keep a lock.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use lockwatch_core::{
    clear::{Case, Keeper, Plan, Step},
    lock::FileId,
    observation::Via,
};
use lockwatch_sys::{procdir::ProcDir, stat::Stat};
use rustix::event::{PollFd, Timespec, poll};

use super::{
    Acted, Failure,
    grip::{Grip, Pinned},
    tables,
};

/// How long a process may take to end after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Signals every process of these steps, or none, and waits for their end.
pub(super) fn send(plan: &Plan, steps: &[Step], grip: &Grip) -> Result<Acted, Failure> {
    let (number, name, patience) = match &steps[0] {
        Step::Terminate(_) => (libc::SIGTERM, "SIGTERM", plan.wish.grace),
        _ => (libc::SIGKILL, "SIGKILL", AFTER_KILL),
    };
    let mut keepers = Vec::new();
    for step in steps {
        match (step, number) {
            (Step::Terminate(id), libc::SIGTERM) | (Step::Kill(id), libc::SIGKILL) => keepers.push(grip.of(*id)?),
            _ => return Err(anyhow!("the plan's steps do not go together").into()),
        }
    }
    let spared = ourselves().context("find out below whom we run")?;
    for keeper in &keepers {
        if keeper.pid() == 1 || spared.contains(&keeper.pid()) {
            return Err(anyhow!("{} must not be signalled", keeper.name).into());
        }
        still_keeps(&plan.case, keeper)?;
        keeper.is_as_it_was()?;
        // Before the first is signalled, it should be known that all can be.
        match signal(keeper, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => keeper.is_alive()?,
            asked => asked.with_context(|| format!("ask whether {} may be signalled", keeper.name))?,
        }
    }
    let start = Instant::now();
    let mut words = Vec::new();
    for keeper in &keepers {
        match signal(keeper, number) {
            Ok(()) => words.push(format!("sent {name} to {}", keeper.name)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => {
                let done = if words.is_empty() { String::new() } else { format!("{}, but ", words.join(", ")) };
                return Err(anyhow!(error).context(format!("{done}could not send {name} to {}", keeper.name)).into());
            }
        }
    }
    let left = outlive(&keepers, start + patience)?;
    words.push(match left.as_slice() {
        [] => format!("all of them ended within {} ms", start.elapsed().as_millis()),
        left => {
            let names: Vec<_> = left.iter().map(|keeper| keeper.name.as_str()).collect();
            format!("{} did not end within {patience:?}", names.join(", "))
        }
    });
    Ok(Acted { words, duplicate_held: None, gone: left.is_empty() })
}

/// Waits until all have ended, or until the deadline; returns those who have not.
fn outlive<'a>(keepers: &[&'a Pinned], deadline: Instant) -> io::Result<Vec<&'a Pinned>> {
    let mut left = keepers.to_vec();
    loop {
        left.retain(|keeper| keeper.lives());
        let rest = deadline.saturating_duration_since(Instant::now());
        if left.is_empty() || rest.is_zero() {
            return Ok(left);
        }
        let mut ends: Vec<PollFd> = left.iter().map(|keeper| keeper.end()).collect();
        let rest = Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: rest.subsec_nanos().into() };
        match poll(&mut ends, Some(&rest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// That the process keeps the lock in every way that was planned with, as far as it can be seen without a look at
/// everything: an io_uring or a message is only as good as the life of who has it.
fn still_keeps(case: &Case, process: &Pinned) -> Result<(), Failure> {
    let no_longer = |how: String| Failure::changed(format!("{} no longer keeps the lock {how}", process.name));
    let ways = case.holders.iter().filter(|keeper| keeper.who.as_ref().is_some_and(|who| who.id == process.id));
    for Keeper { via, fd, .. } in ways {
        let seen = match (via, fd) {
            (Via::Fd, Some(fd)) => tables::with_the_lock(case, process, *fd).map(|task| task.is_some()),
            (Via::Fd, None) => Err(io::Error::other("the descriptor's number is not known")),
            (Via::Mapping, _) => maps(process.pid(), case.file),
            (Via::IoUring | Via::Message, _) => Ok(true),
            (Via::Kernel | Via::Remote, _) => Err(io::Error::other("it is no process's")),
        };
        process.is_alive()?;
        if !seen.with_context(|| format!("look how {} keeps the lock", process.name))? {
            return no_longer(match fd {
                Some(fd) => format!("by fd {fd}"),
                None => format!("by a {}", via.name()),
            });
        }
    }
    Ok(())
}

/// Whether a process has mapped the file. The device is not compared: overlayfs shows another one here before Linux 6.8.
fn maps(pid: u32, file: FileId) -> io::Result<bool> {
    let text = ProcDir::process(Path::new("/proc"), pid)?.read("maps")?;
    let inode = file.inode.to_string();
    // proc_pid_maps(5): addresses, permissions, offset, device, inode.
    let inode_of = |line: &[u8]| line.split(|b| *b == b' ').nth(4).is_some_and(|field| field == inode.as_bytes());
    Ok(text.split(|b| *b == b'\n').any(inode_of))
}

/// The numbers of this process and of all that it descends from.
fn ourselves() -> io::Result<Vec<u32>> {
    let mut line = vec![std::process::id()];
    while let Some(pid) = line.last().copied().filter(|pid| *pid > 1) {
        let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
        let stat = Stat::parse(&stat).ok_or(io::ErrorKind::InvalidData)?;
        line.push(stat.parent);
    }
    Ok(line)
}

/// pidfd_send_signal(2), Linux 5.1; 0 sends nothing and tells whether it would be allowed.
fn signal(process: &Pinned, number: libc::c_int) -> io::Result<()> {
    let (pidfd, nothing) = (process.as_fd().as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: takes numbers, and a null pointer for the usual siginfo.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, number, nothing, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
