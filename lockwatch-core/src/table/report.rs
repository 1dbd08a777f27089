//! The table's answer: one row a lock, judged and sorted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Held, Owned, Table,
    order::{Place, by_path, worst_first},
    seen,
};
use crate::{
    blocking,
    census::Trace,
    graph,
    id::{self, Subject},
    observation::{FileSeen, HolderSeen, LockSeen, Via},
    portions::in_portions,
    process::{Process, ProcessId},
    ranges::Span,
    report::{Holder, Host, LockReport, Report, SourceStatus, Verdict, Waiter},
    time::Timestamp,
    verdict::{Case, Judgement, judge},
};

/// How many rows are judged by one thread at least.
const WORTH_A_THREAD: usize = 4096;

impl Table {
    /// Judges every lock. `now` decides what is hot; `host` names the boot that the locks' ids are made from.
    pub fn report(&self, now: Timestamp, host: &Host, sources: &[SourceStatus]) -> Report {
        let order = self.newest_first();
        let numbers = id::assign(&host.boot_id, order.iter().map(|(owned, span)| subject(owned, span)));
        let queues = self.queues(&order);
        let numbered = order.iter().zip(numbers).enumerate();
        let place =
            |(nth, (lock, number)): (usize, (&(_, _), _))| Place::new(*lock, self.files.get(&lock.0.0), number, nth);
        let mut places: Vec<Place> = numbered.map(place).collect();
        by_path(&mut places);
        let row = |i: usize| {
            let place = &places[i];
            self.row(place, queues.of_lock.get(&place.nth).cloned().unwrap_or_default(), now)
        };
        let mut rows = in_portions(places.len(), WORTH_A_THREAD, row);
        worst_first(&mut rows);
        let mut report = Report {
            taken_at: self.taken_at.unwrap_or(now),
            host: host.clone(),
            sources: sources.to_vec(),
            exact: self.exact && self.lost == 0,
            warnings: self.warnings.iter().cloned().chain(self.own_warnings(queues.adrift)).collect(),
            locks: rows,
        };
        graph::testify(&mut report);
        report
    }

    fn row(&self, place: &Place, queue: Queue, now: Timestamp) -> LockReport {
        let Place { owned: &(file, kind, _), span, .. } = *place;
        let held = &span.payload;
        let file_seen = place.seen.cloned().unwrap_or_default();
        let mut holders: Vec<Holder> = Vec::with_capacity(held.holders.len());
        holders.extend(held.holders.iter().filter_map(|holder| self.holder(holder)));
        let holders_complete = self.fds_complete && held.looked && self.is_searched(held, &holders);
        let acquirer = held.acquirer.map(|id| self.acquirer(id, held));
        let ancestors: Vec<Arc<Process>> = match &acquirer {
            // Nobody asks who else is a party while the acquirer lives.
            Some(acquirer) if !acquirer.life.is_dead() => Vec::new(),
            _ => held.ancestors.iter().map(|id| self.census.resolve(*id)).collect(),
        };
        let Judgement { verdict, cause, mut evidence } = judge(&Case {
            kind,
            watched: held.watched,
            acquired_at: held.acquired_at,
            acquirer: acquirer.as_deref(),
            ancestors: &ancestors,
            parties: &held.parties,
            holders: &holders,
            holders_complete,
            births: &self.census.births,
            text: file_seen.text.as_deref(),
            remote_gone: None,
        });
        evidence.extend(elsewhere(&file_seen));
        let stuck = verdict == Verdict::Orphaned || queue.deadlock;
        let hot_after = self.settings.hot_after;
        let hot = stuck && queue.waiters.iter().filter_map(|w| w.since).any(|since| now.since(since) > hot_after);
        LockReport {
            id: place.number.into(),
            kind,
            mode: span.mode,
            range: span.range,
            file,
            file_seen,
            acquirer,
            acquired_at: held.acquired_at,
            breaking: held.breaking,
            holders,
            holders_complete,
            waiters: queue.waiters,
            verdict,
            cause,
            hot,
            deadlock: queue.deadlock,
            evidence,
            history: Vec::new(),
        }
    }

    /// Whether everything was searched that the list of holders calls for. A descriptor makes the dearer searches needless
    /// (what else keeps the lock would not change who may release it); where the last one went after the look, nobody
    /// has searched.
    fn is_searched(&self, held: &Held, living: &[Holder]) -> bool {
        let had_descriptor = held.holders.iter().any(|h| h.via == Via::Fd);
        if had_descriptor { living.iter().any(|h| h.via == Via::Fd) } else { self.search_complete }
    }

