//! What a clear says: the plan before it, the outcome after it.

use std::io::{self, Write};
use std::time::Duration;

use lockwatch_control::document::{Document, Outcome, Party, PlanObject};

use super::{
    Options,
    explain::layout,
    style::{BAD, DOUBT, GOOD, STRONG, paint},
    to_json, words,
};

/// Prints the document and a newline.
pub fn json(document: &Document, out: &mut impl Write) -> io::Result<()> {
    to_json(document, out)?;
    writeln!(out)
}

/// Shows what would be done, and what it means: all that a human needs for a yes or a no.
pub fn plan(document: &Document, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let Some(plan) = &document.plan else { return Ok(()) };
    let strong = |text: &str| paint(options.colour, STRONG, words::sentence(text).into_owned());
    let file = plan.file.as_deref().unwrap_or("a file without a known path");
    writeln!(out, "{} {}\n", strong(&document.id), words::sentence(file))?;
    let mut line =
        |label: &str, text: &str| writeln!(out, "  {label:<9} {}", layout(&words::sentence(text), 12, options.width));
    line("lock", &plan.lock)?;
    if let Some(acquirer) = &plan.acquirer {
        line("taken by", &party(acquirer))?;
    }
    for (i, holder) in plan.holders.iter().enumerate() {
        line(if i == 0 { "kept by" } else { "" }, &party(holder))?;
    }
    for (i, waiter) in plan.waiters.iter().enumerate() {
        line(if i == 0 { "waiting" } else { "" }, &party(waiter))?;
    }
    let section = |title: &str, sentences: &[String], out: &mut dyn Write| {
        if sentences.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n{}", strong(title))?;
        sentences.iter().try_for_each(|s| writeln!(out, "  - {}", layout(&words::sentence(s), 4, options.width)))
    };
    section("Why it is an orphan", &plan.evidence, out)?;
    if plan.refusals.is_empty() {
        section(&title(plan), &plan.effects, out)?;
        if !plan.alternatives.is_empty() {
            writeln!(out, "  With more force: --method {}", plan.alternatives.join(", --method "))?;
        }
    }
    Ok(())
}

fn title(plan: &PlanObject) -> String {
    match plan.method.as_deref() {
        Some("release") => "The plan: release it, nobody is ended".to_owned(),
        Some("terminate") => "The plan: ask its holders to end (SIGTERM)".to_owned(),
        Some("kill") => "The plan: end its holders (SIGKILL)".to_owned(),
        Some(other) => format!("The plan: {other}"),
        None => "No plan".to_owned(),
    }
}

fn party(party: &Party) -> String {
    let who = match (party.pid, &party.comm) {
        (Some(pid), Some(comm)) => format!("pid {pid} ({comm})"),
        (Some(pid), None) => format!("pid {pid}"),
        (None, _) => String::new(),
    };
    match (&party.detail, who.is_empty()) {
        (Some(detail), true) => detail.clone(),
        (Some(detail), false) => format!("{who}, {detail}"),
        (None, _) => who,
    }
}

/// Says what became of it: the most important first, the next command last.
pub fn outcome(document: &Document, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let (style, head, next) = match document.outcome {
        Outcome::Cleared => (GOOD, "ALL CLEAR: the lock is gone".to_owned(), String::new()),
        Outcome::StillHeld => {
            let next = format!("lockwatch explain {}", document.id);
            (BAD, "STILL HELD: everything was done, and the lock is still there".to_owned(), next)
        }
        Outcome::Refused => {
            (DOUBT, "REFUSED, nothing was done".to_owned(), format!("lockwatch explain {}", document.id))
        }
        Outcome::Changed => (DOUBT, "CHANGED, nothing was done".to_owned(), "lockwatch orphans".to_owned()),
        Outcome::Planned => planned(document),
    };
    let took = document.took_ns.filter(|_| document.outcome == Outcome::Cleared).map(Duration::from_nanos);
    let took = took.map(|took| format!(" ({took:.1?} after it was confirmed)")).unwrap_or_default();
    writeln!(out, "{}{took}", paint(options.colour, style, head))?;
    let refusals = document.plan.iter().flat_map(|plan| &plan.refusals);
    for note in refusals.chain(&document.notes) {
        writeln!(out, "  - {}", layout(&words::sentence(note), 4, options.width))?;
    }
    if !next.is_empty() {
        writeln!(out, "\nNext: {}", words::sentence(&next))?;
    }
    Ok(())
}

fn planned(document: &Document) -> (anstyle::Style, String, String) {
    let code = document.plan.as_ref().and_then(|plan| plan.code.as_deref()).unwrap_or_default();
    let id = &document.id;
    match &document.approvals {
        Some(approvals) => {
            let count = approvals.by.len();
            let head = format!("CONFIRMED by {count} of {}, nothing was done yet", approvals.needed);
            (DOUBT, head, format!("somebody else: lockwatch approve {id} --code {code}"))
        }
        None => (
            DOUBT,
            "PLANNED, nothing was done yet".to_owned(),
            format!("lockwatch clear {id} --confirm {code}, with the same options"),
        ),
    }
}
