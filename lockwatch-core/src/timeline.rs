//! What has happened to each lock: the last things that the looks and the news of a watcher have shown.
//!
//! Lock operations do not come to a watcher (that would cost every lock user), so a timeline is made of what the
//! kernel-side tables say (taken when, by whom), of the news that do come (waits, deaths, the end of a ghost), and of
//! what differs between two looks, which is dated to the later one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

pub use crate::moment::{Moment, What};
use crate::{
    id::LockId,
    lock::{FileId, Kind, Mode, Range},
    observation::{LockEvent, LockEventKind},
    process::{Death, Life, Process, ProcessId},
    report::{LockReport, Report, Verdict},
    time::Timestamp,
};

/// How many moments of a lock are kept.
const MOST: usize = 16;
/// How many locks are remembered, and how many of them after they went.
const MOST_LOCKS: usize = 4096;
const MOST_GONE: usize = 64;

/// The timelines of a host's locks: [`Timelines::note`] the news, [`Timelines::see`] every report.
#[derive(Debug, Default)]
pub struct Timelines {
    lines: HashMap<LockId, Line>,
    /// Those that went, oldest first.
    gone: VecDeque<LockId>,
    noted: u64,
}

impl Timelines {
    /// Compares with the report before. A lock is remembered from when `wanted` says so, for as long as it is there.
    /// Returns the locks that have another name now, because some of their bytes were unlocked.
    pub fn see(&mut self, report: &Report, wanted: impl Fn(&LockReport) -> bool) -> Vec<(LockId, LockId)> {
        let mut renamed = Vec::new();
        let there: HashSet<&LockId> = match self.lines.is_empty() {
            true => HashSet::new(),
            false => report.locks.iter().map(|lock| &lock.id).collect(),
        };
        let left = |(id, line): (&LockId, &Line)| (!line.gone && !there.contains(id)).then(|| id.clone());
        let left: Vec<LockId> = self.lines.iter().filter_map(left).collect();
        for lock in &report.locks {
            if !self.lines.contains_key(&lock.id) {
                let before = left.iter().find(|id| self.lines[*id].is_before(lock));
                match before {
                    Some(before) => {
                        let mut line = self.lines[before].clone();
                        line.range = lock.range;
                        line.push(&mut self.noted, report.taken_at, What::ReleasedInPart, lock.acquirer.clone());
                        renamed.push((before.clone(), lock.id.clone()));
                        self.lines.insert(lock.id.clone(), line);
                    }
                    None if wanted(lock) && self.lines.len() < MOST_LOCKS => {
                        self.lines.insert(lock.id.clone(), Line::begin(lock, report.taken_at, &mut self.noted));
                    }
                    None => continue,
                }
            }
            if let Some(line) = self.lines.get_mut(&lock.id) {
                line.update(lock, report.taken_at, &mut self.noted);
            }
        }
        for id in left {
            if renamed.iter().any(|(old, _)| *old == id) {
                self.lines.remove(&id);
            } else if let Some(line) = self.lines.get_mut(&id) {
                let (at, who) = line.released.take().unwrap_or((report.taken_at, None));
                line.push(&mut self.noted, at, What::Released, who);
                line.gone = true;
                self.gone.push_back(id);
            }
        }
        while self.gone.len() > MOST_GONE {
            if let Some(id) = self.gone.pop_front() {
                self.lines.remove(&id);
            }
        }
        renamed
    }

    /// Takes in a lock operation, for the locks of its file that it is about.
    pub fn note(&mut self, event: &LockEvent) {
        let noted = &mut self.noted;
        for line in self.lines.values_mut().filter(|line| !line.gone && line.is_touched_by(event)) {
            line.note(event, noted);
        }
    }

    /// What is known of a lock, oldest first.
    pub fn of(&self, id: &LockId) -> Vec<Moment> {
        self.lines.get(id).map(|line| line.moments.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether a lock was known and is there no more.
    pub fn is_gone(&self, id: &LockId) -> bool {
        self.lines.get(id).is_some_and(|line| line.gone)
    }
}

/// One lock's.
#[derive(Clone, Debug)]
struct Line {
    file: FileId,
    kind: Kind,
    mode: Mode,
    range: Range,
    acquirer: Option<ProcessId>,
    moments: VecDeque<Moment>,
    /// Who waits; a process may do so more than once.
    waiters: Vec<Waiting>,
    holders: Vec<Arc<Process>>,
    owner: Owner,
    orphaned: bool,
    hot: bool,
    /// When somebody unlocked it, and who: it goes with the next look, unless it was another's or a part.
    released: Option<(Timestamp, Option<Arc<Process>>)>,
    gone: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    request: Request,
    process: Arc<Process>,
    /// The look that found it before the news of it came, and since when it waits according to that.
    found: Option<(Timestamp, Option<Timestamp>)>,
}

/// What is known of the acquirer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Alive,
    Dead,
    /// It is known how it died.
    DeadAsKnown,
}

/// Process, mode and bytes: what tells a waiter from another.
type Request = (u32, Mode, Range);

impl Line {
    fn begin(lock: &LockReport, now: Timestamp, noted: &mut u64) -> Self {
        let mut line = Self {
            file: lock.file,
            kind: lock.kind,
            mode: lock.mode,
            range: lock.range,
            acquirer: lock.acquirer.as_ref().map(|process| process.id),
            moments: VecDeque::new(),
            waiters: Vec::new(),
            holders: holders(lock),
            owner: Owner::Alive,
            orphaned: false,
            hot: false,
            released: None,
            gone: false,
        };
        let (at, what) = lock.acquired_at.map_or((now, What::Found), |at| (at, What::Taken));
        line.push(noted, at, what, lock.acquirer.clone());
        line
    }

