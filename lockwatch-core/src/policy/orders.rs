//! Standing orders at work: what they say and do about each look, and what they remember of it.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    mem,
    time::Duration,
};

use super::{
    Action, Policy, Stage,
    decision::{About, Decision, Ended, Order, Outcome},
};
use crate::{
    clear::{self, Case, Method, Plan, Wish},
    id::LockId,
    process::ProcessId,
    report::{LockReport, Report, Verdict},
    time::Timestamp,
};

/// The time, in two ways: a wall clock may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the wall.
    pub wall: Timestamp,
    /// Since some moment before the first look; it never goes back.
    pub running: Duration,
}

/// Standing orders, what they have done, and what they do next. One lock is cleared at a time, whichever policy wants it.
#[derive(Debug)]
pub struct Orders {
    rules: Vec<Rule>,
    rights: clear::Policy,
    orphans: HashMap<LockId, Orphan>,
    under_way: Option<Order>,
    /// When the last order ended: what was seen before that is not acted upon any more.
    last_end: Option<Timestamp>,
    /// Nobody could be asked to clear: until when nobody is asked again.
    unheard_until: Option<Duration>,
}

/// A policy and its past.
#[derive(Debug)]
struct Rule {
    policy: Policy,
    /// Locks of which it has said something already.
    told: HashSet<LockId>,
    /// When it acted within the last hour, or tried to.
    acts: VecDeque<Duration>,
    /// How many its canary has cleared.
    cleared: u32,
    frozen: bool,
    /// Whether it was said that it has done enough for this hour.
    spent: bool,
    would: u64,
    ended: BTreeMap<&'static str, u64>,
}

/// A lock that has been orphaned for a while.
#[derive(Debug)]
struct Orphan {
    acquirer: Option<ProcessId>,
    since: Duration,
}

/// What a policy did before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Which policy.
    pub policy: String,
    /// About which lock.
    pub lock: About,
    /// How it ended.
    pub ended: Ended,
    /// How long ago.
    pub ago: Duration,
    /// Whether the configuration has not changed since.
    pub is_of_this_configuration: bool,
}

/// What a metric shows of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Its name.
    pub policy: String,
    /// Whether it is frozen.
    pub frozen: bool,
    /// How many locks it would have cleared.
    pub would: u64,
    /// How many of its acts ended so, by [`Ended::name`].
    pub acts: BTreeMap<&'static str, u64>,
}

const HOUR: Duration = Duration::from_secs(3600);

/// For how long nobody is asked again who could not be reached.
const UNHEARD: Duration = Duration::from_secs(30);

impl Orders {
    /// Policies, and what the one who carries them out may do at all. Nothing may be overridden, and nobody held still.
    pub fn new(policies: Vec<Policy>, rights: clear::Policy) -> Self {
        let rules = policies.into_iter().map(Rule::new).collect();
        Self {
            rules,
            rights: modest(rights),
            orphans: HashMap::new(),
            under_way: None,
            last_end: None,
            unheard_until: None,
        }
    }

    /// Takes other policies instead. A human has done it, so nothing is frozen any more; what a policy of the same name has
    /// done within the hour still counts, and its canary begins anew only if it says something else now.
    pub fn reload(&mut self, policies: Vec<Policy>, rights: clear::Policy) {
        let mut old: HashMap<String, Rule> =
            mem::take(&mut self.rules).into_iter().map(|rule| (rule.policy.name.clone(), rule)).collect();
        self.rights = modest(rights);
        self.unheard_until = None;
        self.rules = policies
            .into_iter()
            .map(|policy| match old.remove(&policy.name) {
                Some(rule) if rule.policy == policy => Rule { frozen: false, ..rule },
                Some(Rule { acts, would, ended, .. }) => Rule { acts, would, ended, ..Rule::new(policy) },
                None => Rule::new(policy),
            })
            .collect();
    }

    /// What policies did before this process began, according to the record, oldest first; what follows from it. So a
    /// restart gives nobody another hour's worth, or another canary, and thaws nothing that has just failed.
    pub fn remember(&mut self, acts: &[Act], now: Now) -> Vec<Decision> {
        for Act { policy, lock: _, ended, ago, is_of_this_configuration } in acts {
            let Some(rule) = self.rules.iter_mut().find(|rule| rule.policy.name == *policy) else { continue };
            rule.cleared += u32::from(*ended == Ended::Cleared && *is_of_this_configuration);
            if *ago < HOUR {
                rule.acts.push_back(now.running.saturating_sub(*ago));
                rule.frozen = ended.is_failure();
            }
        }
        let why = "its last act before this start failed".to_owned();
        let frozen = self.rules.iter().filter(|rule| rule.frozen).filter_map(|rule| {
            let last = acts.iter().rfind(|act| act.policy == rule.policy.name)?;
            Some(Decision::Frozen { policy: last.policy.clone(), lock: last.lock.clone(), why: why.clone() })
        });
        frozen.collect()
    }

