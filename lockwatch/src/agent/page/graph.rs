//! Who waits for whom, as a picture.

use lockwatch_core::{
    graph::Graph,
    report::{LockReport, Report},
};

use super::{Html, Seen};
use crate::output::graph::{Drawn, svg};

/// How many locks a picture can have, and requests for each, so that anybody can read it.
const MOST_LOCKS: usize = 20;
const MOST_WAITERS: usize = 10;

/// The part of the graph that matters most: circles first, then as in the report, hot before others.
pub fn write(seen: &Seen<'_>, out: &mut Html) {
    out.raw("<h2>Who waits for whom</h2>");
    let report = seen.report;
    let wanted: Vec<_> = report.locks.iter().filter(|lock| !lock.waiters.is_empty()).collect();
    if wanted.is_empty() {
        out.raw("<p class=\"none\">Nobody waits, so there is no graph.</p>");
        return;
    }
    let (stuck, others): (Vec<&LockReport>, Vec<_>) = wanted.iter().partition(|lock| lock.deadlock);
    let locks: Vec<_> = stuck.into_iter().chain(others).take(MOST_LOCKS).map(cut).collect();
    let is_cut = locks.len() < wanted.len() || wanted.iter().any(|lock| lock.waiters.len() > MOST_WAITERS);
    let part = Report {
        taken_at: seen.now,
        host: report.host.clone(),
        sources: Vec::new(),
        exact: report.exact,
        warnings: Vec::new(),
        locks,
    };
    let graph = Graph::of(&part);
    let drawn = Drawn { graph: &graph, report: &part };
    out.raw("<p>").text(drawn.headline()).raw(if is_cut { " in this part of it" } else { "" }).raw(".</p>");
    let mut picture = Vec::new();
    // Memory takes everything.
    if svg::within(&drawn, &mut picture).is_ok() {
        out.raw("<div class=\"wide graph\" tabindex=\"0\" role=\"region\" aria-label=\"Graph\" id=\"graph-picture\">");
        out.picture(&String::from_utf8_lossy(&picture)).raw("</div>");
    }
    if is_cut {
        out.raw("<p class=\"more\">A part of the graph; all of it: <code>lockwatch graph</code></p>");
    }
}

/// Its first waiters, without their times: they stand in the table beside it, and a picture that moves every second
/// cannot be read.
fn cut(lock: &LockReport) -> LockReport {
    let mut lock = lock.clone();
    lock.waiters.truncate(MOST_WAITERS);
    lock.waiters.iter_mut().for_each(|waiter| waiter.since = None);
    lock
}
