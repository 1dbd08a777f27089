//! Reports made by hand, for the tests of outputs.

use std::sync::Arc;

use lockwatch_core::{
    id::LockId,
    lock::{Device, FileId, Kind, Mode, Range},
    observation::{FileSeen, Via},
    process::{Death, Exit, Life, Process, ProcessId},
    report::{Cause, Holder, Host, LockReport, Report, SourceState, SourceStatus, Verdict, Waiter},
    text::Text,
    time::{StartTime, Timestamp},
};

use crate::output::{Options, Scope, sort::Sort};

/// 2026-11-22 03:12:07.123456789 UTC.
pub const NOW: Timestamp = Timestamp(1_795_317_127_123_456_789);

/// So many seconds before [`NOW`].
pub fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1_000_000_000)
}

/// A living process.
pub fn process(pid: u32, comm: &str) -> Process {
    Process {
        started_at: Some(ago(3600)),
        comm: Some(Text::from(comm)),
        exe: Some(Text::new(format!("/usr/bin/{comm}"))),
        uid: Some(0),
        ..Process::unknown(ProcessId { pid, start: Some(StartTime(u64::from(pid) * 100)) }, Life::Alive)
    }
}

/// A process that ended a minute ago.
pub fn dead(pid: u32, comm: &str, exit: Option<Exit>) -> Process {
    let death = Death { at: exit.is_some().then(|| ago(60)), exit, number_reused_by: None };
    Process { life: Life::Dead(death), ..process(pid, comm) }
}

/// A descriptor of a process.
pub fn holder(process: Process, fd: u32) -> Holder {
    Holder {
        process: Some(Arc::new(process)),
        via: Via::Fd,
        fd: Some(fd),
        cloexec: Some(false),
        opened: None,
        detail: None,
    }
}

/// A whole-file lock that its taker holds.
pub fn held(id: &str, path: &str, taker: Process) -> LockReport {
    LockReport {
        id: LockId(id.into()),
        kind: Kind::Flock,
        mode: Mode::Write,
        range: Range::WHOLE,
        file: FileId { device: Device { major: 254, minor: 0 }, inode: 10_010_672 },
        file_seen: Arc::new(FileSeen {
            path: Some(Text::from(path)),
            fs: Some(Text::from("ext4")),
            ..FileSeen::default()
        }),
        acquirer: Some(Arc::new(taker.clone())),
        acquired_at: Some(ago(120)),
        breaking: None,
        holders: vec![holder(taker, 3)],
        holders_complete: true,
        waiters: Vec::new(),
        verdict: Verdict::Held,
        cause: None,
        hot: false,
        deadlock: false,
        evidence: Vec::new(),
        history: Vec::new(),
    }
}

/// The ghost: killed by systemd, kept by a sleep, waited for.
pub fn ghost() -> LockReport {
    let kill = Exit::Signal {
        signal: 9,
        core_dumped: false,
        sender: Some((1, Text::from("systemd"))),
        oom: false,
        raised: None,
    };
    let taker = Process { unit: Some(Text::from("locksmith.service")), ..dead(4711, "locksmith", Some(kill)) };
    let waiter = Waiter {
        process: Some(Arc::new(process(4800, "updater"))),
        mode: Mode::Write,
        range: Range::WHOLE,
        since: Some(ago(42)),
        behind: Vec::new(),
    };
    LockReport {
        acquirer: Some(Arc::new(taker)),
        holders: vec![holder(process(4720, "sleep"), 9)],
        waiters: vec![waiter],
        verdict: Verdict::Orphaned,
        cause: Some(Cause::Leaked),
        hot: true,
        evidence: vec![
            "pid 4711 (locksmith) was killed by SIGKILL from pid 1 (systemd) at 2026-11-22 03:11:07 UTC".into(),
            "pid 4720 (sleep) still has the file open as fd 9, inherited without O_CLOEXEC".into(),
        ],
        ..held("f3k9-27qd", "/etc/aim/aim_lock.conf", process(4711, "locksmith"))
    }
}

