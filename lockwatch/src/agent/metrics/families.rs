//! Which metrics there are, and what stands in them. Every member of a closed set of labels has its series, with zero
//! where there is nothing: an alert must not suffer from one that is missing.

use std::collections::BTreeMap;

use lockwatch_core::{
    lock::{Kind, Mode},
    policy::Ended,
    report::Cause,
    time::Timestamp,
};

use super::DoorNumbers;
use crate::{
    agent::numbers::{Judged, Looked, Numbers, cause_name},
    sources::bpf::stats::{Census, Histogram, TableUse},
};

/// One metric with all its series.
pub struct Family<'a> {
    /// Its name; that of a counter without `_total`.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its values.
    pub series: Series<'a>,
}

/// Labels with their values. No process, path or file is ever one.
pub type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Values of one type.
pub enum Series<'a> {
    /// What goes up and down.
    Gauge(Vec<(Labels<'a>, f64)>),
    /// What only grows.
    Counter(Vec<(Labels<'a>, u64)>),
    /// Time that only grows.
    Seconds(f64),
    /// How often something took how long.
    Histogram(Vec<(Labels<'a>, &'a Histogram)>),
}

const OLDEST_ORPHAN: &str = "lockwatch_oldest_orphan_seconds";
const OLDEST_WAITER: &str = "lockwatch_oldest_waiter_seconds";

/// Everything that a scrape shows.
pub fn of(numbers: &Numbers, doors: DoorNumbers) -> Vec<Family<'_>> {
    let mut all = state(numbers);
    all.extend(activity(numbers));
    all.extend(policies(numbers));
    all.extend(health(numbers, doors));
    all.extend(process(numbers));
    all
}

/// How things are.
fn state(numbers: &Numbers) -> Vec<Family<'_>> {
    let build = vec![("version", env!("CARGO_PKG_VERSION")), ("aya", env!("LOCKWATCH_AYA")), ("bpf", numbers.probes)];
    let mut all =
        vec![gauge("lockwatch_build_info", "What runs here, and how its probes are attached.", [(build, 1.0)])];
    all.extend(picture(numbers.at, &numbers.census, &numbers.judged));
    all
}

/// What a look tells without an agent. An age that it does not know is not among it.
pub fn of_look(look: &Looked) -> Vec<Family<'_>> {
    let mut all = picture(look.at, &look.census, &look.judged);
    all.retain(|family| match family.name {
        OLDEST_ORPHAN => look.knows_orphans,
        OLDEST_WAITER => look.knows_waiters,
        _ => true,
    });
    all.push(exact(look.census.exact));
    all
}

/// Which locks there are, and what is wrong with them.
fn picture<'a>(at: Timestamp, census: &'a Census, judged: &'a Judged) -> Vec<Family<'a>> {
    vec![
        gauge("lockwatch_locks", "Locks that are held.", floats(by_kind_and_mode(&census.locks))),
        gauge(
            "lockwatch_orphaned_locks",
            "Locks of which nobody is left who knows of them, by what keeps them.",
            floats(by_cause(&judged.orphaned)),
        ),
        plain("lockwatch_hot_locks", "Orphaned or deadlocked locks for which somebody waits too long.", judged.hot),
        plain("lockwatch_deadlocks", "Circles of processes that wait for each other.", judged.deadlocks),
        gauge(
            "lockwatch_waiters",
            "Requests that wait for a lock.",
            floats(by_kind(&census.waiters).map(|(labels, count)| (labels, *count))),
        ),
        age(OLDEST_ORPHAN, "How long the oldest orphaned lock has been one, 0 without any.", at, judged.oldest_orphan),
        age(OLDEST_WAITER, "How long the longest of the waits lasts, 0 without any.", at, judged.oldest_waiter),
    ]
}

/// What happens.
fn activity(numbers: &Numbers) -> Vec<Family<'_>> {
    let kernel = &numbers.kernel;
    let counts = |counts| by_kind(counts).map(|(labels, count)| (labels, *count));
    let exits = [("code", kernel.exits_by_code), ("signal", kernel.exits_by_signal)];
    let clears = numbers
        .clears
        .iter()
        .map(|((method, outcome), count)| (vec![("method", method.as_str()), ("outcome", outcome.as_str())], *count));
    vec![
        counter("lockwatch_acquisitions", "Locks granted.", by_kind_and_mode(&kernel.acquired)),
        counter("lockwatch_releases", "Locks given up, or ended with their owner.", counts(&kernel.released)),
        counter("lockwatch_contentions", "Requests that had to wait.", counts(&kernel.contended)),
        counter("lockwatch_refusals", "Requests that were refused.", counts(&kernel.refused)),
        histogram("lockwatch_wait_seconds", "How long requests waited.", by_kind(&kernel.waits)),
        histogram("lockwatch_hold_seconds", "How long locks were held.", by_kind(&kernel.holds)),
        counter("lockwatch_locker_exits", "Processes that had to do with locks and ended.", by("how", exits)),
        counter("lockwatch_orphans_detected", "Locks that became orphaned.", by_cause(&numbers.detected)),
        counter("lockwatch_clears", "What became of locks that were to be cleared.", clears),
        counter(
            "lockwatch_audit_bad_lines",
            "Lines of the audit log that are no records.",
            [(vec![], numbers.bad_records)],
        ),
    ]
}

