//! What happens, as the agent tells it (schema lockwatch.event/1), read back.

use std::{io::Cursor, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use lockwatch_core::{
    lock::{Kind, OwnerKey},
    observation::{FileSeen, LockEvent, LockEventKind},
    process::{Origin, Process, ProcessId},
    report::LockReport,
    text::Text,
    time::Timestamp,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Chain, Lines},
    net::UnixStream,
    time::timeout,
};

use super::{
    connection::Connection,
    lock::{Bytes, File, Lock, mode},
    person::{Happened, Person},
    words::{time, word},
};
use crate::alarms::Change;

/// How long an agent may be silent: it says every 15 s that it is there.
const SILENCE: Duration = Duration::from_secs(40);

/// Events on their way.
#[derive(Debug)]
pub struct Feed(Lines<BufReader<Chain<Cursor<Vec<u8>>, UnixStream>>>);

/// Something that has happened.
#[derive(Debug)]
pub enum Told {
    /// A lock operation.
    Lock {
        /// What; whose lock it is, is not known.
        event: Box<LockEvent>,
        /// What is known of the file.
        file: FileSeen,
        /// For a release: how long it was held, in nanoseconds.
        held_ns: Option<u64>,
    },
    /// A process that had to do with locks is gone.
    Exit {
        /// When.
        at: Timestamp,
        /// Who, and how.
        process: Arc<Process>,
    },
    /// A change of state.
    Change {
        /// When.
        at: Timestamp,
        /// Which.
        change: Box<Change>,
    },
    /// A control group does so much that some of it is not told, or no longer.
    Throttled {
        /// When that began, or ended.
        at: Timestamp,
        /// The kernel's number of the group; 0 for all beyond the number that is kept apart.
        cgroup: u64,
        /// What the group is.
        origin: Origin,
        /// How many operations were left out, when it has ended.
        left_out: Option<u64>,
    },
    /// Some were lost.
    Lost {
        /// When it was noticed.
        at: Timestamp,
        /// How many.
        count: u64,
    },
}

/// What every line has.
#[derive(Deserialize)]
struct Head {
    schema: String,
    at: String,
    event: String,
}

/// What a change of state has besides.
#[derive(Deserialize)]
struct OfState {
    lock: Option<Lock>,
    history: Option<Vec<Happened>>,
}

/// What all others have.
#[derive(Deserialize)]
struct Line {
    lock: Option<Short>,
    process: Option<Person>,
    waited_ns: Option<u64>,
    held_ns: Option<u64>,
    lost: Option<u64>,
    group: Option<Group>,
}

#[derive(Deserialize)]
struct Group {
    cgroup: Option<u64>,
    unit: Option<String>,
    user_unit: Option<String>,
    slice: Option<String>,
    container: Option<String>,
}

#[derive(Deserialize)]
struct Short {
    kind: String,
    mode: String,
    range: Bytes,
    file: File,
    #[serde(default)]
    remote: bool,
}

impl Feed {
    /// Those that come with this answer. Must be called within a runtime that has its drivers on.
    ///
    /// # Errors
    ///
    /// The socket is of no use to the runtime.
    pub fn open(answer: Connection) -> Result<Self> {
        let (read, stream) = answer.into_parts();
        stream.set_nonblocking(true).context("make the socket ready")?;
        let stream = UnixStream::from_std(stream).context("make the socket ready")?;
        Ok(Self(BufReader::new(Cursor::new(read).chain(stream)).lines()))
    }

    /// The next. Whoever stops waiting misses nothing.
    ///
    /// # Errors
    ///
    /// The agent has ended, hangs, or speaks of what we do not know.
    pub async fn next(&mut self) -> Result<Told> {
        loop {
            let line = match timeout(SILENCE, self.0.next_line()).await {
                Ok(line) => line?.context("it has ended")?,
                Err(_) => bail!("it said nothing for {} s", SILENCE.as_secs()),
            };
            // An empty line says that it is there.
            if !line.is_empty()
                && let Some(told) = read(&line)?
            {
                return Ok(told);
            }
        }
    }
}

