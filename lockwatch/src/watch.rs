//! Watching: `orphans --watch`, `explain --watch` and `trace`. One loop over what the kernel tells. Locks are never polled, but for a
//! lease without anybody to give it up, whose end no probe tells; once a second the counters of lost records are read,
//! and whether anybody still reads our output.
//!
//! A death whose locks outlive it, the release of a ghost, a long wait: each asks for one look, and what the look
//! changes is printed. Everything else is answered from the kernel-side tables.

mod changes;
mod deaths;
mod story;
mod waits;

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use lockwatch_core::{
    lock::{FileId, Kind},
    observation::{Event, FileSeen, LockEvent, LockEventKind},
    process::{Death, Life, Process, ProcessId},
    report::{Host, Report, Settings, SourceState, SourceStatus, Verdict},
    table::Table,
    text::Text,
    time::Timestamp,
    timeline::Timelines,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::{
    changes::{Alarms, Change},
    deaths::poll,
    story::Following,
    waits::Waits,
};
use crate::{
    exit::{self, Exit},
    look,
    output::event::{self, Event as Line},
    request::Request,
    select,
    sources::{
        bpf::{
            Bpf, Depth,
            events::{News, Token, decode},
            load::{Purpose, Way},
        },
        clock::Clock,
        files,
    },
};

/// How often it is asked what no descriptor tells: records lost in the kernel, and whether anybody still reads.
const LOSS_CHECK: Duration = Duration::from_secs(1);

/// How many deaths are waited for at once: the usual limit of open files is 1024, and a look needs some.
const MOST_PIDFDS: usize = 256;

/// Follows orphaned and hot locks.
pub fn orphans(request: &Request) -> Result<Exit> {
    run(request, Purpose::Watch, None)
}

/// Tells the story of some locks, and follows them until they are gone.
pub fn explain(request: &Request, what: &OsStr) -> Result<Exit> {
    run(request, Purpose::Watch, Some(Following::new(what)))
}

/// Follows lock operations.
pub fn trace(request: &Request) -> Result<Exit> {
    run(request, Purpose::Trace, None)
}

fn run(request: &Request, purpose: Purpose, following: Option<Following>) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the event loop")?;
    runtime.block_on(async {
        let mut watcher = Watcher::start(request, purpose, following)?;
        watcher.follow().await?;
        Ok(Exit::Done)
    })
}

struct Watcher<'a> {
    request: &'a Request,
    purpose: Purpose,
    chosen: Option<HashSet<FileId>>,
    bpf: Bpf,
    table: Table,
    alarms: Alarms,
    timelines: Timelines,
    /// The locks whose story is told; then nothing else is.
    following: Option<Following>,
    host: Host,
    /// Whose death asks for a look, whatever the kernel-side table says.
    concern: HashSet<u32>,
    /// Files with a ghost: a wait for one of them is news.
    ghosts: HashSet<FileId>,
    /// Whether one of them is a lease: one that ends with its last descriptor says nothing.
    silent_ghost: bool,
    /// Waits that may get long.
    waits: Waits,
    /// When a lock of the last report may get hot.
    may_get_hot: Option<Timestamp>,
    files: HashMap<FileId, Arc<FileSeen>>,
    dying: JoinSet<Dead>,
    /// How many more pidfds may be open.
    room: Arc<Semaphore>,
    lost: u64,
    look_due: bool,
    depth: Depth,
}

