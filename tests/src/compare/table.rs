//! The table as Markdown, between two marks in a document. Tools that say the same in every row share a column.

use anyhow::{Context, Result, ensure};

const BEGIN: &str = "<!-- compare: begin (written by cargo xtask compare) -->";
const END: &str = "<!-- compare: end -->";

/// Questions, and for each tool an answer to each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    labels: Vec<String>,
    columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    tools: Vec<String>,
    cells: Vec<String>,
}

impl Table {
    /// Of the tools' answers, in their order.
    pub(super) fn of(labels: &[String], answers: Vec<(String, Vec<String>)>) -> Self {
        let mut columns: Vec<Column> = Vec::new();
        for (tool, cells) in answers {
            match columns.iter_mut().find(|column| column.cells == cells) {
                Some(column) => column.tools.push(tool),
                None => columns.push(Column { tools: vec![tool], cells }),
            }
        }
        Self { labels: labels.to_vec(), columns }
    }

    /// The questions.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Each tool with its version.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().flat_map(|column| &column.tools).map(String::as_str)
    }

    /// A tool's answers.
    pub fn column(&self, tool: &str) -> Option<&[String]> {
        let column = self.columns.iter().find(|column| column.tools.iter().any(|known| known == tool));
        column.map(|column| column.cells.as_slice())
    }

    /// The one that stands in a document.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not in this form.
    pub(super) fn read(document: &str) -> Result<Self> {
        let (_, inside, _) = split(document)?;
        let mut lines = inside.lines().filter(|line| line.starts_with('|')).map(words);
        let head = lines.next().context("the table is empty")?;
        let mut table = Self { labels: Vec::new(), columns: Vec::new() };
        for tools in head.iter().skip(1) {
            let tools = tools.split(", ").map(str::to_owned).collect();
            table.columns.push(Column { tools, cells: Vec::new() });
        }
        for line in lines.skip(1) {
            let [label, cells @ ..] = line.as_slice() else { continue };
            ensure!(cells.len() == table.columns.len(), "a row of another length: {label}");
            table.labels.push(label.clone());
            for (column, cell) in table.columns.iter_mut().zip(cells) {
                column.cells.push(cell.clone());
            }
        }
        Ok(table)
    }

    /// The document with this table in place of the one that it has.
    pub(super) fn put_into(&self, document: &str) -> Result<String> {
        let (before, _, after) = split(document)?;
        Ok(format!("{before}{BEGIN}\n{}{END}{after}", self.markdown()))
    }

    fn markdown(&self) -> String {
        let row = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        let titles: Vec<_> = self.columns.iter().map(|column| column.tools.join(", ")).collect();
        let mut text = row(&mut [""].into_iter().chain(titles.iter().map(String::as_str)));
        text += &format!("|{}\n", "---|".repeat(titles.len() + 1));
        for (n, label) in self.labels.iter().enumerate() {
            let cells = self.columns.iter().map(|column| column.cells[n].as_str());
            text += &row(&mut [label.as_str()].into_iter().chain(cells));
        }
        text
    }
}

/// What is before the marks, between them and after them.
fn split(document: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (inside, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    Ok((before, inside, after))
}

fn words(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(|word| word.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let answers = [("lslocks 2.38.1", ["a", "–"]), ("lsof 4.95.0", ["b", "b"]), ("fuser 23.6", ["b", "b"])];
        let answers = answers.map(|(tool, cells)| (tool.to_owned(), strings(&cells)));
        Table::of(&strings(&["who took it", "who waits"]), answers.into())
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let written = table().put_into(&document).unwrap();
        assert_eq!(
            written,
            format!(
                "before\n{BEGIN}\n|  | lslocks 2.38.1 | lsof 4.95.0, fuser 23.6 |\n|---|---|---|\n\
                 | who took it | a | b |\n| who waits | – | b |\n{END}\nafter\n"
            )
        );
        assert_eq!(Table::read(&written).unwrap(), table());
        assert_eq!(table().put_into(&written).unwrap(), written);
        assert_eq!(table().column("fuser 23.6").unwrap(), ["b", "b"]);
        assert_eq!(table().column("fuser 22"), None);
    }

    #[test]
    fn other_documents_are_errors() {
        for document in ["", BEGIN, &format!("{BEGIN}\n{END}"), &format!("{BEGIN}\n|  | a |\n|---|---|\n| b |\n{END}")]
        {
            Table::read(document).unwrap_err();
        }
    }
}
