//! Whether a lock may be cleared at all. When in doubt: no.

use std::fmt;

use super::{
    case::{Case, Person},
    method::Method,
    policy::Policy,
    wish::{Hold, Wish},
};
use crate::{report::Verdict, text::Text};

/// Why a lock is not cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The acquirer lives, or others hold it rightly.
    NotOrphaned(Verdict),
    /// The acquirer lives, whatever the verdict says.
    AcquirerLives(Person),
    /// Nobody can say whether anybody who knows of the lock is left.
    Unknown,
    /// There may be holders that nobody has seen.
    HoldersIncomplete,
    /// The set of locks is not known to be the kernel's own.
    NotExact,
    /// The file, or somebody who holds it, is on the protect list.
    Protected {
        /// What matches.
        what: String,
        /// The entry that it matches.
        entry: String,
    },
    /// This method does not apply, and why.
    NotThisWay(Method, String),
    /// No method applies: what a human can do instead.
    NoWay(String),
    /// The host's owner does not let this user do it.
    NotAllowed(String),
    /// Somebody is to be frozen who must not be.
    BadHold(Hold, String),
    /// A holder is lockwatch itself or one of its ancestors, and would be signalled.
    Ourselves(Person),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotOrphaned(Verdict::HandedOver) => {
                write!(f, "the lock was handed over to somebody who knows of it: it is not orphaned")
            }
            Refusal::NotOrphaned(verdict) => write!(f, "the lock is {}, not orphaned", verdict.name()),
            Refusal::AcquirerLives(person) => write!(f, "{person} took the lock and lives"),
            Refusal::Unknown => write!(
                f,
                "it cannot be said whether the lock is orphaned; `lockwatch explain` has the evidence, and `lockwatch \
                 doctor` tells what cannot be seen here"
            ),
            Refusal::HoldersIncomplete => {
                write!(f, "not everything that may keep the lock could be seen; `lockwatch doctor` tells why")
            }
            Refusal::NotExact => write!(f, "the list of locks is not known to be complete"),
            Refusal::Protected { what, entry } => write!(f, "{what} is on the protect list ({entry})"),
            Refusal::NotThisWay(method, why) => write!(f, "{method} does not apply: {why}"),
            Refusal::NoWay(instead) => write!(f, "{instead}"),
            Refusal::NotAllowed(why) => write!(f, "{why}"),
            Refusal::BadHold(hold, why) => write!(f, "{hold} cannot be held still: {why}"),
            Refusal::Ourselves(person) => write!(f, "{person} would be signalled, and this lockwatch runs below it"),
        }
    }
}

/// What stands against clearing this lock in any way.
pub(super) fn refusals(case: &Case, wish: &Wish, policy: &Policy) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    match case.verdict {
        Verdict::Orphaned => {}
        Verdict::Unknown => refusals.push(Refusal::Unknown),
        verdict => refusals.push(Refusal::NotOrphaned(verdict)),
    }
    // The verdict implies it; but of all mistakes this is the one not to make.
    match &case.acquirer {
        Some(person) if person.dead == Some(false) => refusals.push(Refusal::AcquirerLives(person.clone())),
        Some(person) if person.dead == Some(true) => {}
        _ if refusals.is_empty() => refusals.push(Refusal::Unknown),
        _ => {}
    }
    if !case.holders_complete {
        refusals.push(Refusal::HoldersIncomplete);
    }
    if !case.exact {
        refusals.push(Refusal::NotExact);
    }
    if !wish.override_protection {
        let protected = policy.protection.find(case);
        refusals.extend(protected.map(|(what, entry)| Refusal::Protected { what, entry }));
    } else if !policy.may_override {
        refusals.push(Refusal::NotAllowed("only root may override the protect list".into()));
    }
    if !policy.may_clear(case.path.as_ref()) {
        let path = case.path.as_ref().map_or_else(|| "a file without a known path".into(), Text::to_string);
        refusals.push(Refusal::NotAllowed(format!("the configuration does not let you clear locks on {path}")));
    }
    if !wish.hold.is_empty() && !policy.may_hold {
        refusals.push(Refusal::NotAllowed("the configuration does not let you hold others still".into()));
    }
    refusals
}
