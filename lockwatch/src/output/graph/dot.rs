//! Graphviz: `lockwatch graph | dot -Tsvg`.

use std::io::{self, Write};

use lockwatch_core::{graph::Who, process::Process, report::Verdict};

use super::{Drawn, lock, means, party, state, wait};
use crate::output::{Options, words};

const RED: &str = "#cf222e";

/// Prints a digraph: an edge is "waits for" or "held by", a dashed one "queued behind".
pub fn write(drawn: &Drawn<'_>, _: &Options, out: &mut impl Write) -> io::Result<()> {
    let (graph, now) = (drawn.graph, drawn.report.taken_at);
    writeln!(out, "digraph lockwatch {{")?;
    writeln!(out, "  graph [label={}, labelloc=t, fontname=\"sans-serif\"];", quoted(&[drawn.headline()]))?;
    writeln!(out, "  node [fontname=\"sans-serif\", fontsize=11, margin=\"0.15,0.08\"];")?;
    writeln!(out, "  edge [fontname=\"sans-serif\", fontsize=9, color=\"#57606a\"];")?;
    for (i, node) in graph.parties.iter().enumerate() {
        let mut lines = vec![party(node.who)];
        if let Who::Process(Process { unit: Some(unit), .. }) = node.who {
            lines.push(unit.to_string());
        }
        let style = if matches!(node.who, Who::Process(_)) { "rounded" } else { "rounded,dashed" };
        let red = if node.cycle.is_some() { marked() } else { String::new() };
        writeln!(out, "  p{i} [shape=box, style=\"{style}\", label={}{red}];", quoted(&lines))?;
    }
    for (i, node) in graph.locks.iter().enumerate() {
        let file = words::file(node.lock.file, &node.lock.file_seen);
        let lines = [file, lock(node.lock), state(node.lock, now)];
        let red = match node.lock.verdict {
            _ if node.cycle.is_some() => marked(),
            Verdict::Orphaned => format!(", color=\"{RED}\", style=dashed"),
            _ => String::new(),
        };
        let id = quoted(&[format!("lock {}", node.lock.id)]);
        writeln!(out, "  l{i} [shape=box, label={}, tooltip={id}{red}];", quoted(&lines))?;
    }
    for edge in &graph.waits {
        let label = quoted(&wait(edge, graph.locks[edge.lock].lock, now));
        let red = if edge.cycle.is_some() { marked() } else { String::new() };
        writeln!(out, "  p{} -> l{} [label={label}{red}];", edge.party, edge.lock)?;
    }
    for edge in &graph.holds {
        let label = quoted(&[format!("held by {}", means(edge))]);
        let red = if edge.cycle.is_some() { marked() } else { String::new() };
        writeln!(out, "  l{} -> p{} [label={label}{red}];", edge.lock, edge.party)?;
    }
    for edge in &graph.waits {
        if let Some(ahead) = edge.ahead {
            let label = "style=dashed, arrowhead=empty, constraint=false, label=\"queued behind\"";
            writeln!(out, "  p{} -> p{ahead} [{label}];", edge.party)?;
        }
    }
    writeln!(out, "}}")
}

fn marked() -> String {
    format!(", color=\"{RED}\", fontcolor=\"{RED}\", penwidth=2.5")
}

/// A string of DOT. In it `\` begins an escape (`\N` is the node's name) and `&` an entity of HTML.
fn quoted(lines: &[String]) -> String {
    let escape = |line: &String| line.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;");
    format!("\"{}\"", lines.iter().map(escape).collect::<Vec<_>>().join("\\n"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::{Form, sample};
    use super::*;
    use crate::fixture;

    #[test]
    fn a_deadlock_is_red_and_says_so() {
        expect![[r##"
            digraph lockwatch {
              graph [label="Deadlock: 3 processes wait for each other in a circle", labelloc=t, fontname="sans-serif"];
              node [fontname="sans-serif", fontsize=11, margin="0.15,0.08"];
              edge [fontname="sans-serif", fontsize=9, color="#57606a"];
              p0 [shape=box, style="rounded", label="pid 101 (billing)", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p1 [shape=box, style="rounded", label="pid 103 (mailer)", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p2 [shape=box, style="rounded", label="pid 104 (report)"];
              p3 [shape=box, style="rounded", label="pid 102 (stock)", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p4 [shape=box, style="rounded", label="pid 4720 (sleep)"];
              p5 [shape=box, style="rounded", label="pid 4800 (updater)"];
              p6 [shape=box, style="rounded", label="pid 105 (cron)"];
              l0 [shape=box, label="/srv/demo/orders.lock\nflock write\nDEADLOCK held, 2 wait, the longest for 40 s", tooltip="lock aaaa-0001", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              l1 [shape=box, label="/srv/demo/stock.db\nposix write 0-99\nDEADLOCK held, 1 waits for 42 s", tooltip="lock aaaa-0002", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              l2 [shape=box, label="/srv/demo/mail.spool\nofd write\nDEADLOCK held, 1 waits for 41 s", tooltip="lock aaaa-0003", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              l3 [shape=box, label="/etc/aim/aim_lock.conf\nflock write\nHOT orphaned, 1 waits for 42 s", tooltip="lock f3k9-27qd", color="#cf222e", style=dashed];
              l4 [shape=box, label="/srv/demo/report.pid\nflock write\nheld, 1 waits for 3 s", tooltip="lock bbbb-0001"];
              p1 -> l0 [label="waits 40 s\nto write", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p2 -> l0 [label="waits 12 s\nto write\nbehind pid 103"];
              p0 -> l1 [label="waits 42 s\nto write all", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p3 -> l2 [label="waits 41 s\nto write", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p5 -> l3 [label="waits 42 s\nto write"];
              p6 -> l4 [label="waits 3 s\nto write"];
              l0 -> p0 [label="held by fd 3", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              l1 -> p3 [label="held by fd 3", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              l2 -> p1 [label="held by fd 3", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              l3 -> p4 [label="held by fd 9"];
              l4 -> p2 [label="held by fd 3"];
              p2 -> p1 [style=dashed, arrowhead=empty, constraint=false, label="queued behind"];
            }
        "##]].assert_eq(&sample::written(Form::Dot, &sample::report()));
    }

    #[test]
    fn hostile_names_stay_in_their_strings() {
        let text = sample::written(Form::Dot, &sample::hostile());
        fixture::assert_harmless(&text);
        let statement = |line: &str| {
            let mut inside = false;
            let mut rest = String::new();
            let mut chars = line.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' if inside => drop(chars.next()),
                    '"' => inside = !inside,
                    c if !inside => rest.push(c),
                    _ => {}
                }
            }
            assert!(!inside, "{line}");
            rest
        };
        for line in text.lines() {
            let plain = |c: char| c.is_ascii_alphanumeric() || " {}[]=,;->_.".contains(c);
            assert!(statement(line).chars().all(plain), "{line}");
        }
        assert_eq!(quoted(&["a\\N\"&lt;".into(), "b".into()]), r#""a\\N\"&amp;lt;\nb""#);
    }
}
