//! What a lock costs its user while an agent runs: `probe_cost [ROUNDS]`, as root.
//!
//! Pairs of lock and unlock are timed without and with an agent, in turns, by a process that stays on one CPU and by
//! one that the scheduler may move. What is said is the median of many short batches, so that whatever else the machine
//! does disturbs a few of them alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lockwatch_tests::{
    HostAgent, Scene, needs_bpf, percentile,
    sys::{self, RangeKind},
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Pairs of one batch: about a millisecond.
const PAIRS: u32 = 1_000;
/// Batches of each kind in a round.
const BATCHES: usize = 60;
/// The columns.
const KINDS: [&str; 2] = ["flock", "posix"];
const PLACES: [&str; 2] = ["one CPU", "any CPU"];

/// How long batches took, by kind and place.
type Times = [[Vec<Duration>; PLACES.len()]; KINDS.len()];

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(10), |n| n.parse::<usize>())?;
    if !needs_bpf("probe_cost") {
        bail!("needs BPF");
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let fd = sys::open(path.as_os_str().as_encoded_bytes(), libc::O_RDWR).context("open the locked file")?;
    let (mut without, mut with) = (Times::default(), Times::default());
    for _ in 0..rounds {
        measure(fd, &mut without)?;
        let agent = HostAgent::start(&scene, "");
        measure(fd, &mut with)?;
        drop(agent);
    }
    println!("{:<8}{:<10}{:>12}{:>12}{:>8}", "", "", "without", "with", "ratio");
    for (kind, name) in KINDS.iter().enumerate() {
        for (place, at) in PLACES.iter().enumerate() {
            let ns = |times: &mut Times| percentile(&mut times[kind][place], 50).as_nanos() as f64 / f64::from(PAIRS);
            let (without, with) = (ns(&mut without), ns(&mut with));
            println!("{name:<8}{at:<10}{without:>9.0} ns{with:>9.0} ns{:>8.2}", with / without);
        }
    }
    Ok(())
}

fn measure(fd: i32, times: &mut Times) -> Result<()> {
    let all = sched_getaffinity(None).context("ask for the CPUs")?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).context("no CPU")?;
    let mut one = CpuSet::new();
    one.set(first);
    for _ in 0..BATCHES {
        for (place, cpus) in [one, all].iter().enumerate() {
            sched_setaffinity(None, cpus).context("choose the CPUs")?;
            times[0][place].push(time(|| flock_pair(fd))?);
            times[1][place].push(time(|| posix_pair(fd))?);
        }
    }
    Ok(())
}

fn time(pair: impl Fn() -> std::io::Result<()>) -> Result<Duration> {
    let began = Instant::now();
    for _ in 0..PAIRS {
        pair().context("take and drop a lock")?;
    }
    Ok(began.elapsed())
}

fn flock_pair(fd: i32) -> std::io::Result<()> {
    sys::flock(fd, libc::LOCK_EX)?;
    sys::flock(fd, libc::LOCK_UN)
}

fn posix_pair(fd: i32) -> std::io::Result<()> {
    sys::range_lock(fd, RangeKind::Posix, libc::F_WRLCK, 0, 1, false)?;
    sys::range_lock(fd, RangeKind::Posix, libc::F_UNLCK, 0, 1, false)
}