/// Four locks: hot, orphaned, held, unknown.
pub fn report() -> Report {
    let children = LockReport {
        kind: Kind::Ofd,
        range: Range { start: 100, end: Some(199) },
        acquirer: Some(Arc::new(dead(5000, "worker", Some(Exit::Code(1))))),
        holders: vec![holder(process(5001, "worker"), 4), holder(process(5002, "worker"), 4)],
        waiters: vec![Waiter { process: None, mode: Mode::Read, range: Range::WHOLE, since: None, behind: vec![5009] }],
        verdict: Verdict::Orphaned,
        cause: Some(Cause::Child),
        ..held("f3m2-8x0c", "/var/lib/queue/db", process(5000, "worker"))
    };
    let reader = LockReport {
        kind: Kind::Posix,
        mode: Mode::Read,
        range: Range { start: 0, end: Some(99) },
        acquired_at: None,
        ..held("7a1b-cd42", "/var/lib/app/data.db", process(900, "app"))
    };
    let unseen = LockReport {
        kind: Kind::Ofd,
        file_seen: Arc::default(),
        acquirer: None,
        acquired_at: None,
        holders: Vec::new(),
        holders_complete: false,
        verdict: Verdict::Unknown,
        ..held("9zzz-0001", "", process(1, "x"))
    };
    let source = |name, state, reason: Option<&str>| SourceStatus { name, state, reason: reason.map(str::to_owned) };
    Report {
        taken_at: NOW,
        host: Host { hostname: Text::from("node-7"), kernel: Text::from("6.18.44"), boot_id: "b0071d".into() },
        sources: vec![
            source("bpf", SourceState::Unavailable, Some("no CAP_BPF")),
            source("procfs", SourceState::Ok, None),
        ],
        exact: true,
        warnings: Vec::new(),
        locks: vec![ghost(), children, reader, unseen],
    }
}

/// Names chosen to hurt.
pub fn hostile() -> Report {
    let evil = || Text::new(b"/tmp/a\nb\x1b[2J\xe2\x80\xae\xff\"\\");
    let name = |text: Process| Process {
        comm: Some(Text::new(b"\x1b]0;x\x07\r\xfe")),
        exe: Some(evil()),
        unit: Some(Text::from("a;rm -rf b\u{202e}.service")),
        container: Some(Text::from("\u{9b}31m")),
        ..text
    };
    let sender = (7, Text::new(b"\n\xff"));
    let exit = Exit::Signal { signal: 15, core_dumped: true, sender: Some(sender), oom: false, raised: None };
    let mut lock = ghost();
    lock.file_seen = Arc::new(FileSeen { path: Some(evil()), deleted: true, fs: Some(evil()), ..FileSeen::default() });
    lock.acquirer = Some(Arc::new(name(dead(4711, "x", Some(exit)))));
    lock.holders = vec![Holder { detail: Some("seen twice".into()), ..holder(name(process(4720, "x")), 9) }];
    lock.waiters[0].process = Some(Arc::new(name(process(4800, "x"))));
    lock.evidence = vec!["a sentence".into()];
    Report { host: Host { hostname: evil(), ..Host::default() }, locks: vec![lock], ..report() }
}

/// How tests print: as wide as needed, without colours.
pub fn options() -> Options {
    Options { scope: Scope::All, columns: Vec::new(), sort: Sort::Severity, headers: true, colour: false, width: None }
}

/// What a writer has written, as text.
pub fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Proves that a text output cannot disturb a terminal: lines, and characters that show as themselves.
pub fn assert_harmless(text: &str) {
    let bad: Vec<_> = text.chars().filter(|c| *c != '\n' && !lockwatch_core::text::is_harmless(*c)).collect();
    assert!(bad.is_empty(), "{bad:?} in {text:?}");
}
