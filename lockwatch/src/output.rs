//! What a report looks like: one file per format, each a pure function of the report.

pub mod audit;
pub mod clear;
pub mod column;
pub mod config;
pub mod document;
mod escape;
// `watch` prints events; nothing else does.
pub mod event;
pub mod explain;
pub mod graph;
pub mod json;
mod layout;
pub mod lock_file;
pub mod ndjson;
pub mod schema;
pub mod sort;
pub(crate) mod style;
pub mod table;
pub(crate) mod ways;
pub(crate) mod words;
mod writer;

use std::io::{self, Write};

use lockwatch_core::report::Report;

pub(crate) use self::writer::to_json;
use self::{column::Column, sort::Sort};

/// In which form to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a human.
    Text,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// What was asked for.
    pub fn of(json: bool, ndjson: bool) -> Self {
        match (json, ndjson) {
            (true, _) => Format::Json,
            (_, true) => Format::Ndjson,
            _ => Format::Text,
        }
    }
}

/// How to print.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the report was cut down to.
    pub scope: Scope,
    /// The table's columns; the usual ones if empty.
    pub columns: Vec<Column>,
    /// The order of rows.
    pub sort: Sort,
    /// Whether a table has a header and a summary.
    pub headers: bool,
    /// Whether to colour.
    pub colour: bool,
    /// The terminal's width; without one nothing is cut.
    pub width: Option<usize>,
}

/// What was asked for: the words for "nothing found" depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every lock.
    All,
    /// Orphaned and hot locks.
    Orphans {
        /// How many of the locks left out cannot be judged: "none orphaned" would be too much said.
        unjudged: usize,
    },
}

/// Prints a listing in the wanted format.
pub fn listing(format: Format, report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Text => table::write(report, options, out),
        Format::Json => json::write(report, options, out),
        Format::Ndjson => ndjson::write(report, options, out),
    }
}
