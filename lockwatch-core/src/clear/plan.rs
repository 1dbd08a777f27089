//! The plan: what will be done to clear a lock, what follows from it, and why it may not be.

use super::{
    case::{Asker, Case, Person},
    gate::{self, Refusal},
    method::{Method, Step},
    policy::Policy,
    wish::{Hold, Wish},
};
use crate::observation::Via;

/// A clear written down as data. What is printed is what is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it is about.
    pub case: Case,
    /// What was wanted.
    pub wish: Wish,
    /// How it is done; `None` if no method applies.
    pub method: Option<Method>,
    /// What else would clear it, least force first.
    pub alternatives: Vec<Method>,
    /// What is done, in order. Nothing, if there are refusals.
    pub steps: Vec<Step>,
    /// Who is told, who is not, who gets the lock next: sentences.
    pub effects: Vec<String>,
    /// Why it is not done.
    pub refusals: Vec<Refusal>,
}

impl Plan {
    /// Makes the plan. It is always made; if it must not be executed it has refusals, and no steps.
    pub fn of(case: Case, wish: Wish, policy: &Policy) -> Self {
        let mut refusals = gate::refusals(&case, &wish, policy);
        let ways = Method::ALL.map(|method| (method, method.steps(case.kind, &case.holders)));
        let mut applicable = ways.iter().filter(|(method, steps)| steps.is_ok() && policy.methods.contains(method));
        let chosen = match wish.method {
            Some(wanted) => ways.iter().find(|(method, _)| *method == wanted),
            None => applicable.clone().next(),
        };
        let (method, steps) = match chosen {
            Some((method, _)) if !policy.methods.contains(method) => {
                let why = format!("the configuration does not let you {method} it");
                refusals.push(Refusal::NotAllowed(why));
                (Some(*method), Vec::new())
            }
            Some((method, Ok(steps))) => (Some(*method), steps.clone()),
            Some((method, Err(why))) => {
                refusals.push(Refusal::NotThisWay(*method, why.clone()));
                (Some(*method), Vec::new())
            }
            None => {
                refusals.push(no_way(&case, &ways));
                (None, Vec::new())
            }
        };
        let signalled = |person: &&Person| {
            steps.iter().any(|step| matches!(step, Step::Terminate(id) | Step::Kill(id) if *id == person.id))
        };
        let people = case.keepers();
        let ourselves = people.into_iter().filter(signalled).filter(|p| policy.ourselves.contains(&p.id.pid));
        refusals.extend(ourselves.cloned().map(Refusal::Ourselves));
        refusals.extend(wish.hold.iter().filter_map(|hold| bad_hold(hold, &case, &steps, policy)));
        let alternatives =
            applicable.by_ref().map(|(other, _)| *other).filter(|other| Some(*other) != method).collect();
        let effects = method.map(|method| effects(&case, &wish, method)).unwrap_or_default();
        let steps = if refusals.is_empty() { steps } else { Vec::new() };
        Self { case, wish, method, alternatives, steps, effects, refusals }
    }
}

fn no_way(case: &Case, ways: &[(Method, Result<Vec<Step>, String>)]) -> Refusal {
    let kernel = case.holders.iter().find(|keeper| keeper.via == Via::Kernel);
    let detail = kernel.and_then(|keeper| keeper.detail.as_deref());
    Refusal::NoWay(match kernel {
        Some(_) => format!(
            "the kernel itself keeps it ({}): detach it by hand, `losetup -d DEVICE`, after unmounting what is mounted \
             from it",
            detail.unwrap_or("a loop device")
        ),
        None if ways.iter().any(|(_, steps)| steps.is_ok()) => {
            "the configuration lets you use none of the methods that apply".into()
        }
        None => "nothing that could be acted upon keeps it; `lockwatch explain` tells what is known".into(),
    })
}

/// Who must not be frozen, as far as numbers tell; who is in a unit or control group is checked when it is frozen.
fn bad_hold(hold: &Hold, case: &Case, steps: &[Step], policy: &Policy) -> Option<Refusal> {
    let Hold::Process(pid) = hold else { return None };
    let signalled = |step: &Step| matches!(step, Step::Terminate(id) | Step::Kill(id) if id.pid == *pid);
    let why = match pid {
        1 => "it is the host's first process",
        pid if policy.ourselves.contains(pid) => "this lockwatch runs below it",
        _ if steps.iter().any(signalled) => "it is to be signalled, and a frozen process cannot end",
        pid if case.acquirer.as_ref().is_some_and(|a| a.id.pid == *pid && a.dead == Some(true)) => "it is dead",
        _ => return None,
    };
    Some(Refusal::BadHold(hold.clone(), why.into()))
}

