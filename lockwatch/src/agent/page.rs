//! The status page: what somebody who was woken sees first. It is made here and complete without a script; with one,
//! sections are replaced as they change.
//!
//! Pure functions of what the engine has answered. However many locks there are, each list is cut.

mod banner;
mod graph;
mod health;
mod html;
mod lists;
mod story;

use lockwatch_core::{
    lock::Range,
    report::{LockReport, Report},
    time::Timestamp,
};

use self::html::Html;
use super::{numbers::Numbers, recent::Told};
use crate::output::{document::rfc3339, graph::svg, words};

/// How long each list may be.
const MOST_ROWS: usize = 200;

/// The sections, in the order of the page.
const SECTIONS: [&str; 7] = ["banner", "hot", "orphans", "waiters", "graph", "events", "health"];

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What the page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// A look, with those locks at least that the page names.
    pub report: &'a Report,
    /// How many locks there are.
    pub locks: usize,
    /// What time it is.
    pub now: Timestamp,
    /// The agent's numbers.
    pub numbers: &'a Numbers,
    /// Since when it watches.
    pub since: Option<Timestamp>,
    /// What was told lately, the newest first.
    pub recent: &'a [Told],
}

impl Seen<'_> {
    /// Nothing was missed, neither by the look nor by the probes.
    fn exact(&self) -> bool {
        self.report.exact && self.numbers.exact
    }
}

/// The page as it was at one moment.
#[derive(Debug)]
pub struct Page {
    title: String,
    /// When that was; `None` if nobody knows.
    pub at: Option<Timestamp>,
    /// Those of its sections that there is something to say in.
    pub sections: Vec<Section>,
}

/// A part of the page that is replaced as a whole.
#[derive(Debug)]
pub struct Section {
    /// One of the names that the page knows.
    pub name: &'static str,
    /// Its markup.
    pub html: String,
    /// Changes with the markup, but not with time that goes by.
    pub print: u64,
}

impl Section {
    fn new(name: &'static str, write: impl FnOnce(&mut Html)) -> Self {
        let mut html = Html::default();
        write(&mut html);
        let (html, print) = html.finish();
        Self { name, html, print }
    }
}

impl Page {
    /// With the names of files and processes.
    pub fn full(seen: &Seen<'_>) -> Self {
        Self::of(
            seen,
            vec![
                Section::new("banner", |out| banner::write(seen, out)),
                Section::new("hot", |out| story::hot(seen, out)),
                Section::new("orphans", |out| lists::orphans(seen, out)),
                Section::new("waiters", |out| lists::waiters(seen, out)),
                Section::new("graph", |out| graph::write(seen, out)),
                Section::new("events", |out| lists::events(seen, out)),
                Section::new("health", |out| health::write(seen, out)),
            ],
        )
    }

    /// For those who may not know them.
    pub fn numbers(seen: &Seen<'_>) -> Self {
        Self::of(
            seen,
            vec![
                Section::new("banner", |out| banner::write(seen, out)),
                Section::new("hot", |out| {
                    out.raw(UNNAMED);
                }),
                Section::new("health", |out| health::write(seen, out)),
            ],
        )
    }

    fn of(seen: &Seen<'_>, sections: Vec<Section>) -> Self {
        let host = &seen.report.host.hostname;
        Self { title: format!("{} {host}", banner::word(seen)), at: Some(seen.now), sections }
    }

    /// The engine does not answer.
    pub fn trouble(why: &str) -> Self {
        let banner = Section::new("banner", |out| banner::trouble(why, out));
        Self { title: "NOT KNOWN".to_owned(), at: None, sections: vec![banner] }
    }

    /// The document. The nonce must be another one each time, and stand in the policy that goes with it.
    pub fn document(&self, nonce: &str) -> String {
        let mut sections = String::new();
        for name in SECTIONS {
            let html = self.sections.iter().find(|section| section.name == name).map_or("", |section| &section.html);
            // Only what says how things are is read aloud when it changes.
            let live = if name == "banner" { " role=\"status\" aria-live=\"polite\" aria-atomic=\"true\"" } else { "" };
            sections += &format!("<section id=\"{name}\"{live}>{html}</section>\n");
        }
        let mut title = Html::default();
        title.text(&self.title);
        let at = self.at.map(|at| rfc3339(at, 0).replace('T', " ").replace('Z', " UTC"));
        let style = STYLE.replace("/* graph */", svg::STYLE);
        // What comes from outside is put in last, and nothing is looked for in it.
        let parts = [
            ("{{nonce}}", nonce),
            ("{{style}}", &style),
            ("{{script}}", SCRIPT),
            ("{{at}}", at.as_deref().unwrap_or("not known")),
            ("{{title}}", &title.finish().0),
            ("{{sections}}", &sections),
        ];
        fill(FRAME, &parts)
    }
}

/// Said in place of the lists.
const UNNAMED: &str = "<h2>Numbers only</h2><p>Which files and processes these are is not told here: this agent listens \
    beyond its own host, or its page is set to numbers (<code>agent.page</code>, <code>agent.api_on_tcp</code>). On the \
    host: <code>lockwatch orphans</code></p>";

/// Puts parts where their names stand, each time one does, in one pass.
fn fill(frame: &str, parts: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(frame.len() + parts.iter().map(|(_, part)| part.len()).sum::<usize>());
    let mut rest = frame;
    while let Some(at) = rest.find("{{") {
        out += &rest[..at];
        rest = &rest[at..];
        match parts.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, part)) => {
                out += part;
                rest = &rest[name.len()..];
            }
            None => {
                out += "{{";
                rest = &rest[2..];
            }
        }
    }
    out + rest
}

/// `and 12 more: lockwatch list`, if there are.
fn more(all: usize, shown: usize, command: &'static str, out: &mut Html) {
    if let Some(more @ 1..) = all.checked_sub(shown) {
        out.raw("<p class=\"more\">and ").text(more).raw(" more: <code>").raw(command).raw("</code></p>");
    }
}

/// `flock write of bytes 1 to 9`.
fn kind(lock: &LockReport) -> String {
    match lock.range {
        Range::WHOLE => format!("{} {}", lock.kind, lock.mode),
        range => format!("{} {}, {}", lock.kind, lock.mode, words::range(range)),
    }
}

#[cfg(test)]
mod tests;
