use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    clear,
    id::LockId,
    lock::{Device, FileId, Mode, Range},
    observation::{FileSeen, Via},
    process::{Death, Life, Process, ProcessId},
    report::{Holder, Host, Report, Waiter},
    time::{StartTime, Timestamp},
};

fn process(pid: u32, life: Life) -> Arc<Process> {
    let id = ProcessId { pid, start: Some(StartTime(u64::from(pid))) };
    Arc::new(Process { comm: Some("locksmith".into()), ..Process::unknown(id, life) })
}

/// An orphan on `/srv/NAME`: pid 4711 died at second 0, pid 4720 has it, nobody waits.
fn orphan(name: &str) -> LockReport {
    let dead = Life::Dead(Death { at: Some(Timestamp(0)), ..Death::default() });
    let unit = |process: Arc<Process>, unit: &str| Arc::new(Process { unit: Some(unit.into()), ..(*process).clone() });
    LockReport {
        id: LockId(name.into()),
        kind: Kind::Flock,
        mode: Mode::Write,
        range: Range::WHOLE,
        file: FileId { device: Device { major: 254, minor: 0 }, inode: 7 },
        file_seen: Arc::new(FileSeen {
            path: Some(Text::from(format!("/srv/{name}").as_str())),
            ..FileSeen::default()
        }),
        acquirer: Some(unit(process(4711, dead), "app.service")),
        acquired_at: None,
        breaking: None,
        holders: vec![Holder {
            process: Some(unit(process(4720, Life::Alive), "heir.service")),
            via: Via::Fd,
            fd: Some(9),
            cloexec: None,
            opened: None,
            detail: None,
        }],
        holders_complete: true,
        waiters: Vec::new(),
        verdict: Verdict::Orphaned,
        cause: Some(Cause::Leaked),
        hot: false,
        deadlock: false,
        history: Vec::new(),
        evidence: Vec::new(),
    }
}

fn waited_for(lock: LockReport) -> LockReport {
    let process = Some(process(4800, Life::Alive));
    let waiter = Waiter { process, mode: Mode::Write, range: Range::WHOLE, since: None, behind: Vec::new() };
    LockReport { waiters: vec![waiter], ..lock }
}

fn now(seconds: u64) -> Now {
    Now { wall: Timestamp(seconds * 1_000_000_000), running: Duration::from_secs(seconds) }
}

/// A look at this second.
fn look(seconds: u64, locks: &[LockReport]) -> Report {
    let (taken_at, host, locks) = (now(seconds).wall, Host::default(), locks.to_vec());
    Report { taken_at, host, sources: Vec::new(), exact: true, warnings: Vec::new(), locks }
}

fn policy(stage: Stage) -> Policy {
    let matches = Match { paths: vec!["/srv/*".into()], ..Match::default() };
    Policy { name: "p".into(), matches, action: Action::Clear, stage, ..Policy::default() }
}

fn orders(policies: &[Policy]) -> Orders {
    Orders::new(policies.to_vec(), clear::Policy::default())
}

/// What was decided, a word and a lock each.
fn short(decisions: &[Decision]) -> String {
    let word = |decision: &Decision| match decision {
        Decision::Found { .. } => "found",
        Decision::Would { .. } => "would",
        Decision::Spared { .. } => "spared",
        Decision::Clear(_) => "clear",
        Decision::Spent { .. } => "spent",
        Decision::Cleared { .. } => "cleared",
        Decision::Missed { .. } => "missed",
        Decision::Finished { .. } => "finished",
        Decision::Frozen { .. } => "frozen",
    };
    let all = decisions.iter().map(|one| match one.lock() {
        Some(lock) => format!("{} {}", word(one), lock.id),
        None => word(one).to_owned(),
    });
    all.collect::<Vec<_>>().join(", ")
}

fn ended(ended: Ended) -> Outcome {
    Outcome { ended, words: "words".into() }
}

