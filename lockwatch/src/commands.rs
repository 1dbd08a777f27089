//! The commands that look once and print.

pub mod audit;
pub mod check;
pub mod config;
pub mod metrics;

use std::{
    ffi::OsStr,
    io::{self, BufWriter, Write},
    mem::ManuallyDrop,
    path::Path,
};

use anyhow::Context;
use lockwatch_core::{
    graph::Graph,
    report::{Report, Verdict},
};

use crate::{
    exit::Exit,
    look::look,
    output::{
        self, Format, Options, Scope,
        graph::{Drawn, Form},
        schema::Schema,
    },
    request::Request,
    select, sources,
};

/// Every lock that the request lets through.
pub fn list(request: &Request) -> anyhow::Result<Exit> {
    // The process ends with it, and freeing a hundred thousand rows takes time that nobody gains.
    let report = ManuallyDrop::new(select::wanted(look(request)?, request)?);
    listing(&report, request, &request.options)?;
    Ok(Exit::Done)
}

/// Orphaned and hot locks. The exit code tells which, if that is wanted.
pub fn orphans(request: &Request, exit_code: bool) -> anyhow::Result<Exit> {
    let all = select::wanted(look(request)?, request)?;
    let (report, unjudged) = select::orphans(all);
    listing(&report, request, &Options { scope: Scope::Orphans { unjudged }, ..request.options.clone() })?;
    Ok(if exit_code { severity(&report) } else { Exit::Done })
}

/// The story of the locks that an ID or a path names.
pub fn explain(request: &Request, what: &OsStr) -> anyhow::Result<Exit> {
    let report = select::named(look(request)?, what)?;
    if report.locks.is_empty() {
        return explain_lock_file(request, &report, Path::new(what));
    }
    warn(&report, request.format);
    print(|out| match request.format {
        Format::Text => output::explain::write(&report, &request.options, out),
        format => output::listing(format, &report, &request.options, out),
    })
}

/// What a file without locks is instead.
fn explain_lock_file(request: &Request, report: &Report, path: &Path) -> anyhow::Result<Exit> {
    let file = sources::lockfile::look(path, &request.proc_root, report.exact)?;
    warn(report, request.format);
    print(|out| match request.format {
        Format::Text => output::lock_file::write(&file, report, &request.options, out),
        _ => output::json::write_lock_file(&file, report, out),
    })
}

/// Who waits for whom. What the request selects brings along whatever is connected with it.
pub fn graph(request: &Request, form: Form, all: bool) -> anyhow::Result<Exit> {
    // Paths first: a file that does not exist is told before anybody looks.
    let files = select::files(request)?;
    let report = ManuallyDrop::new(look(request)?);
    warn(&report, request.format);
    let whole = if all { Graph::of_all(&report) } else { Graph::of(&report) };
    let graph = whole.around(|lock| select::keeps(request, files.as_ref(), lock));
    let drawn = Drawn { graph: &graph, report: &report };
    print(|out| output::graph::write(form, &drawn, &request.options, out))
}

/// The schema of an output.
pub fn schema(schema: Schema) -> anyhow::Result<Exit> {
    print(|out| output::schema::write(schema, out))
}

/// Runs a writer on a buffered stdout. What could not be written is an error; [`crate::exit`] knows which is none.
pub fn print(write: impl FnOnce(&mut BufWriter<io::StdoutLock<'static>>) -> io::Result<()>) -> anyhow::Result<Exit> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).context("write to stdout")?;
    Ok(Exit::Done)
}

fn listing(report: &Report, request: &Request, options: &Options) -> anyhow::Result<Exit> {
    warn(report, request.format);
    print(|out| output::listing(request.format, report, options, out))
}

/// A JSON document carries its warnings; every other format has them on stderr.
fn warn(report: &Report, format: Format) {
    if format != Format::Json {
        for warning in &report.warnings {
            log::warn!("{warning}");
        }
    }
}

fn severity(report: &Report) -> Exit {
    match () {
        () if report.locks.iter().any(|lock| lock.hot) => Exit::Hot,
        () if report.locks.iter().any(|lock| lock.verdict == Verdict::Orphaned) => Exit::Orphaned,
        () => Exit::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_exit_code_is_the_worst_lock() {
        let check = |range: std::ops::Range<usize>, expect| {
            let report = fixture::report();
            let locks = report.locks[range].to_vec();
            assert_eq!(severity(&Report { locks, ..report }), expect);
        };
        check(0..4, Exit::Hot);
        check(1..4, Exit::Orphaned);
        check(2..4, Exit::Done);
        check(0..0, Exit::Done);
    }
}
