//! The engine of whatever watches: `orphans --watch`, `explain --watch`, `trace` and the agent. It says what happens and
//! looks when it must; what is made of that is the business of who turns it.
//!
//! Locks are never polled, but for a lease without anybody to give it up, whose end no probe tells. A death whose locks
//! outlive it, the release of a ghost, a long wait: each asks for one look. Everything else is answered from the
//! kernel-side tables. Once a second it is asked what no descriptor tells: records lost in the kernel.

mod checks;
mod concern;
mod deaths;
mod happened;
pub mod losses;
mod waits;

use std::{
    collections::{HashSet, VecDeque},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use lockwatch_core::{
    observation::{Event, LockEvent, LockEventKind},
    process::{Death, Life, Process, ProcessId},
    report::{Host, Report, Settings, SourceState, Verdict},
    table::Table,
    time::Timestamp,
};
use tokio::{
    io::unix::AsyncFd,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, Interval, sleep_until},
};

pub use self::{concern::Concern, happened::Happened};
use self::{
    deaths::poll,
    losses::{Losses, Reason, Resyncs},
    waits::Waits,
};
use crate::{
    look,
    sources::{
        self,
        bpf::{
            Bpf, Depth,
            events::{News, Token, decode},
            load::{Purpose, Way},
            sizes::Sizes,
            stats::{Census, Lost, Stats},
        },
        clock::Clock,
    },
};

/// How often it is asked what no descriptor tells.
const TICK: Duration = Duration::from_secs(1);

/// Between two looks for the sake of what was lost, at least, unless somebody says otherwise.
const RESYNC_PAUSE: Duration = Duration::from_secs(5);

/// How much the table may grow after a look until another sets it right: of most locks that are granted after a wait,
/// and of most processes, nobody tells the end.
const MOST_GROWTH: usize = 1 << 10;

/// How much it may grow in any case.
const MOST_SIZE: usize = 1 << 16;

/// How many records are taken before anything else has its turn: a flood must not keep us from looking.
const AT_ONCE: usize = 1 << 12;

/// How many deaths are waited for at once: the usual limit of open files is 1024, and a look needs some.
const MOST_PIDFDS: usize = 256;

/// Watches.
pub struct Engine {
    bpf: Bpf,
    news: AsyncFd<RingBuf<MapData>>,
    diagnostics: AsyncFd<EbpfLogger<&'static dyn log::Log>>,
    ticks: Interval,
    table: Table,
    settings: Settings,
    host: Host,
    /// What happened and was not told yet.
    happened: VecDeque<Happened>,
    /// Whose death asks for a look, whatever the kernel-side table says.
    parties: HashSet<u32>,
    concern: Concern,
    /// Waits that may get long.
    waits: Waits,
    dying: JoinSet<Dead>,
    /// How many more pidfds may be open.
    room: Arc<Semaphore>,
    losses: Losses,
    /// The probes that did not run when they were last asked for.
    silent: Vec<&'static str>,
    /// When the last look was, and how large the table was then.
    looked: (Instant, usize),
    /// How long the last look took.
    took: Duration,
    /// What had gone missing when it was last asked.
    lost: Lost,
    /// Whether every operation is told, for a while.
    tracing: bool,
    look_due: bool,
    depth: Depth,
    /// Whether more stands in the ring than was taken.
    more: bool,
}

impl Engine {
    /// Loads and attaches; from here on nothing is missed. Must be called within a runtime that has its drivers on.
    ///
    /// # Errors
    ///
    /// BPF does not work here: why.
    pub fn start(purpose: Purpose, sizes: Sizes, settings: Settings, proc_root: &Path) -> Result<Self> {
        let only = match std::env::var("LOCKWATCH_PROBES").as_deref() {
            Ok("tp_btf") => Some(Way::Typed),
            Ok("raw_tracepoint") => Some(Way::Raw),
            Ok("tracepoint") => Some(Way::Classic),
            _ => None,
        };
        let mut bpf = Bpf::for_watching(purpose, only, sizes)
            .context("watching needs BPF (lockwatch doctor says what is missing; lockwatch orphans looks once)")?;
        Ok(Self {
            news: poll(bpf.take_news()?).context("poll the ring")?,
            diagnostics: poll(bpf.take_diagnostics()?).context("poll the diagnostics")?,
            ticks: tokio::time::interval(TICK),
            bpf,
            table: Table::new(settings),
            settings,
            host: look::host(proc_root),
            happened: VecDeque::new(),
            parties: HashSet::new(),
            concern: Concern::default(),
            waits: Waits::default(),
            dying: JoinSet::new(),
            room: Arc::new(Semaphore::new(MOST_PIDFDS)),
            losses: Losses::new(RESYNC_PAUSE),
            silent: Vec::new(),
            looked: (Instant::now(), 0),
            took: Duration::ZERO,
            lost: Lost::default(),
            tracing: false,
            look_due: true,
            depth: Depth::Usual,
            more: false,
        })
    }

