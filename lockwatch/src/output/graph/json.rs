//! Schema `lockwatch.graph/1`: nodes, edges and cycles for programs.

use std::io::{self, Write};

use lockwatch_core::{
    graph::{Graph, Who},
    report::LockReport,
};
use serde::Serialize;

use super::Drawn;
use crate::output::{
    Options,
    document::{Acquirer, At, FileObject, HostObject, ProcessObject, RangeObject, SourceObject},
    to_json,
};

/// Prints one document and a newline.
pub fn write(drawn: &Drawn<'_>, _: &Options, out: &mut impl Write) -> io::Result<()> {
    let (graph, report) = (drawn.graph, drawn.report);
    let ids = ids(graph);
    let cycles = graph.cycles.iter().map(|cycle| CycleObject {
        processes: cycle.parties.iter().map(|&party| ids[party].as_str()).collect(),
        locks: cycle.locks.iter().map(|&lock| id_of(graph, lock)).collect(),
        circle: cycle.circle.iter().flat_map(|&(party, lock)| [ids[party].as_str(), id_of(graph, lock)]).collect(),
    });
    let document = Document {
        schema: "lockwatch.graph/1",
        taken_at: At(report.taken_at),
        host: HostObject::new(&report.host),
        sources: report.sources.iter().map(SourceObject::new).collect(),
        exact: report.exact,
        warnings: &report.warnings,
        nodes: nodes(graph, &ids),
        edges: edges(graph, &ids),
        cycles: cycles.collect(),
    };
    to_json(&document, out)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    taken_at: At,
    host: HostObject<'a>,
    sources: Vec<SourceObject<'a>>,
    exact: bool,
    warnings: &'a [String],
    nodes: Vec<NodeObject<'a>>,
    edges: Vec<EdgeObject<'a>>,
    cycles: Vec<CycleObject<'a>>,
}

#[derive(Serialize)]
struct NodeObject<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    deadlock: bool,
    process: Option<ProcessObject<'a>>,
    lock: Option<LockPart<'a>>,
    detail: Option<&'a str>,
}

/// What a reader of the graph needs of a lock; the rest is in `list --json`, under the same id.
#[derive(Serialize)]
struct LockPart<'a> {
    id: &'a str,
    kind: &'static str,
    mode: &'static str,
    range: RangeObject,
    file: FileObject<'a>,
    acquirer: Option<Acquirer<'a>>,
    acquired_at: Option<At>,
    holders_complete: bool,
    verdict: &'static str,
    cause: Option<&'static str>,
    hot: bool,
    deadlock: bool,
    waiting: usize,
    oldest_since: Option<At>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EdgeObject<'a> {
    /// From a party to a granted lock that blocks it.
    WaitsFor {
        from: &'a str,
        to: &'a str,
        mode: &'static str,
        range: RangeObject,
        since: Option<At>,
        behind: &'a [u32],
        deadlock: bool,
    },
    /// From a lock to a party that keeps it alive.
    HeldBy { from: &'a str, to: &'a str, via: Vec<Means<'a>>, deadlock: bool },
    /// From a party to the one just ahead of it in the queue of a lock: no obstacle once the lock is gone.
    QueuedBehind { from: &'a str, to: &'a str, lock: &'a str },
}

#[derive(Serialize)]
struct Means<'a> {
    via: &'static str,
    fd: Option<u32>,
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct CycleObject<'a> {
    processes: Vec<&'a str>,
    locks: Vec<&'a str>,
    circle: Vec<&'a str>,
}

/// A name for every party: `pid:4711`, or what it is and its place.
fn ids(graph: &Graph<'_>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let name = |(i, party): (usize, &lockwatch_core::graph::Party<'_>)| {
        let id = match party.who {
            Who::Process(process) => format!("pid:{}", process.id.pid),
            Who::Unseen => format!("unseen:{i}"),
            Who::Kernel(_) => format!("kernel:{i}"),
            Who::Remote(_) => format!("remote:{i}"),
        };
        // A number that was given away while lockwatch looked.
        if seen.insert(id.clone()) { id } else { format!("{id}:{i}") }
    };
    graph.parties.iter().enumerate().map(name).collect()
}

fn id_of<'a>(graph: &Graph<'a>, lock: usize) -> &'a str {
    &graph.locks[lock].lock.id.0
}