impl<'a> Watcher<'a> {
    fn start(request: &'a Request, purpose: Purpose, following: Option<Following>) -> Result<Self> {
        let only = match std::env::var("LOCKWATCH_PROBES").as_deref() {
            Ok("tp_btf") => Some(Way::Typed),
            Ok("raw_tracepoint") => Some(Way::Raw),
            Ok("tracepoint") => Some(Way::Classic),
            _ => None,
        };
        let bpf = Bpf::for_watching(purpose, only)
            .context("watching needs BPF (lockwatch doctor says what is missing; lockwatch orphans looks once)")?;
        Ok(Self {
            request,
            purpose,
            chosen: select::files(request)?,
            bpf,
            table: Table::new(Settings::default()),
            alarms: Alarms::default(),
            timelines: Timelines::default(),
            following,
            host: look::host(&request.proc_root),
            concern: HashSet::new(),
            ghosts: HashSet::new(),
            silent_ghost: false,
            waits: Waits::default(),
            may_get_hot: None,
            files: HashMap::new(),
            dying: JoinSet::new(),
            room: Arc::new(Semaphore::new(MOST_PIDFDS)),
            lost: 0,
            look_due: true,
            depth: Depth::Usual,
        })
    }

    async fn follow(&mut self) -> Result<()> {
        let mut news = poll(self.bpf.take_news()?).context("poll the ring")?;
        let diagnostics = self.bpf.take_diagnostics()?;
        let mut diagnostics = poll(diagnostics).context("poll the diagnostics")?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut losses = tokio::time::interval(LOSS_CHECK);
        if self.look()? {
            return Ok(());
        }
        self.announce()?;
        loop {
            if self.look_due && self.look()? {
                return Ok(());
            }
            io::stdout().flush()?;
            let hot_at = self.next_hot_check();
            tokio::select! {
                ready = news.readable_mut() => {
                    let mut ready = ready.context("poll the ring")?;
                    self.drain(ready.get_inner_mut())?;
                    ready.clear_ready();
                }
                Some(through) = self.dying.join_next() => {
                    self.died(through.context("wait for a death")?)?;
                    // One look is enough for all who are through by now.
                    while let Some(through) = self.dying.try_join_next() {
                        self.died(through.context("wait for a death")?)?;
                    }
                }
                () = sleep_until(hot_at.unwrap_or_else(far)), if hot_at.is_some() => self.check_waits(),
                _ = losses.tick() => {
                    if exit::reader_is_gone() {
                        return Ok(());
                    }
                    self.check_losses()?;
                    // Whoever is dying asks for a look when it is through; before, nobody knows how it died.
                    self.look_due |= self.silent_ghost || self.following.is_some() && self.dying.is_empty();
                }
                ready = diagnostics.readable_mut() => {
                    let mut ready = ready.context("poll the diagnostics")?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
            }
        }
    }

    /// Takes everything that stands in the ring.
    fn drain(&mut self, ring: &mut RingBuf<MapData>) -> Result<()> {
        let clock = Clock::read();
        while let Some(record) = ring.next() {
            match decode(&record, &clock) {
                Some(News::Lock(event)) => self.lock_event(event)?,
                Some(News::Dying { token, process }) => self.await_death(process.id, Some((token, process))),
                None => log::warn!("a record of unknown kind in the ring"),
            }
        }
        Ok(())
    }

    /// Comes back to a dying process when it is through.
    fn await_death(&mut self, id: ProcessId, seen: Option<(Token, Arc<Process>)>) {
        let room = Arc::clone(&self.room);
        self.dying.spawn(async move {
            let _room = room.acquire().await;
            // A pidfd that cannot be had leaves only the look itself to tell what has survived.
            let _ = deaths::through(id).await;
            Dead { seen }
        });
    }

    fn lock_event(&mut self, event: LockEvent) -> Result<()> {
        self.waits.note(&event);
        if !event.remote {
            self.timelines.note(&event);
        }
        match event.what {
            LockEventKind::Waiting | LockEventKind::Granted | LockEventKind::WaitEnded | LockEventKind::Released => {
                self.look_due |= self.ghosts.contains(&event.file)
            }
            LockEventKind::Acquired | LockEventKind::Refused => {}
        }
        let released = match event.remote {
            true => Vec::new(), // the table has what the kernel has
            false => self.table.apply(&Event::Lock(event.clone())),
        };
        if self.purpose == Purpose::Trace && self.wanted(&event) {
            let held_ns = released
                .iter()
                .find_map(|released| released.lock.acquired_at)
                .map(|since| u64::try_from(event.at.since(since).as_nanos()).unwrap_or(u64::MAX));
            let file = self.file_of(&event);
            self.print(&Line::Lock { event: &event, file: Some(&file), process: None, id: None, held_ns })?;
        }
        Ok(())
    }

    /// What is known of the file of an event; found through the process that asked, while it lives.
    fn file_of(&mut self, event: &LockEvent) -> Arc<FileSeen> {
        if let Some(seen) = self.files.get(&event.file) {
            return seen.clone();
        }
        let seen =
            files::through(&self.request.proc_root, event.process.pid, event.file).map(Arc::new).unwrap_or_default();
        if seen.path.is_some() {
            self.files.insert(event.file, seen.clone());
        }
        seen
    }

    fn wanted(&self, event: &LockEvent) -> bool {
        let filter = &self.request.filter;
        let any = |empty: bool, found: bool| empty || found;
        any(filter.kinds.is_empty(), filter.kinds.contains(&event.kind))
            && filter.pid.is_none_or(|pid| pid == event.process.pid)
            && filter.comm.as_ref().is_none_or(|comm: &Text| *comm == event.comm)
            && self.chosen.as_ref().is_none_or(|files| files.contains(&event.file))
    }

    /// A process is through.
    fn died(&mut self, dead: Dead) -> Result<()> {
        let Some((token, process)) = dead.seen else {
            self.look_due = true;
            return Ok(());
        };
        let at = match &process.life {
            Life::Dead(Death { at: Some(at), .. }) => *at,
            _ => Clock::read().now(),
        };
        self.table.apply(&Event::Died { at, process: Arc::clone(&process) });
        self.look_due |= self.bpf.survived(&token) || self.concern.contains(&process.id.pid);
        let filter = &self.request.filter;
        let wanted = filter.pid.is_none_or(|pid| pid == process.id.pid)
            && filter.comm.as_ref().is_none_or(|comm| Some(comm) == process.comm.as_ref());
        if self.purpose == Purpose::Trace && wanted {
            self.print(&Line::ProcessExit { at, process: &process })?;
        }
        Ok(())
    }

    /// Looks, says whose death it wants to hear of next, and tells what is new. True if that was the end of what is
    /// followed.
    fn look(&mut self) -> Result<bool> {
        self.look_due = false;
        self.table.see(self.bpf.look(self.depth)?);
        let mut report = self.report();
        if self.depth == Depth::Usual && report.accuses_heirs() {
            self.table.see(self.bpf.look(Depth::Thorough)?);
            report = self.report();
        }
        // While it accuses, the usual look would only have to be done again.
        self.depth = if report.accuses_heirs() { Depth::Thorough } else { Depth::Usual };
        self.concern = concern(&report);
        self.concern.extend(self.table.parties());
        for late in self.bpf.watch(self.concern.iter().copied())? {
            self.await_death(late, None);
        }
        self.tell(report)
    }

    fn report(&self) -> Report {
        let (state, reason) = match self.bpf.attached() {
            Some((_, without)) if !without.is_empty() => (SourceState::Degraded, Some(without.join("; "))),
            _ => (SourceState::Ok, None),
        };
        let sources = [SourceStatus { name: "bpf", state, reason }];
        self.table.report(Clock::read().now(), &self.host, &sources)
    }

    fn tell(&mut self, mut report: Report) -> Result<bool> {
        let now = report.taken_at;
        if let Some(following) = &mut self.following {
            let over = following.tell(report, &mut self.timelines, self.request)?;
            self.ghosts.clone_from(following.files());
            return Ok(over);
        }
        report.locks.retain(|lock| select::keeps(self.request, self.chosen.as_ref(), lock));
        self.ghosts = report.locks.iter().filter(|lock| is_ghostly(lock)).map(|lock| lock.file).collect();
        let lease = |kind| matches!(kind, Kind::Lease | Kind::Delegation);
        self.silent_ghost = report.locks.iter().any(|lock| is_ghostly(lock) && lease(lock.kind));
        let hot_after = Settings::default().hot_after;
        let colder = report.locks.iter().filter(|lock| is_ghostly(lock) && !lock.hot);
        let waits = colder.flat_map(|lock| &lock.waiters).map(|waiter| waiter.since.unwrap_or(now));
        self.may_get_hot = waits.min().map(|since| later(since, hot_after));
        if self.purpose == Purpose::Trace {
            self.files.extend(report.locks.iter().map(|lock| (lock.file, lock.file_seen.clone())));
            return Ok(false);
        }
        self.timelines.see(&report, |lock| lock.verdict != Verdict::Held || !lock.waiters.is_empty());
        for change in self.alarms.update(&report) {
            let at = now;
            match &change {
                Change::Orphaned(lock) => {
                    self.print(&Line::Orphaned { at, lock, history: &self.timelines.of(&lock.id) })?
                }
                Change::Hot(lock) => self.print(&Line::Hot { at, lock, history: &self.timelines.of(&lock.id) })?,
                Change::Cleared(lock) => self.print(&Line::Cleared { at, lock })?,
                Change::AllClear => self.print(&Line::AllClear { at })?,
            }
        }
        Ok(false)
    }

    /// Says that from here on nothing is missed.
    fn announce(&mut self) -> Result<()> {
        if self.following.is_some() {
            return Ok(());
        }
        let (orphaned, hot) = self.alarms.counts();
        let locks = self.table.locks().len();
        self.print(&Line::Watching { at: Clock::read().now(), locks, orphaned, hot })
    }

    fn print(&self, line: &Line<'_>) -> Result<()> {
        Ok(event::write(line, self.request.format, &self.request.options, &mut io::stdout().lock())?)
    }

    /// When the next wait gets long enough to be looked at.
    fn next_hot_check(&self) -> Option<Instant> {
        let hot_after = Settings::default().hot_after;
        let longest = self.waits.longest().map(|since| later(since, hot_after));
        let at = longest.into_iter().chain(self.may_get_hot).min()?;
        Some(Instant::now() + at.since(Clock::read().now()))
    }

    /// Some wait is long: a look tells whether it is for a ghost, or part of a deadlock.
    fn check_waits(&mut self) {
        let (now, hot_after) = (Clock::read().now(), Settings::default().hot_after);
        self.waits.forget_until(|since| later(since, hot_after) <= now);
        self.may_get_hot = None;
        self.look_due = true;
    }

    fn check_losses(&mut self) -> Result<()> {
        let lost = self.bpf.lost()?;
        if lost > self.lost {
            let (at, count) = (Clock::read().now(), lost - self.lost);
            self.lost = lost;
            self.table.apply(&Event::Lost { at, count });
            self.print(&Line::Lost { at, count })?;
            self.look_due = true;
        }
        Ok(())
    }
}

/// A process of which nothing is left; `seen` is empty for one whose exit we came too late to see.
struct Dead {
    seen: Option<(Token, Arc<Process>)>,
}

/// Whose death changes a verdict and would not be told by itself: everybody around a lock that is not plainly held,
/// and those who took theirs before we watched.
fn concern(report: &Report) -> HashSet<u32> {
    let mut pids = HashSet::new();
    for lock in &report.locks {
        let acquirer = lock.acquirer.iter().filter(|process| process.life == Life::Alive).map(|process| process.id.pid);
        if lock.verdict != Verdict::Held {
            pids.extend(lock.holders.iter().filter_map(|holder| Some(holder.process.as_ref()?.id.pid)));
            pids.extend(acquirer);
        } else if lock.acquired_at.is_none() {
            pids.extend(acquirer);
        }
    }
    pids
}

fn is_ghostly(lock: &lockwatch_core::report::LockReport) -> bool {
    lock.verdict == Verdict::Orphaned || lock.deadlock || lock.hot
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}
