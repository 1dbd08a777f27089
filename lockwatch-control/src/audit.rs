//! The record of every clear: an append-only file with a line of JSON for everything planned, refused, begun and done.
//! No record, no act.
//!
//! Each line carries the SHA-256 of the line before, so that a line altered, moved or taken out is noticed by whoever
//! [reads](Reading) the log. The chain has no secret: it finds accidents and clumsy hands, not a root who hashes
//! everything anew. Against that, the last line's hash is worth keeping elsewhere.

mod chain;
mod line;
mod place;
mod reading;
#[cfg(test)]
mod samples;
mod tail;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use lockwatch_core::time::Timestamp;
use rustix::{
    fs::{FlockOperation, flock, fstat, fsync, ftruncate},
    io::{Errno, pread, retry_on_intr, write},
};
use serde::{Deserialize, Serialize};

pub use self::{
    chain::{Break, Damage},
    line::ZEROS,
    reading::{Entry, Filter, Reading},
    tail::Tail,
};
use self::{
    line::Line,
    place::{Place, shown},
};
use crate::document::Outcome;

/// The schema of its lines.
pub const SCHEMA: &str = "lockwatch.audit/1";

/// How long somebody else may be writing.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is recorded of a clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who asked.
    pub actor: Actor,
    /// Who else has confirmed, where two must.
    #[serde(default)]
    pub approved_by: Vec<Actor>,
    /// The lock's ID, or what was given for one.
    pub id: String,
    /// The file's path, as it may be printed.
    pub file: Option<String>,
    /// How it is cleared.
    pub method: Option<String>,
    /// What the one who asked gave for a reason.
    pub reason: Option<String>,
    /// How far it has come.
    pub phase: Phase,
    /// What became of it, where that is known.
    pub outcome: Option<Outcome>,
    /// The hash of the plan: what was planned, confirmed and done has the same.
    pub plan_hash: Option<String>,
    /// Why it was refused, or what was done, in words.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A process in front of which a human sits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its user.
    pub uid: u32,
    /// Its number.
    pub pid: u32,
    /// Its command name.
    pub comm: Option<String>,
    /// Its terminal, without `/dev/`.
    pub tty: Option<String>,
}

/// How far a clear has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A plan was made.
    Planned,
    /// A guard said no, and nothing was done.
    Refused,
    /// It was confirmed, and is about to be done.
    Intent,
    /// It is over.
    Outcome,
}

impl Phase {
    /// In the order in which they come.
    pub const ALL: [Phase; 4] = [Phase::Planned, Phase::Refused, Phase::Intent, Phase::Outcome];

    /// The contract's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Refused => "refused",
            Phase::Intent => "intent",
            Phase::Outcome => "outcome",
        }
    }
}

/// A log that can be written.
///
/// The file is opened anew for each record. If it was moved away meanwhile, as logrotate does, a new one takes its place,
/// under the same rules as at first. If its directory is another one, nothing is written: nobody rotates directories.
#[derive(Debug)]
pub struct Log {
    place: Place,
}

impl Log {
    /// Opens a log, and makes it, and the directory in which it is, if there is none.
    ///
    /// # Errors
    ///
    /// Its directory or the file itself is in somebody else's reach, or no log; the message names what, and what mends it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::try_open(path).with_context(|| format!("open the audit log {}", shown(path)))
    }

    /// Writes a record: one line with one write(2), on disk when this returns.
    ///
    /// # Errors
    ///
    /// It could not be written, or the log is not as [`Log::open`] wants it; then the file is as it was.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        self.try_append(record).with_context(|| format!("write to the audit log {}", shown(self.place.path())))
    }

    fn try_open(path: &Path) -> Result<Self> {
        let place = Place::reach(path, true)?;
        check_begin(&place.open()?)?;
        Ok(Self { place })
    }

    fn try_append(&self, record: &Record) -> Result<()> {
        let file = self.locked()?;
        let end = End::of(&file)?;
        end.append(&file, &Line::write(record, now()?, end.hash.clone())?)?;
        ensure!(fstat(&file)?.st_nlink > 0, "it was removed while it was written");
        Ok(())
    }

    /// The file that the log's name leads to now, which nobody else who keeps the rules writes to until it is dropped.
    fn locked(&self) -> Result<File> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let place = Place::reach(self.place.path(), false)?;
            ensure!(place.is_same_as(&self.place)?, "its directory was replaced by another one");
            let file = place.open()?;
            lock(&file, deadline)?;
            // Whoever moves a log away does not ask for its lock, and may have done so while we waited for it.
            if place.leads_to(&file)? {
                return Ok(file);
            }
            ensure!(Instant::now() < deadline, "the file is replaced by another one all the time");
        }
    }
}