    /// Whether a lock is what is left of this one.
    fn is_before(&self, lock: &LockReport) -> bool {
        (self.file, self.kind, self.mode) == (lock.file, lock.kind, lock.mode)
            && self.acquirer == lock.acquirer.as_ref().map(|process| process.id)
            && self.range.overlaps(lock.range)
    }

    fn is_touched_by(&self, event: &LockEvent) -> bool {
        let ended = !matches!(event.what, LockEventKind::Waiting);
        self.file == event.file
            && self.kind.conflicts_with(event.kind)
            && self.range.overlaps(event.range)
            && (ended || self.mode.max(event.mode) == Mode::Write)
    }

    fn note(&mut self, event: &LockEvent, noted: &mut u64) {
        let who = || {
            let mut process = Process::unknown(event.process, Life::Alive);
            process.comm = Some(event.comm.clone());
            Arc::new(process)
        };
        let request = (event.process.pid, event.mode, event.range);
        match event.what {
            LockEventKind::Waiting => {
                let is_this = |(look, since): (Timestamp, _)| event.at <= look || since == Some(event.at);
                let mut waiters = self.waiters.iter_mut();
                if let Some(known) = waiters.find(|one| one.request == request && one.found.is_some_and(is_this)) {
                    known.found = None;
                    return;
                }
                self.waiters.push(Waiting { request, process: who(), found: None });
                self.push(noted, event.at, What::Waiting, Some(who()));
            }
            LockEventKind::Granted | LockEventKind::WaitEnded => {
                let Some(i) = self.waiters.iter().position(|one| one.request == request) else { return };
                self.waiters.remove(i);
                let granted = event.what == LockEventKind::Granted;
                let what = if granted { What::Granted } else { What::WaitEnded };
                self.push(noted, event.at, what, Some(who()));
                self.waited(event.waited_ns.map(Duration::from_nanos));
            }
            LockEventKind::Released => self.released = Some((event.at, Some(who()))),
            LockEventKind::Acquired | LockEventKind::Refused => {}
        }
    }

    fn update(&mut self, lock: &LockReport, now: Timestamp, noted: &mut u64) {
        if let Some(owner) = &lock.acquirer
            && let Life::Dead(Death { at, exit, .. }) = &owner.life
        {
            // A look may find somebody gone before the news of the death come, which say how.
            let known = if exit.is_some() { Owner::DeadAsKnown } else { Owner::Dead };
            if self.owner < known {
                self.owner = known;
                self.moments.retain(|moment| moment.what != What::OwnerDied);
                self.push(noted, at.unwrap_or(now), What::OwnerDied, Some(owner.clone()));
            }
        }
        let holders = holders(lock);
        let is_among = |list: &[Arc<Process>], one: &Process| list.iter().any(|process| process.id == one.id);
        let old = std::mem::replace(&mut self.holders, holders.clone());
        for came in holders.iter().filter(|process| !is_among(&old, process)) {
            self.push(noted, now, What::PassedOn, Some(came.clone()));
        }
        for went in old.iter().filter(|process| !is_among(&holders, process)) {
            self.push(noted, now, What::LetGo, Some(went.clone()));
        }
        self.update_waiters(lock, now, noted);
        let orphaned = lock.verdict == Verdict::Orphaned;
        if orphaned && !std::mem::replace(&mut self.orphaned, orphaned) {
            self.push(noted, now, What::Orphaned, None);
        }
        if lock.hot && !std::mem::replace(&mut self.hot, lock.hot) {
            self.push(noted, now, What::Hot, None);
        }
        (self.orphaned, self.hot) = (orphaned, lock.hot);
    }

    fn update_waiters(&mut self, lock: &LockReport, now: Timestamp, noted: &mut u64) {
        let mut old = std::mem::take(&mut self.waiters);
        for waiter in &lock.waiters {
            let Some(process) = &waiter.process else { continue };
            let request = (process.id.pid, waiter.mode, waiter.range);
            match old.iter().position(|known| known.request == request) {
                Some(i) => self.waiters.push(old.remove(i)),
                None => {
                    let found = Some((now, waiter.since));
                    self.waiters.push(Waiting { request, process: process.clone(), found });
                    self.push(noted, waiter.since.unwrap_or(now), What::Waiting, Some(process.clone()));
                }
            }
        }
        for Waiting { process, .. } in old {
            self.push(noted, now, What::WaitEnded, Some(process));
        }
    }

    /// Keeps the moments in the order of time, whenever they become known.
    fn push(&mut self, noted: &mut u64, at: Timestamp, what: What, who: Option<Arc<Process>>) {
        *noted += 1;
        let place = self.moments.partition_point(|moment| moment.at <= at);
        self.moments.insert(place, Moment { at, what, who, waited: None, number: *noted });
        if self.moments.len() > MOST {
            self.moments.pop_front();
        }
    }

    /// Says of the moment noted last how long the wait was.
    fn waited(&mut self, waited: Option<Duration>) {
        if let Some(last) = self.moments.iter_mut().max_by_key(|moment| moment.number) {
            last.waited = waited;
        }
    }
}

/// Each process once.
fn holders(lock: &LockReport) -> Vec<Arc<Process>> {
    let mut all: Vec<Arc<Process>> = Vec::new();
    for process in lock.holders.iter().filter_map(|holder| holder.process.as_ref()) {
        if !all.iter().any(|known| known.id == process.id) {
            all.push(process.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests;
