//! Carries out a plan: the one interpreter of its steps.
//!
//! Numbers of processes and descriptors are names, and names are given away again. So every keeper is pinned with a
//! pidfd ([`Grip`]) before anybody is asked, and what is unlocked proves itself right before: by the kernel's own words
//! on our duplicate of it. What is not as planned is [`Failure::Changed`], and then nothing was done.
//!
//! What this stands on:
//!
//! - A duplicate is an open file description, and whatever its owner does to its descriptors changes nothing in that.
//!   Of all that an unlock through it can reach, the duplicate's fdinfo tells (fs/locks.c show_fd_locks, 6.18).
//! - A pidfd never becomes somebody else's. What was read of a process by its number was its own, if the pidfd says
//!   afterwards that it lives: the number is not given away before.
//!
//! What this cannot do: the kernel has no unlock on condition. Between the last reading and the unlock, a few
//! microseconds, a holder can release the lock and take it anew, on the same bytes of the same open file description;
//! then it loses a lock of its own. No other file, description, range or kind can be reached. Who took an OFD lock no
//! fdinfo tells, so for these the time since the last look counts. `Wish::hold` closes both for whom it holds.

mod expire;
mod grip;
mod message;
mod namesake;
mod planned;
mod release;
#[cfg(test)]
mod samples;
mod signal;
mod tables;

use std::{fmt, io, path::Path, time::Duration};

use anyhow::anyhow;
use lockwatch_core::clear::{Plan, Step};

pub use self::grip::Grip;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// In words for a human, in the order in which it happened.
    pub words: Vec<String>,
    /// How long a duplicate of the locked file was ours, if there was one.
    pub duplicate_held: Option<Duration>,
    /// Whether the lock is gone as far as it can be seen from here: our duplicate no longer shows it, every process
    /// that was signalled has ended, or the client's states are gone. Only a look at the kernel's list proves it.
    pub gone: bool,
}

/// Why a plan was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// The world is not as planned. Nothing was done.
    Changed(String),
    /// It could not be done; nothing was, unless it says so.
    Failed(anyhow::Error),
}

/// Does what the plan says to whom the grip pins, or nothing.
///
/// # Errors
///
/// The world is not as planned, or the kernel refuses.
pub fn carry_out(plan: &Plan, grip: &Grip) -> Result<Acted, Failure> {
    if let Some(refusal) = plan.refusals.first() {
        return Err(Failure::Failed(anyhow!("the plan is refused: {refusal}")));
    }
    match plan.steps.as_slice() {
        [] => Err(Failure::Failed(anyhow!("the plan has no steps"))),
        [Step::ReleaseDescriptor { of, fd }] => release::descriptor(&plan.case, grip.of(*of)?, *fd),
        [Step::ReleaseMessage { of }] => message::release(&plan.case, grip.of(*of)?),
        [Step::ExpireClients] => expire::clients(Path::new("/proc/fs/nfsd/clients"), &plan.case),
        steps => signal::send(plan, steps, grip),
    }
}

impl Failure {
    fn changed<T>(words: impl Into<String>) -> Result<T, Self> {
        Err(Self::Changed(words.into()))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Changed(words) => f.write_str(words),
            Failure::Failed(error) => write!(f, "{error:#}"),
        }
    }
}