/// What policies do. Their names are a closed set: the configuration's.
fn policies(numbers: &Numbers) -> Vec<Family<'_>> {
    let all = &numbers.policies;
    let would = all.iter().map(|policy| (policy.policy.as_str(), policy.would));
    let frozen = all.iter().map(|policy| (policy.policy.as_str(), u64::from(policy.frozen)));
    let acts = all.iter().flat_map(|policy| {
        Ended::ALL.into_iter().map(Ended::name).map(|outcome| {
            let count = policy.acts.get(outcome).copied().unwrap_or(0);
            (vec![("policy", policy.policy.as_str()), ("outcome", outcome)], count)
        })
    });
    vec![
        counter("lockwatch_policy_acts", "What became of locks that a policy wanted cleared.", acts),
        counter("lockwatch_policy_would", "Locks that a policy would have cleared.", by("policy", would)),
        gauge(
            "lockwatch_policy_frozen",
            "Whether a policy does nothing more, because something went wrong.",
            floats(by("policy", frozen)),
        ),
    ]
}

/// How much of it is known.
fn health(numbers: &Numbers, doors: DoorNumbers) -> Vec<Family<'_>> {
    let kernel = &numbers.kernel;
    let lost = [
        ("ring", kernel.lost.ring),
        ("traced", kernel.lost.traced),
        ("held", kernel.lost.held),
        ("processes", kernel.lost.processes),
        ("waits", kernel.lost.waits),
        ("watched", kernel.lost.watched),
        ("missed", kernel.lost.missed),
        ("readers", doors.missed),
    ];
    let turned_away = [("tcp", doors.turned_away_tcp), ("unix", doors.turned_away_unix)];
    let tables = |value: fn(&TableUse) -> u64| by("table", kernel.tables.iter().map(move |t| (t.name, value(t))));
    let (entries, capacity) = (tables(|table| table.entries), tables(|table| table.capacity));
    vec![
        counter(
            "lockwatch_resyncs",
            "Looks at everything because something was lost.",
            by("reason", copied(&numbers.resyncs)),
        ),
        counter("lockwatch_events_received", "Records from the probes.", by("event", kernel.events.iter().copied())),
        counter("lockwatch_events_lost", "Records and notes that were lost, by where.", by("stage", lost)),
        gauge("lockwatch_table_entries", "Entries of a kernel-side table.", floats(entries)),
        gauge("lockwatch_table_capacity", "Room in a kernel-side table.", floats(capacity)),
        counter(
            "lockwatch_table_full",
            "Entries for which a kernel-side table had no room.",
            tables(|table| table.full),
        ),
        exact(numbers.exact),
        gauge(
            "lockwatch_last_resync_timestamp_seconds",
            "When everything was last looked at because something was lost, 0 if it never was.",
            [(vec![], numbers.last_resync.map_or(0.0, |at| since(at, Timestamp(0))))],
        ),
        plain(
            "lockwatch_config_last_reload_successful",
            "Whether the configuration that was last read is in use.",
            u64::from(numbers.reloaded),
        ),
        counter("lockwatch_http_turned_away", "Connections for which there was no room.", by("door", turned_away)),
    ]
}

/// This process, as every client library has it.
fn process(numbers: &Numbers) -> Vec<Family<'_>> {
    let own = &numbers.process;
    let start = [(vec![], own.started)];
    vec![
        Family {
            name: "process_cpu_seconds",
            help: "Total user and system CPU time spent in seconds.",
            series: Series::Seconds(own.cpu_seconds),
        },
        plain("process_open_fds", "Number of open file descriptors.", own.open_fds),
        plain("process_max_fds", "Maximum number of open file descriptors.", own.max_fds),
        plain("process_virtual_memory_bytes", "Virtual memory size in bytes.", own.virtual_bytes),
        plain("process_resident_memory_bytes", "Resident memory size in bytes.", own.resident_bytes),
        gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start),
    ]
}

fn exact(exact: bool) -> Family<'static> {
    plain("lockwatch_state_exact", "Whether the picture is known to be complete.", u64::from(exact))
}

type Rows<'a> = Vec<(Labels<'a>, u64)>;

