//! What happens, one line each: CONTRACT section 3 as NDJSON, or a line for a human.

mod object;

use std::{
    io::{self, Write},
    time::Duration,
};

use lockwatch_core::{
    id::LockId,
    observation::{FileSeen, LockEvent, LockEventKind},
    policy::Decision,
    process::{Life, Origin, Process},
    report::{LockReport, Waiter},
    time::Timestamp,
    timeline::Moment,
};

use crate::alarms::Change;

use super::{
    Format, Options,
    column::Column,
    document::rfc3339,
    style::{self, paint},
    to_json, words,
};

/// Something worth a line.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A lock operation.
    Lock {
        /// What the watcher saw.
        event: &'a LockEvent,
        /// What is known of the file.
        file: Option<&'a FileSeen>,
        /// What is known of the process besides its number and name.
        process: Option<&'a Process>,
        /// The lock's name, if it is in the table.
        id: Option<&'a LockId>,
        /// For a release: how long it was held, in nanoseconds.
        held_ns: Option<u64>,
    },
    /// A process that had to do with locks is gone.
    ProcessExit {
        /// When.
        at: Timestamp,
        /// Who, and how.
        process: &'a Process,
    },
    /// A lock has lost everybody who knew of it.
    Orphaned {
        /// When.
        at: Timestamp,
        /// Which, as it is now.
        lock: &'a LockReport,
        /// What has happened to it, oldest first.
        history: &'a [Moment],
    },
    /// Somebody has been waiting too long for such a lock.
    Hot {
        /// When.
        at: Timestamp,
        /// Which, as it is now.
        lock: &'a LockReport,
        /// What has happened to it, oldest first.
        history: &'a [Moment],
    },
    /// An orphaned or hot lock is one no more.
    Cleared {
        /// When.
        at: Timestamp,
        /// Which, as it was.
        lock: &'a LockReport,
    },
    /// The last hot lock is gone.
    AllClear {
        /// When.
        at: Timestamp,
    },
    /// The probes are attached and the first look is done: from here on nothing is missed.
    Watching {
        /// Since when.
        at: Timestamp,
        /// How many locks there are.
        locks: usize,
        /// How many of them are orphaned.
        orphaned: usize,
        /// How many are hot.
        hot: usize,
    },
    /// A policy does something, or says what it would do.
    Policy {
        /// When.
        at: Timestamp,
        /// What.
        decision: &'a Decision,
    },
    /// Events were lost.
    Lost {
        /// When it was noticed.
        at: Timestamp,
        /// How many.
        count: u64,
    },
    /// A control group does so much that some of it is not told, or no longer.
    Throttled {
        /// When that began, or ended.
        at: Timestamp,
        /// The kernel's number of the group; 0 for all beyond the number that is kept apart.
        cgroup: u64,
        /// What the group is.
        origin: &'a Origin,
        /// How many operations were left out, when it has ended.
        left_out: Option<u64>,
    },
}

/// Prints one line. Whoever wants it seen at once flushes.
pub fn write(event: &Event<'_>, format: Format, options: &Options, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Text => human(event, options.colour, out)?,
        Format::Json | Format::Ndjson => to_json(&object::object(event), out)?,
    }
    writeln!(out)
}

impl<'a> Event<'a> {
    /// What a change between two looks is, told at this time.
    pub fn of(change: &'a Change, at: Timestamp, history: &'a [Moment]) -> Self {
        match change {
            Change::Orphaned(lock) => Event::Orphaned { at, lock, history },
            Change::Hot(lock) => Event::Hot { at, lock, history },
            Change::Cleared(lock) => Event::Cleared { at, lock },
            Change::AllClear => Event::AllClear { at },
        }
    }

    /// When.
    pub fn at(&self) -> Timestamp {
        match self {
            Event::Lock { event, .. } => event.at,
            Event::ProcessExit { at, .. }
            | Event::Orphaned { at, .. }
            | Event::Hot { at, .. }
            | Event::Cleared { at, .. }
            | Event::AllClear { at }
            | Event::Watching { at, .. }
            | Event::Policy { at, .. }
            | Event::Throttled { at, .. }
            | Event::Lost { at, .. } => *at,
        }
    }

