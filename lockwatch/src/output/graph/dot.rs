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
        let text = sample::written(Form::Dot, &sample::report());
        let some: Vec<&str> = text.lines().filter(|l| l.contains("label=") && l.contains('0')).take(6).collect();
        expect![[r##"
              p0 [shape=box, style="rounded", label="pid 101 (billing)", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p1 [shape=box, style="rounded", label="pid 103 (mailer)", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p2 [shape=box, style="rounded", label="pid 104 (report)"];
              p3 [shape=box, style="rounded", label="pid 102 (stock)", color="#cf222e", fontcolor="#cf222e", penwidth=2.5];
              p4 [shape=box, style="rounded", label="pid 4720 (sleep)"];
              p5 [shape=box, style="rounded", label="pid 4800 (updater)"];"##]].assert_eq(&some.join("\n"));
        assert!(text.contains("p1 -> p0") || text.contains("queued behind"), "{text}");
        assert!(!text.contains("quiet"), "{text}");
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