#[test]
fn what_is_given_must_fit() {
    let check = |matches: Match, lock: &LockReport, expect| assert_eq!(matches.fits(lock), expect, "{matches:?}");
    let any = Match::default;
    let lock = orphan("a");
    check(any(), &lock, true);
    check(any(), &LockReport { verdict: Verdict::Unknown, ..lock.clone() }, false);
    check(any(), &LockReport { verdict: Verdict::HandedOver, ..lock.clone() }, false);
    let paths = |all: &[&str]| Match { paths: all.iter().map(|one| (*one).to_owned()).collect(), ..any() };
    check(paths(&["/x/*", "/srv/*"]), &lock, true);
    check(paths(&["/srv"]), &lock, false);
    let nameless = LockReport { file_seen: Arc::default(), ..lock.clone() };
    check(paths(&["*"]), &nameless, false);
    check(any(), &nameless, true);
    let unit = |unit: &str| Match { unit: Some(unit.into()), ..any() };
    check(unit("app*"), &lock, true);
    check(unit("heir.service"), &lock, true);
    check(unit("other.service"), &lock, false);
    check(Match { causes: vec![Cause::Child, Cause::Leaked], ..any() }, &lock, true);
    check(Match { causes: vec![Cause::Child], ..any() }, &lock, false);
    check(Match { kinds: vec![Kind::Ofd], ..any() }, &lock, false);
    check(Match { kinds: vec![Kind::Flock], causes: vec![Cause::Child], ..any() }, &lock, false);
}

#[test]
fn an_observer_says_once_what_it_would_do() {
    let mut orders = orders(&[policy(Stage::Observe)]);
    let locks = [orphan("a"), LockReport { kind: Kind::Posix, ..orphan("b") }];
    let mut check = |seconds, locks: &[LockReport], expect: &str| {
        assert_eq!(short(&orders.see(&look(seconds, locks), now(seconds))), expect, "{seconds}");
    };
    check(100, &locks, "");
    check(159, &locks, "");
    check(160, &locks, "would a, spared b");
    check(300, &locks, "");
    // It is gone, and comes back: that is another one.
    check(301, &locks[1..], "");
    check(302, &locks, "");
    check(362, &locks, "would a");
    assert_eq!(orders.numbers()[0].would, 2);
}

#[test]
fn a_report_says_it_and_no_more() {
    let mut orders = orders(&[Policy { action: Action::Report, stage: Stage::Enforce, ..policy(Stage::Enforce) }]);
    orders.see(&look(10, &[orphan("a")]), now(10));
    let said = orders.see(&look(80, &[orphan("a")]), now(80));
    assert_eq!(said[0].to_string(), "policy p: a (/srv/a) has been orphaned for 70 s; next: lockwatch explain a");
    assert_eq!(said.len(), 1);
}

#[test]
fn an_age_is_what_was_watched_and_what_the_wall_allows() {
    let check = |lock: LockReport, first: Now, then: Now, expect: &str| {
        let mut orders = orders(&[policy(Stage::Observe)]);
        orders.see(&look(0, std::slice::from_ref(&lock)), first);
        assert_eq!(short(&orders.see(&look(0, &[lock]), then)), expect, "{first:?} {then:?}");
    };
    let at = |wall: u64, running: u64| Now { wall: now(wall).wall, ..now(running) };
    check(orphan("a"), at(1000, 0), at(1060, 60), "would a");
    // The wall clock was set forward, and back behind the death.
    check(orphan("a"), at(1000, 0), at(9000, 10), "");
    check(orphan("a"), at(1000, 0), at(30, 100), "");
    let undated = Life::Dead(Death::default());
    let undated = LockReport { acquirer: Some(process(4711, undated)), ..orphan("a") };
    check(undated, at(0, 0), at(0, 60), "would a");
}

#[test]
fn waiters_are_needed_where_that_is_said() {
    let mut orders = orders(&[Policy { needs_waiters: true, ..policy(Stage::Observe) }]);
    orders.see(&look(0, &[orphan("a")]), now(0));
    assert_eq!(short(&orders.see(&look(100, &[orphan("a")]), now(100))), "");
    assert_eq!(short(&orders.see(&look(101, &[waited_for(orphan("a"))]), now(101))), "would a");
}

/// Orders that have watched these for long enough.
fn ripe(policies: &[Policy], locks: &[LockReport]) -> Orders {
    let mut orders = orders(policies);
    assert_eq!(short(&orders.see(&look(0, locks), now(0))), "");
    orders
}

