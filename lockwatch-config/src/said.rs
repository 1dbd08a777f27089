//! What one file says: its values by their keys, each with its line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::{
    key::suggestion,
    origin::{Origin, Problem},
    value::Value,
};

/// A value that was said somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The key with its tables: `agent.listen`.
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Sayings {
    /// Of everything but policies.
    pub(crate) said: Vec<Said>,
    /// Of each policy, with where it begins.
    pub(crate) policies: Vec<(Origin, Vec<Said>)>,
    /// What is wrong with it, by line.
    pub(crate) problems: Vec<Problem>,
}

/// Reads a file's text. `keys` are those that there are, `policy_keys` those of a policy.
pub(crate) fn parse(path: &Path, text: &str, keys: &[&str], policy_keys: &[&str]) -> Sayings {
    let mut reader = Reader { path, text, sayings: Sayings::default() };
    match DeTable::parse(text) {
        Ok(table) => reader.file(table.get_ref(), keys, policy_keys),
        Err(error) => {
            let line = error.span().map(|span| reader.line(span.start));
            let origin = Origin::File { path: path.to_owned(), line };
            reader.sayings.problems.push(Problem::at(&origin, error.message()));
        }
    }
    let mut sayings = reader.sayings;
    // The parser sorts keys by name.
    sayings.problems.sort_by_key(|problem| match problem.origin {
        Some(Origin::File { line, .. }) => line,
        _ => None,
    });
    sayings
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    sayings: Sayings,
}

impl Reader<'_> {
    fn file(&mut self, table: &DeTable<'_>, keys: &[&str], policy_keys: &[&str]) {
        let keys: Vec<&str> = keys.iter().copied().chain([POLICY]).collect();
        let said = self.table(table, "", &keys);
        self.sayings.said = said;
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == POLICY) else { return };
        let tables = value.get_ref().as_array().map(|all| all.iter().map(|one| (one, one.get_ref().as_table())));
        for (one, table) in tables.into_iter().flatten() {
            let origin = self.origin(one.span().start);
            match table {
                Some(table) => {
                    let said = self.table(table, "", policy_keys);
                    self.sayings.policies.push((origin, said));
                }
                None => self.sayings.problems.push(Problem::at(&origin, WRITE_POLICY)),
            }
        }
        if value.get_ref().as_array().is_none() {
            let origin = self.origin(key.span().start);
            self.sayings.problems.push(Problem::at(&origin, WRITE_POLICY));
        }
    }

    /// What a table says, and what the tables in it say.
    fn table(&mut self, table: &DeTable<'_>, prefix: &str, keys: &[&str]) -> Vec<Said> {
        let mut said = Vec::new();
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let inside = format!("{key}.");
            let origin = self.origin(name.span().start);
            let is_table = keys.iter().any(|known| known.starts_with(&inside));
            match value.get_ref() {
                _ if key == POLICY && keys.contains(&POLICY) => {}
                DeValue::Table(inner) if is_table => said.extend(self.table(inner, &inside, keys)),
                _ if is_table => self.wrong(&origin, format!("{key} is a table: write [{key}]")),
                value if keys.contains(&key.as_str()) => said.push(Said { key, value: of(value), origin }),
                _ => self.wrong(&origin, unknown(name.get_ref(), prefix, keys)),
            }
        }
        said
    }

    fn wrong(&mut self, origin: &Origin, words: String) {
        self.sayings.problems.push(Problem::at(origin, words));
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line: Some(self.line(at)) }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        before.iter().filter(|b| **b == b'\n').count() + 1
    }
}

const POLICY: &str = "policy";

const WRITE_POLICY: &str = "policies are a list of tables: write [[policy]] above each";

/// What stands beside a key that is not there.
fn unknown(name: &str, prefix: &str, keys: &[&str]) -> String {
    let mut beside: Vec<&str> = keys.iter().filter_map(|key| key.strip_prefix(prefix)?.split('.').next()).collect();
    beside.dedup();
    format!("unknown key {name} {}", suggestion(name, beside.into_iter()))
}

fn of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number this large"), Value::Number),
        DeValue::Boolean(truth) => Value::Truth(*truth),
        DeValue::Array(all) => Value::List(all.iter().map(|one| of(one.get_ref())).collect()),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Table(_) => Value::Other("a table"),
    }
}
