//! The ways to clear a lock, least force first, and the steps they consist of.

use std::fmt;

use super::case::{Keeper, people};
use crate::{lock::Kind, observation::Via, process::ProcessId, report::LockReport};

/// How a lock is cleared. The order is that of force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Unlock through a duplicate of the open file description. Nobody is told.
    Release,
    /// SIGTERM to every holder, by pidfd, with a grace period.
    Terminate,
    /// SIGKILL to every holder, by pidfd.
    Kill,
    /// Tell nfsd to forget the client, and with it all it has.
    ExpireClient,
}

/// One act upon the world. Only the interpreter in `lockwatch-control` carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Unlock through a duplicate of this process's descriptor.
    ReleaseDescriptor {
        /// Whose.
        of: ProcessId,
        /// Its number.
        fd: u32,
    },
    /// Unlock through a duplicate that a peek into a unix socket of this process yields.
    ReleaseMessage {
        /// Whose socket.
        of: ProcessId,
    },
    /// Ask a holder to end, and wait for it as long as the wish's grace says.
    Terminate(ProcessId),
    /// End a holder.
    Kill(ProcessId),
    /// Tell nfsd to expire the clients that hold the lock.
    ExpireClients,
}

impl Method {
    /// Every method, least force first.
    pub const ALL: [Method; 4] = [Method::Release, Method::Terminate, Method::Kill, Method::ExpireClient];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Release => "release",
            Method::Terminate => "terminate",
            Method::Kill => "kill",
            Method::ExpireClient => "expire-client",
        }
    }

    /// The one of least force that would clear this lock, were it orphaned; `None` if none would.
    pub fn least(lock: &LockReport) -> Option<Self> {
        let keepers: Vec<_> = lock.holders.iter().map(Keeper::of).collect();
        Method::ALL.into_iter().find(|method| method.steps(lock.kind, &keepers).is_ok())
    }

    /// The steps that clear a lock of this kind, kept by these, in this way; the error says why it cannot be cleared so.
    pub(super) fn steps(self, kind: Kind, keepers: &[Keeper]) -> Result<Vec<Step>, String> {
        match self {
            Method::Release => release(kind, keepers).map(|step| vec![step]),
            Method::Terminate => every_holder(keepers, Step::Terminate),
            Method::Kill => every_holder(keepers, Step::Kill),
            Method::ExpireClient => match keepers.iter().all(|keeper| keeper.via == Via::Remote) {
                true if !keepers.is_empty() => Ok(vec![Step::ExpireClients]),
                _ => Err("not every holder is a client of this host's NFS server".into()),
            },
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Any one descriptor will do: all of them are of the open file description that owns the lock.
fn release(kind: Kind, keepers: &[Keeper]) -> Result<Step, String> {
    match kind {
        // fs/locks.c, 6.18: the owner of a POSIX lock is the file table, and a duplicate is in ours.
        Kind::Posix => {
            return Err(
                "a POSIX lock belongs to a process: only the end of those who share its files releases it".into()
            );
        }
        Kind::Delegation => return Err("a delegation belongs to the NFS server".into()),
        Kind::Flock | Kind::Ofd | Kind::Lease => {}
    }
    let by = |via: Via| keepers.iter().filter(move |keeper| keeper.via == via);
    let descriptor = by(Via::Fd).find_map(|k| Some(Step::ReleaseDescriptor { of: k.who.as_ref()?.id, fd: k.fd? }));
    let message = || by(Via::Message).find_map(|k| Some(Step::ReleaseMessage { of: k.who.as_ref()?.id }));
    descriptor.or_else(message).ok_or_else(|| match keepers.first().map(|keeper| keeper.via) {
        Some(Via::Mapping) => "only a memory mapping keeps it, and that has no descriptor to unlock through".into(),
        Some(Via::IoUring) => "only an io_uring keeps it, and that gives no descriptor to unlock through".into(),
        Some(Via::Kernel) => "the kernel itself keeps it".into(),
        Some(Via::Remote) => "a client of the NFS server keeps it".into(),
        _ => "no descriptor is known to unlock through".into(),
    })
}

fn every_holder(keepers: &[Keeper], step: fn(ProcessId) -> Step) -> Result<Vec<Step>, String> {
    if let Some(keeper) = keepers.iter().find(|keeper| keeper.who.is_none()) {
        let who = if keeper.via == Via::Remote { "an NFS client" } else { "the kernel itself" };
        return Err(format!("{who} keeps it, and that is no process to end"));
    }
    let people = people(keepers);
    match people.iter().find(|person| person.id.pid == 1) {
        Some(init) => Err(format!("{init} is among the holders, and must not be ended")),
        None if people.is_empty() => Err("no holder is known".into()),
        None => Ok(people.into_iter().map(|person| step(person.id)).collect()),
    }
}