/// `None` for what is of no interest here: the first line, that it watches; what policies do; words of a newer version.
fn read(text: &str) -> Result<Option<Told>> {
    let head: Head = parse(text)?;
    ensure!(head.schema == "lockwatch.event/1", "it speaks {:?}, of which I know nothing", head.schema);
    let at = time(&head.at)?;
    let change = |of: fn(LockReport) -> Change| {
        let line: OfState = parse(text)?;
        let mut lock = line.lock.context("a change without a lock")?.read()?;
        let history = (0..).zip(line.history.into_iter().flatten());
        lock.history = history.map(|(n, happened)| happened.read(n)).collect::<Result<_>>()?;
        Ok(Some(Told::Change { at, change: Box::new(of(lock)) }))
    };
    match head.event.as_str() {
        "orphaned" => change(Change::Orphaned),
        "hot" => change(Change::Hot),
        "cleared" => change(Change::Cleared),
        "all_clear" => Ok(Some(Told::Change { at, change: Box::new(Change::AllClear) })),
        "lost" | "process_exit" | "throttled" | "unthrottled" => parse::<Line>(text)?.read(at, &head.event).map(Some),
        event if LockEventKind::ALL.iter().any(|what| what.name() == event) => {
            parse::<Line>(text)?.read(at, event).map(Some)
        }
        _ => Ok(None),
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).context("understand what it tells")
}

