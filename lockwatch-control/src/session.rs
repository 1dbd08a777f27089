//! One clear, from the first look to the record of its outcome: the sequence of DESIGN section 6, every step able to
//! refuse.

mod verify;

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lockwatch_core::clear::{Case, Method, Plan, Policy, Wish};

use crate::{
    audit::{Actor, Log, Phase, Record},
    document::{Approvals, Document, Outcome},
    eyes::{Eyes, Sight},
    fault,
    front::Front,
    hands::{self, Failure, Grip},
    hold::{Held, Spare},
    proof::Proof,
};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Task {
    /// The lock's ID, or the beginning of it.
    pub id: String,
    /// How, and who is held still.
    pub wish: Wish,
    /// How long to wait between the two looks that must agree.
    pub settle: Duration,
    /// Whether to plan only.
    pub dry_run: bool,
    /// Why, in the words of the one who asks; for the record.
    pub reason: Option<String>,
    /// Who has confirmed this very plan before, where two must.
    pub approved_by: Vec<Actor>,
}

/// How many different people must confirm a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum(pub u32);

/// Everything that one clear works with.
pub struct Session<'a> {
    /// What is to be done.
    pub task: &'a Task,
    /// By whom.
    pub actor: &'a Actor,
    /// What the host's owner lets them do who want it: none may object.
    pub policies: &'a [Policy],
    /// How many must agree.
    pub quorum: Quorum,
    /// Who looks.
    pub eyes: &'a mut dyn Eyes,
    /// Who confirms.
    pub front: &'a mut dyn Front,
    /// Where it is written down.
    pub log: &'a mut Log,
}

/// Why a session ends early, with what is to be said.
enum Stop {
    /// With this document.
    With(Box<Document>),
    /// Something failed.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Stop::Failed(error)
    }
}

