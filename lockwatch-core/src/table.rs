//! What is known of the host's locks: the last picture, what has happened since, and what only history knows.

mod history;
mod order;
mod report;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::HashSet, sync::Arc, time::Duration};

use crate::{
    hash::Map,
    lock::{Breaking, FileId, Kind, OwnerKey},
    observation::{Census, Event, FileSeen, HolderSeen, LockEvent, LockEventKind, LockSeen, Picture, Via, WaitSeen},
    process::{Life, Process, ProcessId},
    ranges::{self, Span},
    report::Settings,
    text::Text,
    time::{StartTime, Timestamp},
};

/// The locks of a host, kept current: [`Table::see`] a picture, [`Table::apply`] every event that follows it, in
/// their order, and ask for a report at any time.
#[derive(Debug, Default)]
pub struct Table {
    settings: Settings,
    taken_at: Option<Timestamp>,
    locks: Map<Owned, Vec<Span<Held>>>,
    waits: Vec<WaitSeen>,
    census: Census,
    files: Map<FileId, Arc<FileSeen>>,
    fds_complete: bool,
    search_complete: bool,
    exact: bool,
    /// Events lost since the picture.
    lost: u64,
    warnings: Vec<String>,
    /// What the next new lock gets for [`Held::age`].
    next_age: u64,
}

/// One owner's locks of one kind on one file: sorted by start, without overlap.
type Owned = (FileId, Kind, OwnerKey);

/// What is known of one lock besides its owner, mode and range.
#[derive(Clone, Debug)]
struct Held {
    acquirer: Option<ProcessId>,
    acquired_at: Option<Timestamp>,
    ancestors: Vec<ProcessId>,
    watched: bool,
    holders: Vec<HolderSeen>,
    breaking: Option<Breaking>,
    /// The numbers of those ancestors that have been seen among the holders.
    parties: Vec<u32>,
    /// Who had the acquirer's number when the lock was first seen, if its start is not known ([`crate::census::Trace`]).
    tenant: Option<Option<StartTime>>,
    /// Whether somebody has looked for its holders, or only its event has been seen.
    looked: bool,
    /// Grows from the oldest lock to the newest.
    age: u64,
}

/// A lock that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The lock, or the part of it that was unlocked, as it was.
    pub lock: LockSeen,
    /// When it went.
    pub at: Timestamp,
}

impl Released {
    /// How long it was held, if it was seen being taken.
    pub fn held(&self) -> Option<Duration> {
        self.lock.acquired_at.map(|taken| self.at.since(taken))
    }
}

