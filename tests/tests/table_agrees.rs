//! Whatever is locked and unlocked, in whatever order: core's table, told of each operation, has the locks that the
//! kernel has.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{os::unix::fs::MetadataExt, path::Path};

use lockwatch_core::{
    lock::{Device, FileId, Kind, Mode, OwnerKey, Range},
    observation::{Event, LockEvent, LockEventKind},
    process::ProcessId,
    report::Settings,
    table::Table,
    text::Text,
    time::Timestamp,
};
use lockwatch_tests::{Locker, Scene, proc_locks_of};
use proptest::{collection::vec, prelude::*};

/// One operation. `None` for the mode unlocks; `last: None` is to the end of the file.
#[derive(Clone, Copy, Debug)]
struct Operation {
    /// Which of the two processes.
    process: usize,
    /// Which of its two descriptors; the first is shared with the other process.
    own: bool,
    kind: Kind,
    mode: Option<Mode>,
    start: u64,
    last: Option<u64>,
}

fn operation() -> impl Strategy<Value = Operation> {
    let kind = prop_oneof![Just(Kind::Flock), Just(Kind::Posix), Just(Kind::Ofd)];
    let mode = prop_oneof![Just(None), Just(Some(Mode::Read)), Just(Some(Mode::Write))];
    // Few bytes, so that ranges meet; the end of the file is as likely as any of them.
    (0..2_usize, any::<bool>(), kind, mode, 0..12_u64, prop::option::weighted(0.8, 0..6_u64)).prop_map(
        |(process, own, kind, mode, start, len)| Operation {
            process,
            own,
            kind,
            mode,
            start,
            last: len.map(|len| start + len),
        },
    )
}

impl Operation {
    /// The locker's command for it. Everybody's shared descriptor is 5 and the own one 6.
    fn command(self) -> String {
        let fd = if self.own { 6 } else { 5 };
        let range = format!("{} {}", self.start, self.last.map_or(0, |last| last - self.start + 1));
        let letter = |mode| if mode == Mode::Read { "r" } else { "w" };
        match (self.kind, self.mode) {
            (Kind::Flock, None) => format!("unflock {fd}"),
            (Kind::Flock, Some(Mode::Read)) => format!("flock {fd} sh"),
            (Kind::Flock, Some(Mode::Write)) => format!("flock {fd} ex"),
            (kind, None) => format!("{kind}un {fd} {range}"),
            (kind, Some(mode)) => format!("{kind} {fd} {} {range}", letter(mode)),
        }
    }

    /// What a watcher would say of it.
    fn event(self, file: FileId, pid: u32, granted: bool) -> Event {
        let what = match (self.mode, granted) {
            (None, _) => LockEventKind::Released,
            (Some(_), true) => LockEventKind::Acquired,
            (Some(_), false) => LockEventKind::Refused,
        };
        // POSIX locks belong to the process, the others to the open file description.
        let owner = match (self.kind, self.own) {
            (Kind::Posix, _) => 100 + self.process as u64,
            (_, true) => 200 + self.process as u64,
            (_, false) => 300,
        };
        let whole = self.kind == Kind::Flock;
        Event::Lock(LockEvent {
            at: Timestamp(1),
            what,
            file,
            kind: self.kind,
            mode: self.mode.unwrap_or(Mode::Write),
            range: if whole { Range::WHOLE } else { Range { start: self.start, end: self.last } },
            owner: OwnerKey(owner),
            process: ProcessId { pid, start: None },
            comm: Text::from("locker"),
            remote: false,
            waited_ns: None,
        })
    }
}

/// Kind, mode, first and last byte, and the acquirer where the kernel tells it.
type Row = (String, String, u64, Option<u64>, Option<u32>);

fn by_kernel(path: &Path) -> Vec<Row> {
    let mut rows: Vec<Row> = proc_locks_of(path).into_iter().map(|l| (l.kind, l.mode, l.start, l.end, l.pid)).collect();
    rows.sort();
    rows
}

fn by_table(table: &Table) -> Vec<Row> {
    let row = |lock: lockwatch_core::observation::LockSeen| {
        let pid = lock.acquirer.map(|id| id.pid).filter(|_| lock.kind != Kind::Ofd);
        (lock.kind.to_string(), lock.mode.name().to_owned(), lock.range.start, lock.range.end, pid)
    };
    let mut rows: Vec<Row> = table.locks().into_iter().map(row).collect();
    rows.sort();
    rows
}

/// Two processes that share one open file description, and have another each.
fn cast(scene: &Scene, path: &Path) -> [Locker; 2] {
    let mut parent = scene.locker();
    parent.open(path, "rw as 5");
    let mut both = [parent.fork(scene), parent];
    for locker in &mut both {
        locker.open(path, "rw as 6");
    }
    both
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_table_has_the_locks_that_the_kernel_has(operations in vec(operation(), 1..24)) {
        let scene = Scene::new();
        let path = scene.file("lock");
        let file = FileId { device: Device { major: 0, minor: 0 }, inode: path.metadata().unwrap().ino() };
        let mut lockers = cast(&scene, &path);
        let mut table = Table::new(Settings::default());
        let mut done = Vec::new();
        for operation in operations {
            let command = operation.command();
            let locker = &mut lockers[operation.process];
            let granted = match locker.ask(&command) {
                Ok(_) => true,
                Err(e) if e == "EAGAIN" => false,
                Err(e) => panic!("{command}: {e}"),
            };
            table.apply(&operation.event(file, locker.pid(), granted));
            done.push(format!("{} {command}{}", locker.pid(), if granted { "" } else { ": refused" }));
            prop_assert_eq!(by_table(&table), by_kernel(&path), "after {:#?}", done);
        }
    }
}
