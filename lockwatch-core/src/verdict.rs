//! Whether anybody can be expected to release a lock: the judgement of DESIGN section 5, a pure function.
//!
//! "The acquirer is dead" is a fact, "orphaned" is a judgement about the parties: the acquirer and those ancestors
//! that had the same open file. A proof that a lock is not orphaned needs one holder; a proof that it is needs them all.

mod evidence;
mod fate;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use fate::fate;

use crate::{
    lock::Kind,
    observation::Via,
    process::{Life, Process},
    report::{Cause, Holder, Verdict},
    time::{StartTime, Timestamp},
};

/// All that a judgement depends on.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Which kind of lock.
    pub kind: Kind,
    /// Whether it was seen being taken; if not, the "cold" rules apply.
    pub watched: bool,
    /// When it was taken.
    pub acquired_at: Option<Timestamp>,
    /// Who took it, with its life ([`crate::observation::Census::acquirer`]).
    pub acquirer: Option<&'a Process>,
    /// The acquirer's ancestors when it took the lock, parent first, dead or alive.
    pub ancestors: &'a [Arc<Process>],
    /// The numbers of those ancestors that have ever been seen among the holders: with the acquirer, the parties.
    pub parties: &'a [u32],
    /// What keeps the lock alive: living processes, the kernel, remote clients.
    pub holders: &'a [Holder],
    /// Whether these are all.
    pub holders_complete: bool,
    /// Number and start of every living process; needed for unwatched locks.
    pub births: &'a [(u32, StartTime)],
    /// The beginning of the locked file's text.
    pub text: Option<&'a [u8]>,
    /// Whether the remote client that holds it is gone, if somebody asked the NFS server.
    pub remote_gone: Option<bool>,
}

/// What has been found, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The judgement.
    pub verdict: Verdict,
    /// Its reason, in a word.
    pub cause: Option<Cause>,
    /// Its reason, in sentences a human can check.
    pub evidence: Vec<String>,
}

/// Judges one lock. The rows of DESIGN section 5 are asked in their order; whatever cannot be established is
/// [`Verdict::Unknown`] and says why.
pub fn judge(case: &Case) -> Judgement {
    let Ruling { verdict, cause, because } = rule(case);
    let evidence = match verdict {
        // The plain case, of which there may be a hundred thousand: one sentence says it all.
        Verdict::Held => vec![because],
        _ => evidence::of(case, because),
    };
    Judgement { verdict, cause, evidence }
}

/// A judgement with the one sentence that decided it.
struct Ruling {
    verdict: Verdict,
    cause: Option<Cause>,
    because: String,
}

impl Ruling {
    fn held(because: String) -> Self {
        Self { verdict: Verdict::Held, cause: None, because }
    }

    fn handed_over(cause: Cause, because: String) -> Self {
        Self { verdict: Verdict::HandedOver, cause: Some(cause), because }
    }

    fn orphaned(cause: Cause, because: String) -> Self {
        Self { verdict: Verdict::Orphaned, cause: Some(cause), because }
    }

    fn unknown(cause: impl Into<Option<Cause>>, because: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, cause: cause.into(), because: because.into() }
    }

    /// Which of several heirs decides: the one that speaks most against "orphaned", then the one nearest to the
    /// acquirer.
    fn rank(&self) -> u8 {
        match (self.verdict, self.cause) {
            (Verdict::Held | Verdict::HandedOver, _) => 0,
            (Verdict::Unknown, _) => 1,
            (Verdict::Orphaned, Some(Cause::Child)) => 2,
            (Verdict::Orphaned, Some(Cause::Inherited)) => 3,
            (Verdict::Orphaned, Some(Cause::Leaked)) => 4,
            (Verdict::Orphaned, Some(Cause::SharedFiles)) => 5,
            (Verdict::Orphaned, _) => 6,
        }
    }
}

fn rule(case: &Case) -> Ruling {
    if let Some(remote) = case.holders.iter().find(|h| h.via == Via::Remote) {
        return rule_remote(case, remote);
    }
    let Some(acquirer) = case.acquirer else { return rule_nameless(case) };
    match &acquirer.life {
        Life::Alive => rule_alive(case, acquirer),
        Life::Unknown(why) => Ruling::unknown(None, why.as_str()),
        Life::Dead(_) => rule_dead(case, acquirer),
    }
}