#[test]
fn a_canary_clears_as_many_as_it_may_one_at_a_time() {
    let locks = ["a", "b", "c"].map(orphan);
    let canary = Policy { canary: 2, ..policy(Stage::Canary) };
    let mut orders = ripe(std::slice::from_ref(&canary), &locks);
    let see =
        |orders: &mut Orders, seconds, locks: &[LockReport]| short(&orders.see(&look(seconds, locks), now(seconds)));
    assert_eq!(see(&mut orders, 60, &locks), "clear a");
    assert_eq!(see(&mut orders, 61, &locks), "", "one is under way");
    assert_eq!(short(&orders.end(ended(Ended::Cleared), now(62))), "cleared a");
    assert_eq!(short(&orders.see(&look(61, &locks), now(63))), "", "a look from before that");
    assert_eq!(see(&mut orders, 64, &locks[1..]), "clear b");
    assert_eq!(short(&orders.end(ended(Ended::Cleared), now(65))), "cleared b, finished");
    assert_eq!(see(&mut orders, 100, &locks[2..]), "");
    // The same configuration again changes nothing; another one does.
    orders.reload(vec![canary.clone()], clear::Policy::default());
    assert_eq!(see(&mut orders, 101, &locks[2..]), "");
    orders.reload(vec![Policy { canary: 3, ..canary }], clear::Policy::default());
    assert_eq!(see(&mut orders, 102, &locks[2..]), "clear c");
    assert_eq!(orders.numbers()[0].acts["cleared"], 2);
}

#[test]
fn whatever_fails_freezes_until_a_human_reloads() {
    let check = |how: Ended, expect: &str, frozen| {
        let locks = ["a", "b"].map(orphan);
        let canary = policy(Stage::Canary);
        let mut orders = ripe(std::slice::from_ref(&canary), &locks);
        orders.see(&look(60, &locks), now(60));
        assert_eq!(short(&orders.end(ended(how), now(61))), expect, "{how:?}");
        assert_eq!(orders.numbers()[0].frozen, frozen, "{how:?}");
        assert_eq!(orders.numbers()[0].acts[how.name()], 1);
        let next = short(&orders.see(&look(200, &locks), now(200)));
        assert_eq!(next.is_empty(), frozen || how == Ended::Cleared, "{how:?}: {next}");
        if frozen {
            orders.reload(vec![canary], clear::Policy::default());
            assert_eq!(short(&orders.see(&look(201, &locks), now(201))), "clear a");
        }
    };
    check(Ended::Cleared, "cleared a, finished", false);
    check(Ended::Changed, "missed a", false);
    check(Ended::Unreachable, "missed a", false);
    check(Ended::Refused, "frozen a", true);
    check(Ended::StillHeld, "frozen a", true);
    check(Ended::Waiting, "frozen a", true);
    check(Ended::Failed, "frozen a", true);
}

#[test]
fn a_lock_that_has_changed_must_be_orphaned_for_long_enough_again() {
    let mut orders = ripe(&[policy(Stage::Enforce)], &[orphan("a")]);
    let see = |orders: &mut Orders, at| short(&orders.see(&look(at, &[orphan("a")]), now(at)));
    assert_eq!(see(&mut orders, 60), "clear a");
    orders.end(ended(Ended::Changed), now(61));
    assert_eq!(see(&mut orders, 120), "");
    assert_eq!(see(&mut orders, 121), "clear a");
}

#[test]
fn who_cannot_be_asked_is_asked_again_later_and_said_once() {
    let eager = Policy { min_age: Duration::ZERO, max_per_hour: 1, ..policy(Stage::Enforce) };
    let mut orders = orders(&[eager]);
    let see = |orders: &mut Orders, at| short(&orders.see(&look(at, &[orphan("a")]), now(at)));
    assert_eq!(see(&mut orders, 1), "clear a");
    assert_eq!(short(&orders.end(ended(Ended::Unreachable), now(2))), "missed a");
    assert_eq!(see(&mut orders, 31), "");
    assert_eq!(see(&mut orders, 32), "clear a", "it was no act, so there is one left");
    assert_eq!(short(&orders.end(ended(Ended::Unreachable), now(33))), "");
    assert_eq!(see(&mut orders, 63), "clear a");
    assert_eq!(short(&orders.end(ended(Ended::Cleared), now(64))), "cleared a");
    assert_eq!(see(&mut orders, 65), "spent");
    assert_eq!(see(&mut orders, 66), "");
    assert_eq!(see(&mut orders, 63 + 3600), "clear a");
}