/// What a new line comes after.
#[derive(Debug)]
struct End {
    /// Bytes in the file.
    len: u64,
    /// The hash of the last line.
    hash: String,
    /// Whether that line has no newline: its writer lost power.
    torn: bool,
}

impl End {
    fn of(file: &File) -> Result<Self> {
        let len = u64::try_from(fstat(file)?.st_size)?;
        if len == 0 {
            return Ok(Self { len, hash: ZEROS.to_owned(), torn: false });
        }
        check_begin(file)?;
        // With its own newline and that of the line before.
        let last = read(file, len.saturating_sub(line::MOST as u64 + 2), line::MOST + 2)?;
        let (torn, text) = last.strip_suffix(b"\n").map_or((true, &*last), |text| (false, text));
        let line = match text.iter().rposition(|b| *b == b'\n') {
            Some(before) => &text[before + 1..],
            None if last.len() as u64 == len => text,
            None => bail!("it is no audit log: its last line has no beginning"),
        };
        Ok(Self { len, hash: line::hash(line), torn })
    }

    /// Writes a line here, or leaves the file as it is.
    fn append(&self, file: &File, line: &[u8]) -> Result<()> {
        // A line that was cut short is evidence: it stays, and the new one follows it.
        let before: &[u8] = if self.torn { b"\n" } else { b"" };
        let bytes = [before, line, b"\n"].concat();
        let written = retry_on_intr(|| write(file, &bytes))?;
        let done = match written == bytes.len() {
            true => retry_on_intr(|| fsync(file)).context("fsync"),
            false => Err(anyhow::anyhow!("only {written} of {} bytes were written: is the disk full?", bytes.len())),
        };
        done.map_err(|error| match self.take_back(file, written) {
            Ok(()) => error,
            Err(why) => error.context(format!("what was written could not be taken back ({why:#})")),
        })
    }

    fn take_back(&self, file: &File, written: usize) -> Result<()> {
        let len = u64::try_from(fstat(file)?.st_size)?;
        ensure!(len == self.len + written as u64, "somebody else writes to it");
        retry_on_intr(|| ftruncate(file, self.len))?;
        Ok(retry_on_intr(|| fsync(file))?)
    }
}

/// Nothing is ever added to a file that is no log, whoever put it there.
fn check_begin(file: &File) -> Result<()> {
    let begin = read(file, 0, line::BEGIN.len())?;
    ensure!(line::begins(&begin), "it is no audit log: it begins otherwise");
    Ok(())
}

/// Takes the lock of our own log: nobody else's file, and for as long as a line takes.
fn lock(file: &File, deadline: Instant) -> Result<()> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => ensure!(Instant::now() < deadline, "somebody else keeps it locked"),
            Err(Errno::INTR) => {}
            locked => return locked.context("lock it"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Up to so many bytes from there.
fn read(file: &File, from: u64, most: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut done = 0;
    while done < most {
        match retry_on_intr(|| pread(file, &mut bytes[done..], from + done as u64)).context("read it")? {
            0 => break,
            n => done += n,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(Timestamp(u64::try_from(since.as_nanos())?))
}
