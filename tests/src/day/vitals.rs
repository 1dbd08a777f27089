//! How the agent's memory and descriptors fared.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::fit::Fit;

const EVERY: Duration = Duration::from_secs(1);
/// How much of the day passes before memory is judged: what is allocated once has been by then.
const WARM_UP: f64 = 0.4;
/// How much may be added, at the fitted slope, over what is judged of the day: less than the allocator's own rounding,
/// and some fifty bytes for each orphan of the long day.
const TOLERANCE: f64 = 512.0 * 1024.0;

/// What a process has at one moment.
pub(super) struct Sample {
    resident: u64,
    descriptors: usize,
}

impl Sample {
    /// That process, now.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(Self {
            resident: kib.context("no VmRSS")?.trim().parse::<u64>()? * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// All samples.
#[derive(Default)]
pub(super) struct Vitals {
    samples: Vec<(f64, Sample)>,
    began: Option<Instant>,
}

impl Vitals {
    /// Whether it is time for the next.
    pub(super) fn is_due(&self) -> bool {
        let now = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        self.samples.last().is_none_or(|(at, _)| now - at >= EVERY.as_secs_f64())
    }

    /// Takes it.
    pub(super) fn note(&mut self, sample: Sample) {
        let began = *self.began.get_or_insert_with(Instant::now);
        self.samples.push((began.elapsed().as_secs_f64(), sample));
    }

    /// Those after the warm-up.
    fn judged(&self) -> &[(f64, Sample)] {
        &self.samples[(self.samples.len() as f64 * WARM_UP) as usize..]
    }

    /// The slope of memory in bytes a second, and for how many seconds.
    fn memory(&self) -> Option<(Fit, f64)> {
        let judged = self.judged();
        let points: Vec<_> = judged.iter().map(|(at, sample)| (*at, sample.resident as f64)).collect();
        Some((Fit::through(&points)?, judged.last()?.0 - judged.first()?.0))
    }

    /// The fewest descriptors in each half of what is judged: a look opens some and closes them.
    fn descriptors(&self) -> (usize, usize) {
        let (first, second) = self.judged().split_at(self.judged().len() / 2);
        let fewest = |half: &[(f64, Sample)]| half.iter().map(|(_, s)| s.descriptors).min().unwrap_or(0);
        (fewest(first), fewest(second))
    }

    /// What was wrong.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        match self.memory() {
            Some((fit, span)) if (fit.slope - 2.0 * fit.error) * span > TOLERANCE => {
                wrong.push(format!("memory grew by {:.0} KiB", fit.slope * span / 1024.0));
            }
            Some(_) => {}
            None => wrong.push("too short for a judgement of memory".to_owned()),
        }
        let (before, after) = self.descriptors();
        if before != after {
            wrong.push(format!("{before} descriptors became {after}"));
        }
        wrong
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resident = |sample: Option<&(f64, Sample)>| sample.map_or(0, |(_, s)| s.resident / 1024);
        let (first, last) = (resident(self.judged().first()), resident(self.judged().last()));
        write!(f, "memory {first} KiB after the warm-up, {last} KiB in the end")?;
        if let Some((fit, span)) = self.memory() {
            let kib = |rate: f64| rate * span / 1024.0;
            write!(f, ", slope {:+.0} +- {:.0} KiB in {span:.0} s", kib(fit.slope), kib(fit.error))?;
        }
        let (before, after) = self.descriptors();
        write!(f, " (tolerance {:.0} KiB); {before} descriptors, {after} in the end", TOLERANCE / 1024.0)
    }
}