    /// Waits until something happens. Whoever stops waiting misses nothing. What happened before the last look comes
    /// before it.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn next(&mut self) -> Result<Happened> {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return Ok(happened);
            }
            if self.look_due {
                return Ok(Happened::Looked(self.look()?));
            }
            self.turn().await?;
        }
    }

    /// Looks, and says whose death it wants to hear of next.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub fn look(&mut self) -> Result<Report> {
        let began = Instant::now();
        self.look_due = false;
        self.count_losses()?;
        self.table.see(self.bpf.look(self.depth)?);
        let mut report = self.report();
        if self.depth == Depth::Usual && report.accuses_heirs() {
            self.table.see(self.bpf.look(Depth::Thorough)?);
            report = self.report();
        }
        // While it accuses, the usual look would only have to be done again.
        self.depth = if report.accuses_heirs() { Depth::Thorough } else { Depth::Usual };
        self.parties = parties(&report);
        self.parties.extend(self.table.parties());
        for late in self.bpf.watch(self.parties.iter().copied())? {
            self.await_death(late, None);
        }
        self.looked = (Instant::now(), self.table.size());
        self.took = began.elapsed();
        self.losses.looked(report.taken_at);
        self.losses.note(Reason::Torn, u64::from(!report.exact));
        Ok(report)
    }

    /// How long the last look took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Has the next turn begin with a look.
    pub fn look_soon(&mut self) {
        self.look_due = true;
    }

    /// Takes to heart what the last look has shown.
    pub fn mind(&mut self, concern: Concern) {
        self.concern = concern;
    }

    /// What judgements depend on from now on.
    pub fn judge_by(&mut self, settings: Settings) {
        self.settings = settings;
        self.table.judge_by(settings);
        self.look_due = true;
    }

    /// Has looks for the sake of what was lost be at least so far apart.
    pub fn resync_after(&mut self, pause: Duration) {
        self.losses.pause_for(pause);
    }

    /// Whether nothing is missing, as far as anybody knows.
    pub fn is_exact(&self) -> bool {
        self.losses.is_exact()
    }

    /// The looks that were made because something was lost.
    pub fn resyncs(&self) -> &Resyncs {
        self.losses.resyncs()
    }

    /// Has every lock operation told, or no longer. Only an agent's engine can.
    ///
    /// # Errors
    ///
    /// The kernel does not let us.
    pub fn trace(&mut self, on: bool) -> Result<()> {
        if std::mem::replace(&mut self.tracing, on) == on {
            return Ok(());
        }
        let result = self.bpf.set_tracing(on);
        self.tracing = on && result.is_ok();
        result
    }

    /// Whether it is.
    pub fn is_tracing(&self) -> bool {
        self.tracing
    }

    /// How the probes are attached.
    pub fn probes(&self) -> &'static str {
        self.bpf.attached().map_or("", |(way, _)| way)
    }

    /// What the probes have counted.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub fn stats(&self) -> Result<Stats> {
        self.bpf.stats()
    }

    /// How many locks there are, and who waits.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub fn census(&mut self) -> Result<Census> {
        self.bpf.census()
    }

    /// How many locks the table has.
    pub fn locks(&self) -> usize {
        self.table.locks().len()
    }

    /// Whether nobody is on its way out: whoever dies asks for a look when it is through; before, nobody knows how.
    pub fn nobody_dies(&self) -> bool {
        self.dying.is_empty()
    }

    /// Waits for one thing, and takes it in.
    async fn turn(&mut self) -> Result<()> {
        let hot_at = self.next_hot_check();
        tokio::select! {
            ready = self.news.readable_mut() => {
                // What comes from here on makes it ready again.
                ready.context("poll the ring")?.clear_ready();
                self.drain();
            }
            () = std::future::ready(()), if self.more => self.drain(),
            Some(through) = self.dying.join_next() => {
                self.died(through.context("wait for a death")?);
                // One look is enough for all who are through by now.
                while let Some(through) = self.dying.try_join_next() {
                    self.died(through.context("wait for a death")?);
                }
            }
            () = sleep_until(hot_at.unwrap_or_else(far)), if hot_at.is_some() => self.check_waits(),
            _ = self.ticks.tick() => {
                self.check_losses()?;
                if self.tracing {
                    self.happened.extend(self.bpf.unthrottled()?.into_iter().map(Happened::Throttled));
                }
                self.look_due |= self.concern.silent;
                self.happened.push_back(Happened::Tick);
            }
            ready = self.diagnostics.readable_mut() => {
                let mut ready = ready.context("poll the diagnostics")?;
                ready.clear_ready();
                ready.get_inner_mut().flush();
            }
        }
        Ok(())
    }

    /// Takes what stands in the ring.
    fn drain(&mut self) {
        let clock = Clock::read();
        for _ in 0..AT_ONCE {
            let news = self.news.get_mut().next().map(|record| decode(&record, &clock));
            match news {
                Some(Some(News::Lock(event))) => self.lock_event(event),
                Some(Some(News::Dying { token, process })) => self.await_death(process.id, Some((token, process))),
                Some(Some(News::Throttled(throttled))) => self.happened.push_back(Happened::Throttled(throttled)),
                Some(None) => log::warn!("a record of unknown kind in the ring"),
                None => {
                    self.more = false;
                    return;
                }
            }
        }
        self.more = true;
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

    fn lock_event(&mut self, event: LockEvent) {
        self.waits.note(&event);
        match event.what {
            LockEventKind::Waiting | LockEventKind::Granted | LockEventKind::WaitEnded | LockEventKind::Released => {
                self.look_due |= self.concern.ghosts.contains(&event.file)
            }
            LockEventKind::Acquired | LockEventKind::Refused => {}
        }
        let adds = matches!(event.what, LockEventKind::Acquired | LockEventKind::Granted | LockEventKind::Waiting);
        // The table has what the kernel has, and only so much of it.
        let released = match event.remote || adds && self.growth() > MOST_SIZE {
            true => Vec::new(),
            false => self.table.apply(&Event::Lock(event.clone())),
        };
        let since = released.iter().find_map(|released| released.lock.acquired_at);
        let held = since.map(|since| event.at.since(since));
        self.happened.push_back(Happened::Lock { event, held });
    }

    fn growth(&self) -> usize {
        self.table.size().saturating_sub(self.looked.1)
    }

    /// A process is through.
    fn died(&mut self, dead: Dead) {
        let Some((token, process)) = dead.seen else {
            self.look_due = true;
            return;
        };
        let at = match &process.life {
            Life::Dead(Death { at: Some(at), .. }) => *at,
            _ => Clock::read().now(),
        };
        self.table.apply(&Event::Died { at, process: Arc::clone(&process) });
        self.look_due |= self.bpf.survived(&token) || self.parties.contains(&process.id.pid);
        self.happened.push_back(Happened::Died { at, process });
    }

    fn report(&self) -> Report {
        let (state, reason) = match self.bpf.attached() {
            Some((_, without)) if !without.is_empty() => (SourceState::Degraded, Some(without.join("; "))),
            _ => (SourceState::Ok, None),
        };
        let mut report = self.table.report(Clock::read().now(), &self.host, &sources::by_bpf(state, reason));
        report.warnings.extend(sources::warnings());
        report
    }

    /// When the next wait gets long enough to be looked at.
    fn next_hot_check(&self) -> Option<Instant> {
        let longest = self.waits.longest().map(|since| later(since, self.settings.hot_after));
        let at = longest.into_iter().chain(self.concern.may_get_hot).min()?;
        Some(Instant::now() + at.since(Clock::read().now()))
    }

    /// Some wait is long: a look tells whether it is for a ghost, or part of a deadlock.
    fn check_waits(&mut self) {
        let (now, hot_after) = (Clock::read().now(), self.settings.hot_after);
        self.waits.forget_until(|since| later(since, hot_after) <= now);
        self.concern.may_get_hot = None;
        self.look_due = true;
    }
}

/// A process of which nothing is left; `seen` is empty for one whose exit we came too late to see.
struct Dead {
    seen: Option<(Token, Arc<Process>)>,
}

/// Whose death changes a verdict and would not be told by itself: everybody around a lock that is not plainly held,
/// and those who took theirs before we watched.
fn parties(report: &Report) -> HashSet<u32> {
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

fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}