impl Session<'_> {
    /// Runs it. Whatever happens, what was held still is let go, and what was done is on record.
    ///
    /// # Errors
    ///
    /// Nothing could be seen, nothing could be recorded, or the one who asked is gone. Then nothing was done, unless the
    /// error says otherwise.
    pub fn run(mut self) -> Result<Document> {
        match self.clear() {
            Ok(document) => Ok(document),
            Err(Stop::With(document)) => Ok(*document),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn clear(&mut self) -> Result<Document, Stop> {
        let first = self.see(&self.task.id, None)?;
        fault::point(1);
        // What is refused at the first look need not settle.
        self.plan(first.clone())?;
        let grip = Grip::take(&first).map_err(|failure| self.stopped(&first, None, failure))?;
        fault::point(2);
        thread::sleep(self.task.settle);
        let second = self.see(&first.id.0, Some((&first, false)))?;
        let plan = self.plan(second)?;
        let planned = Document::of(&plan);
        if self.task.dry_run {
            return Ok(planned);
        }
        self.record(&plan, Phase::Planned, &planned)?;
        fault::point(3);
        let held = self.hold(&plan)?;
        fault::point(4);
        let Some(code) = self.front.confirm(&planned)? else { return Ok(planned) };
        let began = Instant::now();
        if !Proof::of(&plan).is_confirmed_by(&code) {
            let why = format!("{code} is not this plan's code: it belongs to another plan, or the facts have changed");
            return Err(self.changed(&plan, &why));
        }
        fault::point(5);
        if let Some(waits) = self.for_others(&planned) {
            return Ok(waits);
        }
        self.record(&plan, Phase::Intent, &planned).context("no record, no act")?;
        fault::point(6);
        self.last_look(&plan, held.as_ref())?;
        let still = held.as_ref().map(Held::members).unwrap_or_default();
        let document = self.act(&plan, &grip, &still, planned, began)?;
        fault::point(10);
        if let Some(held) = held {
            held.thaw().context("let go of those held still")?;
        }
        Ok(document)
    }

    /// After the record, which may take its time: who took an OFD lock nothing but a look tells.
    fn last_look(&mut self, plan: &Plan, held: Option<&Held>) -> Result<(), Stop> {
        let seen = self.see(&plan.case.id.0, Some((&plan.case, held.is_some())));
        if let Err(Stop::With(document)) = &seen {
            self.record(plan, Phase::Outcome, document)?;
        }
        seen?;
        held.map_or(Ok(()), Held::check).map_err(|error| self.changed(plan, &format!("{error:#}")))
    }

    /// A look that must agree with the one before; `Some((_, true))` if others are held still since, who have left the
    /// queue by that (fs/locks.c flock_lock_inode_wait, 6.18: a freeze interrupts the wait).
    fn see(&mut self, id: &str, before: Option<(&Case, bool)>) -> Result<Case, Stop> {
        let agrees = |before: &Case, now: &Case, held: bool| {
            let waiters = if held { before.waiters.clone() } else { now.waiters.clone() };
            before.agrees_with(&Case { waiters, ..now.clone() })
        };
        let sight = self.eyes.look(id).context("look at the locks")?;
        let before_it = before.map(|(case, _)| case);
        let note = match sight {
            Sight::One(case) if before.is_none_or(|(before, held)| agrees(before, &case, held)) => return Ok(*case),
            Sight::One(case) => before_it.map_or_else(String::new, |before| difference(before, &case)),
            Sight::None => "there is no such lock: it was released, or taken by somebody else since".to_owned(),
            Sight::Many(ids) => {
                let some: Vec<_> = ids.iter().take(8).map(|id| id.0.as_str()).collect();
                format!("{id} is the beginning of {} ids: {}", ids.len(), some.join(", "))
            }
        };
        let mut document = Document::new(before_it.map_or(id, |case| &case.id.0), Outcome::Changed);
        document.notes = vec![note];
        Err(Stop::With(Box::new(document)))
    }

    /// The plan, if nothing and nobody stands against it.
    fn plan(&mut self, case: Case) -> Result<Plan, Stop> {
        let plan = |policy| Plan::of(case.clone(), self.task.wish.clone(), policy);
        let mut plans: Vec<_> = self.policies.iter().map(plan).collect();
        let worst = plans.iter().position(|plan| !plan.refusals.is_empty()).unwrap_or(0);
        let plan = plans.swap_remove(worst);
        if plan.refusals.is_empty() {
            return Ok(plan);
        }
        let document = Document::of(&plan);
        if !self.task.dry_run {
            self.record(&plan, Phase::Refused, &document)?;
        }
        Err(Stop::With(Box::new(document)))
    }

    /// Freezes those who are to be held still, if there is going to be a confirmation.
    fn hold(&mut self, plan: &Plan) -> Result<Option<Held>, Stop> {
        if plan.wish.hold.is_empty() || !self.front.is_there() {
            return Ok(None);
        }
        match self.spare(plan).and_then(|spare| Held::freeze(&plan.wish.hold, plan.wish.hold_max, &spare)) {
            Ok(held) => Ok(Some(held)),
            Err(error) => {
                let mut document = Document::of(plan);
                document.outcome = Outcome::Refused;
                document.notes = vec![format!("{error:#}")];
                self.record(plan, Phase::Refused, &document)?;
                Err(Stop::With(Box::new(document)))
            }
        }
    }

    /// Who must not be held still: the one who asks needs a terminal, and who is signalled must be able to end.
    fn spare(&self, plan: &Plan) -> Result<Spare> {
        let mut spare = Spare::new()?.and_ancestors(self.actor.pid, "the one who asks runs below it")?;
        if matches!(plan.method, Some(Method::Terminate | Method::Kill)) {
            for person in plan.case.keepers() {
                spare = spare.and(person.id.pid, "it is to be signalled, and a frozen process cannot end");
            }
        }
        Ok(spare)
    }

    /// If others must confirm too: the plan, waiting for them.
    fn for_others(&self, planned: &Document) -> Option<Document> {
        let Quorum(needed) = self.quorum;
        let mut by: Vec<u32> = self.task.approved_by.iter().map(|actor| actor.uid).collect();
        if !by.contains(&self.actor.uid) {
            by.push(self.actor.uid);
        }
        let enough = u32::try_from(by.len()).is_ok_and(|count| count >= needed);
        (!enough).then(|| Document { approvals: Some(Approvals { by, needed }), ..planned.clone() })
    }

    fn act(
        &mut self,
        plan: &Plan,
        grip: &Grip,
        still: &BTreeSet<u32>,
        planned: Document,
        began: Instant,
    ) -> Result<Document, Stop> {
        let acted = hands::carry_out(plan, grip).map_err(|failure| self.stopped(&plan.case, Some(plan), failure))?;
        fault::point(9);
        let seen = verify::verify(plan, &acted, still, self.eyes);
        let took_ns = u64::try_from(began.elapsed().as_nanos()).ok();
        let verified = seen.as_ref().is_ok_and(|seen| seen.gone);
        let outcome = if verified { Outcome::Cleared } else { Outcome::StillHeld };
        let duplicate_held_ns = acted.duplicate_held.and_then(|held| u64::try_from(held.as_nanos()).ok());
        let mut document = Document { outcome, verified, took_ns, duplicate_held_ns, ..planned };
        document.notes = acted.words;
        match seen {
            Ok(seen) => {
                document.next_owner = seen.next_owner;
                document.notes.extend(seen.words);
            }
            Err(error) => document.notes.push(format!("it could not be verified: {error:#}")),
        }
        if let Err(error) = self.record(plan, Phase::Outcome, &document) {
            // It is done, and must be said.
            document.notes.push(format!("the outcome is not on record: {error:#}"));
        }
        Ok(document)
    }

    fn changed(&mut self, plan: &Plan, why: &str) -> Stop {
        self.stopped(&plan.case, Some(plan), Failure::Changed(why.to_owned()))
    }

    /// The end of a session that did nothing, on record if there was a plan.
    fn stopped(&mut self, case: &Case, plan: Option<&Plan>, failure: Failure) -> Stop {
        let (outcome, why) = match &failure {
            Failure::Changed(why) => (Outcome::Changed, why.clone()),
            Failure::Failed(error) => (Outcome::StillHeld, format!("{error:#}")),
        };
        let mut document = plan.map_or_else(|| Document::new(&case.id.0, outcome), Document::of);
        document.outcome = outcome;
        document.notes = vec![why];
        let recorded = plan.map_or(Ok(()), |plan| self.record(plan, Phase::Outcome, &document));
        match (recorded, failure) {
            (Ok(()), Failure::Changed(_)) => Stop::With(Box::new(document)),
            (Ok(()), Failure::Failed(error)) | (Err(error), _) => Stop::Failed(error),
        }
    }

    fn record(&mut self, plan: &Plan, phase: Phase, document: &Document) -> Result<()> {
        let refusals = document.plan.iter().flat_map(|plan| &plan.refusals);
        let record = Record {
            actor: self.actor.clone(),
            approved_by: self.task.approved_by.clone(),
            id: plan.case.id.0.clone(),
            file: Some(plan.case.path.as_ref().map_or_else(|| plan.case.file.to_string(), ToString::to_string)),
            method: plan.method.map(|method| method.name().to_owned()),
            reason: self.task.reason.clone(),
            phase,
            outcome: (phase != Phase::Planned && phase != Phase::Intent).then_some(document.outcome),
            plan_hash: Some(Proof::of(plan).hex()),
            notes: refusals.chain(&document.notes).cloned().collect(),
        };
        self.log.append(&record).context("write the audit log")
    }
}

/// What differs between two looks, the first thing first.
fn difference(before: &Case, now: &Case) -> String {
    let what = match () {
        () if before.verdict != now.verdict => {
            return format!("the lock was {} and is {} now", before.verdict.name(), now.verdict.name());
        }
        () if before.holders != now.holders || before.holders_complete != now.holders_complete => "what keeps it",
        () if before.waiters != now.waiters => "who waits for it",
        () if before.acquirer != now.acquirer => "what is known of its acquirer",
        () => "the lock",
    };
    format!("{what} has changed between two looks")
}
