//! A deadlock in words.

use super::{Graph, Who};
use crate::{
    lock::{Kind, Range},
    process::Process,
    report::{LockReport, Report},
};

/// A sentence about more than these steps of a circle is one that nobody reads to its end.
const MOST_STEPS: usize = 8;

/// Adds to each deadlocked lock's evidence the circle that leads through it.
pub fn testify(report: &mut Report) {
    if !report.locks.iter().any(|lock| lock.deadlock) {
        return;
    }
    let told: Vec<Vec<String>> = {
        let deadlocked = report.locks.iter().filter(|lock| lock.deadlock);
        let graph = Graph::build(deadlocked);
        let edges = graph.cycle_edges();
        (0..graph.locks.len()).map(|lock| graph.told(&graph.way_round(&edges, lock))).collect()
    };
    for (lock, sentences) in report.locks.iter_mut().filter(|lock| lock.deadlock).zip(told) {
        lock.evidence.extend(sentences);
    }
}

impl Graph<'_> {
    /// `pid 1 (a) waits for /x, held by pid 2 (b), which waits for /y, held by pid 1 (a)`, and who may yet end it.
    fn told(&self, circle: &[(usize, usize)]) -> Vec<String> {
        let Some(&(first, _)) = circle.first() else { return Vec::new() };
        let mut text = self.name(first);
        for (step, &(_, lock)) in circle.iter().take(MOST_STEPS).enumerate() {
            let (holder, _) = circle[(step + 1) % circle.len()];
            let which = if step == 0 { "" } else { ", which" };
            text += &format!("{which} waits for {}, held by {}", name_of(self.locks[lock].lock), self.name(holder));
        }
        if let Some(more @ 1..) = circle.len().checked_sub(MOST_STEPS) {
            text += &format!(", and so on through {more} more processes, back to {}", self.name(first));
        }
        let others = circle.iter().take(MOST_STEPS).filter_map(|&(party, _)| {
            let Who::Process(process) = self.parties[party].who else { return None };
            let threads = process.threads.filter(|&threads| threads > self.requests(party))?;
            Some(format!("{process} has {threads} threads: one that does not wait may still release what it holds"))
        });
        [text].into_iter().chain(others).collect()
    }

    /// How many requests of a party wait; one may be blocked by several locks of its file.
    fn requests(&self, party: usize) -> u32 {
        let mut seen = Vec::new();
        for wait in self.waits.iter().filter(|wait| wait.party == party) {
            let lock = self.locks[wait.lock].lock;
            let request = (lock.file, wait.waiter.mode, wait.waiter.range, wait.waiter.since);
            if !seen.contains(&request) {
                seen.push(request);
            }
        }
        u32::try_from(seen.len()).unwrap_or(u32::MAX)
    }

    fn name(&self, party: usize) -> String {
        match self.parties[party].who {
            Who::Process(process) => Process::to_string(process),
            Who::Unseen => "somebody whom nobody saw".to_owned(),
            Who::Kernel(_) => "the kernel".to_owned(),
            Who::Remote(_) => "a remote client".to_owned(),
        }
    }
}

/// `the flock on /x`, `the ofd lock on bytes 0-9 of /x`.
fn name_of(lock: &LockReport) -> String {
    let file = match &lock.file_seen.path {
        Some(path) => path.to_string(),
        None => format!("file {}", lock.file),
    };
    let kind = match lock.kind {
        Kind::Flock => "flock".to_owned(),
        kind => format!("{kind} lock"),
    };
    match lock.range {
        Range::WHOLE => format!("the {kind} on {file}"),
        range => format!("the {kind} on {range} of {file}"),
    }
}
