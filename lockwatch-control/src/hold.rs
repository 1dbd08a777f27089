//! Holding others still while a lock is cleared, and letting them go on whatever happens.
//!
//! Somebody who tries for the lock again and again would have it the moment it is free. So a unit, a control group or a
//! process may be frozen meanwhile: by the freezer of version 2, else by that of version 1, else by SIGSTOP to each
//! process; one process alone always by SIGSTOP, because its control group has neighbours in it.
//!
//! **Who thaws.** [`Held::thaw`], or dropping it. If this process ends, by SIGKILL too, or `limit` has passed, a
//! guardian does it: a process of its own that is there before anybody is frozen, and that is told of each target before
//! that one is. If the guardian is killed, a thread of this process thaws at once. So a session needs no handler for
//! Ctrl-C. Only an end of both in the same moment leaves somebody frozen: a systemd service that holds others still
//! must have `KillMode=process`, or systemd kills the guardian with it.
//!
//! **Who is not frozen.** Whom [`Spare`] names; if a unit or group has one of them in it, nothing is frozen at all. What
//! was frozen or stopped already stays so in the end.
//!
//! **What those who are held still notice.** Nothing, from the freezers, but: a request for a lock that waits leaves the
//! queue when its process is frozen, in any way, and joins it at the end afterwards (the wait is interrupted and begun
//! again, seen on 6.18; `fs/locks.c` flock_lock_inode_wait), and the calls that signal(7) lists under "Interruption of
//! system calls … by stop signals" fail with EINTR. SIGSTOP also shows: a parent sees it (WUNTRACED in wait(2)), and an
//! interactive shell takes it for a suspended job.
//!
//! **Capabilities.** CAP_KILL for SIGSTOP and SIGCONT, CAP_SYS_PTRACE where /proc is mounted with hidepid. The files of
//! control groups belong to root, so uid 0 needs no other; one that was delegated to a user is not ours to write, and its
//! processes get SIGSTOP.
//!
//! **System calls after the confinement**, for its filter. In this process: openat, read, pread64, write, close, fstat,
//! newfstatat, statx, getdents64, lseek, fcntl, pidfd_open, pidfd_send_signal (SIGSTOP, SIGCONT, SIGKILL), poll and ppoll,
//! socketpair, sendmsg, recvfrom, shutdown, getpid, rt_sigprocmask, waitid, clock_nanosleep, clone (a fork), exit_group; for
//! the thread also clone3 (or ENOSYS for it), rt_sigaction, mmap, mprotect, munmap, madvise, sigaltstack, rseq,
//! set_robust_list, sched_getaffinity, gettid, futex, exit; in the guardian also prctl (PR_SET_NAME), setsid, dup2 (dup3
//! where there is none), close_range, recvmsg.

mod charge;
mod guardian;
mod hierarchy;
mod keep;
mod process;
mod spare;
mod target;
mod ways;

use std::{
    collections::BTreeSet,
    fmt,
    os::fd::BorrowedFd,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use lockwatch_core::clear::Hold;

use self::{charge::Charge, keep::Keep};
pub use self::{
    spare::Spare,
    ways::{Ways, ways},
};

/// How long somebody may take to be still, at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those who are held still, until this value is dropped.
#[derive(Debug)]
pub struct Held {
    charges: Vec<Charge>,
    /// `None` if nobody was to be held still.
    keep: Option<(Arc<Keep>, JoinHandle<()>)>,
    limit: Duration,
}

impl Held {
    /// Freezes all of them, and returns when they are still; within `limit` from now they go on. Nobody is frozen if one
    /// of them cannot be.
    ///
    /// This process gets a child, which whoever waits for any child may meet, and a thread.
    ///
    /// # Errors
    ///
    /// Why somebody cannot be held still. Everybody goes on.
    pub fn freeze(holds: &[Hold], limit: Duration, spare: &Spare) -> anyhow::Result<Self> {
        if holds.is_empty() {
            return Ok(Self { charges: Vec::new(), keep: None, limit });
        }
        ensure!(!limit.is_zero(), "nobody can be held still for no time at all");
        let hierarchies = hierarchy::mounted()?;
        let mut charges = holds
            .iter()
            .map(|hold| Charge::new(hold, &hierarchies, spare).with_context(|| refused(hold)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        // A frozen process does not obey SIGSTOP, but a stopped one can be frozen.
        charges.sort_by_key(|charge| charge.freezer);
        let mut held = Self { charges, keep: Some(Keep::start(limit)?), limit };
        // From here on an error drops `held`, and so thaws.
        let until = Instant::now() + PATIENCE.min(limit / 2);
        if let Some((keep, _)) = &held.keep {
            for charge in &mut held.charges {
                charge.freeze(keep, spare, until).with_context(|| refused(&charge.hold))?;
            }
        }
        held.check()?;
        Ok(held)
    }

    /// Whether everybody is still: to be asked before acting on it.
    ///
    /// # Errors
    ///
    /// Who goes on, or that everybody does.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some((keep, _)) = &self.keep else { return Ok(()) };
        ensure!(
            Instant::now() < keep.guardian.deadline,
            "everybody goes on: {} s have passed, the most that was allowed",
            self.limit.as_secs_f32()
        );
        ensure!(!keep.is_over(), "everybody goes on: the guardian was killed");
        self.charges.iter().try_for_each(Charge::check)
    }

    /// The numbers of those who are held still. A request of theirs that waited for a lock has left the queue.
    pub fn members(&self) -> BTreeSet<u32> {
        self.charges.iter().flat_map(|charge| charge.members.iter().copied()).collect()
    }

    /// Readable as soon as everybody goes on although nobody has called [`Held::thaw`]; for poll(2). `None` if nobody is
    /// held.
    pub fn over(&self) -> Option<BorrowedFd<'_>> {
        self.keep.as_ref().map(|(keep, _)| keep.guardian.as_fd())
    }

    /// Lets everybody go on, but for those who were frozen already.
    ///
    /// # Errors
    ///
    /// Somebody may not go on, and why. The guardian has tried, too.
    pub fn thaw(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some((keep, watch)) = self.keep.take() else { return Ok(()) };
        let thawed = keep.thaw();
        // It ends with the guardian.
        let _ = watch.join();
        thawed
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// One sentence for each, as `cron.service: 3 processes held still by its freezer`.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Charge { hold, freezer, members, .. }) in self.charges.iter().enumerate() {
            let comma = if n == 0 { "" } else { "; " };
            let by = if *freezer { "its freezer" } else { "SIGSTOP" };
            match (hold, members.len()) {
                (Hold::Process(_), _) => write!(f, "{comma}{hold}: held still by {by}")?,
                (_, 1) => write!(f, "{comma}{hold}: 1 process held still by {by}")?,
                (_, n) => write!(f, "{comma}{hold}: {n} processes held still by {by}")?,
            }
        }
        Ok(())
    }
}

fn refused(hold: &Hold) -> String {
    format!("{hold} cannot be held still")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_held_for_no_time_and_nothing_for_nobody() {
        let spare = Spare::new().unwrap();
        let error = Held::freeze(&[Hold::Process(1)], Duration::ZERO, &spare).unwrap_err();
        assert!(error.to_string().contains("no time at all"), "{error}");
        let held = Held::freeze(&[], Duration::ZERO, &spare).unwrap();
        assert!(held.over().is_none() && held.members().is_empty() && held.to_string().is_empty());
        held.check().unwrap();
        held.thaw().unwrap();
    }
}
