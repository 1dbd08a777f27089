//! How many locks were cleared on this host, and how it ended: counted from the record, which tells of everybody's.

use std::{collections::BTreeMap, path::Path};

use lockwatch_control::{
    audit::{Phase, Record, Tail},
    document::Outcome,
};
use lockwatch_core::clear::Method;

/// Clears since the start, by method and outcome.
#[derive(Debug)]
pub struct Clears {
    tail: Option<Tail>,
    counts: Counts,
}

/// What metrics show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Clears by method and outcome, in the contract's words; `none` where no method applied.
    pub clears: BTreeMap<(&'static str, &'static str), u64>,
    /// Lines of the record that are none.
    pub bad_lines: u64,
}

impl Clears {
    /// Counts what is recorded there from now on.
    pub fn from_now(audit_log: &Path) -> Self {
        let mut clears = Self { tail: None, counts: Counts::default() };
        clears.follow(audit_log);
        clears
    }

    /// Goes on with a log at another place.
    pub fn follow(&mut self, audit_log: &Path) {
        self.tail = match Tail::from_now(audit_log) {
            Ok(tail) => Some(tail),
            Err(error) => {
                log::warn!("clears are not counted: read {}: {error}", audit_log.display());
                None
            }
        };
    }

    /// Reads what was recorded since the last call. It takes a stat(2) if that is nothing.
    pub fn read(&mut self) {
        let Some(tail) = &mut self.tail else { return };
        let counts = &mut self.counts;
        if let Err(error) = tail.read(|record| counts.add(record.as_ref().map(|(_, record)| record))) {
            log::debug!("read the audit log: {error}");
        }
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Every series is there from the start, with zero: an increase is seen only where something was before.
impl Default for Counts {
    fn default() -> Self {
        let ends = [Outcome::Refused, Outcome::Changed, Outcome::Cleared, Outcome::StillHeld].map(Outcome::name);
        let all = Method::ALL.iter().flat_map(|method| ends.map(|end| ((method.name(), end), 0)));
        Self { clears: all.chain([((NONE, Outcome::Refused.name()), 0)]).collect(), bad_lines: 0 }
    }
}

/// No method applied.
const NONE: &str = "none";

impl Counts {
    /// A clear ends with one record: of a refusal, or of an outcome.
    fn add(&mut self, record: Option<&Record>) {
        match record {
            None => self.bad_lines += 1,
            Some(Record { phase: Phase::Refused | Phase::Outcome, outcome: Some(outcome), method, .. }) => {
                let known = |name: &str| Method::ALL.into_iter().map(Method::name).find(|method| *method == name);
                let method = method.as_deref().and_then(known).unwrap_or(NONE);
                *self.clears.entry((method, outcome.name())).or_default() += 1;
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use lockwatch_control::audit::Actor;

    use super::*;

    #[test]
    fn each_clear_counts_once_whatever_was_recorded_of_it() {
        let record = |phase, outcome, method: Option<&str>| Record {
            actor: Actor { uid: 0, pid: 1, comm: None, tty: None },
            approved_by: Vec::new(),
            id: "f3k9".into(),
            file: None,
            method: method.map(str::to_owned),
            reason: None,
            phase,
            outcome,
            plan_hash: None,
            notes: Vec::new(),
        };
        let mut counts = Counts::default();
        let release = Some("release");
        let story = [
            record(Phase::Planned, None, release),
            record(Phase::Intent, None, release),
            record(Phase::Outcome, Some(Outcome::Cleared), release),
            record(Phase::Planned, None, Some("kill")),
            record(Phase::Outcome, Some(Outcome::Changed), Some("kill")),
            record(Phase::Refused, Some(Outcome::Refused), None),
            record(Phase::Outcome, Some(Outcome::Cleared), release),
            record(Phase::Refused, Some(Outcome::Refused), Some("made up")),
        ];
        story.iter().for_each(|record| counts.add(Some(record)));
        counts.add(None);
        let expect = [(("kill", "changed"), 1), (("none", "refused"), 2), (("release", "cleared"), 2)];
        assert_eq!((counts.clears.len(), counts.bad_lines), (17, 1));
        counts.clears.retain(|_, count| *count > 0);
        assert_eq!(counts.clears, expect.into());
    }
}
