//! `[[policy]]`: standing orders.

use std::{ops::RangeInclusive, time::Duration};

use lockwatch_core::{
    lock::Kind,
    policy::{Action, Policy, Stage},
    report::Cause,
};

use crate::{
    control::{methods, patterns, time},
    key::Key,
    value::Value,
};

/// So many there are at most: each is a value of a metric's label.
pub const MOST: usize = 64;

/// A policy's name is not longer.
const LONGEST_NAME: usize = 64;

const AGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);

/// Its keys.
pub const KEYS: &[Key<Policy>] = &[
    Key {
        name: "name",
        about: "What it is called in the log, the record and the metrics. It must be there, and no other policy's",
        set: |policy, value| name(value).map(|name| policy.name = name),
        get: |policy| (!policy.name.is_empty()).then(|| Value::Text(policy.name.clone())),
    },
    Key {
        name: "match.paths",
        about: "Locks on these files, with * for anything; of what `match` says, everything must fit",
        set: |policy, value| at_least_one(patterns(value)?).map(|all| policy.matches.paths = all),
        get: |policy| texts(policy.matches.paths.iter().map(String::as_str)),
    },
    Key {
        name: "match.unit",
        about: "Locks that a process of this unit took or holds, with * for anything",
        set: |policy, value| unit(value).map(|unit| policy.matches.unit = Some(unit)),
        get: |policy| policy.matches.unit.clone().map(Value::Text),
    },
    Key {
        name: "match.cause",
        about: "Locks orphaned in one of these ways",
        set: |policy, value| {
            let causes = value.all_named("cause", &Cause::OF_ORPHANS, Cause::name)?;
            at_least_one(causes).map(|all| policy.matches.causes = all)
        },
        get: |policy| texts(policy.matches.causes.iter().map(|cause| cause.name())),
    },
    Key {
        name: "match.kind",
        about: "Locks of one of these kinds",
        set: |policy, value| {
            let kinds = value.all_named("kind", &Kind::ALL, Kind::name)?;
            at_least_one(kinds).map(|all| policy.matches.kinds = all)
        },
        get: |policy| texts(policy.matches.kinds.iter().map(|kind| kind.name())),
    },
    Key {
        name: "min_age",
        about: "How long a lock must have been orphaned",
        set: |policy, value| value.span(AGE).map(|time| policy.min_age = time),
        get: |policy| Some(time(policy.min_age)),
    },
    Key {
        name: "needs_waiters",
        about: "Whether somebody must be waiting for it",
        set: |policy, value| value.truth().map(|truth| policy.needs_waiters = truth),
        get: |policy| Some(Value::Truth(policy.needs_waiters)),
    },
    Key {
        name: "action",
        about: "What is done with such a lock: report or clear",
        set: |policy, value| value.named("action", &Action::ALL, Action::name).map(|action| policy.action = action),
        get: |policy| Some(Value::Text(policy.action.name().to_owned())),
    },
    Key {
        name: "stage",
        about: "How far `clear` goes: observe (it says what it would do), canary (it clears the first few, each verified, \
                then stops) or enforce",
        set: |policy, value| value.named("stage", &Stage::ALL, Stage::name).map(|stage| policy.stage = stage),
        get: |policy| Some(Value::Text(policy.stage.name().to_owned())),
    },
    Key {
        name: "canary",
        about: "How many locks a canary clears before it stops",
        set: |policy, value| value.number(1..=1000).map(|count| policy.canary = count),
        get: |policy| Some(Value::Number(policy.canary.into())),
    },
    Key {
        name: "max_per_hour",
        about: "How many locks are cleared within an hour, at most",
        set: |policy, value| value.number(1..=3600).map(|count| policy.max_per_hour = count),
        get: |policy| Some(Value::Number(policy.max_per_hour.into())),
    },
    Key {
        name: "methods",
        about: "In which ways it may clear, in any order; never in another",
        set: |policy, value| at_least_one(methods(value)?).map(|all| policy.methods = all),
        get: |policy| texts(policy.methods.iter().map(|method| method.name())),
    },
];

/// What is wrong with a policy as a whole.
pub(crate) fn faults(policy: &Policy) -> Vec<String> {
    let mut faults = Vec::new();
    if policy.name.is_empty() {
        faults.push("a policy without a name".to_owned());
    }
    if policy.matches.is_empty() {
        let which = if policy.name.is_empty() { String::new() } else { format!(" {}", policy.name) };
        faults.push(format!(
            "policy{which} matches nothing in particular: say match.paths = [\"*\"] if you mean every orphaned lock"
        ));
    }
    faults
}

fn name(value: &Value) -> Result<String, String> {
    let name = value.text()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits) {
        return Ok(name);
    }
    Err(format!("{value} is no name: up to {LONGEST_NAME} of a-z, A-Z, 0-9, - _ ."))
}

fn unit(value: &Value) -> Result<String, String> {
    let unit = value.text()?;
    if unit.trim().is_empty() { Err("an empty pattern fits no unit".to_owned()) } else { Ok(unit) }
}

fn at_least_one<T>(all: Vec<T>) -> Result<Vec<T>, String> {
    if all.is_empty() { Err("an empty list fits nothing: leave the line out for all".to_owned()) } else { Ok(all) }
}

fn texts<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> Option<Value> {
    (all.len() > 0).then(|| Value::of_texts(all))
}
