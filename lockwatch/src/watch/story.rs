//! `explain --watch`: the story of some locks, then what happens to them until they are gone.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io::{self, Write},
};

use anyhow::Result;
use lockwatch_core::{id::LockId, lock::FileId, report::Report, text::Text, timeline::Timelines};

use crate::{output::explain, request::Request, select};

/// Locks that somebody follows.
pub struct Following {
    what: OsString,
    /// `None` until the first look.
    ids: Option<Vec<LockId>>,
    files: HashSet<FileId>,
    /// The number of the last moment that was printed.
    told: u64,
}

impl Following {
    /// Those that an ID or a path names.
    pub fn new(what: &OsStr) -> Self {
        Self { what: what.to_owned(), ids: None, files: HashSet::new(), told: 0 }
    }

    /// The files that they are on.
    pub fn files(&self) -> &HashSet<FileId> {
        &self.files
    }

    /// Prints what a report has that is new. Says whether that was the end.
    pub fn tell(&mut self, mut report: Report, timelines: &mut Timelines, request: &Request) -> Result<bool> {
        let out = &mut io::stdout().lock();
        let ids = match &mut self.ids {
            Some(ids) => {
                report.locks.retain(|lock| self.files.contains(&lock.file));
                for (old, new) in timelines.see(&report, |_| false) {
                    ids.retain(|id| *id != old);
                    ids.push(new);
                }
                ids
            }
            None => {
                let report = select::named(report, &self.what)?;
                if report.locks.is_empty() {
                    writeln!(out, "Nobody holds a lock on {}.", Text::new(self.what.as_encoded_bytes()))?;
                    return Ok(true);
                }
                self.files = report.locks.iter().map(|lock| lock.file).collect();
                timelines.see(&report, |_| true);
                explain::write(&report, &request.options, out)?;
                writeln!(out, "\nWhat has happened, and what happens now (Ctrl-C ends)")?;
                self.ids.insert(report.locks.into_iter().map(|lock| lock.id).collect())
            }
        };
        let mut last = self.told;
        for id in &*ids {
            let news: Vec<_> = timelines.of(id).into_iter().filter(|moment| moment.number > self.told).collect();
            last = news.iter().map(|moment| moment.number).chain([last]).max().unwrap_or(last);
            explain::timeline::write(&news, (ids.len() > 1).then_some(id), &request.options, out)?;
        }
        self.told = last;
        let over = ids.iter().all(|id| timelines.is_gone(id));
        if over {
            writeln!(out, "\n{}", if ids.len() > 1 { "The locks are gone." } else { "The lock is gone." })?;
        }
        Ok(over)
    }
}