    /// The lock that it is about, if it is a change of one.
    pub fn lock(&self) -> Option<&'a LockReport> {
        match self {
            Event::Orphaned { lock, .. } | Event::Hot { lock, .. } | Event::Cleared { lock, .. } => Some(lock),
            _ => None,
        }
    }

    /// The contract's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Lock { event, .. } => event.what.name(),
            Event::ProcessExit { .. } => "process_exit",
            Event::Orphaned { .. } => "orphaned",
            Event::Hot { .. } => "hot",
            Event::Cleared { .. } => "cleared",
            Event::AllClear { .. } => "all_clear",
            Event::Watching { .. } => "watching",
            Event::Policy { .. } => "policy",
            Event::Lost { .. } => "lost",
            Event::Throttled { left_out: None, .. } => "throttled",
            Event::Throttled { left_out: Some(_), .. } => "unthrottled",
        }
    }
}

fn longest_wait(lock: &LockReport, at: Timestamp) -> Option<Duration> {
    lock.waiters.iter().filter_map(|w| w.since).min().map(|since| at.since(since))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `2026-11-22T03:12:07.123Z HOT       f3k9-27qd /etc/aim/aim_lock.conf …`.
fn human(event: &Event<'_>, colour: bool, out: &mut impl Write) -> io::Result<()> {
    let style = match event {
        Event::Hot { .. } | Event::Policy { decision: Decision::Frozen { .. }, .. } => style::HOT,
        Event::Orphaned { .. } => style::BAD,
        Event::AllClear { .. } => style::GOOD,
        Event::Lost { .. } | Event::Throttled { .. } => style::DOUBT,
        _ => style::PLAIN,
    };
    let word = format!("{:<12}", word(event));
    let end = if matches!(event, Event::Watching { .. }) { "; Ctrl-C ends" } else { "" };
    write!(out, "{} {} {}{end}", rfc3339(event.at(), 3), paint(colour, style, word), text(event))
}

/// The object of a line of NDJSON, without its end.
pub fn object(event: &Event<'_>) -> String {
    let mut out = Vec::new();
    // Memory takes everything, and JSON is UTF-8.
    let _ = to_json(&object::object(event), &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// The same without the time, for a log that has its own.
pub fn sentence(event: &Event<'_>) -> String {
    format!("{} {}", word(event), text(event))
}

fn word(event: &Event<'_>) -> String {
    match event {
        Event::Lock { event, .. } => event.what.name().replace('_', "-"),
        Event::ProcessExit { .. } => "process-exit".to_owned(),
        other => other.name().to_uppercase().replace('_', " "),
    }
}

fn text(event: &Event<'_>) -> String {
    match event {
        Event::Lock { event, file, held_ns, .. } => lock_event(event, *file, *held_ns),
        Event::ProcessExit { process, .. } => match &process.life {
            Life::Dead(death) => match &death.exit {
                Some(exit) => format!("{process} {exit}"),
                None => format!("{process} is gone; nobody saw how"),
            },
            _ => format!("{process} is gone"),
        },
        Event::Orphaned { at, lock, .. } => story(lock, *at),
        Event::Hot { at, lock, .. } => story(lock, *at),
        Event::Cleared { lock, at } => {
            let held = lock.acquired_at.map(|since| format!(" after {}", words::duration(at.since(since))));
            format!("{} {}{}", lock.id, words::file(lock.file, &lock.file_seen), held.unwrap_or_default())
        }
        Event::AllClear { .. } => "no hot lock is left".to_owned(),
        Event::Watching { locks, orphaned, hot, .. } => {
            format!("{}, {orphaned} orphaned, {hot} hot", words::count(*locks, "lock"))
        }
        Event::Policy { decision, .. } => {
            words::sentence(&format!("{}: {}", decision.policy(), decision.words())).into_owned()
        }
        Event::Lost { count, .. } => {
            format!(
                "{}: what stands above may be incomplete, looking again",
                words::count(usize::try_from(*count).unwrap_or(usize::MAX), "event")
            )
        }
        Event::Throttled { cgroup, origin, left_out, .. } => {
            let group = group(*cgroup, origin);
            match left_out {
                None => format!("{group}: so many lock operations that only some of each second are told"),
                Some(count) => {
                    let count = words::count(usize::try_from(*count).unwrap_or(usize::MAX), "lock operation");
                    format!("{group}: told in full again; {count} were left out")
                }
            }
        }
    }
}

/// What a control group is best known by.
fn group(cgroup: u64, origin: &Origin) -> String {
    let known = [&origin.user_unit, &origin.unit, &origin.container, &origin.slice].into_iter().flatten().next();
    match (known, cgroup) {
        (Some(name), _) => name.to_string(),
        (None, 0) => "other control groups".to_owned(),
        (None, number) => format!("control group {number}"),
    }
}

fn lock_event(event: &LockEvent, file: Option<&FileSeen>, held_ns: Option<u64>) -> String {
    let nothing = FileSeen::default();
    let mut text = format!(
        "{} {} {} {} by pid {} ({})",
        event.kind,
        event.mode,
        event.range,
        words::file(event.file, file.unwrap_or(&nothing)),
        event.process.pid,
        event.comm
    );
    if event.remote {
        text += ", kept by its file system and so in no list";
    }
    if let Some(waited) = event.waited_ns {
        text += &format!(", waited {}", words::duration(Duration::from_nanos(waited)));
    }
    if let (LockEventKind::Released, Some(held)) = (event.what, held_ns) {
        text += &format!(", held for {}", words::duration(Duration::from_nanos(held)));
    }
    text
}

/// What one must know at once: which file, whose it was, who keeps it, who waits, what to type.
fn story(lock: &LockReport, at: Timestamp) -> String {
    let mut text = format!("{} {}", lock.id, words::file(lock.file, &lock.file_seen));
    if let Some(taker) = &lock.acquirer {
        text += &format!(", taken by {}", words::fate(taker));
    }
    text += &format!(", held by {}", Column::HeldBy.cell(lock, at));
    let names = |w: &Waiter| w.process.as_deref().map(words::process);
    match (lock.waiters.len(), longest_wait(lock, at)) {
        (0, _) => {}
        (n, wait) => {
            let who = lock.waiters.iter().find_map(names).map(|who| format!(" ({who})")).unwrap_or_default();
            let wait = wait.map(|wait| format!(" for {}", words::duration(wait))).unwrap_or_default();
            text += &format!(", {n} waiting{who}{wait}");
        }
    }
    text + &format!(". Next: lockwatch explain {}", lock.id)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use lockwatch_core::{
        clear::Method,
        lock::{Device, FileId, Kind, Mode, OwnerKey, Range},
        policy::About,
        process::{Exit, ProcessId},
        text::Text,
        timeline::What,
    };

    use super::*;
    use crate::fixture::{self, NOW};

    fn operation(what: LockEventKind) -> LockEvent {
        LockEvent {
            at: NOW,
            what,
            file: FileId { device: Device { major: 254, minor: 0 }, inode: 42 },
            kind: Kind::Posix,
            mode: Mode::Write,
            range: Range { start: 0, end: Some(9) },
            owner: OwnerKey(1),
            process: ProcessId { pid: 4711, start: None },
            comm: Text::from("lock\u{202e}er\n"),
            remote: false,
            waited_ns: Some(1_500_000_000),
        }
    }

    /// Every event there is.
    fn with_all(see: impl Fn(&Event<'_>)) {
        let hostile = fixture::hostile();
        let (ghost, path) = (fixture::ghost(), &*hostile.locks[0].file_seen);
        let gone = fixture::dead(4711, "locker", Some(Exit::Code(3)));
        let (granted, released) = (operation(LockEventKind::Granted), operation(LockEventKind::Released));
        see(&Event::Lock { event: &granted, file: None, process: None, id: None, held_ns: None });
        let file = Some(path);
        see(&Event::Lock {
            event: &released,
            file,
            process: Some(&gone),
            id: Some(&ghost.id),
            held_ns: Some(7_000_000),
        });
        see(&Event::ProcessExit { at: NOW, process: &gone });
        let taken = Moment {
            at: NOW,
            what: What::Taken,
            who: hostile.locks[0].acquirer.clone(),
            waited: Some(Duration::from_secs(1)),
            number: 1,
        };
        see(&Event::Orphaned { at: NOW, lock: &hostile.locks[0], history: &[taken] });
        see(&Event::Hot { at: NOW, lock: &ghost, history: &[] });
        see(&Event::Cleared { at: NOW, lock: &ghost });
        see(&Event::AllClear { at: NOW });
        let lock = About { id: ghost.id.clone(), file: path.path.as_ref().unwrap().to_string() };
        let decision = Decision::Would { policy: "stale".into(), lock, method: Method::Release };
        see(&Event::Policy { at: NOW, decision: &decision });
        see(&Event::Lost { at: NOW, count: 17 });
        let origin = Origin { unit: Some(Text::from("cron\u{202e}.service")), ..Origin::default() };
        see(&Event::Throttled { at: NOW, cgroup: 4242, origin: &origin, left_out: None });
        see(&Event::Throttled { at: NOW, cgroup: 0, origin: &Origin::default(), left_out: Some(7) });
    }

    fn all(format: Format) -> String {
        let out = std::cell::RefCell::new(Vec::new());
        with_all(|event| write(event, format, &fixture::options(), &mut *out.borrow_mut()).unwrap());
        let text = String::from_utf8(out.into_inner()).unwrap();
        fixture::assert_harmless(&text);
        assert_eq!(text.lines().count(), 11);
        text
    }

    fn check(format: Format, expect: Expect) {
        expect.assert_eq(&all(format));
    }

    #[test]
    fn a_line_for_a_human() {
        check(
            Format::Text,
            expect![[r#"
                2026-11-22T03:12:07.123Z granted      posix write 0-9 file fe:00:42 by pid 4711 (lock\u{202e}er\n), waited 1 s
                2026-11-22T03:12:07.123Z released     posix write 0-9 /tmp/a\nb\x1b[2J\u{202e}\xff"\\ (deleted) by pid 4711 (lock\u{202e}er\n), waited 1 s, held for 7 ms
                2026-11-22T03:12:07.123Z process-exit pid 4711 (locker) exited with code 3
                2026-11-22T03:12:07.123Z ORPHANED     f3k9-27qd /tmp/a\nb\x1b[2J\u{202e}\xff"\\ (deleted), taken by 4711 \x1b]0;x\x07\r\xfe, SIGTERM, held by 4720 \x1b]0;x\x07\r\xfe fd 9, 1 waiting (4800 \x1b]0;x\x07\r\xfe) for 42 s. Next: lockwatch explain f3k9-27qd
                2026-11-22T03:12:07.123Z HOT          f3k9-27qd /etc/aim/aim_lock.conf, taken by 4711 locksmith, SIGKILL, held by 4720 sleep fd 9, 1 waiting (4800 updater) for 42 s. Next: lockwatch explain f3k9-27qd
                2026-11-22T03:12:07.123Z CLEARED      f3k9-27qd /etc/aim/aim_lock.conf after 2 min
                2026-11-22T03:12:07.123Z ALL CLEAR    no hot lock is left
                2026-11-22T03:12:07.123Z POLICY       stale: would clear f3k9-27qd (/tmp/a\nb\x1b[2J\u{202e}\xff"\\) by release, and does not: stage observe
                2026-11-22T03:12:07.123Z LOST         17 events: what stands above may be incomplete, looking again
                2026-11-22T03:12:07.123Z THROTTLED    cron\u{202e}.service: so many lock operations that only some of each second are told
                2026-11-22T03:12:07.123Z UNTHROTTLED  other control groups: told in full again; 7 lock operations were left out
            "#]],
        );
    }

    #[test]
    fn a_line_for_a_script() {
        let short: Vec<String> = all(Format::Ndjson)
            .lines()
            .map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                let keys: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(keys.len(), 11, "{keys:?}");
                let get = |path| event.pointer(path).cloned().unwrap_or_default();
                let ns = (get("/waited_ns"), get("/held_ns"), get("/lost"));
                format!(
                    "{} {} {} {} {} {}",
                    get("/event"),
                    get("/lock/file/inode"),
                    get("/process/pid"),
                    ns.0,
                    ns.1,
                    ns.2
                )
            })
            .collect();
        expect![[r#"
            "granted" 42 4711 1500000000 null null
            "released" 42 4711 1500000000 7000000 null
            "process_exit" null 4711 null null null
            "orphaned" 10010672 null 42000000000 null null
            "hot" 10010672 null 42000000000 null null
            "cleared" 10010672 null null 120000000000 null
            "all_clear" null null null null null
            "policy" null null null null null
            "lost" null null null null 17
            "throttled" null null null null null
            "unthrottled" null null null null 7"#]]
        .assert_eq(&short.join("\n"));
    }

    #[test]
    fn every_line_keeps_the_schema() {
        all(Format::Ndjson).lines().for_each(|line| crate::output::schema::Schema::Event.assert_valid(line));
    }
}
