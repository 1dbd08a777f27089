//! Whether to worry.

use lockwatch_core::report::Verdict;

use super::{Html, Seen};
use crate::output::words;

/// The state in capitals.
pub fn word(seen: &Seen<'_>) -> &'static str {
    let locks = &seen.report.locks;
    if locks.iter().any(|lock| lock.hot) {
        "HOT"
    } else if locks.iter().any(|lock| lock.deadlock) {
        "DEADLOCK"
    } else {
        "ALL CLEAR"
    }
}

/// State, and the numbers that it is made of.
pub fn write(seen: &Seen<'_>, out: &mut Html) {
    let report = seen.report;
    let count = |wanted: &dyn Fn(&lockwatch_core::report::LockReport) -> bool| {
        report.locks.iter().filter(|lock| wanted(lock)).count()
    };
    let hot = count(&|lock| lock.hot);
    let orphaned = count(&|lock| lock.verdict == Verdict::Orphaned);
    let deadlocked = count(&|lock| lock.deadlock);
    let waiting: usize = report.locks.iter().map(|lock| lock.waiters.len()).sum();
    let word = word(seen);
    let (class, symbol) = match (word, seen.exact()) {
        ("ALL CLEAR", true) => ("state clear", "✓"),
        ("ALL CLEAR", false) => ("state doubt", "?"),
        _ => ("state hot", "▲"),
    };
    out.raw("<div class=\"").raw(class).raw("\"><p class=\"word\"><span aria-hidden=\"true\">").raw(symbol);
    out.raw("</span> ").raw(word).raw("</p><p class=\"what\">");
    match (word, orphaned) {
        ("HOT", _) => {
            let what = if hot == 1 { "1 lock is hot" } else { "locks are hot" };
            let number = if hot == 1 { String::new() } else { format!("{hot} ") };
            out.text(number).raw(what).raw(": somebody waits for what nobody will release by itself.")
        }
        ("DEADLOCK", _) => out.raw("Some wait for each other in a circle."),
        (_, 0) => out.raw("No lock is orphaned, and nobody is stuck."),
        (..) => out.text(words::count(orphaned, "orphaned lock")).raw(", but nobody has waited long for one."),
    };
    match seen.exact() {
        true => out.raw("</p><p class=\"sure\">Exact: nothing was missed.</p>"),
        false => out.raw(
            "</p><p class=\"sure\"><strong>Not exact</strong>: something was missed, so there may be more. \
             <code>lockwatch doctor</code></p>",
        ),
    };
    out.raw("</div><dl class=\"numbers\">");
    let numbers =
        [("locks", seen.locks), ("hot", hot), ("orphaned", orphaned), ("deadlocked", deadlocked), ("waiting", waiting)];
    for (name, number) in numbers {
        out.raw("<div><dt>").raw(name).raw("</dt><dd>").text(number).raw("</dd></div>");
    }
    out.raw("</dl>");
}

/// Nobody knows.
pub fn trouble(why: &str, out: &mut Html) {
    out.raw("<div class=\"state doubt\"><p class=\"word\"><span aria-hidden=\"true\">?</span> NOT KNOWN</p>");
    out.raw("<p class=\"what\">The agent cannot say how things are: ").text(why);
    out.raw(". What stands below is old.</p><p class=\"sure\"><code>lockwatch --no-agent orphans</code></p></div>");
}