impl Table {
    /// An empty table: nothing is known, and so nothing is exact.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// What judgements depend on from now on.
    pub fn judge_by(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Replaces what is known by a new picture. What a picture cannot show is kept from before: see
    /// `table/history.rs`.
    pub fn see(&mut self, mut picture: Picture) {
        let count = picture.locks.len() as u64;
        let old = std::mem::take(&mut self.locks);
        let mut locks: Map<Owned, Vec<Span<Held>>> = Map::default();
        // The kernel lists the newest lock first.
        for (lock, age) in picture.locks.drain(..).zip((0..count).rev()) {
            let owned = (lock.file, lock.kind, lock.owner);
            let span = history::carry(old.get(&owned).map_or(&[], Vec::as_slice), lock, &picture.census, age);
            // Most owners have one lock: room for four, a vector's first growth, would be mostly air.
            locks.entry(owned).or_insert_with(|| Vec::with_capacity(1)).push(span);
        }
        for spans in locks.values_mut() {
            spans.sort_unstable_by_key(|s| s.range.start);
        }
        history::remember(&mut picture.census, &self.census, &locks);
        if let Some(taken_at) = self.taken_at {
            history::date_waits(&mut picture.waits, &self.waits, taken_at);
        }
        *self = Self {
            settings: self.settings,
            taken_at: Some(picture.taken_at),
            locks,
            waits: picture.waits,
            census: picture.census,
            files: picture.files,
            fds_complete: picture.fds_complete,
            search_complete: picture.search_complete,
            exact: picture.exact,
            lost: 0,
            warnings: picture.warnings,
            next_age: count,
        };
    }

    /// Takes in something that happened after the picture. Returns the locks that it ended.
    pub fn apply(&mut self, event: &Event) -> Vec<Released> {
        match event {
            Event::Lock(event) => self.apply_lock(event),
            Event::Died { process, .. } => {
                self.bury(process);
                Vec::new()
            }
            Event::Lost { count, .. } => {
                self.lost += count;
                Vec::new()
            }
        }
    }

    /// The numbers of the living processes that shared a lock with its acquirer, whether they still do or have let go
    /// of it: such a lock is orphaned only when they are dead.
    pub fn parties(&self) -> HashSet<u32> {
        let parties = self.locks.values().flatten().flat_map(|span| &span.payload.parties);
        parties.copied().filter(|pid| self.census.living.contains_key(pid)).collect()
    }

    /// How much it remembers: what happens after a picture adds to it, and not all of it has an end that is told.
    pub fn size(&self) -> usize {
        self.locks.len() + self.waits.len() + self.census.living.len() + self.census.dead.len()
    }

    /// Every lock as it is now, newest first.
    pub fn locks(&self) -> Vec<LockSeen> {
        self.newest_first().into_iter().map(|(owned, span)| seen(owned, span)).collect()
    }

    fn newest_first(&self) -> Vec<(&Owned, &Span<Held>)> {
        let mut all = Vec::with_capacity(self.locks.len());
        for (owned, spans) in &self.locks {
            all.extend(spans.iter().map(|span| (Reverse(span.payload.age), owned, span)));
        }
        // Pieces of one lock have one age.
        let piece = |owned: &Owned, span: &Span<Held>| (owned.0, span.range);
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| piece(a.1, a.2).cmp(&piece(b.1, b.2))));
        all.into_iter().map(|(_, owned, span)| (owned, span)).collect()
    }

    fn apply_lock(&mut self, event: &LockEvent) -> Vec<Released> {
        match event.what {
            LockEventKind::Refused => self.give_up_for_conversion(event),
            LockEventKind::Waiting => {
                self.meet(event);
                self.wait(event);
                self.give_up_for_conversion(event)
            }
            LockEventKind::WaitEnded => {
                self.end_wait(event);
                Vec::new()
            }
            LockEventKind::Acquired | LockEventKind::Granted => {
                self.meet(event);
                self.end_wait(event);
                self.acquire(event);
                Vec::new()
            }
            LockEventKind::Released => self.release(event),
        }
    }

    /// A flock request drops its owner's lock of another mode before it looks for conflicts: a conversion that is
    /// refused or has to wait has lost it (fs/locks.c flock_lock_inode, 6.18).
    fn give_up_for_conversion(&mut self, event: &LockEvent) -> Vec<Released> {
        if event.kind == Kind::Flock { self.release(event) } else { Vec::new() }
    }

    fn acquire(&mut self, event: &LockEvent) {
        let spans = self.locks.entry((event.file, event.kind, event.owner)).or_default();
        if event.kind == Kind::Flock && spans.first().is_some_and(|span| span.mode == event.mode) {
            return; // the lock that is there stays, with its acquirer (fs/locks.c flock_lock_inode, 6.18)
        }
        let mut held = Held {
            acquirer: Some(event.process),
            acquired_at: Some(event.at),
            ancestors: Vec::new(),
            watched: true,
            holders: Vec::new(),
            breaking: None,
            parties: Vec::new(),
            tenant: None,
            looked: false,
            age: self.next_age,
        };
        // One owner is one open file (or one file table), so whoever holds its other lock holds this one.
        if let Some(Span { payload: other, .. }) = spans.first() {
            held.holders.clone_from(&other.holders);
            held.looked = other.looked;
            if other.acquirer == held.acquirer {
                held.ancestors.clone_from(&other.ancestors);
                held.parties.clone_from(&other.parties);
            }
        }
        if !held.holders.iter().any(|h| h.process.is_some_and(|p| p.pid == event.process.pid)) {
            let process = Some(event.process);
            held.holders.push(HolderSeen {
                process,
                via: Via::Fd,
                fd: None,
                cloexec: None,
                opened: None,
                detail: None,
            });
        }
        self.next_age += 1;
        let span = Span { mode: event.mode, range: event.range, payload: held };
        match event.kind {
            Kind::Posix | Kind::Ofd => ranges::add(spans, span),
            Kind::Flock | Kind::Lease | Kind::Delegation => *spans = vec![span],
        }
    }

    fn release(&mut self, event: &LockEvent) -> Vec<Released> {
        let owned = (event.file, event.kind, event.owner);
        let Some(spans) = self.locks.get_mut(&owned) else { return Vec::new() };
        let gone = match event.kind {
            Kind::Posix | Kind::Ofd => ranges::remove(spans, event.range),
            Kind::Flock | Kind::Lease | Kind::Delegation => std::mem::take(spans),
        };
        if spans.is_empty() {
            self.locks.remove(&owned);
        }
        gone.iter().map(|span| Released { lock: seen(&owned, span), at: event.at }).collect()
    }

    fn wait(&mut self, event: &LockEvent) {
        let wait = WaitSeen {
            file: event.file,
            kind: event.kind,
            mode: event.mode,
            range: event.range,
            process: Some(event.process),
            since: Some(event.at),
        };
        match self.waits.iter_mut().find(|w| same_request(w, &wait)) {
            Some(known) => known.since = known.since.or(wait.since),
            None => self.waits.push(wait),
        }
    }

    fn end_wait(&mut self, event: &LockEvent) {
        let of_event = |w: &WaitSeen| {
            let process = w.process.is_some_and(|p| p.pid == event.process.pid);
            process && (w.file, w.kind, w.mode, w.range) == (event.file, event.kind, event.mode, event.range)
        };
        if let Some(i) = self.waits.iter().position(of_event) {
            self.waits.remove(i);
        }
    }

    /// Whoever does something with a lock lives, even if no picture has shown it yet.
    fn meet(&mut self, event: &LockEvent) {
        let id = event.process;
        let known = self.census.living.get(&id.pid).is_some_and(|p| id.start.is_none() || p.id.start == id.start);
        if known || self.census.dead.contains_key(&id) {
            return;
        }
        let mut process = Process::unknown(id, Life::Alive);
        process.comm = Some(event.comm.clone()).filter(|comm: &Text| !comm.is_empty());
        self.census.living.insert(id.pid, Arc::new(process));
    }

    /// A process has died: from now on it holds nothing and waits for nothing.
    fn bury(&mut self, process: &Arc<Process>) {
        let id = process.id;
        self.waits.retain(|w| w.process.is_none_or(|p| p.pid != id.pid || p.start != id.start));
        self.census.births.retain(|(pid, start)| *pid != id.pid || id.start.is_some_and(|s| s != *start));
        let is_it = |living: &Arc<Process>| id.start.is_none() || living.id.start == id.start;
        let record = match self.census.living.get(&id.pid).filter(|living| is_it(living)).cloned() {
            Some(living) => {
                self.census.living.remove(&id.pid);
                history::complete(process, &living)
            }
            None => process.clone(),
        };
        self.census.dead.insert(record.id, record);
    }
}

/// Whether two sightings may be of one request.
fn same_request(a: &WaitSeen, b: &WaitSeen) -> bool {
    (a.file, a.kind, a.mode, a.range, a.process) == (b.file, b.kind, b.mode, b.range, b.process)
}

fn seen(owned: &Owned, span: &Span<Held>) -> LockSeen {
    let (file, kind, owner) = *owned;
    let held = &span.payload;
    LockSeen {
        file,
        kind,
        mode: span.mode,
        range: span.range,
        owner,
        acquirer: held.acquirer,
        acquired_at: held.acquired_at,
        ancestors: held.ancestors.clone(),
        watched: held.watched,
        holders: held.holders.clone(),
        breaking: held.breaking,
    }
}
