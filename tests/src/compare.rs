//! What lockwatch and its peers say of the same real locks, as the table in README: real processes, real runs, no cell by
//! hand. `cargo xtask compare` writes it, `cargo xtask compare --check` and a test say whether it is still true.

mod cases;
mod judge;
mod said;
mod table;
mod tools;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

pub use table::Table;

use cases::Case;
use tools::Tool;

use crate::{HostAgent, Scene, ghost};

/// What was found out, and what could not be.
pub struct Findings {
    /// A column for each tool that could be asked.
    pub table: Table,
    /// Why a tool could not, or why an answer need not be lockwatch's best.
    pub left_out: Vec<String>,
}

/// Stages the locks and asks every tool in `PATH`, and those of other systems whose root directories these are.
///
/// # Errors
///
/// When a tool answers what nobody understands.
///
/// # Panics
///
/// When a lock cannot be staged, or no agent be started.
pub fn run(roots: &[&Path]) -> Result<Findings> {
    let (mut tools, mut left_out) = tools::found(roots);
    let place = Scene::new();
    let agent = HostAgent::start(&place, "");
    let cases = cases::staged();
    // Once it has told of the last, it knows of all before.
    let marker = place.file("marker");
    let _marker = ghost(&place, &marker);
    agent.watcher().wait_about("orphaned", &marker);
    // First, so that a slow one cannot spoil it.
    tools.insert(0, Tool::lockwatch(agent.api_socket()));

    let mut columns = Vec::new();
    for tool in &tools {
        let said = cases.iter().map(|case| tool.ask(&case.path)).collect::<Result<Vec<_>>>();
        match said {
            _ if !cases.iter().all(Case::stands) => {
                left_out.push(format!("{}: a lock was gone before it had answered", tool.title));
            }
            Ok(said) => columns.push((tool.title.clone(), judge::column(&cases, &said))),
            Err(error) if tool.is_peer() => left_out.push(format!("{}: {error:#}", tool.title)),
            Err(error) => return Err(error),
        }
    }
    columns.sort_by_key(|(tool, _)| tool == tools::LOCKWATCH);
    let best = columns.iter().any(|(tool, cells)| tool == tools::LOCKWATCH && judge::is_best(cells));
    if !best && agent.watcher().loses_more_than(0) {
        left_out.push(format!("{}: its agent lost events, and has said so", tools::LOCKWATCH));
    }
    Ok(Findings { table: Table::of(&judge::labels(&cases), columns), left_out })
}

impl Findings {
    /// Whether this tool's column is not to be relied on.
    fn doubts(&self, tool: &str) -> bool {
        self.left_out.iter().any(|left_out| left_out.strip_prefix(tool).is_some_and(|rest| rest.starts_with(':')))
    }

    /// What a document's table says otherwise, in sentences, and what of it could not be checked here.
    ///
    /// # Errors
    ///
    /// When the document has no such table.
    pub fn differences(&self, document: &str) -> Result<(Vec<String>, Vec<String>)> {
        let written = Table::read(document)?;
        let mut left_out = self.left_out.clone();
        let (mut compared, mut differences) = (Vec::new(), Vec::new());
        for tool in written.tools() {
            if self.doubts(tool) {
                continue;
            }
            match self.table.column(tool) {
                Some(_) => compared.push(tool),
                None => left_out.push(format!("{tool}: not here")),
            }
        }
        ensure!(written.labels() == self.table.labels(), "its questions are others: {:?}", written.labels());
        for tool in compared {
            let pairs = written.column(tool).into_iter().flatten().zip(self.table.column(tool).into_iter().flatten());
            for (label, (says, found)) in self.table.labels().iter().zip(pairs) {
                if says != found {
                    differences.push(format!("{label}, {tool}: it says {says:?}, found was {found:?}"));
                }
            }
        }
        Ok((differences, left_out))
    }
}

/// Writes the table into a document, between its two marks.
///
/// # Errors
///
/// When it has none, or cannot be read or written.
pub fn write(findings: &Findings, document: &Path) -> Result<()> {
    ensure!(!findings.doubts(tools::LOCKWATCH), "{}", findings.left_out.join("; "));
    let text = fs::read_to_string(document).with_context(|| format!("read {}", document.display()))?;
    let text = findings.table.put_into(&text)?;
    fs::write(document, text).with_context(|| format!("write {}", document.display()))
}
