//! A day in minutes: an agent, a thousand lock operations a second, waits of short-lived processes for short-lived files,
//! and orphans that are born and cleared all the while, each of which it must report once. Meanwhile its memory and its descriptors are watched.

mod cradle;
mod fit;
mod ledger;
mod vitals;

use std::{
    fmt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use self::{
    cradle::Cradle,
    ledger::Ledger,
    vitals::{Sample, Vitals},
};
use crate::{
    HostAgent, Metrics, Scene,
    sys::{self, RangeKind},
};

pub use cradle::cradle;

/// Lock operations a second: a lock or an unlock is one.
const OPERATIONS: f64 = 1000.0;
/// Orphans a second: ten thousand in twenty minutes.
const BIRTHS: f64 = 10_000.0 / (20.0 * 60.0);
/// Waits a second, each of a process and for a file of its own.
const WAITS: f64 = 10.0;
/// How often somebody looks after everything.
const TURN: Duration = Duration::from_millis(10);

/// How the day was.
pub struct Day {
    ledger: Ledger,
    vitals: Vitals,
    operations: u64,
    waits: u64,
    lost: Vec<(&'static str, f64)>,
    resyncs: f64,
    exact: bool,
}

/// What can be lost, by the metrics' word for it.
const STAGES: [&str; 7] = ["ring", "held", "processes", "waits", "watched", "missed", "traced"];

/// Lives one of so many minutes.
///
/// # Errors
///
/// It cannot be staged.
pub fn live(minutes: f64) -> Result<Day> {
    let scene = Scene::new();
    let mut agent = HostAgent::start(&scene, "");
    let pid = agent.process().pid();
    let mut cradle = Cradle::start(&scene, minutes)?;
    let mut worker = Worker::new(scene.file("worked-on"))?;
    let mut day = Day {
        ledger: Ledger::default(),
        vitals: Vitals::default(),
        operations: 0,
        waits: 0,
        lost: Vec::new(),
        resyncs: 0.0,
        exact: false,
    };
    let (start, length) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    while start.elapsed() < length || day.ledger.waits() {
        let now = start.elapsed().as_secs_f64();
        while (day.operations as f64) < now * OPERATIONS {
            worker.act().context("lock and unlock")?;
            day.operations += 1;
        }
        if start.elapsed() < length && (day.ledger.born() as f64) < now * BIRTHS {
            let name = day.ledger.next();
            cradle.bear(&name)?;
            day.ledger.bear(name);
        }
        if (day.waits as f64) < now * WAITS {
            cradle.contend(&format!("contended-{}", day.waits))?;
            day.waits += 1;
        }
        day.ledger.hear(&agent.watcher().take_events(), scene.dir());
        for name in day.ledger.due() {
            cradle.end(&name)?;
        }
        if day.vitals.is_due() {
            agent.forget_notices();
            day.vitals.note(Sample::of(pid).with_context(|| format!("look after the agent, pid {pid}"))?);
        }
        thread::sleep(TURN);
    }
    let metrics = Metrics::of(agent.address());
    let lost = |stage| metrics.get(&format!("lockwatch_events_lost_total{{stage=\"{stage}\"}}"));
    day.lost = STAGES.into_iter().map(|stage| (stage, lost(stage))).collect();
    day.resyncs = metrics.sum("lockwatch_resyncs_total");
    day.exact = metrics.get("lockwatch_state_exact") == 1.0;
    Ok(day)
}

impl Day {
    /// What was wrong, one sentence each.
    pub fn wrong(&self) -> Vec<String> {
        let counted: f64 = self.lost.iter().map(|(_, count)| count).sum();
        let mut wrong = self.ledger.wrong(counted > 0.0);
        wrong.extend(self.vitals.wrong());
        if !self.exact {
            wrong.push("the agent does not know everything in the end".to_owned());
        }
        wrong
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} lock operations, {} waits; {}", self.operations, self.waits, self.ledger)?;
        writeln!(f, "{}", self.vitals)?;
        let lost: Vec<_> = self.lost.iter().map(|(stage, count)| format!("{stage} {count}")).collect();
        write!(f, "lost: {}; {} resyncs", lost.join(", "), self.resyncs)
    }
}

/// Takes and drops locks of two kinds in turn.
struct Worker {
    fd: i32,
    next: u8,
}

impl Worker {
    fn new(path: PathBuf) -> Result<Self> {
        Ok(Self { fd: sys::open(path.as_os_str().as_encoded_bytes(), libc::O_RDWR).context("open a file")?, next: 0 })
    }

    fn act(&mut self) -> std::io::Result<()> {
        let next = self.next;
        self.next = (next + 1) % 4;
        match next {
            0 => sys::flock(self.fd, libc::LOCK_EX),
            1 => sys::flock(self.fd, libc::LOCK_UN),
            2 => sys::range_lock(self.fd, RangeKind::Ofd, libc::F_WRLCK, 0, 8, false),
            _ => sys::range_lock(self.fd, RangeKind::Ofd, libc::F_UNLCK, 0, 8, false),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = sys::close(self.fd);
    }
}