fn effects(case: &Case, wish: &Wish, method: Method) -> Vec<String> {
    let mut effects = Vec::new();
    let keepers: Vec<_> = case.keepers().into_iter().map(ToString::to_string).collect();
    let they = keepers.join(", ");
    match method {
        Method::Release => {
            effects
                .push(format!("{they}: not told, goes on, and its descriptors stay valid; it no longer has the lock"));
        }
        Method::Terminate => {
            let grace = wish.grace.as_secs_f32();
            effects.push(format!(
                "{they}: asked to end by SIGTERM, has {grace} s to do so, and is not killed if it does not"
            ));
            effects
                .push("lost: what it does not write in that time, and every other lock and connection it has".into());
        }
        Method::Kill => {
            effects.push(format!("{they}: ended by SIGKILL, without a chance to clean up"));
            effects.push("lost: what it has not written, and every other lock and connection it has".into());
        }
        Method::ExpireClient => {
            effects.push("the NFS client loses every lock and every open file it has on this server".into());
        }
    }
    for hold in &wish.hold {
        let how = match hold {
            Hold::Process(_) => "stopped meanwhile, which its parent can see",
            Hold::Unit(_) | Hold::Cgroup(_) => "held still meanwhile",
        };
        effects.push(format!("{hold}: {how}, for {} s at most", wish.hold_max.as_secs()));
    }
    // A wait is interrupted when its process is frozen, in any way, and begins anew afterwards (fs/locks.c, 6.18).
    let (held, queue): (Vec<_>, Vec<_>) = case.waiters.iter().partition(|asker| is_held(asker, &wish.hold));
    for person in held.iter().filter_map(|asker| asker.who.as_ref()) {
        effects.push(format!("{person}: waits for it, and goes to the end of the line, because it is held still"));
    }
    effects.push(match queue.as_slice() {
        [] if !held.is_empty() => "nobody else waits: the next who asks gets the lock".into(),
        [] => "nobody waits: the next who asks gets the lock".into(),
        [first, rest @ ..] => {
            let who = first.who.as_ref().map_or_else(|| "a waiter that cannot be named".into(), Person::to_string);
            let others = match rest.len() {
                0 => String::new(),
                1 => ", then 1 other".into(),
                n => format!(", then {n} others"),
            };
            format!("{who} is first in line for it{others}")
        }
    });
    effects
}

