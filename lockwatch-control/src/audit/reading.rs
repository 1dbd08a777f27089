//! A log as it is read: its records, and whether anybody has changed them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use lockwatch_core::time::Timestamp;
use rustix::process::geteuid;

use super::{
    Phase, Record,
    chain::{self, Break, Link},
    line::{self, Line},
};
use crate::document::Outcome;

/// A log, read to its end and verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Its records, oldest first.
    pub entries: Vec<Entry>,
    /// How many lines it has.
    pub lines: usize,
    /// The hash of the last one, which stands for all of them.
    pub end: Option<String>,
    /// Where it is not as it was written.
    pub breaks: Vec<Break>,
    /// What is to be said of its lines without being a break, in words.
    pub notes: Vec<String>,
}

/// A record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In which line it stands, from 1.
    pub line: usize,
    /// When it was written.
    pub at: Timestamp,
    /// What was written.
    pub record: Record,
    /// The hash of the line before.
    pub previous: String,
    /// It tells an intent, and nothing after it tells what became of that.
    pub unfinished: bool,
}

impl Reading {
    /// Reads and verifies the log in a file, or in a pipe.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no audit log.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let mut reading = Self::of(BufReader::new(file))?;
        let ours = about.uid() == 0 || about.uid() == geteuid().as_raw();
        if about.is_file() && (!ours || about.mode() & 0o022 != 0) {
            let (uid, mode) = (about.uid(), about.mode() & 0o7777);
            reading
                .notes
                .push(format!("others can write to it (uid {uid}, mode {mode:04o}): what it says proves little"));
        }
        Ok(reading)
    }

    /// Reads and verifies a log.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no audit log.
    pub fn of(mut source: impl BufRead) -> io::Result<Self> {
        let (mut entries, mut links) = (Vec::new(), Vec::new());
        let (mut begins, mut torn) = (true, false);
        let mut text = Vec::new();
        loop {
            text.clear();
            if source.by_ref().take(line::MOST as u64 + 1).read_until(b'\n', &mut text)? == 0 {
                break;
            }
            torn = text.pop_if(|b| *b == b'\n').is_none();
            if text.len() > line::MOST {
                return Err(no_log(&format!("line {} is longer than {} bytes", links.len() + 1, line::MOST)));
            }
            begins &= !links.is_empty() || line::begins(&text);
            let line = Line::read(&text);
            let previous = line::previous(&text).map(str::to_owned);
            links.push(Link { hash: line::hash(&text), previous, readable: line.is_some() });
            entries.extend(line.map(|Line { at, record, previous, .. }| Entry {
                line: links.len(),
                at,
                record,
                previous,
                unfinished: false,
            }));
        }
        if !begins && entries.is_empty() {
            return Err(no_log("it begins otherwise, and none of its lines is a record"));
        }
        mark_unfinished(&mut entries);
        let (breaks, notes) = chain::judge(&links, torn);
        let (lines, end) = (links.len(), links.pop().map(|link| link.hash));
        Ok(Self { entries, lines, end, breaks, notes })
    }
}

fn no_log(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no audit log: {why}"))
}

/// An outcome ends the last intent to carry out the same plan.
fn mark_unfinished(entries: &mut [Entry]) {
    let mut begun: HashMap<_, usize> = HashMap::new();
    for (i, Entry { record, .. }) in entries.iter().enumerate() {
        let plan = (record.id.clone(), record.plan_hash.clone());
        match record.phase {
            Phase::Intent => _ = begun.insert(plan, i),
            Phase::Outcome => _ = begun.remove(&plan),
            Phase::Planned | Phase::Refused => {}
        }
    }
    begun.into_values().for_each(|i| entries[i].unfinished = true);
}

/// Which records are wanted; what is empty keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The beginning of a lock's ID.
    pub id: Option<String>,
    /// Phases.
    pub phases: Vec<Phase>,
    /// Outcomes.
    pub outcomes: Vec<Outcome>,
    /// Not before this moment.
    pub since: Option<Timestamp>,
    /// A user who asked, or confirmed.
    pub uid: Option<u32>,
}