#[test]
fn what_was_done_before_the_start_counts() {
    let act = |policy: &str, ended, minutes: u64, is_of_this_configuration| {
        let lock = About { id: LockId("z".into()), file: "/srv/z".into() };
        let ago = Duration::from_secs(minutes * 60);
        Act { policy: policy.into(), lock, ended, ago, is_of_this_configuration }
    };
    let check = |policy: Policy, acts: &[Act], said: &str, next: &str| {
        let mut orders = orders(&[policy]);
        assert_eq!(short(&orders.remember(acts, now(3600))), said, "{acts:?}");
        orders.see(&look(3600, &[orphan("a")]), now(3600));
        assert_eq!(short(&orders.see(&look(3660, &[orphan("a")]), now(3660))), next, "{acts:?}");
    };
    use Ended::*;
    let twice = || Policy { max_per_hour: 2, ..policy(Stage::Enforce) };
    check(twice(), &[act("p", Cleared, 50, true), act("p", Changed, 10, false)], "", "spent");
    check(twice(), &[act("p", Cleared, 70, true), act("p", Changed, 10, false)], "", "clear a");
    check(twice(), &[act("q", Cleared, 50, true), act("q", StillHeld, 10, false)], "", "clear a");
    check(twice(), &[act("p", StillHeld, 50, true)], "frozen z", "");
    check(twice(), &[act("p", StillHeld, 70, true)], "", "clear a");
    check(twice(), &[act("p", Refused, 50, true), act("p", Cleared, 40, true)], "", "spent");
    check(policy(Stage::Canary), &[act("p", Cleared, 6000, true)], "", "");
    check(policy(Stage::Canary), &[act("p", Cleared, 6000, false)], "", "clear a");
}

#[test]
fn what_stands_against_a_clear_is_said_and_not_asked_for() {
    let rights = |protect: &str| clear::Policy {
        protection: clear::Protection { entries: vec![protect.into()] },
        ..clear::Policy::default()
    };
    let check = |policy: Policy, rights: clear::Policy, lock: LockReport, expect: &str| {
        let mut orders = Orders::new(vec![policy], rights);
        orders.see(&look(0, std::slice::from_ref(&lock)), now(0));
        let said = orders.see(&look(60, std::slice::from_ref(&lock)), now(60));
        assert_eq!(said.iter().map(ToString::to_string).collect::<Vec<_>>(), [expect]);
        let again = short(&orders.see(&look(61, &[lock]), now(61)));
        assert_eq!(again, "");
    };
    let enforce = || policy(Stage::Enforce);
    let protected = "policy p: leaves a (/srv/a) alone: the file /srv/a is on the protect list (/srv/*)";
    check(enforce(), rights("/srv/*"), orphan("a"), protected);
    check(policy(Stage::Observe), rights("/srv/*"), orphan("a"), protected);
    let incomplete = LockReport { holders_complete: false, ..orphan("a") };
    check(
        enforce(),
        rights("x"),
        incomplete,
        "policy p: leaves a (/srv/a) alone: not everything that may keep the lock could be seen; `lockwatch doctor` tells \
         why",
    );
    let ofd = LockReport { kind: Kind::Posix, ..orphan("a") };
    let none = "policy p: leaves a (/srv/a) alone: the configuration lets you use none of the methods that apply";
    check(enforce(), rights("x"), ofd.clone(), none);
    // A method that the asker may not use is none that the policy has.
    let with_kill = Policy { methods: vec![Method::Kill], ..enforce() };
    check(with_kill, clear::Policy { methods: vec![Method::Release], ..rights("x") }, ofd, none);
}

#[test]
fn an_incomplete_picture_is_not_acted_upon_and_forgets_nothing() {
    let mut orders = ripe(&[policy(Stage::Enforce)], &[orphan("a")]);
    let inexact = |at, locks: &[LockReport]| Report { exact: false, ..look(at, locks) };
    assert_eq!(short(&orders.see(&inexact(60, &[orphan("a")]), now(60))), "");
    assert_eq!(short(&orders.see(&inexact(61, &[]), now(61))), "");
    assert_eq!(short(&orders.see(&look(62, &[orphan("a")]), now(62))), "clear a");
}

#[test]
fn the_first_policy_that_wants_a_lock_gets_it() {
    let second = Policy { name: "q".into(), ..policy(Stage::Enforce) };
    let observer = Policy { name: "o".into(), ..policy(Stage::Observe) };
    let mut orders = ripe(&[policy(Stage::Enforce), second, observer], &[orphan("a"), orphan("b")]);
    let said = orders.see(&look(60, &[orphan("a"), orphan("b")]), now(60));
    assert_eq!(short(&said), "would a, would b, clear a");
    assert_eq!(said[2].policy(), "p");
}

