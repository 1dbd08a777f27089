//! Whether the agent can be believed.

use super::{Html, Seen};
use crate::output::words;

/// Probes, what was lost, and how full the tables are.
pub fn write(seen: &Seen<'_>, out: &mut Html) {
    let numbers = seen.numbers;
    let kernel = &numbers.kernel;
    let lost = kernel.lost.ring + kernel.lost.missed + kernel.lost.full();
    out.raw("<h2>The agent</h2><dl class=\"facts\">");
    fact("watches since", out, |out| {
        match seen.since {
            Some(since) => out.when(since, seen.now),
            None => out.raw("not known"),
        };
    });
    fact("host", out, |out| {
        let host = &seen.report.host;
        out.text(&host.hostname).raw(", Linux ").text(&host.kernel);
    });
    fact("probes", out, |out| {
        out.text(numbers.probes);
    });
    for source in &seen.report.sources {
        fact("source", out, |out| {
            out.text(source.name).raw(": ").raw(source.state.name());
            if let Some(reason) = &source.reason {
                out.raw(", ").text(words::sentence(reason));
            }
        });
    }
    fact("lost since the start", out, |out| {
        let (ring, tables, missed) = (kernel.lost.ring, kernel.lost.full(), kernel.lost.missed);
        match lost {
            0 => out.raw("nothing"),
            _ => out.text(format_args!("{lost}: ring {ring}, tables {tables}, runs left out {missed}")),
        };
    });
    let looked: u64 = numbers.resyncs.values().sum();
    if looked > 0 {
        fact("looks to make it good", out, |out| {
            out.text(looked);
            if let Some(at) = numbers.last_resync {
                out.raw(", the last ").when(at, seen.now);
            }
        });
    }
    let full: Vec<_> = kernel.tables.iter().filter(|table| table.full > 0).map(|table| table.name.to_owned()).collect();
    if !full.is_empty() {
        fact("tables that were full", out, |out| {
            out.text(words::list(&full));
        });
    }
    if !numbers.reloaded {
        fact("configuration", out, |out| {
            out.raw("the last reload was no use; the one before holds. <code>lockwatch config check</code>");
        });
    }
    out.raw("</dl>");
    for warning in &seen.report.warnings {
        out.raw("<p class=\"warning\">Warning: ").text(words::sentence(warning)).raw("</p>");
    }
}

fn fact(name: &'static str, out: &mut Html, write: impl FnOnce(&mut Html)) {
    out.raw("<div><dt>").raw(name).raw("</dt><dd>");
    write(out);
    out.raw("</dd></div>");
}
