//! Graphs made by hand, for the tests of every form.

use std::sync::Arc;

use lockwatch_core::{
    graph::Graph,
    lock::{FileId, Kind, Mode, Range},
    observation::{FileSeen, Via},
    report::{Holder, LockReport, Report, Waiter},
    text::Text,
};

use super::{Drawn, Form};
use crate::fixture::{self, ago, process};

/// A request of a process, so many seconds old.
pub(super) fn waiter(pid: u32, comm: &str, seconds: u64, behind: &[u32]) -> Waiter {
    let process = Some(Arc::new(process(pid, comm)));
    Waiter { process, mode: Mode::Write, range: Range::WHOLE, since: Some(ago(seconds)), behind: behind.to_vec() }
}

fn lock(id: &str, path: &str, kind: Kind, owner: (u32, &str), waiters: Vec<Waiter>) -> LockReport {
    let held = fixture::held(id, path, process(owner.0, owner.1));
    let inode = id.bytes().fold(0, |sum, b| sum * 7 + u64::from(b));
    LockReport { kind, waiters, file: FileId { inode, ..held.file }, ..held }
}

/// A three-cycle over three kinds, one who waits for it and holds something himself, a ghost, and a chain.
pub(super) fn report() -> Report {
    let stuck = |lock: LockReport| LockReport { deadlock: true, hot: true, ..lock };
    let orders = waiter(103, "mailer", 40, &[]);
    let late = waiter(104, "report", 12, &[103]);
    let locks = vec![
        stuck(lock("aaaa-0001", "/srv/demo/orders.lock", Kind::Flock, (101, "billing"), vec![orders, late])),
        stuck(LockReport {
            range: Range { start: 0, end: Some(99) },
            ..lock(
                "aaaa-0002",
                "/srv/demo/stock.db",
                Kind::Posix,
                (102, "stock"),
                vec![waiter(101, "billing", 42, &[])],
            )
        }),
        stuck(lock(
            "aaaa-0003",
            "/srv/demo/mail.spool",
            Kind::Ofd,
            (103, "mailer"),
            vec![waiter(102, "stock", 41, &[])],
        )),
        fixture::ghost(),
        lock("bbbb-0001", "/srv/demo/report.pid", Kind::Flock, (104, "report"), vec![waiter(105, "cron", 3, &[])]),
        lock("cccc-0001", "/srv/demo/quiet", Kind::Flock, (200, "quiet"), Vec::new()),
    ];
    Report { locks, ..fixture::report() }
}

/// Names chosen to hurt every form, and a holder in the kernel.
pub(super) fn hostile() -> Report {
    let names: [&[u8]; 7] = [
        b"/a\"]; evil [\"",
        b"/b\n\\\" -> x; //\\",
        b"/c</text><script>alert(1)</script>&amp;'",
        "/d\u{202e}gpj\u{200b}\u{ffff}\u{85}".as_bytes(),
        b"/e\xff\xfe%%{init: {}}%% #quot; `md` &#x3c;",
        b"/f]]>|\"|--> end; subgraph x",
        b"\\N \\G $1 ${x} {a|b} <c>",
    ];
    let hurt = |(i, name): (usize, &&[u8])| {
        let mut lock = fixture::hostile().locks.remove(0);
        lock.id.0 = format!("zzzz-000{i}");
        lock.file.inode = i as u64;
        lock.file_seen = Arc::new(FileSeen { path: Some(Text::new(name)), ..FileSeen::default() });
        for holder in &mut lock.holders {
            let comm = Some(Text::new(name));
            let other = lockwatch_core::process::Process { comm, ..process(500 + i as u32, "x") };
            holder.process = Some(Arc::new(other));
        }
        let detail = Some("loop\u{202e}7 <b>\"".to_owned());
        lock.holders.push(Holder { process: None, via: Via::Kernel, fd: None, cloexec: None, opened: None, detail });
        lock
    };
    Report { locks: names.iter().enumerate().map(hurt).collect(), ..fixture::report() }
}

/// One lock with so many waiters.
pub(super) fn crowd(waiters: u32) -> Report {
    let queue = (0..waiters).map(|i| waiter(1000 + i, "worker", 90, &(1000..1000 + i).collect::<Vec<_>>())).collect();
    Report { locks: vec![lock("dddd-0001", "/srv/demo/hub", Kind::Flock, (1, "hub"), queue)], ..fixture::report() }
}

/// A report's graph in a form.
pub(super) fn written(form: Form, report: &Report) -> String {
    let graph = Graph::of(report);
    fixture::written(|out| super::write(form, &Drawn { graph: &graph, report }, &fixture::options(), out))
}