    /// Judges a look. What is to be done, one lock at most, comes last.
    pub fn see(&mut self, report: &Report, now: Now) -> Vec<Decision> {
        self.watch(report, now);
        // On an incomplete picture nothing is done, on one from before the last act neither, and while nobody can be asked.
        let is_fresh = self.last_end.is_none_or(|end| report.taken_at > end);
        let is_heard = self.unheard_until.is_none_or(|until| now.running >= until);
        let mut may_act = report.exact && is_fresh && is_heard && self.under_way.is_none();
        let orphans = &self.orphans;
        // Most of the time nobody asks.
        let there: LazyCell<HashSet<&LockId>, _> = LazyCell::new(|| report.locks.iter().map(|lock| &lock.id).collect());
        let mut decisions = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| !rule.frozen) {
            rule.told.retain(|id| orphans.contains_key(id) || there.contains(id));
            let meant: Vec<&LockReport> =
                report.locks.iter().filter(|lock| is_meant(&rule.policy, lock, orphans, now)).collect();
            if rule.policy.action == Action::Report || rule.policy.stage == Stage::Observe {
                decisions.extend(meant.iter().filter_map(|lock| {
                    let age = age(lock, orphans, now).unwrap_or_default();
                    rule.speak(report, lock, age, &self.rights)
                }));
            } else if may_act {
                let order = rule.choose(report, &meant, &self.rights, now, &mut decisions);
                may_act = order.is_none();
                self.under_way = order.or(self.under_way.take());
                if !may_act {
                    decisions.extend(self.under_way.clone().map(Decision::Clear));
                }
            }
        }
        // Whoever reads them carries out while it still has the rest to say.
        decisions.sort_by_key(|decision| matches!(decision, Decision::Clear(_)));
        decisions
    }

    /// What follows from how an order ended.
    pub fn end(&mut self, outcome: Outcome, now: Now) -> Vec<Decision> {
        let Some(Order { policy, lock, .. }) = self.under_way.take() else { return Vec::new() };
        self.last_end = Some(now.wall);
        let mut decisions = Vec::new();
        let Outcome { ended, words } = outcome;
        if ended != Ended::Unreachable {
            self.unheard_until = None;
        }
        // Whatever this lock is now, it has not been that for long.
        if let Some(orphan) = self.orphans.get_mut(&lock.id).filter(|_| ended != Ended::Unreachable) {
            orphan.since = now.running;
        }
        // A policy that is not there any more cannot be frozen.
        let Some(rule) = self.rules.iter_mut().find(|rule| rule.policy.name == policy) else { return decisions };
        *rule.ended.entry(ended.name()).or_default() += 1;
        match ended {
            Ended::Cleared => {
                rule.cleared += 1;
                let through = rule.policy.stage == Stage::Canary && rule.cleared >= rule.policy.canary;
                decisions.push(Decision::Cleared { policy: policy.clone(), lock, words });
                if through {
                    decisions.push(Decision::Finished { policy, count: rule.cleared });
                }
            }
            Ended::Changed => decisions.push(Decision::Missed { policy, lock, why: words }),
            Ended::Unreachable => {
                // It was no act, and is no news twice.
                rule.acts.pop_back();
                if self.unheard_until.replace(now.running + UNHEARD).is_none() {
                    decisions.push(Decision::Missed { policy, lock, why: words });
                }
            }
            Ended::Refused | Ended::StillHeld | Ended::Waiting | Ended::Failed => {
                rule.frozen = true;
                decisions.push(Decision::Frozen { policy, lock, why: words });
            }
        }
        decisions
    }

    /// What metrics show, in the order of the configuration.
    pub fn numbers(&self) -> Vec<Numbers> {
        let of = |rule: &Rule| Numbers {
            policy: rule.policy.name.clone(),
            frozen: rule.frozen,
            would: rule.would,
            acts: rule.ended.clone(),
        };
        self.rules.iter().map(of).collect()
    }

    /// Notes since when which locks are orphaned, and does nothing about it.
    pub fn watch(&mut self, report: &Report, now: Now) {
        let mut orphans = HashMap::new();
        for lock in report.locks.iter().filter(|lock| lock.verdict == Verdict::Orphaned) {
            let acquirer = lock.acquirer.as_ref().map(|process| process.id);
            let before = self.orphans.remove(&lock.id).filter(|orphan| orphan.acquirer == acquirer);
            orphans.insert(lock.id.clone(), before.unwrap_or(Orphan { acquirer, since: now.running }));
        }
        if !report.exact {
            // What is not in an incomplete picture may well be there.
            let seen: HashSet<&LockId> = report.locks.iter().map(|lock| &lock.id).collect();
            orphans.extend(self.orphans.drain().filter(|(id, _)| !seen.contains(id)));
        }
        self.orphans = orphans;
    }
}

