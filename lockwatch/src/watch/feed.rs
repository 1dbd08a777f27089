//! Watching through an agent, that has its probes attached already: `orphans --watch` and `trace`.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use lockwatch_core::{
    id::LockId,
    lock::FileId,
    observation::FileSeen,
    report::{LockReport, Report, Verdict},
    time::Timestamp,
};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::interval,
};

use crate::{
    alarms::Change,
    exit::{self, Exit},
    output::event::{self, Event as Line},
    request::Request,
    select,
    sources::bpf::load::Purpose,
    through::{self, Feed, Told},
};

/// How often it is asked whether anybody still reads.
const TICK: Duration = Duration::from_secs(1);

/// Follows what an agent tells; `None` where none does, or does no more.
pub fn follow(request: &Request, purpose: Purpose) -> Result<Option<Exit>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the event loop")?;
    runtime.block_on(async {
        // Paths first: a file that does not exist is told before anybody asks.
        let chosen = select::files(request)?;
        let Some((feed, mut report)) = through::events(request, purpose == Purpose::Trace) else { return Ok(None) };
        let locks = report.locks.len();
        let files = report.locks.iter().map(|lock| (lock.file, lock.file_seen.clone())).collect();
        report.locks.retain(|lock| select::keeps(request, chosen.as_ref(), lock));
        let mut follower = Follower { request, purpose, chosen, files, bad: Bad::default() };
        follower.begin(report, locks)?;
        follower.follow(feed).await
    })
}

struct Follower<'a> {
    request: &'a Request,
    purpose: Purpose,
    chosen: Option<HashSet<FileId>>,
    /// Names of files, where an event has none.
    files: HashMap<FileId, Arc<FileSeen>>,
    bad: Bad,
}

/// Locks that were told of and are not clear yet: what stands in the first answer may come as an event once more.
#[derive(Default)]
struct Bad {
    orphaned: HashSet<LockId>,
    hot: HashSet<LockId>,
}

impl Bad {
    /// Whether a change is news, and whether with it the last hot lock is gone.
    fn note(&mut self, change: &Change) -> (bool, bool) {
        match change {
            Change::Orphaned(lock) => (self.orphaned.insert(lock.id.clone()), false),
            Change::Hot(lock) => (self.hot.insert(lock.id.clone()), false),
            Change::Cleared(lock) => {
                let (was_orphaned, was_hot) = (self.orphaned.remove(&lock.id), self.hot.remove(&lock.id));
                (was_orphaned || was_hot, was_hot && self.hot.is_empty())
            }
            // The agent speaks of the whole host; here it counts if one of these was hot.
            Change::AllClear => (false, !std::mem::take(&mut self.hot).is_empty()),
        }
    }
}

impl Follower<'_> {
    /// Tells how things are.
    fn begin(&mut self, report: Report, locks: usize) -> Result<()> {
        let at = report.taken_at;
        let is_orphaned = |lock: &&LockReport| lock.verdict == Verdict::Orphaned;
        let orphaned = report.locks.iter().filter(is_orphaned).count();
        let hot = report.locks.iter().filter(|lock| lock.hot).count();
        if self.purpose == Purpose::Watch {
            for lock in report.locks.iter().filter(is_orphaned) {
                self.change(at, &Change::Orphaned(lock.clone()))?;
            }
            for lock in report.locks.iter().filter(|lock| lock.hot) {
                self.change(at, &Change::Hot(lock.clone()))?;
            }
        }
        self.print(&Line::Watching { at, locks, orphaned, hot })
    }

    async fn follow(&mut self, mut feed: Feed) -> Result<Option<Exit>> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ticks = interval(TICK);
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

    fn tell(&mut self, told: &Told) -> Result<()> {
        match told {
            Told::Lock { event, file, held_ns } => {
                if !select::keeps_event(self.request, self.chosen.as_ref(), event) {
                    return Ok(());
                }
                let is_named = file.path.is_some() || file.label.is_some();
                let known = self.files.get(&event.file).filter(|_| !is_named);
                let file = Some(known.map_or(file, |known| known));
                self.print(&Line::Lock { event, file, process: None, id: None, held_ns: *held_ns })
            }
            Told::Exit { at, process } => match select::keeps_end(self.request, process) {
                true => self.print(&Line::ProcessExit { at: *at, process }),
                false => Ok(()),
            },
            Told::Change { at, change } if self.purpose == Purpose::Watch => self.change(*at, change),
            Told::Change { .. } => Ok(()),
            Told::Throttled { at, cgroup, origin, left_out } => {
                self.print(&Line::Throttled { at: *at, cgroup: *cgroup, origin, left_out: *left_out })
            }
            Told::Lost { at, count } => self.print(&Line::Lost { at: *at, count: *count }),
        }
    }

    fn change(&mut self, at: Timestamp, change: &Change) -> Result<()> {
        let lock = change.lock();
        if lock.is_some_and(|lock| !select::keeps(self.request, self.chosen.as_ref(), lock)) {
            return Ok(());
        }
        let (is_news, all_clear) = self.bad.note(change);
        if is_news {
            let history = lock.map(|lock| &lock.history[..]).unwrap_or_default();
            self.print(&Line::of(change, at, history))?;
        }
        if all_clear { self.print(&Line::AllClear { at }) } else { Ok(()) }
    }

    fn print(&self, line: &Line<'_>) -> Result<()> {
        Ok(event::write(line, self.request.format, &self.request.options, &mut io::stdout().lock())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn each_change_is_told_once_and_all_clear_when_none_is_hot() {
        let mut bad = Bad::default();
        let lock = |id: &str| LockReport { id: LockId(id.into()), ..fixture::ghost() };
        let mut check = |change: Change, expect| assert_eq!(bad.note(&change), expect, "{change:?}");
        check(Change::Orphaned(lock("a")), (true, false));
        check(Change::Orphaned(lock("a")), (false, false));
        check(Change::AllClear, (false, false));
        check(Change::Hot(lock("a")), (true, false));
        check(Change::Hot(lock("b")), (true, false));
        check(Change::Cleared(lock("a")), (true, false));
        check(Change::Cleared(lock("a")), (false, false));
        check(Change::Cleared(lock("b")), (true, true));
        check(Change::AllClear, (false, false));
        check(Change::Hot(lock("c")), (true, false));
        check(Change::AllClear, (false, true));
    }
}
