//! Mermaid: for issues, wikis and chats that draw it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use lockwatch_core::{graph::Who, process::Process, report::Verdict};

use super::{Drawn, lock, means, party, state, wait};
use crate::output::{Options, words};

/// Prints a flowchart.
pub fn write(drawn: &Drawn<'_>, _: &Options, out: &mut impl Write) -> io::Result<()> {
    let (graph, now) = (drawn.graph, drawn.report.taken_at);
    writeln!(out, "flowchart TB")?;
    writeln!(out, "  accTitle: {}", entities(&drawn.headline()))?;
    for (i, node) in graph.parties.iter().enumerate() {
        let mut lines = vec![party(node.who)];
        if let Who::Process(Process { unit: Some(unit), .. }) = node.who {
            lines.push(format!("unit {unit}"));
        }
        writeln!(out, "  p{i}({})", quoted(&lines))?;
    }
    for (i, node) in graph.locks.iter().enumerate() {
        let file = words::file(node.lock.file, &node.lock.file_seen);
        // Kind and state around the name: a line that begins with a file's name might look like a list.
        let lines = [lock(node.lock), format!("of {file}"), state(node.lock, now)];
        writeln!(out, "  l{i}[{}]", quoted(&lines))?;
    }
    let mut red = Vec::new();
    let mut edges = 0;
    let mut edge = |out: &mut dyn Write, line: String, on_cycle: bool| {
        if on_cycle {
            red.push(edges.to_string());
        }
        edges += 1;
        writeln!(out, "  {line}")
    };
    for e in &graph.waits {
        let label = quoted(&wait(e, graph.locks[e.lock].lock, now));
        edge(out, format!("p{} -->|{label}| l{}", e.party, e.lock), e.cycle.is_some())?;
    }
    for e in &graph.holds {
        let label = quoted(&[format!("held by {}", means(e))]);
        edge(out, format!("l{} -->|{label}| p{}", e.lock, e.party), e.cycle.is_some())?;
    }
    for e in &graph.waits {
        if let Some(ahead) = e.ahead {
            edge(out, format!("p{} -.->|\"queued behind\"| p{ahead}", e.party), false)?;
        }
    }
    let parties = graph.parties.iter().enumerate().filter(|(_, p)| p.cycle.is_some()).map(|(i, _)| format!("p{i}"));
    let locks = graph.locks.iter().enumerate().filter(|(_, l)| l.cycle.is_some()).map(|(i, _)| format!("l{i}"));
    let marked: Vec<String> = parties.chain(locks).collect();
    let orphaned = graph.locks.iter().enumerate().filter(|(_, node)| node.lock.verdict == Verdict::Orphaned);
    let orphaned: Vec<String> = orphaned.map(|(i, _)| format!("l{i}")).collect();
    if !marked.is_empty() {
        writeln!(out, "  classDef deadlock stroke:#cf222e,stroke-width:3px")?;
        writeln!(out, "  class {} deadlock", marked.join(","))?;
    }
    if !orphaned.is_empty() {
        writeln!(out, "  classDef orphaned stroke:#cf222e,stroke-dasharray:5 3")?;
        writeln!(out, "  class {} orphaned", orphaned.join(","))?;
    }
    if !red.is_empty() {
        writeln!(out, "  linkStyle {} stroke:#cf222e,stroke-width:3px", red.join(","))?;
    }
    Ok(())
}

fn quoted(lines: &[String]) -> String {
    format!("\"{}\"", lines.iter().map(|line| entities(line)).collect::<Vec<_>>().join("<br/>"))
}

/// Text of Mermaid. It knows no escapes but entities of its own kind (`#34;`), and what it makes of a text ends up in
/// HTML and in Markdown: so whatever is not surely harmless becomes an entity.
fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || " /.-:,()".contains(c) {
            out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "#{};", c as u32);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::{Form, sample};
    use super::*;
    use crate::fixture;

    #[test]
    fn the_three_cycle() {
        expect![[r#"
            flowchart TB
              accTitle: Deadlock: 3 processes wait for each other in a circle
              p0("pid 101 (billing)")
              p1("pid 103 (mailer)")
              p2("pid 104 (report)")
              p3("pid 102 (stock)")
              p4("pid 4720 (sleep)")
              p5("pid 4800 (updater)")
              p6("pid 105 (cron)")
              l0["flock write<br/>of /srv/demo/orders.lock<br/>DEADLOCK held, 2 wait, the longest for 40 s"]
              l1["posix write 0-99<br/>of /srv/demo/stock.db<br/>DEADLOCK held, 1 waits for 42 s"]
              l2["ofd write<br/>of /srv/demo/mail.spool<br/>DEADLOCK held, 1 waits for 41 s"]
              l3["flock write<br/>of /etc/aim/aim#95;lock.conf<br/>HOT orphaned, 1 waits for 42 s"]
              l4["flock write<br/>of /srv/demo/report.pid<br/>held, 1 waits for 3 s"]
              p1 -->|"waits 40 s<br/>to write"| l0
              p2 -->|"waits 12 s<br/>to write<br/>behind pid 103"| l0
              p0 -->|"waits 42 s<br/>to write all"| l1
              p3 -->|"waits 41 s<br/>to write"| l2
              p5 -->|"waits 42 s<br/>to write"| l3
              p6 -->|"waits 3 s<br/>to write"| l4
              l0 -->|"held by fd 3"| p0
              l1 -->|"held by fd 3"| p3
              l2 -->|"held by fd 3"| p1
              l3 -->|"held by fd 9"| p4
              l4 -->|"held by fd 3"| p2
              p2 -.->|"queued behind"| p1
              classDef deadlock stroke:#cf222e,stroke-width:3px
              class p0,p1,p3,l0,l1,l2 deadlock
              classDef orphaned stroke:#cf222e,stroke-dasharray:5 3
              class l3 orphaned
              linkStyle 0,2,3,6,7,8 stroke:#cf222e,stroke-width:3px
        "#]]
        .assert_eq(&sample::written(Form::Mermaid, &sample::report()));
    }

    #[test]
    fn hostile_names_are_entities() {
        let text = sample::written(Form::Mermaid, &sample::hostile());
        fixture::assert_harmless(&text);
        let strings = text.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
        for string in strings {
            let inner = string.replace("<br/>", "");
            assert!(!inner.contains(['<', '>', '&', '`', '"', '\\', '%', '{', '|', '[', '$', '*', '_']), "{inner}");
        }
        for line in text.lines() {
            assert_eq!(line.matches('"').count() % 2, 0, "{line}");
        }
        assert_eq!(entities("a#b;<c>\"`"), "a#35;b#59;#60;c#62;#34;#96;");
    }
}
