//! What only history knows of a lock, carried from one picture to the next: when it was taken and by whom exactly,
//! who shared the open file, who had the number, how the dead died, since when somebody waits.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Held, Owned};
use crate::{
    hash::{Map, Set},
    observation::{Census, HolderSeen, LockSeen, WaitSeen},
    process::{Death, Life, Process, ProcessId},
    ranges::Span,
    time::{StartTime, Timestamp},
};

/// One lock of a new picture, with what is remembered of it. `old` are its owner's locks on the file before.
pub(super) fn carry(old: &[Span<Held>], lock: LockSeen, census: &Census, age: u64) -> Span<Held> {
    // Where only the number is known: the living process of that number, if it is among the holders.
    let number = lock.acquirer.filter(|id| id.start.is_none());
    let living = number.and_then(|id| census.living.get(&id.pid));
    let living_holder = living.filter(|p| is_among(&lock.holders, p.id)).map(|p| p.id);

    let acquirer = living_holder.or(lock.acquirer);
    let before = find(old, &lock, acquirer);
    let ancestors = match before {
        Some(b) if lock.ancestors.is_empty() => b.ancestors.clone(),
        _ => lock.ancestors,
    };
    let mut parties = before.map(|b| b.parties.clone()).unwrap_or_default();
    for party in ancestors.iter().filter(|id| is_among(&lock.holders, **id)) {
        if !parties.contains(&party.pid) {
            parties.push(party.pid);
        }
    }
    let tenant = match before {
        Some(b) => b.tenant,
        None => number.and_then(|_| tenant(living, census)),
    };
    let held = Held {
        acquirer: before.and_then(|b| b.acquirer).filter(|id| id.start.is_some()).or(acquirer),
        acquired_at: lock.acquired_at.or(before.and_then(|b| b.acquired_at)),
        ancestors,
        watched: lock.watched || before.is_some_and(|b| b.watched),
        holders: lock.holders,
        breaking: lock.breaking,
        parties,
        tenant,
        looked: true,
        age,
    };
    Span { mode: lock.mode, range: lock.range, payload: held }
}

/// The same lock in the picture before: one that shares a byte with it and that the same process may have taken.
fn find<'a>(old: &'a [Span<Held>], lock: &LockSeen, acquirer: Option<ProcessId>) -> Option<&'a Held> {
    let first = old.partition_point(|s| s.range.last() < lock.range.start);
    let mut overlapping = old[first..].iter().take_while(|s| s.range.start <= lock.range.last());
    let same = |old: Option<ProcessId>| match (old, acquirer) {
        (Some(a), Some(b)) => may_be_one(a, b),
        // Who is not known cannot be told apart; the owner is the same.
        _ => true,
    };
    let found = overlapping.find(|s| same(s.payload.acquirer)).map(|s| &s.payload);
    // An owner key may come back as another open file's. The wall clock that both times are put on may have moved.
    const ROOM: Duration = Duration::from_secs(1);
    let taken_anew = |(then, now): (Timestamp, Timestamp)| now.since(then) > ROOM;
    found.filter(|held| !held.acquired_at.zip(lock.acquired_at).is_some_and(taken_anew))
}

fn may_be_one(a: ProcessId, b: ProcessId) -> bool {
    a.pid == b.pid && (a.start == b.start || a.start.is_none() || b.start.is_none())
}

fn is_among(holders: &[HolderSeen], id: ProcessId) -> bool {
    holders.iter().any(|h| h.process.is_some_and(|p| may_be_one(p, id)))
}

/// Who has the acquirer's number now, where that proves something.
fn tenant(living: Option<&Arc<Process>>, census: &Census) -> Option<Option<StartTime>> {
    match living {
        Some(process) => process.id.start.map(Some),
        None => census.blind_spot.is_none().then_some(None),
    }
}

/// Keeps the names and deaths of those whom the locks still speak of and whom the new picture no longer shows.
pub(super) fn remember(new: &mut Census, old: &Census, locks: &Map<Owned, Vec<Span<Held>>>) {
    let held = || locks.values().flatten().map(|span| &span.payload);
    let named: Set<ProcessId> = held()
        .flat_map(|held| held.acquirer.iter().chain(&held.ancestors))
        .filter(|id| id.start.is_some())
        .copied()
        .collect();
    for id in named {
        let alive = new.living.get(&id.pid).is_some_and(|p| may_be_one(p.id, id));
        let before = old.dead.get(&id).or_else(|| old.living.get(&id.pid).filter(|p| p.id == id));
        let Some(before) = before.filter(|_| !alive) else { continue };
        let record = match new.dead.get(&id) {
            Some(dead) => complete(dead, before),
            None if before.life.is_dead() => before.clone(),
            // It lived when last seen. Where not all is visible, that it is gone from sight is no proof.
            None if new.blind_spot.is_some() && !new.living.contains_key(&id.pid) => continue,
            None => {
                let number_reused_by = new.living.get(&id.pid).map(|p| p.id);
                let life = Life::Dead(Death { number_reused_by, ..Death::default() });
                Arc::new(Process { life, ..Process::clone(before) })
            }
        };
        new.dead.insert(id, record);
    }
}

/// The record of a dead process, with what was known of it while it lived.
pub(super) fn complete(dead: &Arc<Process>, before: &Arc<Process>) -> Arc<Process> {
    let b = Process::clone(before);
    let d = Process::clone(dead);
    Arc::new(Process {
        id: ProcessId { pid: d.id.pid, start: d.id.start.or(b.id.start) },
        started_at: d.started_at.or(b.started_at),
        comm: d.comm.or(b.comm),
        exe: d.exe.or(b.exe),
        exe_file: d.exe_file.or(b.exe_file),
        uid: d.uid.or(b.uid),
        unit: d.unit.or(b.unit),
        user_unit: d.user_unit.or(b.user_unit),
        slice: d.slice.or(b.slice),
        container: d.container.or(b.container),
        runtime: d.runtime.or(b.runtime),
        pod: d.pod.or(b.pod),
        inner_pid: d.inner_pid.or(b.inner_pid),
        parent: d.parent.or(b.parent),
        daemon_looks: d.daemon_looks.or(b.daemon_looks),
        execed: d.execed.or(b.execed),
        file_table: d.file_table.or(b.file_table),
        threads: d.threads.or(b.threads),
        life: match (d.life, b.life) {
            (Life::Dead(d), Life::Dead(b)) => Life::Dead(Death {
                at: d.at.or(b.at),
                exit: d.exit.or(b.exit),
                number_reused_by: d.number_reused_by.or(b.number_reused_by),
            }),
            (life, _) => life,
        },
    })
}

/// A request that the picture before showed already has been waiting since that at least.
pub(super) fn date_waits(waits: &mut [WaitSeen], old: &[WaitSeen], taken_at: Timestamp) {
    let key = |w: &WaitSeen| (w.file, w.kind, w.mode, w.range, w.process);
    let since: HashMap<_, _> = old.iter().map(|w| (key(w), w.since.unwrap_or(taken_at))).collect();
    for wait in waits.iter_mut().filter(|w| w.since.is_none()) {
        wait.since = since.get(&key(wait)).copied();
    }
}
