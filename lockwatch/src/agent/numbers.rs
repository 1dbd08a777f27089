//! What a scrape is answered with: plain numbers, gathered by the engine from its tables.

use std::collections::{BTreeMap, HashSet};

use lockwatch_core::{
    graph::Graph,
    lock::{Kind, Mode},
    policy,
    report::{Cause, LockReport, Report, Verdict},
    time::Timestamp,
};

use crate::sources::bpf::stats::{Census, Stats};

/// Everything that `/metrics` shows, at one moment.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// When they were gathered.
    pub at: Timestamp,
    /// How the probes are attached: `tp_btf`, `raw_tracepoint`, `tracepoint`.
    pub probes: &'static str,
    /// What the probes have counted.
    pub kernel: Stats,
    /// How many locks there are, by the kernel's own list.
    pub census: Census,
    /// What the last look has shown.
    pub judged: Judged,
    /// How many orphans were reported since the start, by the contract's name of their cause.
    pub detected: BTreeMap<&'static str, u64>,
    /// How many locks were cleared, or were meant to be, by method and outcome, as the audit log has it.
    pub clears: BTreeMap<(String, String), u64>,
    /// Lines of the audit log that are no records.
    pub bad_records: u64,
    /// What policies have done, in the order of the configuration.
    pub policies: Vec<policy::Numbers>,
    /// How many looks were made because something was lost, by reason.
    pub resyncs: BTreeMap<&'static str, u64>,
    /// When the last of them was.
    pub last_resync: Option<Timestamp>,
    /// Whether the picture is known to be complete.
    pub exact: bool,
    /// Whether the configuration that was last read is in use.
    pub reloaded: bool,
    /// How this process is, read once a second.
    pub process: ProcessNumbers,
}

/// Numbers of the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Orphaned locks by the contract's name of their cause.
    pub orphaned: BTreeMap<&'static str, u64>,
    /// How many are hot.
    pub hot: u64,
    /// How many cycles of waits there are.
    pub deadlocks: u64,
    /// When the acquirer of the orphan died that is one for the longest; `None` without orphans.
    pub oldest_orphan: Option<Timestamp>,
    /// Since when the one waits that has for the longest; `None` without waiters.
    pub oldest_waiter: Option<Timestamp>,
}

/// What one look tells without an agent.
#[derive(Clone, Debug)]
pub struct Looked {
    /// When it was.
    pub at: Timestamp,
    /// How many locks there are.
    pub census: Census,
    /// What is wrong with them.
    pub judged: Judged,
    /// Whether it is known since when each orphan is one. Without a watcher a death's time is not.
    pub knows_orphans: bool,
    /// Whether it is known since when each waiter waits.
    pub knows_waiters: bool,
}

/// This process, as every Prometheus client library has it (`process_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessNumbers {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// How many descriptors are open.
    pub open_fds: u64,
    /// How many may be.
    pub max_fds: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// When it started, in seconds since 1970.
    pub started: f64,
}

/// The contract's name of an orphan's cause.
pub fn cause_name(cause: Option<Cause>) -> &'static str {
    cause.map_or("unknown", Cause::name)
}

impl Looked {
    /// Counts what a report says.
    pub fn of(report: &Report) -> Self {
        let at = report.taken_at;
        let mut census = Census { exact: report.exact, ..Census::default() };
        // Whoever waits stands under each lock that is in the way.
        let mut met = HashSet::new();
        let (mut knows_orphans, mut knows_waiters) = (true, true);
        for lock in &report.locks {
            let kind = Kind::ALL.iter().position(|kind| *kind == lock.kind).unwrap_or_default();
            census.locks[kind][usize::from(lock.mode == Mode::Write)] += 1;
            knows_orphans &= lock.verdict != Verdict::Orphaned || lock.acquirer_died().is_some();
            for waiter in &lock.waiters {
                knows_waiters &= waiter.since.is_some();
                let known =
                    waiter.process.as_ref().map(|process| (process.id, lock.file, kind, waiter.range, waiter.since));
                census.waiters[kind] += u64::from(known.is_none_or(|request| met.insert(request)));
            }
        }
        let judged = Judged::of(report, |lock| lock.acquirer_died().unwrap_or(at));
        Self { at, census, judged, knows_orphans, knows_waiters }
    }

    /// How many requests wait.
    pub fn waiters(&self) -> u64 {
        self.census.waiters.iter().sum()
    }
}

impl Judged {
    /// Counts what a report says. `since` knows since when a lock is orphaned, as far as anybody can say.
    pub fn of(report: &Report, since: impl Fn(&LockReport) -> Timestamp) -> Self {
        let deadlocks = if report.locks.iter().any(|lock| lock.deadlock) { Graph::of(report).cycles.len() } else { 0 };
        let mut judged = Self { deadlocks: deadlocks as u64, ..Self::default() };
        for lock in &report.locks {
            judged.hot += u64::from(lock.hot);
            let waits = lock.waiters.iter().filter_map(|waiter| waiter.since);
            judged.oldest_waiter = waits.chain(judged.oldest_waiter).min();
            if lock.verdict == Verdict::Orphaned {
                *judged.orphaned.entry(cause_name(lock.cause)).or_default() += 1;
                judged.oldest_orphan = judged.oldest_orphan.into_iter().chain([since(lock)]).min();
            }
        }
        judged
    }
}