    fn acquirer(&self, id: ProcessId, held: &Held) -> Arc<Process> {
        let born = self.census.living.get(&id.pid).and_then(|living| living.id.start);
        let is_child = |p: &Process| p.parent == Some(id.pid) && born.is_some() && p.id.start >= born;
        let begot = |pid: u32| self.census.living.get(&pid).is_some_and(|p| is_child(p));
        let mut holders = held.holders.iter().filter_map(|h| Some(h.process?.pid));
        let holds = holders.any(|pid| pid == id.pid || begot(pid));
        self.census.acquirer(id, Trace { holds, acquired_at: held.acquired_at, tenant: held.tenant })
    }

    /// A holder that is there now; a process that has died since the picture holds nothing any more.
    fn holder(&self, holder: &HolderSeen) -> Option<Holder> {
        let process = match holder.process {
            Some(id) => Some(self.living(id)?.clone()),
            None => None,
        };
        let HolderSeen { via, fd, cloexec, opened, .. } = *holder;
        let inner = process.as_ref().and_then(|p| p.inner_pid);
        let inner = inner.map(|pid| format!("pid {pid} in its own pid namespace"));
        let detail = match (holder.detail.clone(), inner) {
            (Some(detail), Some(inner)) => Some(format!("{detail}; {inner}")),
            (detail, inner) => detail.or(inner),
        };
        Some(Holder { process, via, fd, cloexec, opened, detail })
    }

    fn living(&self, id: ProcessId) -> Option<&Arc<Process>> {
        self.census.living.get(&id.pid).filter(|p| id.start.is_none() || p.id.start == id.start)
    }

    fn queues(&self, order: &[(&Owned, &Span<Held>)]) -> Queues {
        if self.waits.is_empty() {
            return Queues::default();
        }
        let locks: Vec<LockSeen> = order.iter().map(|(owned, span)| seen(owned, span)).collect();
        let blockers = blocking::blockers(&locks, &self.waits);
        let behind = blocking::behind(&self.waits);
        let mut holders = vec![Vec::new(); locks.len()];
        for &i in blockers.iter().flatten().collect::<HashSet<_>>() {
            holders[i] = locks[i].holders.iter().filter_map(|h| Some(self.living(h.process?)?.id.pid)).collect();
        }
        let deadlocked =
            blocking::deadlocked(&blockers, &self.waits, &holders, |pid| self.census.living.get(&pid)?.threads);

        let mut queues = Queues::default();
        for ((wait, blockers), behind) in self.waits.iter().zip(&blockers).zip(behind) {
            queues.adrift += usize::from(blockers.is_empty());
            let process = wait.process.map(|id| self.census.resolve(id));
            let waiter = Waiter { process, mode: wait.mode, range: wait.range, since: wait.since, behind };
            for &i in blockers {
                let queue = queues.of_lock.entry(i).or_default();
                queue.waiters.push(waiter.clone());
                queue.deadlock = deadlocked[i];
            }
        }
        queues
    }

    fn own_warnings(&self, adrift: usize) -> impl Iterator<Item = String> {
        let unseen = self.taken_at.is_none().then(|| "nobody has looked at this host's locks yet".to_owned());
        let lost = (self.lost > 0).then(|| format!("{} events were lost: locks may be missing or gone", self.lost));
        let torn = (adrift > 0).then(|| {
            format!("{adrift} requests wait for locks that went while they were looked at; they stand in no row")
        });
        [unseen, lost, torn].into_iter().flatten()
    }
}

fn subject<'a>(owned: &Owned, span: &'a Span<Held>) -> Subject<'a> {
    let (file, kind, _) = *owned;
    let Held { acquirer, holders, .. } = &span.payload;
    Subject { file, kind, mode: span.mode, range: span.range, acquirer: *acquirer, holders }
}

/// Says of a path that it is not ours.
fn elsewhere(seen: &FileSeen) -> Option<String> {
    let (path, pid) = (seen.path.as_ref()?, seen.path_of?);
    Some(match seen.deleted {
        true => format!("{path}, now deleted, was the file's path in the mount namespace of pid {pid}"),
        false => format!(
            "{path} is the file's path in the mount namespace of pid {pid}; from here it is /proc/{pid}/root{path}"
        ),
    })
}

/// Who waits, by the lock's place in the list.
#[derive(Default)]
struct Queues {
    of_lock: HashMap<usize, Queue>,
    /// Requests that no lock blocks: the picture was torn.
    adrift: usize,
}

#[derive(Clone, Default)]
struct Queue {
    waiters: Vec<Waiter>,
    deadlock: bool,
}