fn nodes<'a>(graph: &Graph<'a>, ids: &'a [String]) -> Vec<NodeObject<'a>> {
    let party = |(party, id): (&lockwatch_core::graph::Party<'a>, &'a String)| {
        let (kind, process, detail) = match party.who {
            Who::Process(process) => ("process", Some(ProcessObject::new(process)), None),
            Who::Unseen => ("unseen", None, None),
            Who::Kernel(detail) => ("kernel", None, detail),
            Who::Remote(detail) => ("remote", None, detail),
        };
        NodeObject { id, kind, deadlock: party.cycle.is_some(), process, lock: None, detail }
    };
    let lock = |node: &lockwatch_core::graph::Node<'a>| NodeObject {
        id: &node.lock.id.0,
        kind: "lock",
        deadlock: node.cycle.is_some(),
        process: None,
        lock: Some(LockPart::new(node.lock)),
        detail: None,
    };
    graph.parties.iter().zip(ids).map(party).chain(graph.locks.iter().map(lock)).collect()
}

fn edges<'a>(graph: &'a Graph<'a>, ids: &'a [String]) -> Vec<EdgeObject<'a>> {
    let waits = graph.waits.iter().map(|wait| EdgeObject::WaitsFor {
        from: &ids[wait.party],
        to: id_of(graph, wait.lock),
        mode: wait.waiter.mode.name(),
        range: RangeObject::new(wait.waiter.range),
        since: wait.waiter.since.map(At),
        behind: &wait.waiter.behind,
        deadlock: wait.cycle.is_some(),
    });
    let holds = graph.holds.iter().map(|hold| EdgeObject::HeldBy {
        from: id_of(graph, hold.lock),
        to: &ids[hold.party],
        via: hold.means.iter().map(|h| Means { via: h.via.name(), fd: h.fd, detail: h.detail.as_deref() }).collect(),
        deadlock: hold.cycle.is_some(),
    });
    let queued = graph.waits.iter().filter_map(|wait| {
        let (from, to) = (ids[wait.party].as_str(), ids[wait.ahead?].as_str());
        Some(EdgeObject::QueuedBehind { from, to, lock: id_of(graph, wait.lock) })
    });
    waits.chain(holds).chain(queued).collect()
}

impl<'a> LockPart<'a> {
    fn new(lock: &'a LockReport) -> Self {
        Self {
            id: &lock.id.0,
            kind: lock.kind.name(),
            mode: lock.mode.name(),
            range: RangeObject::new(lock.range),
            file: FileObject::new(lock.file, Some(&lock.file_seen)),
            acquirer: lock.acquirer.as_deref().map(Acquirer::new),
            acquired_at: lock.acquired_at.map(At),
            holders_complete: lock.holders_complete,
            verdict: lock.verdict.name(),
            cause: lock.cause.map(|cause| cause.name()),
            hot: lock.hot,
            deadlock: lock.deadlock,
            waiting: lock.waiters.len(),
            oldest_since: lock.waiters.iter().filter_map(|waiter| waiter.since).min().map(At),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Form, sample};
    use crate::{fixture, output::schema::Schema};

    #[test]
    fn documents_keep_the_schema() {
        for report in [sample::report(), sample::hostile(), sample::crowd(3), fixture::report(), fixture::hostile()] {
            let text = sample::written(Form::Json, &report);
            fixture::assert_harmless(&text);
            Schema::Graph.assert_valid(&text);
        }
    }

    #[test]
    fn the_three_cycle() {
        let document: Value = serde_json::from_str(&sample::written(Form::Json, &sample::report())).unwrap();
        let locks = json!(["aaaa-0001", "aaaa-0002", "aaaa-0003"]);
        let circle = ["pid:103", "aaaa-0001", "pid:101", "aaaa-0002", "pid:102", "aaaa-0003"];
        let expect = json!([{"processes": ["pid:101", "pid:103", "pid:102"], "locks": locks, "circle": circle}]);
        assert_eq!(document["cycles"], expect);
        let edges = document["edges"].as_array().unwrap();
        let edge = |kind: &str, from: &str, to: &str| {
            let same = |e: &&Value| (&e["type"], &e["from"], &e["to"]) == (&json!(kind), &json!(from), &json!(to));
            edges.iter().find(same).unwrap_or_else(|| panic!("no {kind} from {from} to {to}")).clone()
        };
        assert_eq!(edge("waits_for", "pid:103", "aaaa-0001")["deadlock"], true);
        assert_eq!(edge("waits_for", "pid:104", "aaaa-0001")["deadlock"], false);
        assert_eq!(edge("held_by", "aaaa-0002", "pid:102")["via"][0]["fd"], 3);
        assert_eq!(edge("queued_behind", "pid:104", "pid:103")["lock"], "aaaa-0001");
        let ids: Vec<&Value> = document["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
        assert!(edges.iter().all(|e| ids.contains(&&e["from"]) && ids.contains(&&e["to"])));
    }
}
