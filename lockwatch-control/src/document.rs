//! What a clear says: schema `lockwatch.clear/1` of CONTRACT section 4.

use lockwatch_core::clear::{Case, Keeper, Person, Plan};
use serde::{Deserialize, Serialize};

use crate::proof::Proof;

/// The schema's name.
pub const SCHEMA: &str = "lockwatch.clear/1";

/// One document: the plan, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// The lock's ID.
    pub id: String,
    /// The plan; `None` if there is no such lock.
    pub plan: Option<PlanObject>,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether a look afterwards has shown that the lock is gone.
    pub verified: bool,
    /// Who has a lock on the same bytes now, if anybody.
    pub next_owner: Option<Party>,
    /// From the confirmation to the verified end, in nanoseconds.
    pub took_ns: Option<u64>,
    /// How long a duplicate of the locked file was lockwatch's, in nanoseconds, if there was one.
    #[serde(default)]
    pub duplicate_held_ns: Option<u64>,
    /// What happened in words, and what to do next: for a human, the most important first.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Who has confirmed so far, and how many must.
    #[serde(default)]
    pub approvals: Option<Approvals>,
}

/// The plan in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanObject {
    /// What confirms it; `None` if it is refused.
    pub code: Option<String>,
    /// The hash that the code is cut from.
    pub hash: String,
    /// How the lock will be cleared.
    pub method: Option<String>,
    /// What else would clear it, least force first.
    pub alternatives: Vec<String>,
    /// What follows.
    pub effects: Vec<String>,
    /// Why it is not done.
    pub refusals: Vec<String>,
    /// On which file, and what is locked of it: words.
    pub lock: String,
    /// The file's path, as it may be printed.
    pub file: Option<String>,
    /// Who took it, and how that process ended.
    pub acquirer: Option<Party>,
    /// Who keeps it.
    pub holders: Vec<Party>,
    /// Who waits for it, first in line first.
    pub waiters: Vec<Party>,
    /// Why it is an orphan.
    pub evidence: Vec<String>,
}

/// A process, or what else keeps a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its number.
    pub pid: Option<u32>,
    /// Its command name, escaped.
    pub comm: Option<String>,
    /// By what means, or how it died: words.
    pub detail: Option<String>,
}

/// Who has confirmed a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// User ids, in the order in which they came.
    pub by: Vec<u32>,
    /// How many different ones are needed.
    pub needed: u32,
}

/// What became of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It waits for its code, or for somebody else's.
    Planned,
    /// A guard said no.
    Refused,
    /// The world is not as it was planned for.
    Changed,
    /// The lock is gone.
    Cleared,
    /// Everything was done, and the lock is still there.
    StillHeld,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] =
        [Outcome::Planned, Outcome::Refused, Outcome::Changed, Outcome::Cleared, Outcome::StillHeld];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Planned => "planned",
            Outcome::Refused => "refused",
            Outcome::Changed => "changed",
            Outcome::Cleared => "cleared",
            Outcome::StillHeld => "still_held",
        }
    }
}

impl Document {
    /// Without a plan: there is no such lock.
    pub fn new(id: &str, outcome: Outcome) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            id: id.to_owned(),
            plan: None,
            outcome,
            verified: false,
            next_owner: None,
            took_ns: None,
            duplicate_held_ns: None,
            notes: Vec::new(),
            approvals: None,
        }
    }

    /// Of a plan that nobody has confirmed yet, or that is refused.
    pub fn of(plan: &Plan) -> Self {
        let outcome = if plan.refusals.is_empty() { Outcome::Planned } else { Outcome::Refused };
        Self { plan: Some(PlanObject::of(plan)), ..Self::new(&plan.case.id.0, outcome) }
    }
}

impl PlanObject {
    fn of(plan: &Plan) -> Self {
        let Plan { case, method, alternatives, effects, refusals, .. } = plan;
        let proof = Proof::of(plan);
        let Case { kind, mode, range, file, .. } = case;
        let dead = case.exit.clone().or_else(|| case.acquirer.as_ref()?.dead?.then(|| "is dead".to_owned()));
        Self {
            code: refusals.is_empty().then(|| proof.code()),
            hash: proof.hex(),
            method: method.map(|method| method.name().to_owned()),
            alternatives: alternatives.iter().map(|method| method.name().to_owned()).collect(),
            effects: effects.clone(),
            refusals: refusals.iter().map(ToString::to_string).collect(),
            lock: format!("{kind} {mode} {range} on {file}"),
            file: case.path.as_ref().map(ToString::to_string),
            acquirer: case.acquirer.as_ref().map(|person| Party::of(person, dead)),
            holders: case.holders.iter().map(Party::of_keeper).collect(),
            waiters: case.waiters.iter().map(|w| Party::of_nullable(w.who.as_ref(), w.mode.name())).collect(),
            evidence: case.evidence.clone(),
        }
    }
}

impl Party {
    /// A process.
    pub fn of(person: &Person, detail: Option<String>) -> Self {
        Self { pid: Some(person.id.pid), comm: person.comm.as_ref().map(ToString::to_string), detail }
    }

    fn of_nullable(person: Option<&Person>, detail: &str) -> Self {
        let detail = Some(detail.to_owned());
        person.map_or(Self { pid: None, comm: None, detail: detail.clone() }, |person| Self::of(person, detail))
    }

    fn of_keeper(keeper: &Keeper) -> Self {
        let means = match (keeper.fd, &keeper.detail) {
            (Some(fd), _) => format!("fd {fd}"),
            (None, Some(detail)) => format!("{}: {detail}", keeper.via.name()),
            (None, None) => keeper.via.name().to_owned(),
        };
        Self::of_nullable(keeper.who.as_ref(), &means)
    }
}