fn gauge<'a>(name: &'static str, help: &'static str, rows: impl IntoIterator<Item = (Labels<'a>, f64)>) -> Family<'a> {
    Family { name, help, series: Series::Gauge(rows.into_iter().collect()) }
}

fn plain(name: &'static str, help: &'static str, value: u64) -> Family<'static> {
    gauge(name, help, [(vec![], float(value))])
}

fn age(name: &'static str, help: &'static str, now: Timestamp, from: Option<Timestamp>) -> Family<'static> {
    gauge(name, help, [(vec![], from.map_or(0.0, |from| since(now, from)))])
}

fn counter<'a>(
    name: &'static str,
    help: &'static str,
    rows: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> Family<'a> {
    Family { name, help, series: Series::Counter(rows.into_iter().collect()) }
}

fn histogram<'a>(
    name: &'static str,
    help: &'static str,
    rows: impl Iterator<Item = (Labels<'a>, &'a Histogram)>,
) -> Family<'a> {
    Family { name, help, series: Series::Histogram(rows.collect()) }
}

fn floats<'a>(rows: impl IntoIterator<Item = (Labels<'a>, u64)>) -> impl Iterator<Item = (Labels<'a>, f64)> {
    rows.into_iter().map(|(labels, count)| (labels, float(count)))
}

fn by<'a>(label: &'static str, rows: impl IntoIterator<Item = (&'a str, u64)>) -> Rows<'a> {
    rows.into_iter().map(|(value, count)| (vec![(label, value)], count)).collect()
}

fn by_kind<'a, T>(values: &'a [T; 5]) -> impl Iterator<Item = (Labels<'a>, &'a T)> {
    Kind::ALL.iter().zip(values).map(|(kind, value)| (vec![("kind", kind.name())], value))
}

fn by_kind_and_mode(counts: &[[u64; 2]; 5]) -> impl Iterator<Item = (Labels<'_>, u64)> {
    by_kind(counts).flat_map(|(labels, counts)| {
        [Mode::Read, Mode::Write]
            .into_iter()
            .zip(*counts)
            .map(move |(mode, count)| (labels.iter().copied().chain([("mode", mode.name())]).collect(), count))
    })
}

fn by_cause<'a>(counts: &BTreeMap<&'static str, u64>) -> impl Iterator<Item = (Labels<'a>, u64)> {
    let mut all: BTreeMap<&'static str, u64> =
        Cause::OF_ORPHANS.into_iter().map(Some).chain([None]).map(|cause| (cause_name(cause), 0)).collect();
    all.extend(counts);
    all.into_iter().map(|(cause, count)| (vec![("cause", cause)], count))
}

fn copied(counts: &BTreeMap<&'static str, u64>) -> impl Iterator<Item = (&'static str, u64)> {
    counts.iter().map(|(name, count)| (*name, *count))
}

fn since(now: Timestamp, from: Timestamp) -> f64 {
    now.since(from).as_secs_f64()
}

/// Metrics are floating point numbers; what is above 2^53 is near enough.
#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}

/// Numbers of an agent that has seen something of everything.
#[cfg(test)]
pub fn sample() -> Numbers {
    use crate::{
        agent::numbers::ProcessNumbers,
        fixture::{NOW, ago},
        sources::bpf::stats::Stats,
    };

    let mut waits: [Histogram; 5] = Default::default();
    waits[0].buckets[3] = 2;
    *waits[0].buckets.last_mut().unwrap() = 1;
    waits[0].sum_ns = 1_500_000_000;
    Numbers {
        at: NOW,
        probes: "tp_btf",
        kernel: Stats {
            acquired: [[1, 2], [5, 0], [0, 0], [0, 0], [0, 0]],
            waits,
            events: vec![("waiting", 1), ("process_exit", 2)],
            tables: vec![TableUse { name: "held", entries: 1, capacity: 64, full: 0 }],
            ..Stats::default()
        },
        census: Census { locks: [[0, 7], [0, 0], [0, 0], [0, 0], [0, 0]], waiters: [1, 0, 0, 0, 0], exact: true },
        judged: Judged {
            orphaned: BTreeMap::from([("leaked", 2)]),
            hot: 1,
            deadlocks: 0,
            oldest_orphan: Some(ago(60)),
            oldest_waiter: None,
        },
        detected: BTreeMap::from([("leaked", 3)]),
        clears: BTreeMap::from([(("a\"b\\".to_owned(), "c\n".to_owned()), 1)]),
        bad_records: 2,
        policies: vec![lockwatch_core::policy::Numbers {
            policy: "stale".into(),
            frozen: true,
            would: 4,
            acts: BTreeMap::from([("cleared", 5)]),
        }],
        resyncs: BTreeMap::from([("ring", 1)]),
        last_resync: Some(ago(3)),
        exact: true,
        reloaded: true,
        process: ProcessNumbers::default(),
    }
}
