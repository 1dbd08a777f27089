//! The wait-for graph in every form: one file each, each a pure function of the graph.
//!
//! All of them share the words below, in which everything from the system is escaped for a terminal. Each form escapes
//! once more for itself.

mod dot;
mod json;
mod mermaid;
pub(crate) mod svg;
mod text;

use std::io::{self, Write};

use clap::ValueEnum;
use lockwatch_core::{
    graph::{Graph, Hold, Wait, Who},
    lock::Range,
    observation::Via,
    report::{LockReport, Report},
    time::Timestamp,
};

use super::{Options, words};

/// In which form a graph is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Sentences, for a terminal.
    Text,
    /// Graphviz's language.
    Dot,
    /// Mermaid's language, which GitHub, GitLab and many chats draw.
    Mermaid,
    /// A picture that needs nothing else.
    Svg,
    /// One JSON document (schema lockwatch.graph/1).
    Json,
}

/// A graph, and the report that it is a part of.
pub struct Drawn<'a> {
    /// What is to be drawn.
    pub graph: &'a Graph<'a>,
    /// From what.
    pub report: &'a Report,
}

/// Prints a graph in a form.
pub fn write(form: Form, drawn: &Drawn<'_>, options: &Options, out: &mut impl Write) -> io::Result<()> {
    match form {
        Form::Text => text::write(drawn, options, out),
        Form::Dot => dot::write(drawn, options, out),
        Form::Mermaid => mermaid::write(drawn, options, out),
        Form::Svg => svg::write(drawn, options, out),
        Form::Json => json::write(drawn, options, out),
    }
}

impl Drawn<'_> {
    /// The conclusion, as a heading.
    pub(crate) fn headline(&self) -> String {
        let graph = self.graph;
        let hot = graph.locks.iter().filter(|node| node.lock.hot && !node.lock.deadlock).count();
        match (graph.cycles.as_slice(), graph.waits.len()) {
            ([], 0) => "Nobody waits for a lock".to_owned(),
            ([], n) => {
                let locks = graph.locks.iter().filter(|node| !node.lock.waiters.is_empty()).count();
                let verb = if n == 1 { "waits" } else { "wait" };
                let hot = if hot > 0 { format!(", {hot} of them hot") } else { String::new() };
                format!("{} {verb} for {}{hot}, no deadlock", words::count(n, "request"), words::count(locks, "lock"))
            }
            ([cycle], _) if cycle.parties.len() == 1 => "Deadlock: a process waits for itself".to_owned(),
            ([cycle], _) => format!("Deadlock: {} processes wait for each other in a circle", cycle.parties.len()),
            (cycles, _) => format!("{} deadlocks", cycles.len()),
        }
    }
}

/// `pid 4711 (locksmith)`: a party in a sentence.
fn party(who: Who<'_>) -> String {
    match who {
        Who::Process(process) => process.to_string(),
        Who::Unseen => "somebody whom nobody saw".to_owned(),
        Who::Kernel(None) => "the kernel".to_owned(),
        Who::Kernel(Some(detail)) => format!("the kernel ({})", words::sentence(detail)),
        Who::Remote(None) => "a remote client".to_owned(),
        Who::Remote(Some(detail)) => format!("a remote client ({})", words::sentence(detail)),
    }
}

/// `flock write`, `posix read 0-99`.
fn lock(lock: &LockReport) -> String {
    match lock.range {
        Range::WHOLE => format!("{} {}", lock.kind, lock.mode),
        range => format!("{} {} {range}", lock.kind, lock.mode),
    }
}

/// `waits 42 s to write 5-9, behind pid 4800`: a request as two or three short lines.
fn wait(wait: &Wait<'_>, lock: &LockReport, now: Timestamp) -> Vec<String> {
    let waiter = wait.waiter;
    let long = waiter.since.map(|since| format!("waits {}", words::duration(now.since(since))));
    let what = match waiter.range {
        range if range == lock.range => format!("to {}", waiter.mode),
        Range::WHOLE => format!("to {} all", waiter.mode),
        range => format!("to {} {range}", waiter.mode),
    };
    let behind = match waiter.behind.as_slice() {
        [] => None,
        [one] => Some(format!("behind pid {one}")),
        [.., last] => Some(format!("behind pid {last} and {} more", waiter.behind.len() - 1)),
    };
    [long.or_else(|| Some("waits".to_owned())), Some(what), behind].into_iter().flatten().collect()
}

/// `fd 3, fd 4`, `memory mapping`: by what means a lock is kept.
fn means(hold: &Hold<'_>) -> String {
    const SHOWN: usize = 3;
    let one = |holder: &&lockwatch_core::report::Holder| match (holder.via, holder.fd) {
        (Via::Fd, Some(fd)) => format!("fd {fd}"),
        (Via::Fd, None) => "a descriptor".to_owned(),
        (Via::Mapping, _) => "memory mapping".to_owned(),
        (Via::Message, _) => "message in a socket".to_owned(),
        (Via::IoUring, _) => "io_uring".to_owned(),
        (Via::Kernel, _) => "kernel".to_owned(),
        (Via::Remote, _) => "remote".to_owned(),
    };
    let mut all: Vec<String> = hold.means.iter().take(SHOWN).map(one).collect();
    all.dedup();
    match hold.means.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", all.join(", ")),
        _ => all.join(", "),
    }
}

/// How long the oldest request has waited.
fn oldest(lock: &LockReport, now: Timestamp) -> Option<String> {
    let since = lock.waiters.iter().filter_map(|waiter| waiter.since).min()?;
    Some(words::duration(now.since(since)))
}

/// `DEADLOCK held, 1 waits for 42 s`, `HOT orphaned, 3 wait, the longest for 2 min`.
fn state(lock: &LockReport, now: Timestamp) -> String {
    let verdict = words::verdict(lock);
    match (oldest(lock, now), lock.waiters.len()) {
        (_, 0) => verdict,
        (None, 1) => format!("{verdict}, 1 waits"),
        (None, n) => format!("{verdict}, {n} wait"),
        (Some(time), 1) => format!("{verdict}, 1 waits for {time}"),
        (Some(time), n) => format!("{verdict}, {n} wait, the longest for {time}"),
    }
}

#[cfg(test)]
mod sample;
