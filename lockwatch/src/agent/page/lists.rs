//! Tables: orphans that nobody misses yet, whoever waits, and what was told lately.

use std::time::Duration;

use lockwatch_core::{
    process::Life,
    report::{LockReport, Verdict, Waiter},
};

use super::{Html, MOST_ROWS, Seen, kind, more};
use crate::output::{column::Column, ways, words};

/// Who waits is no news that a look is made for, and from an older one than this it is said.
const STALE: Duration = Duration::from_secs(5);

/// Orphaned locks that are not hot.
pub fn orphans(seen: &Seen<'_>, out: &mut Html) {
    let wanted = |lock: &&LockReport| lock.verdict == Verdict::Orphaned && !lock.hot && !lock.deadlock;
    let orphans: Vec<_> = seen.report.locks.iter().filter(wanted).collect();
    out.raw("<h2>Orphaned, not hot</h2>");
    if orphans.is_empty() {
        out.raw("<p class=\"none\">None.</p>");
        return;
    }
    table("Orphaned locks", "orphans-table", &["Lock", "File", "Taken by", "Died", "Kept by", "Next"], out);
    for lock in orphans.iter().take(MOST_ROWS) {
        out.raw("<tr><td class=\"id\">").text(&lock.id).raw("<br><span class=\"soft\">").text(kind(lock));
        out.raw("</span></td><td class=\"path\">").text(words::file(lock.file, &lock.file_seen)).raw("</td><td>");
        let taker = lock.acquirer.as_deref();
        out.text(taker.map_or_else(|| "nobody knows".to_owned(), words::fate)).raw("</td><td>");
        match taker.map(|taker| &taker.life) {
            Some(Life::Dead(death)) if let Some(at) = death.at => out.when(at, seen.now),
            _ => out.raw("not known"),
        };
        out.raw("</td><td>").text(Column::HeldBy.cell(lock, seen.now)).raw("</td><td><code>");
        out.text(ways::next(lock, &ways::ways(lock))).raw("</code></td></tr>");
    }
    out.raw("</tbody></table></div>");
    more(orphans.len(), MOST_ROWS, "lockwatch orphans", out);
}

/// Whoever waits, the longest first.
pub fn waiters(seen: &Seen<'_>, out: &mut Html) {
    let each = |lock| move |waiter| (lock, waiter);
    let mut all: Vec<(&LockReport, &Waiter)> =
        seen.report.locks.iter().flat_map(|lock| lock.waiters.iter().map(each(lock))).collect();
    // Who has waited since nobody knows when comes last.
    all.sort_by_key(|(_, waiter)| (waiter.since.is_none(), waiter.since));
    out.raw("<h2>Waiting</h2>");
    if all.is_empty() {
        out.raw("<p class=\"none\">Nobody waits for a lock.</p>");
        return;
    }
    if seen.now.since(seen.report.taken_at) > STALE {
        out.raw("<p class=\"more\">As of ").when(seen.report.taken_at, seen.now).raw(": a look takes long here.</p>");
    }
    table("Requests that wait", "waiters-table", &["Who", "For", "To", "Lock", "File"], out);
    for (lock, waiter) in all.iter().take(MOST_ROWS) {
        let who = waiter.process.as_deref().map_or_else(|| "nobody knows".to_owned(), words::process);
        out.raw("<tr><td>").text(who).raw("</td><td class=\"time\">");
        match waiter.since {
            Some(since) => out.age(since, seen.now),
            None => out.raw("not known"),
        };
        out.raw("</td><td>").text(format_args!("{}, {}", waiter.mode, words::range(waiter.range)));
        out.raw("</td><td><span class=\"id\">").text(&lock.id).raw("</span> ").text(words::verdict(lock));
        out.raw("</td><td class=\"path\">").text(words::file(lock.file, &lock.file_seen)).raw("</td></tr>");
    }
    out.raw("</tbody></table></div>");
    more(all.len(), MOST_ROWS, "lockwatch graph", out);
}

/// What was told lately.
pub fn events(seen: &Seen<'_>, out: &mut Html) {
    out.raw("<h2>Recent events</h2>");
    if seen.recent.is_empty() {
        out.raw("<p class=\"none\">None yet.</p>");
        return;
    }
    out.raw("<ol class=\"events\">");
    for told in seen.recent {
        out.raw("<li>").when(told.at, seen.now).raw(" <span>").text(&told.words).raw("</span></li>");
    }
    out.raw("</ol>");
}

/// A table's beginning. Where it is too wide it scrolls, with the keyboard too.
fn table(about: &'static str, id: &'static str, heads: &[&'static str], out: &mut Html) {
    out.raw("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"").raw(about).raw("\" id=\"").raw(id);
    out.raw("\"><table><thead><tr>");
    for head in heads {
        out.raw("<th scope=\"col\">").raw(head).raw("</th>");
    }
    out.raw("</tr></thead><tbody>");
}
