//! `trace` through an agent that has its probes attached already.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use lockwatch_core::{
    lock::FileId,
    observation::FileSeen,
    report::{Report, Verdict},
};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::interval,
};

use crate::{
    exit::{self, Exit},
    output::event::{self, Event as Line},
    request::Request,
    select,
    through::{self, Feed, Told},
};

/// How often it is asked whether anybody still reads.
const TICK: Duration = Duration::from_secs(1);

/// Follows lock operations; `None` where no agent tells them, or tells them no more.
pub fn trace(request: &Request) -> Result<Option<Exit>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the event loop")?;
    runtime.block_on(async {
        // Paths first: a file that does not exist is told before anybody asks.
        let chosen = select::files(request)?;
        match through::operations(request) {
            Some((feed, report)) => Tracer::new(request, chosen, &report).follow(feed, &report).await,
            None => Ok(None),
        }
    })
}

struct Tracer<'a> {
    request: &'a Request,
    chosen: Option<HashSet<FileId>>,
    /// Names of files, where an event has none.
    files: HashMap<FileId, Arc<FileSeen>>,
}

impl<'a> Tracer<'a> {
    fn new(request: &'a Request, chosen: Option<HashSet<FileId>>, report: &Report) -> Self {
        let files = report.locks.iter().map(|lock| (lock.file, lock.file_seen.clone())).collect();
        Self { request, chosen, files }
    }

    async fn follow(&self, mut feed: Feed, report: &Report) -> Result<Option<Exit>> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ticks = interval(TICK);
        let kept = || report.locks.iter().filter(|lock| select::keeps(self.request, self.chosen.as_ref(), lock));
        let orphaned = kept().filter(|lock| lock.verdict == Verdict::Orphaned).count();
        let (hot, locks) = (kept().filter(|lock| lock.hot).count(), report.locks.len());
        self.print(&Line::Watching { at: report.taken_at, locks, orphaned, hot })?;
        loop {
            io::stdout().flush()?;
            let told = tokio::select! {
                told = feed.next() => told,
                _ = interrupt.recv() => return Ok(Some(Exit::Done)),
                _ = terminate.recv() => return Ok(Some(Exit::Done)),
                _ = ticks.tick() => match exit::reader_is_gone() {
                    true => return Ok(Some(Exit::Done)),
                    false => continue,
                },
            };
            match told {
                Ok(told) => self.tell(&told)?,
                Err(why) => {
                    through::warn(self.request, &why);
                    return Ok(None);
                }
            }
        }
    }

    fn tell(&self, told: &Told) -> Result<()> {
        match told {
            Told::Lock { event, file, held_ns } => {
                if !select::keeps_event(self.request, self.chosen.as_ref(), event) {
                    return Ok(());
                }
                let is_named = file.path.is_some() || file.label.is_some();
                let known = self.files.get(&event.file).filter(|_| !is_named);
                let file = known.map_or(file, Arc::as_ref);
                self.print(&Line::Lock { event, file: Some(file), process: None, id: None, held_ns: *held_ns })
            }
            Told::Exit { at, process } => match select::keeps_end(self.request, process) {
                true => self.print(&Line::ProcessExit { at: *at, process }),
                false => Ok(()),
            },
            Told::Lost { at, count } => self.print(&Line::Lost { at: *at, count: *count }),
        }
    }

    fn print(&self, line: &Line<'_>) -> Result<()> {
        Ok(event::write(line, self.request.format, &self.request.options, &mut io::stdout().lock())?)
    }
}
