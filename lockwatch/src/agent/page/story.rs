//! What is hot, each lock with its story and what to type.

use lockwatch_core::report::LockReport;

use super::{Html, Seen, kind, more};
use crate::output::{explain, ways, words};

/// A story takes much more room than a row.
const MOST_STORIES: usize = 50;

/// All that is hot or deadlocked.
pub fn hot(seen: &Seen<'_>, out: &mut Html) {
    let hot: Vec<_> = seen.report.locks.iter().filter(|lock| lock.hot || lock.deadlock).collect();
    out.raw("<h2>Hot</h2>");
    if hot.is_empty() {
        out.raw("<p class=\"none\">Nothing is hot.</p>");
    }
    for lock in hot.iter().take(MOST_STORIES) {
        story(lock, seen, out);
    }
    more(hot.len(), MOST_STORIES, "lockwatch orphans", out);
}

fn story(lock: &LockReport, seen: &Seen<'_>, out: &mut Html) {
    let id = &lock.id;
    out.raw("<article class=\"lock\" aria-labelledby=\"hot-").text(id).raw("\"><h3 id=\"hot-").text(id).raw("\">");
    out.raw("<span class=\"tag\">").text(words::verdict(lock)).raw("</span> ");
    out.raw("<span class=\"path\">").text(words::file(lock.file, &lock.file_seen)).raw("</span></h3>");
    out.raw("<p class=\"judgement\">").text(explain::judgement(lock)).raw("</p>");
    out.raw("<p class=\"next\">Next: <code>").text(ways::next(lock, &ways::ways(lock))).raw("</code></p>");
    out.raw("<p class=\"soft\"><span class=\"id\">").text(id).raw("</span> ").text(kind(lock));
    if let Some(at) = lock.acquired_at {
        out.raw(", taken ").when(at, seen.now);
    }
    let waits = lock.waiters.len();
    if waits > 0 {
        out.raw("; ").text(words::count(waits, "request")).raw(if waits == 1 { " waits" } else { " wait" });
        if let Some(since) = lock.waiters.iter().filter_map(|waiter| waiter.since).min() {
            out.raw(", the longest for ").age(since, seen.now);
        }
    }
    out.raw("</p>");
    if !lock.evidence.is_empty() {
        out.raw("<ul class=\"why\">");
        for sentence in &lock.evidence {
            out.raw("<li>").text(words::sentence(sentence)).raw("</li>");
        }
        out.raw("</ul>");
    }
    out.raw("</article>");
}
