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

#[cfg(test)]
mod tests {
    use lockwatch_control::{
        document::{Approvals, PlanObject},
        proof::Proof,
    };
    use lockwatch_core::{
        clear::{Case, Hold, Method, Plan, Policy, Wish},
        report::{Report, Verdict},
    };

    use super::*;
    use crate::{fixture, output::schema::Schema};

    fn planned(report: &Report, wish: Wish) -> (Plan, Document) {
        let plan = Plan::of(Case::of(report, &report.locks[0]), wish, &Policy::default());
        let document = Document::of(&plan);
        (plan, document)
    }

    fn ghost() -> Report {
        Report { locks: vec![fixture::ghost()], ..fixture::report() }
    }

    fn told(document: &Document) -> String {
        let text = fixture::written(|out| {
            plan(document, &fixture::options(), out)?;
            outcome(document, &fixture::options(), out)
        });
        fixture::assert_harmless(&text);
        text
    }

    #[test]
    fn a_plan_says_what_happens_to_whom_and_what_to_type() {
        let (_, document) = planned(&ghost(), Wish::default());
        let text = told(&document);
        let code = document.plan.as_ref().and_then(|plan| plan.code.clone()).unwrap();
        for words in [
            "f3k9-27qd /etc/aim/aim_lock.conf",
            "taken by  pid 4711 (locksmith), was killed by SIGKILL from pid 1 (systemd)",
            "kept by   pid 4720 (sleep), fd 9",
            "waiting   pid 4800 (updater), write",
            "The plan: release it, nobody is ended",
            "pid 4800 (updater) is first in line for it",
            "With more force: --method terminate, --method kill",
            &format!("Next: lockwatch clear f3k9-27qd --confirm {code}"),
        ] {
            assert!(text.contains(words), "{words:?} in {text}");
        }
    }

    #[test]
    fn the_outcome_comes_first_and_the_next_command_last() {
        let check = |outcome: Outcome, first: &str, last: &str| {
            let document = Document { outcome, ..planned(&ghost(), Wish::default()).1 };
            let text = fixture::written(|out| super::outcome(&document, &fixture::options(), out));
            let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
            assert!(lines[0].starts_with(first) && lines.last().unwrap().starts_with(last), "{text}");
        };
        check(Outcome::Cleared, "ALL CLEAR", "ALL CLEAR");
        check(Outcome::StillHeld, "STILL HELD", "Next: lockwatch explain f3k9-27qd");
        check(Outcome::Refused, "REFUSED", "Next: lockwatch explain f3k9-27qd");
        check(Outcome::Changed, "CHANGED", "Next: lockwatch orphans");
        let waits = Some(Approvals { by: vec![1000], needed: 2 });
        let document = Document { approvals: waits, ..planned(&ghost(), Wish::default()).1 };
        assert!(told(&document).contains("Next: somebody else: lockwatch approve f3k9-27qd --code "));
    }

    #[test]
    fn a_refusal_has_its_reason_and_no_code() {
        let mut report = ghost();
        report.locks[0].verdict = Verdict::Held;
        let (_, document) = planned(&report, Wish::default());
        assert_eq!(document.plan.as_ref().and_then(|plan| plan.code.as_ref()), None);
        assert!(told(&document).contains("REFUSED, nothing was done\n  - the lock is held, not orphaned"));
    }

    #[test]
    fn documents_keep_the_schema_whatever_is_in_them() {
        for report in [ghost(), fixture::hostile(), fixture::report()] {
            let (_, document) = planned(&report, Wish::default());
            told(&document);
            Schema::Clear.assert_valid(&fixture::written(|out| json(&document, out)));
        }
        let document = Document::new("zzzz", Outcome::Changed);
        Schema::Clear.assert_valid(&fixture::written(|out| json(&document, out)));
    }

    /// A code confirms one plan: whatever in it changes, the code does.
    #[test]
    fn every_fact_is_in_the_code() {
        let (plan, document) = planned(&ghost(), Wish::default());
        let code = |plan: &Plan| Proof::of(plan).code();
        assert_eq!(document.plan.map(|PlanObject { code, .. }| code), Some(Some(code(&plan))));
        let check = |what: &str, change: &dyn Fn(&mut Plan)| {
            let mut other = plan.clone();
            change(&mut other);
            assert_ne!(code(&other), code(&plan), "{what}");
            assert!(!Proof::of(&other).is_confirmed_by(&code(&plan)));
        };
        check("the boot", &|plan| plan.case.boot_id.push('x'));
        check("the file", &|plan| plan.case.file.inode += 1);
        check("the range", &|plan| plan.case.range.start += 1);
        check("who took it", &|plan| plan.case.acquirer.iter_mut().for_each(|who| who.id.pid += 1));
        check("how that one died", &|plan| plan.case.exit = None);
        check("a holder's start", &|plan| {
            plan.case.holders.iter_mut().for_each(|k| k.who.iter_mut().for_each(|w| w.id.start = None))
        });
        check("a holder's descriptor", &|plan| plan.case.holders.iter_mut().for_each(|k| k.fd = Some(77)));
        check("who waits", &|plan| plan.case.waiters.clear());
        check("the method", &|plan| plan.method = Some(Method::Kill));
        check("who is held still", &|plan| plan.wish.hold = vec![Hold::Process(7)]);
        let mut same = plan.clone();
        same.case.evidence.push("said otherwise".into());
        assert_eq!(code(&same), code(&plan));
        assert!(Proof::of(&plan).is_confirmed_by(&format!(" {} ", code(&plan).to_uppercase())));
    }
}
