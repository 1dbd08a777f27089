//! Watching on a terminal: `orphans --watch`, `explain --watch` and `trace`.

mod feed;
mod story;

use std::{
    collections::HashSet,
    ffi::OsStr,
    io::{self, Write},
    ops::ControlFlow,
};

use anyhow::{Context, Result};
use lockwatch_core::{
    lock::FileId,
    report::{Report, Settings, Verdict},
    timeline::Timelines,
};
use tokio::signal::unix::{SignalKind, signal};

use self::story::Following;
use crate::{
    alarms::Alarms,
    engine::{Concern, Engine, Happened},
    exit::{self, Exit},
    output::event::{self, Event as Line},
    request::Request,
    select,
    sources::{
        bpf::{load::Purpose, sizes::Sizes},
        clock::Clock,
        names::Names,
    },
};

/// Follows orphaned and hot locks.
pub fn orphans(request: &Request) -> Result<Exit> {
    match feed::follow(request, Purpose::Watch)? {
        Some(exit) => Ok(exit),
        None => run(request, Purpose::Watch, None),
    }
}

/// Tells the story of some locks, and follows them until they are gone.
pub fn explain(request: &Request, what: &OsStr) -> Result<Exit> {
    run(request, Purpose::Watch, Some(Following::new(what)))
}

/// Follows lock operations.
pub fn trace(request: &Request) -> Result<Exit> {
    match feed::follow(request, Purpose::Trace)? {
        Some(exit) => Ok(exit),
        None => run(request, Purpose::Trace, None),
    }
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
    engine: Engine,
    request: &'a Request,
    purpose: Purpose,
    chosen: Option<HashSet<FileId>>,
    alarms: Alarms,
    timelines: Timelines,
    /// The locks whose story is told; then nothing else is.
    following: Option<Following>,
    names: Names,
    announced: bool,
}

impl<'a> Watcher<'a> {
    fn start(request: &'a Request, purpose: Purpose, following: Option<Following>) -> Result<Self> {
        Ok(Self {
            engine: Engine::start(purpose, Sizes::default(), Settings::default(), &request.proc_root)?,
            request,
            purpose,
            chosen: select::files(request)?,
            alarms: Alarms::default(),
            timelines: Timelines::default(),
            announced: following.is_some(),
            following,
            names: Names::new(&request.proc_root),
        })
    }

    async fn follow(&mut self) -> Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            let happened = tokio::select! {
                happened = self.engine.next() => happened?,
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
            };
            if self.hear(happened)?.is_break() {
                return Ok(());
            }
            io::stdout().flush()?;
        }
    }

    fn hear(&mut self, happened: Happened) -> Result<ControlFlow<()>> {
        match happened {
            Happened::Lock { event, held } => {
                if !event.remote {
                    self.timelines.note(&event);
                }
                if self.purpose == Purpose::Trace && select::keeps_event(self.request, self.chosen.as_ref(), &event) {
                    let file = self.names.of(event.process.pid, event.file);
                    let held_ns = held.map(|held| u64::try_from(held.as_nanos()).unwrap_or(u64::MAX));
                    self.print(&Line::Lock { event: &event, file: Some(&file), process: None, id: None, held_ns })?;
                }
            }
            Happened::Died { at, process } => {
                if self.purpose == Purpose::Trace && select::keeps_end(self.request, &process) {
                    self.print(&Line::ProcessExit { at, process: &process })?;
                }
            }
            Happened::Lost { at, count } | Happened::Missed { at, count } => self.print(&Line::Lost { at, count })?,
            Happened::Throttled(_) => {} // only an agent's trace is
            Happened::Looked(report) => return self.tell(report),
            Happened::Tick => {
                if exit::reader_is_gone() {
                    return Ok(ControlFlow::Break(()));
                }
                if self.following.is_some() && self.engine.nobody_dies() {
                    self.engine.look_soon();
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tells what a look shows that is new. Breaks at the end of what is followed.
    fn tell(&mut self, mut report: Report) -> Result<ControlFlow<()>> {
        let at = report.taken_at;
        if let Some(following) = &mut self.following {
            let over = following.tell(report, &mut self.timelines, self.request)?;
            self.engine.mind(Concern { ghosts: following.files().clone(), ..Concern::default() });
            return Ok(if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        }
        report.locks.retain(|lock| select::keeps(self.request, self.chosen.as_ref(), lock));
        self.engine.mind(Concern::about(&report.locks, at, Settings::default()));
        if self.purpose == Purpose::Trace {
            report.locks.iter().for_each(|lock| self.names.learn(lock.file, &lock.file_seen));
        } else {
            self.timelines.see(&report, |lock| lock.verdict != Verdict::Held || !lock.waiters.is_empty());
            for change in self.alarms.update(&report) {
                let history = change.lock().map(|lock| self.timelines.of(&lock.id)).unwrap_or_default();
                self.print(&Line::of(&change, at, &history))?;
            }
        }
        if !std::mem::replace(&mut self.announced, true) {
            let (orphaned, hot) = self.alarms.counts();
            let locks = self.engine.locks();
            self.print(&Line::Watching { at: Clock::read().now(), locks, orphaned, hot })?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn print(&self, line: &Line<'_>) -> Result<()> {
        Ok(event::write(line, self.request.format, &self.request.options, &mut io::stdout().lock())?)
    }
}