/// Something that happens to orders.
#[derive(Clone, Debug)]
enum Happens {
    Look { exact: bool, locks: Vec<(u8, bool, bool)> },
    Ends(Ended),
    Reloads,
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let locks = proptest::collection::vec((0..6_u8, any::<bool>(), any::<bool>()), 0..6);
    prop_oneof![
        6 => (prop::bool::weighted(0.9), locks).prop_map(|(exact, locks)| Happens::Look { exact, locks }),
        4 => proptest::sample::select(Ended::ALL.to_vec()).prop_map(Happens::Ends),
        1 => Just(Happens::Reloads),
        3 => (1..2000_u64).prop_map(Happens::Passes),
    ]
}

proptest! {
    /// Whatever happens: one order at a time, of a lock that is orphaned, old enough and meant; no canary more than it
    /// may, nobody more within an hour, nothing by who is frozen or only observes.
    #[test]
    fn nothing_is_done_that_is_not_allowed(story in proptest::collection::vec(happens(), 1..120)) {
        let canary = Policy { canary: 2, max_per_hour: 3, min_age: Duration::from_secs(30), ..policy(Stage::Canary) };
        let matches = Match { paths: vec!["/srv/l1".into(), "/srv/l3".into(), "/srv/l5".into()], ..Match::default() };
        let enforce = Policy { name: "e".into(), matches, max_per_hour: 4, ..policy(Stage::Enforce) };
        let observe = Policy { name: "o".into(), min_age: Duration::ZERO, ..policy(Stage::Observe) };
        let all = vec![canary, enforce, observe];
        let mut orders = orders(&all);
        let (mut at, mut under_way): (u64, Option<Order>) = (10, None);
        let mut frozen: HashSet<String> = HashSet::new();
        let mut acts: Vec<(String, u64)> = Vec::new();
        let mut cleared = 0;
        let mut since: std::collections::HashMap<LockId, u64> = std::collections::HashMap::new();
        for event in story {
            at += 1;
            match event {
                Happens::Passes(seconds) => at += seconds,
                Happens::Reloads => {
                    orders.reload(all.clone(), clear::Policy::default());
                    frozen.clear();
                }
                Happens::Ends(how) => {
                    let said = orders.end(ended(how), now(at));
                    prop_assert!(under_way.is_some() || said.is_empty());
                    if let Some(order) = under_way.take() {
                        if how != Ended::Unreachable {
                            since.insert(order.lock.id.clone(), at);
                        }
                        if matches!(how, Ended::Refused | Ended::StillHeld | Ended::Waiting | Ended::Failed) {
                            frozen.insert(order.policy.clone());
                        }
                        if how == Ended::Unreachable {
                            acts.pop();
                        }
                        cleared += u32::from(how == Ended::Cleared && order.policy == "p");
                    }
                }
                Happens::Look { exact, locks } => {
                    let mut seen = HashSet::new();
                    let locks: Vec<_> = locks.into_iter().filter(|(n, ..)| seen.insert(*n)).map(|(n, is_orphan, waits)| {
                        let lock = orphan(&format!("l{n}"));
                        let verdict = if is_orphan { Verdict::Orphaned } else { Verdict::Unknown };
                        let lock = LockReport { verdict, ..lock };
                        if waits { waited_for(lock) } else { lock }
                    }).collect();
                    let is_orphan = |id: &LockId| locks.iter().any(|l| l.id == *id && l.verdict == Verdict::Orphaned);
                    let is_there = |id: &LockId| locks.iter().any(|l| l.id == *id);
                    since.retain(|id, _| is_orphan(id) || !exact && !is_there(id));
                    for lock in locks.iter().filter(|lock| lock.verdict == Verdict::Orphaned) {
                        since.entry(lock.id.clone()).or_insert(at);
                    }
                    let report = Report { exact, ..look(at, &locks) };
                    for decision in orders.see(&report, now(at)) {
                        prop_assert!(!frozen.contains(decision.policy()), "{decision}");
                        let Decision::Clear(order) = decision else { continue };
                        prop_assert!(exact && under_way.is_none() && is_orphan(&order.lock.id));
                        let policy = all.iter().find(|policy| policy.name == order.policy).unwrap();
                        prop_assert!(policy.stage != Stage::Observe);
                        prop_assert!(at - since[&order.lock.id] >= policy.min_age.as_secs());
                        prop_assert!(policy.matches.fits(locks.iter().find(|lock| lock.id == order.lock.id).unwrap()));
                        prop_assert!(policy.name != "p" || cleared < 2);
                        acts.push((order.policy.clone(), at));
                        let within = acts.iter().filter(|(name, when)| *name == order.policy && at - when < 3600).count();
                        prop_assert!(within <= policy.max_per_hour as usize);
                        under_way = Some(order);
                    }
                }
            }
        }
    }
}