impl Line {
    fn read(self, at: Timestamp, event: &str) -> Result<Told> {
        let process = self.process.map(Person::read).transpose()?.flatten();
        match event {
            "lost" => Ok(Told::Lost { at, count: self.lost.unwrap_or(0) }),
            "throttled" | "unthrottled" => {
                let group = self.group.context("a limit for nobody")?;
                let text = |text: Option<String>| text.map(|text| Text::from(text.as_str()));
                let origin = Origin {
                    unit: text(group.unit),
                    user_unit: text(group.user_unit),
                    slice: text(group.slice),
                    container: text(group.container),
                    ..Origin::default()
                };
                Ok(Told::Throttled { at, cgroup: group.cgroup.unwrap_or(0), origin, left_out: self.lost })
            }
            "process_exit" => Ok(Told::Exit { at, process: process.context("an exit of nobody")? }),
            what => {
                let what = word(&LockEventKind::ALL, LockEventKind::name, what)?;
                let lock = self.lock.context("an operation without a lock")?;
                let who = process.context("an operation of nobody")?;
                let (file, seen) = lock.file.read()?;
                let event = LockEvent {
                    at,
                    what,
                    file,
                    kind: word(&Kind::ALL, Kind::name, &lock.kind)?,
                    mode: mode(&lock.mode)?,
                    range: lock.range.into(),
                    owner: OwnerKey(0),
                    process: ProcessId { start: None, ..who.id },
                    comm: who.comm.clone().unwrap_or_default(),
                    remote: lock.remote,
                    waited_ns: self.waited_ns,
                };
                Ok(Told::Lock { event: Box::new(event), file: seen, held_ns: self.held_ns })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lockwatch_core::{
        lock::{Device, FileId, Mode, Range},
        process::Exit,
        timeline::{Moment, What},
    };

    use super::*;
    use crate::{
        fixture::{self, NOW},
        output::event::{Event, object},
    };

    #[test]
    fn operations_are_read_back() {
        let check = |event: &Event<'_>| {
            let line = object(event);
            let again = match read(&line).unwrap() {
                Some(Told::Lock { event, file, held_ns }) => {
                    object(&Event::Lock { event: &event, file: Some(&file), process: None, id: None, held_ns })
                }
                Some(Told::Exit { at, process }) => object(&Event::ProcessExit { at, process: &process }),
                Some(Told::Lost { at, count }) => object(&Event::Lost { at, count }),
                Some(Told::Throttled { at, cgroup, origin, left_out }) => {
                    object(&Event::Throttled { at, cgroup, origin: &origin, left_out })
                }
                other => panic!("{other:?} of {line}"),
            };
            assert_eq!(again, line);
        };
        let hostile = fixture::hostile();
        for (n, what) in (0..).zip(LockEventKind::ALL) {
            let event = LockEvent {
                at: NOW,
                what,
                file: FileId { device: Device { major: 254, minor: 0 }, inode: 42 },
                kind: Kind::Posix,
                mode: Mode::Write,
                range: Range { start: 0, end: Some(9) },
                owner: OwnerKey(1),
                process: ProcessId { pid: 4711, start: None },
                comm: Text::new(b"lock\xffer\n"),
                remote: n == 0,
                waited_ns: (n > 2).then_some(n),
            };
            let file = Some(&*hostile.locks[0].file_seen).filter(|_| n > 0);
            check(&Event::Lock { event: &event, file, process: None, id: None, held_ns: (n == 5).then_some(7) });
        }
        check(&Event::ProcessExit { at: NOW, process: &fixture::dead(4711, "locker", Some(Exit::Code(3))) });
        check(&Event::ProcessExit { at: NOW, process: &fixture::dead(4711, "locker", None) });
        check(&Event::Lost { at: NOW, count: 17 });
        let origin = Origin { unit: Some("a.service".into()), slice: Some("b.slice".into()), ..Origin::default() };
        check(&Event::Throttled { at: NOW, cgroup: 7, origin: &origin, left_out: None });
        check(&Event::Throttled { at: NOW, cgroup: 0, origin: &Origin::default(), left_out: Some(9) });
    }

    #[test]
    fn changes_are_read_back_with_their_history() {
        let ghost = fixture::ghost();
        let taken = Moment {
            at: NOW,
            what: What::Taken,
            who: ghost.acquirer.clone(),
            waited: Some(Duration::from_secs(1)),
            number: 0,
        };
        for event in [
            Event::Orphaned { at: NOW, lock: &ghost, history: std::slice::from_ref(&taken) },
            Event::Hot { at: NOW, lock: &ghost, history: &[] },
            Event::Cleared { at: NOW, lock: &ghost },
            Event::AllClear { at: NOW },
        ] {
            let line = object(&event);
            let Some(Told::Change { at, change }) = read(&line).unwrap() else { panic!("{line}") };
            let history = change.lock().map(|lock| lock.history.clone()).unwrap_or_default();
            let mut change = *change;
            if let Change::Orphaned(lock) | Change::Hot(lock) | Change::Cleared(lock) = &mut change {
                lock.history.clear();
            }
            assert_eq!(object(&Event::of(&change, at, &history)), line);
        }
        assert!(read(&object(&Event::Watching { at: NOW, locks: 1, orphaned: 0, hot: 0 })).unwrap().is_none());
    }

    #[test]
    fn what_is_not_known_here_is_an_error() {
        let line = |schema: &str, event: &str| {
            format!(r#"{{"schema":"{schema}","at":"2026-11-22T03:12:07Z","event":"{event}","lock":null}}"#)
        };
        let check = |line: &str, says: &str| {
            let error = format!("{:#}", read(line).unwrap_err());
            assert!(error.contains(says), "{error}");
        };
        check(&line("lockwatch.event/2", "lost"), "lockwatch.event/2");
        check(&line("lockwatch.event/1", "acquired"), "an operation without a lock");
        check("{", "understand what it tells");
        assert!(read(&line("lockwatch.event/1", "of the future")).unwrap().is_none());
        assert!(matches!(read(&line("lockwatch.event/1", "lost")), Ok(Some(Told::Lost { count: 0, .. }))));
    }
}
