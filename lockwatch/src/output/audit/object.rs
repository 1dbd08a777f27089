//! The record of every clear as JSON.

use lockwatch_control::audit::{Entry, Reading, Record, SCHEMA};
use serde::Serialize;

use super::Audit;
use crate::output::document::At;

/// Schema `lockwatch.records/1`.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema: &'static str,
    log: String,
    lines: usize,
    whole: bool,
    end: Option<&'a str>,
    breaks: Vec<BreakObject>,
    notes: &'a [String],
    records: Vec<RecordObject<'a>>,
}

#[derive(Serialize)]
struct BreakObject {
    line: usize,
    what: String,
}

/// A line of the log, and what only the whole log can tell of it.
#[derive(Serialize)]
pub(super) struct RecordObject<'a> {
    schema: &'static str,
    previous: &'a str,
    at: At,
    #[serde(flatten)]
    record: &'a Record,
    line: usize,
    unfinished: bool,
}

impl<'a> Document<'a> {
    pub(super) fn of(audit: &'a Audit<'a>) -> Self {
        let Reading { breaks, notes, lines, end, .. } = audit.reading;
        Self {
            schema: "lockwatch.records/1",
            log: audit.path.to_string_lossy().into_owned(),
            lines: *lines,
            whole: breaks.is_empty(),
            end: end.as_deref(),
            breaks: breaks.iter().map(|it| BreakObject { line: it.line, what: it.to_string() }).collect(),
            notes,
            records: audit.entries.iter().map(|entry| RecordObject::of(entry)).collect(),
        }
    }
}

impl<'a> RecordObject<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        let Entry { line, at, record, previous, unfinished } = entry;
        Self { schema: SCHEMA, previous, at: At(*at), record, line: *line, unfinished: *unfinished }
    }
}