/// The lock of an NFS client: the acquirer on this host is a thread of the server and says nothing.
fn rule_remote(case: &Case, remote: &Holder) -> Ruling {
    let who = evidence::holding(remote);
    match case.remote_gone {
        Some(true) => Ruling::orphaned(Cause::Remote, format!("{who}, and that client is gone")),
        Some(false) => Ruling::held(format!("{who}, and that client is alive")),
        None => Ruling::unknown(Cause::Remote, format!("{who}; whether that client is alive was not established")),
    }
}

/// Nobody knows who took it.
fn rule_nameless(case: &Case) -> Ruling {
    let living_fd = case.holders.iter().find(|h| h.via == Via::Fd && h.process.is_some());
    match (case.holders, living_fd) {
        ([], _) => Ruling::unknown(None, evidence::no_holder(case)),
        (_, Some(holder)) if case.kind == Kind::Ofd => Ruling::held(evidence::holding(holder)),
        (holders, None) if case.holders_complete && holders.iter().all(|h| h.via == Via::Kernel) => {
            Ruling::orphaned(Cause::Kernel, "no process has the file open".into())
        }
        _ => Ruling::unknown(None, "who took the lock is not known, so whether it lives is not either"),
    }
}

/// A living acquirer holds by whatever means of its own. So it does while the lock waits in its own socket: it is the
/// one who can take it out, closing the socket releases the lock, and nobody else has got it.
fn rule_alive(case: &Case, acquirer: &Process) -> Ruling {
    let own = case.holders.iter().find(|h| h.process.as_ref().is_some_and(|p| p.id == acquirer.id));
    match own {
        Some(own) => Ruling::held(evidence::own(acquirer, own)),
        None if case.holders.is_empty() => Ruling::unknown(None, evidence::no_holder(case)),
        None if !case.holders_complete => Ruling::unknown(None, evidence::INCOMPLETE),
        None => Ruling::handed_over(
            Cause::Passed,
            format!("{acquirer} took the lock and lives, but only others keep the file open now"),
        ),
    }
}

fn rule_dead(case: &Case, acquirer: &Process) -> Ruling {
    if case.holders.is_empty() {
        return Ruling::unknown(None, evidence::no_holder(case));
    }
    let fates = case.holders.iter().map(|heir| fate(case, acquirer, heir));
    match rule_parties(case, acquirer).or_else(|| fates.min_by_key(Ruling::rank)) {
        Some(Ruling { verdict: Verdict::Orphaned, .. }) | None if !case.holders_complete => {
            Ruling::unknown(None, evidence::INCOMPLETE)
        }
        Some(ruling) => ruling,
        None => Ruling::unknown(None, evidence::no_holder(case)),
    }
}

/// What the parties besides the acquirer say; `None` when all of them are dead, or there are none.
///
/// Whoever opened the file had it before anybody could lock it, and is a party even if nobody watched. Whoever has a
/// message with it in a socket has not got it, and is none.
fn rule_parties(case: &Case, acquirer: &Process) -> Option<Ruling> {
    let had = || case.holders.iter().filter(|h| h.via != Via::Message);
    let opener = had().filter(|h| h.opened == Some(true)).find_map(|h| h.process.as_ref());
    if let Some(opener) = opener {
        let why = format!("{opener} opened the file itself, and had it before {acquirer} locked it");
        return Some(Ruling::handed_over(Cause::Borrowed, why));
    }
    let holds = |p: &Process| had().any(|h| h.process.as_ref().is_some_and(|held| held.id == p.id));
    if let Some(party) = case.ancestors.iter().find(|p| holds(p)) {
        let why = format!("{party} was there before {acquirer} and has the same open file: the lock was taken for it");
        return Some(Ruling::handed_over(Cause::Borrowed, why));
    }
    let parties = || case.ancestors.iter().filter(|p| case.parties.contains(&p.id.pid));
    if let Some(party) = parties().find(|p| p.life == Life::Alive) {
        return Some(match case.holders_complete {
            true => {
                Ruling::handed_over(Cause::Passed, format!("{party} had the file open too, lives, and let go of it"))
            }
            false => Ruling::unknown(None, evidence::INCOMPLETE),
        });
    }
    parties().find_map(|p| match &p.life {
        Life::Unknown(why) => Some(Ruling::unknown(None, why.as_str())),
        _ => None,
    })
}
