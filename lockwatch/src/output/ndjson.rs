//! `--ndjson`: one lock object of CONTRACT section 2 a line.

use std::io::{self, Write};

use lockwatch_core::report::Report;

use super::{
    Options,
    document::{LockObject, Memo},
    sort, to_json,
};

/// Prints one line for each lock, as it goes.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let memo = Memo::default();
    for lock in sort::sorted(&report.locks, options.sort) {
        to_json(&LockObject::new(lock, Some(&memo)), out)?;
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{fixture, output::json};

    #[test]
    fn the_lines_are_the_documents_locks() {
        for report in [fixture::report(), fixture::hostile()] {
            let lines = fixture::written(|out| write(&report, &fixture::options(), out));
            let document = fixture::written(|out| json::write(&report, &fixture::options(), out));
            let document: Value = serde_json::from_str(&document).unwrap();
            let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(Value::Array(lines), document["locks"]);
        }
    }
}