/// Whether a waiter is known to be held still; who is in a control group is not known here.
fn is_held(asker: &Asker, holds: &[Hold]) -> bool {
    asker.who.as_ref().is_some_and(|person| {
        holds.iter().any(|hold| match hold {
            Hold::Process(pid) => person.id.pid == *pid,
            Hold::Unit(name) => person.unit.as_ref() == Some(name),
            Hold::Cgroup(_) => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clear::samples::{ghost, keeper, person},
        lock::Kind,
        report::Verdict,
    };

    fn plan(case: Case, wish: Wish) -> Plan {
        Plan::of(case, wish, &Policy { ourselves: vec![4000, 50], ..Policy::default() })
    }

    fn kept_by(kind: Kind, via: &[Via]) -> Case {
        let holders = (4720..).zip(via).map(|(pid, via)| keeper(pid, *via)).collect();
        Case { kind, holders, ..ghost() }
    }

    fn by(method: Method) -> Wish {
        Wish { method: Some(method), ..Wish::default() }
    }

    #[test]
    fn the_least_force_that_applies_is_chosen() {
        let check = |case: Case, expect: Option<Method>, others: &[Method]| {
            let plan = plan(case, Wish::default());
            assert_eq!((plan.method, plan.alternatives.as_slice()), (expect, others), "{plan:?}");
            assert_eq!(plan.refusals.is_empty(), expect.is_some());
            assert_eq!(plan.steps.is_empty(), expect.is_none());
        };
        use Method::{ExpireClient, Kill, Release, Terminate};
        check(ghost(), Some(Release), &[Terminate, Kill]);
        for kind in [Kind::Ofd, Kind::Lease] {
            check(kept_by(kind, &[Via::Message]), Some(Release), &[Terminate, Kill]);
        }
        check(kept_by(Kind::Flock, &[Via::Mapping, Via::Fd]), Some(Release), &[Terminate, Kill]);
        check(kept_by(Kind::Flock, &[Via::Mapping]), Some(Terminate), &[Kill]);
        check(kept_by(Kind::Flock, &[Via::IoUring]), Some(Terminate), &[Kill]);
        check(kept_by(Kind::Posix, &[Via::Fd]), Some(Terminate), &[Kill]);
        let nobody = |via| Case { holders: vec![super::super::Keeper { who: None, ..keeper(1, via) }], ..ghost() };
        check(nobody(Via::Kernel), None, &[]);
        check(nobody(Via::Remote), Some(ExpireClient), &[]);
        check(Case { holders: vec![keeper(1, Via::Mapping)], ..ghost() }, None, &[]);
        check(Case { holders: Vec::new(), ..ghost() }, None, &[]);
    }

    #[test]
    fn a_descriptor_is_preferred_and_every_holder_is_ended_once() {
        let two =
            Case { holders: vec![keeper(4720, Via::Message), keeper(4721, Via::Fd), keeper(4721, Via::Fd)], ..ghost() };
        let id = |pid| person(pid, None).id;
        assert_eq!(plan(two.clone(), Wish::default()).steps, [Step::ReleaseDescriptor { of: id(4721), fd: 9 }]);
        assert_eq!(plan(two.clone(), by(Method::Terminate)).steps, [4720, 4721].map(|pid| Step::Terminate(id(pid))));
        assert_eq!(plan(two, by(Method::Kill)).steps, [4720, 4721].map(|pid| Step::Kill(id(pid))));
    }

    #[test]
    fn what_is_in_doubt_is_refused_and_nothing_is_planned() {
        let check = |case: Case, wish: Wish, expect: &str| {
            let plan = plan(case, wish);
            let refusals: Vec<_> = plan.refusals.iter().map(ToString::to_string).collect();
            assert!(refusals.iter().any(|refusal| refusal.contains(expect)), "{refusals:?}");
            assert!(plan.steps.is_empty());
        };
        let wish = Wish::default;
        check(Case { verdict: Verdict::Held, ..ghost() }, wish(), "is held");
        check(Case { verdict: Verdict::HandedOver, ..ghost() }, wish(), "handed over");
        check(Case { verdict: Verdict::Unknown, ..ghost() }, wish(), "lockwatch doctor");
        check(Case { acquirer: Some(person(4711, Some(false))), ..ghost() }, wish(), "lives");
        check(Case { acquirer: Some(person(4711, None)), ..ghost() }, wish(), "cannot be said");
        check(Case { acquirer: None, ..ghost() }, wish(), "cannot be said");
        check(Case { holders_complete: false, ..ghost() }, wish(), "not everything that may keep");
        check(Case { exact: false, ..ghost() }, wish(), "not known to be complete");
        check(Case { path: Some("/var/lib/dpkg/lock".into()), ..ghost() }, wish(), "protect list");
        check(kept_by(Kind::Posix, &[Via::Fd]), by(Method::Release), "release does not apply");
        check(ghost(), by(Method::ExpireClient), "expire-client does not apply");
        check(Case { holders: vec![keeper(1, Via::Fd)], ..ghost() }, by(Method::Kill), "must not be ended");
        check(Case { holders: vec![keeper(4000, Via::Fd)], ..ghost() }, by(Method::Kill), "runs below it");
        let hold = |pid| Wish { hold: vec![Hold::Process(pid)], ..Wish::default() };
        check(ghost(), hold(1), "first process");
        check(ghost(), hold(50), "runs below it");
        check(ghost(), Wish { method: Some(Method::Kill), ..hold(4720) }, "to be signalled");
        assert_eq!(plan(ghost(), hold(4720)).refusals, []);
        let overridden = Wish { override_protection: true, ..Wish::default() };
        assert_eq!(plan(Case { path: Some("/var/lib/dpkg/lock".into()), ..ghost() }, overridden).refusals, []);
    }

    #[test]
    fn policy_narrows_what_may_be_done() {
        let policy = Policy {
            may_override: false,
            may_hold: false,
            methods: vec![Method::Release],
            paths: Some(vec!["/srv/*".into()]),
            ..Policy::default()
        };
        let check = |case: Case, wish: Wish, expect: Option<&str>| {
            let refusals = Plan::of(case, wish, &policy).refusals;
            let words: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            assert_eq!(words.is_empty(), expect.is_none(), "{words:?}");
            assert!(expect.is_none_or(|expect| words.iter().any(|word| word.contains(expect))), "{words:?}");
        };
        check(ghost(), Wish::default(), None);
        check(ghost(), by(Method::Kill), Some("does not let you kill it"));
        check(Case { path: Some("/home/x".into()), ..ghost() }, Wish::default(), Some("locks on /home/x"));
        check(Case { path: None, ..ghost() }, Wish::default(), Some("without a known path"));
        check(ghost(), Wish { override_protection: true, ..Wish::default() }, Some("only root"));
        check(ghost(), Wish { hold: vec![Hold::Process(7)], ..Wish::default() }, Some("hold others still"));
        check(kept_by(Kind::Flock, &[Via::Mapping]), Wish::default(), Some("none of the methods"));
    }

    #[test]
    fn waiters_are_told_of() {
        let effects = plan(ghost(), Wish::default()).effects.join("\n");
        assert!(effects.contains("pid 4800 (locksmith) is first in line"), "{effects}");
        let held = Wish { hold: vec![Hold::Process(4800)], ..Wish::default() };
        let effects = plan(ghost(), held).effects.join("\n");
        assert!(effects.contains("pid 4800: stopped meanwhile, which its parent can see, for 90 s"), "{effects}");
        assert!(effects.contains("pid 4800 (locksmith): waits for it, and goes to the end"), "{effects}");
        assert!(effects.contains("nobody else waits") && !effects.contains("first in line"), "{effects}");
    }
}