impl Filter {
    /// Whether a record is wanted.
    pub fn keeps(&self, entry: &Entry) -> bool {
        let Entry { record, at, .. } = entry;
        let is_by = |uid| std::iter::once(&record.actor).chain(&record.approved_by).any(|actor| actor.uid == uid);
        self.id.as_ref().is_none_or(|id| record.id.starts_with(&**id))
            && (self.phases.is_empty() || self.phases.contains(&record.phase))
            && (self.outcomes.is_empty() || record.outcome.is_some_and(|outcome| self.outcomes.contains(&outcome)))
            && self.since.is_none_or(|since| *at >= since)
            && self.uid.is_none_or(is_by)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            Actor, ZEROS,
            samples::{hostile, record},
        },
        *,
    };

    /// A log of these records, one a second.
    fn log(records: &[Record]) -> Vec<Vec<u8>> {
        let mut previous = ZEROS.to_owned();
        let write = |(second, record): (u64, &Record)| {
            let line = Line::write(record, Timestamp(second * 1_000_000_000), previous.clone()).unwrap();
            previous = line::hash(&line);
            [&*line, b"\n"].concat()
        };
        (0..).zip(records).map(write).collect()
    }

    fn reading(lines: &[Vec<u8>]) -> Reading {
        Reading::of(&*lines.concat()).unwrap()
    }

    fn some() -> Vec<Vec<u8>> {
        let mut records: Vec<_> = (0..6).map(record).collect();
        records[2] = hostile();
        log(&records)
    }

    #[test]
    fn a_log_as_it_was_written_is_whole() {
        let read = reading(&some());
        assert_eq!((read.entries.len(), read.lines, &read.breaks[..], &read.notes[..]), (6, 6, &[][..], &[][..]));
        assert_eq!(read.entries[2].record, hostile());
        assert_eq!(read.entries[3].line, 4);
        let last = some().pop().unwrap();
        assert_eq!(read.end, Some(line::hash(last.trim_ascii_end())));
        assert_eq!(Reading::of(&b""[..]).unwrap(), Reading::default());
    }

    #[test]
    fn what_is_no_log_is_not_read_as_one() {
        let check = |bytes: &[u8], expect: &str| {
            assert!(Reading::of(bytes).unwrap_err().to_string().contains(expect));
        };
        check(b"root:x:0:0::/root:/bin/sh\n", "none of its lines is a record");
        check(&vec![0; line::MOST + 1], "line 1 is longer than");
    }

    #[test]
    fn a_torn_line_is_tolerated_wherever_it_stands() {
        let whole = some();
        for cut in [1, 40, 130, whole[5].len() - 1] {
            let mut torn = whole.clone();
            torn[5].truncate(cut);
            let read = reading(&torn);
            assert_eq!((&read.breaks[..], read.notes.len(), read.lines), (&[][..], 1, 6), "{cut}");
            // Somebody goes on writing behind it.
            let next = Line::write(&record(9), Timestamp(0), line::hash(&torn[5])).unwrap();
            let read = reading(&[torn, vec![b"\n".to_vec(), next, b"\n".to_vec()]].concat());
            assert_eq!((&read.breaks[..], read.lines), (&[][..], 7), "{cut}");
        }
    }

    #[test]
    fn an_intent_without_an_outcome_is_told() {
        let of = |phase, plan: &str| Record { phase, plan_hash: Some(plan.into()), ..record(1) };
        let (intent, outcome) = (Phase::Intent, Phase::Outcome);
        let read = reading(&log(&[
            of(Phase::Planned, "a"),
            of(intent, "a"),
            of(outcome, "a"),
            of(intent, "b"),
            of(outcome, "c"),
            of(intent, "a"),
        ]));
        let unfinished: Vec<_> = read.entries.iter().filter(|entry| entry.unfinished).map(|entry| entry.line).collect();
        assert_eq!(unfinished, [4, 6]);
    }

    #[test]
    fn filters_keep_what_was_asked_for() {
        let entry = |record| Entry { line: 1, at: Timestamp(1000), record, previous: ZEROS.into(), unfinished: false };
        let second = Actor { uid: 1000, pid: 1, comm: None, tty: None };
        let done = entry(Record { approved_by: vec![second], ..record(1) });
        let refused = entry(Record { id: "7a1b-cd42".into(), phase: Phase::Refused, outcome: None, ..record(2) });
        let check = |filter: Filter, expect: (bool, bool)| {
            assert_eq!((filter.keeps(&done), filter.keeps(&refused)), expect, "{filter:?}");
        };
        check(Filter::default(), (true, true));
        check(Filter { id: Some("f3".into()), ..Filter::default() }, (true, false));
        check(Filter { phases: vec![Phase::Refused, Phase::Intent], ..Filter::default() }, (false, true));
        check(Filter { outcomes: vec![Outcome::Cleared], ..Filter::default() }, (true, false));
        check(Filter { since: Some(Timestamp(1000)), ..Filter::default() }, (true, true));
        check(Filter { since: Some(Timestamp(1001)), ..Filter::default() }, (false, false));
        check(Filter { uid: Some(0), ..Filter::default() }, (true, true));
        check(Filter { uid: Some(1000), ..Filter::default() }, (true, false));
    }

    proptest! {
        // The last line has nobody who vouches for it.
        #[test]
        fn an_altered_byte_is_found(line in 0..5usize, at: prop::sample::Index, flip in 1..=255u8) {
            let mut lines = some();
            let at = at.index(lines[line].len());
            lines[line][at] ^= flip;
            prop_assert!(!reading(&lines).breaks.is_empty());
        }

        #[test]
        fn a_line_taken_out_is_found(line in 0..5usize) {
            let mut lines = some();
            lines.remove(line);
            prop_assert!(!reading(&lines).breaks.is_empty());
        }

        #[test]
        fn swapped_lines_are_found(a in 0..6usize, b in 0..6usize) {
            let mut lines = some();
            lines.swap(a, b);
            prop_assert_eq!(reading(&lines).breaks.is_empty(), a == b);
        }

        #[test]
        fn no_bytes_make_it_fall(bytes: Vec<u8>, at: prop::sample::Index) {
            let mut log = some().concat();
            let at = at.index(log.len());
            log.splice(at..at, bytes);
            let _ = Reading::of(&*log);
        }
    }
}
