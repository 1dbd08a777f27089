//! Whether the lock is gone, and who has it now.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use lockwatch_core::clear::{Asker, Case, Plan};

use crate::{document::Party, eyes::Eyes, hands::Acted};

/// How long the kernel may take to hand the lock to whoever was first in line: to wake up and ask again.
const HAND_OVER: Duration = Duration::from_secs(3);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What the look afterwards has shown.
pub(super) struct Seen {
    /// The lock is not there any more.
    pub(super) gone: bool,
    /// Who has a lock in its place.
    pub(super) next_owner: Option<Party>,
    /// For a human.
    pub(super) words: Vec<String>,
}

/// Looks until the lock is gone and, if somebody waited for it who can run, has a new owner; or until that takes too long.
/// `still` are held still.
pub(super) fn verify(plan: &Plan, acted: &Acted, still: &BTreeSet<u32>, eyes: &mut dyn Eyes) -> Result<Seen> {
    let case = &plan.case;
    let deadline = Instant::now() + HAND_OVER;
    let runs = |waiter: &Asker| waiter.who.as_ref().is_none_or(|who| !still.contains(&who.id.pid));
    let heirs = case.waiters.iter().any(runs);
    loop {
        let locks = eyes.locks_on(case.file)?;
        let gone = acted.gone && !locks.iter().any(|lock| is_the_same(case, lock));
        let next = locks.iter().find(|lock| !is_the_same(case, lock) && stood_in_the_way(case, lock));
        let waited = !heirs || next.is_some();
        if gone && waited || Instant::now() >= deadline {
            let next_owner = next.and_then(owner);
            let words = words(case, gone, next_owner.as_ref());
            return Ok(Seen { gone, next_owner, words });
        }
        thread::sleep(PAUSE);
    }
}

/// The acquirer is dead, so a lock that it is said to have taken is this one, or its twin through another description
/// that it left as well: that has other holders. One without holders is on its way out: the kernel takes its time with
/// an io_uring.
fn is_the_same(case: &Case, lock: &Case) -> bool {
    let same_people = case.acquirer.as_ref().map(|a| a.id) == lock.acquirer.as_ref().map(|a| a.id);
    let alike = (case.kind, case.mode, case.range) == (lock.kind, lock.mode, lock.range);
    let kept_alike = |lock: &Case| {
        let means = |case: &Case| -> Vec<_> {
            case.holders.iter().map(|k| (k.who.as_ref().map(|who| who.id), k.via, k.fd)).collect()
        };
        let before = means(case);
        lock.holders.is_empty() || means(lock).iter().any(|keeper| before.contains(keeper))
    };
    same_people && alike && kept_alike(lock)
}

/// Whether nobody could have got this lock while the other was there.
fn stood_in_the_way(case: &Case, lock: &Case) -> bool {
    let wanted = |lock: &Case| {
        let who = lock.acquirer.as_ref().map(|person| person.id);
        case.waiters.iter().any(|waiter| waiter.who.as_ref().map(|person| person.id) == who && who.is_some())
    };
    let both_read = case.mode == lockwatch_core::lock::Mode::Read && lock.mode == lockwatch_core::lock::Mode::Read;
    let conflict = case.kind.conflicts_with(lock.kind) && case.range.overlaps(lock.range) && !both_read;
    conflict || wanted(lock)
}

fn owner(lock: &Case) -> Option<Party> {
    let first = lock.holders.iter().find_map(|keeper| keeper.who.as_ref());
    let person = lock.acquirer.as_ref().or(first)?;
    Some(Party::of(person, Some(format!("{} {} {}", lock.kind, lock.mode, lock.range))))
}

fn words(case: &Case, gone: bool, next: Option<&Party>) -> Vec<String> {
    let mut words = Vec::new();
    if !gone {
        words.push("the lock is still there".to_owned());
    }
    match (next, case.waiters.as_slice()) {
        (Some(next), _) => {
            let comm = next.comm.as_ref().map(|comm| format!(" ({comm})")).unwrap_or_default();
            let pid = next.pid.map_or_else(|| "somebody".to_owned(), |pid| format!("pid {pid}{comm}"));
            words.push(format!("{pid} has it now"));
        }
        (None, []) => words.push("nobody waits for it".to_owned()),
        (None, [_, ..]) if gone => words.push("those who waited have not taken it yet".to_owned()),
        (None, _) => {}
    }
    words
}