impl Rule {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            told: HashSet::new(),
            acts: VecDeque::new(),
            cleared: 0,
            frozen: false,
            spent: false,
            would: 0,
            ended: BTreeMap::new(),
        }
    }

    /// What it has to say of a lock that it does nothing about; once.
    fn speak(&mut self, report: &Report, lock: &LockReport, age: Duration, rights: &clear::Policy) -> Option<Decision> {
        if !self.told.insert(lock.id.clone()) {
            return None;
        }
        let (policy, about) = (self.policy.name.clone(), About::of(lock));
        Some(match (self.policy.action, way(&self.policy, rights, report, lock)) {
            (Action::Report, _) => Decision::Found { policy, lock: about, age },
            (Action::Clear, Ok(method)) => {
                self.would += 1;
                Decision::Would { policy, lock: about, method }
            }
            (Action::Clear, Err(why)) => Decision::Spared { policy, lock: about, why },
        })
    }

    /// Chooses the lock that it clears now, if it may and there is one.
    fn choose(
        &mut self,
        report: &Report,
        meant: &[&LockReport],
        rights: &clear::Policy,
        now: Now,
        decisions: &mut Vec<Decision>,
    ) -> Option<Order> {
        self.acts.retain(|at| now.running.saturating_sub(*at) < HOUR);
        let is_spent = self.acts.len() >= self.policy.max_per_hour as usize;
        let is_through = self.policy.stage == Stage::Canary && self.cleared >= self.policy.canary;
        if is_through || is_spent && self.spent {
            return None;
        }
        let name = || self.policy.name.clone();
        let mut found = None;
        for lock in meant {
            let about = About::of(lock);
            match way(&self.policy, rights, report, lock) {
                Ok(method) => {
                    found = Some(Order { policy: name(), lock: about, method });
                    break;
                }
                Err(why) if self.told.insert(lock.id.clone()) => {
                    decisions.push(Decision::Spared { policy: name(), lock: about, why });
                }
                Err(_) => {}
            }
        }
        let order = found?;
        if is_spent {
            self.spent = true;
            decisions.push(Decision::Spent { policy: name(), most: self.policy.max_per_hour });
            return None;
        }
        self.spent = false;
        self.acts.push_back(now.running);
        Some(order)
    }
}

/// For how long a lock has been orphaned, as far as that is certain; `None` if it is not.
fn age(lock: &LockReport, orphans: &HashMap<LockId, Orphan>, now: Now) -> Option<Duration> {
    let watched = now.running.saturating_sub(orphans.get(&lock.id)?.since);
    Some(lock.acquirer_died().map_or(watched, |at| now.wall.since(at).min(watched)))
}

fn is_meant(policy: &Policy, lock: &LockReport, orphans: &HashMap<LockId, Orphan>, now: Now) -> bool {
    let is_old = || age(lock, orphans, now).is_some_and(|age| age >= policy.min_age);
    policy.matches.fits(lock) && (!policy.needs_waiters || !lock.waiters.is_empty()) && is_old()
}

fn modest(rights: clear::Policy) -> clear::Policy {
    clear::Policy { may_override: false, may_hold: false, ..rights }
}

/// How this lock would be cleared, or what stands against it: the same plan that whoever clears it will make.
fn way(policy: &Policy, rights: &clear::Policy, report: &Report, lock: &LockReport) -> Result<Method, String> {
    let methods = rights.methods.iter().copied().filter(|method| policy.methods.contains(method)).collect();
    let rights = clear::Policy { methods, ..rights.clone() };
    let plan = Plan::of(Case::of(report, lock), Wish::default(), &rights);
    match (plan.method, &plan.refusals[..]) {
        (Some(method), []) => Ok(method),
        (_, refusals) => Err(refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}
