//! What holds, and where each value comes from.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

use crate::{Config, Origin, key::Key, keys::keys, policies, value::Value};

/// Where the values of keys were said, the last one last.
pub(crate) type Origins = BTreeMap<&'static str, Vec<Origin>>;

/// A configuration with the origin of each value.
#[derive(Clone, Debug)]
pub struct Effective {
    /// What holds.
    pub config: Config,
    /// The files that were read, in their order.
    pub files: Vec<PathBuf>,
    origins: Origins,
    of_policies: Vec<Origins>,
}

/// A table of the configuration, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `control`, `agent.tables`; of a policy `policy` or `policy.match`.
    pub name: String,
    /// Of a policy: which.
    pub policy: Option<String>,
    /// Its keys.
    pub entries: Vec<Entry>,
}

/// A key with what holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key's name in its table.
    pub key: &'static str,
    /// The value; `None` if there is none.
    pub value: Option<Value>,
    /// Where it was said: [`Origin::Default`], or one place, or several where what is said adds up.
    pub origins: Vec<Origin>,
}

/// What several files say of it adds up.
const ADDS_UP: &str = "control.protect";

impl Effective {
    pub(crate) fn new(config: Config, files: Vec<PathBuf>, origins: Origins, of_policies: Vec<Origins>) -> Self {
        Self { config, files, origins, of_policies }
    }

    /// When the files were last changed, as far as they tell; `None` without any.
    pub fn changed(&self) -> Option<SystemTime> {
        self.files.iter().filter_map(|file| file.metadata().ok()?.modified().ok()).max()
    }

    /// Every table in the order in which it is shown, those of policies last.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = tables(keys(), &self.config, &self.origins, |table| table.to_owned(), None);
        for (policy, origins) in self.config.policies.iter().zip(&self.of_policies) {
            let name = |table: &str| if table.is_empty() { "policy".to_owned() } else { format!("policy.{table}") };
            let of_policy = tables_of(policy, origins, name);
            tables.extend(of_policy);
        }
        tables
    }

    /// Prints it as TOML that says the same as all layers together; with `origins`, each value with where it comes from.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write_toml(&self, origins: bool, out: &mut impl Write) -> io::Result<()> {
        for (n, table) in self.tables().iter().enumerate() {
            let gap = if n > 0 { "\n" } else { "" };
            match table.name.as_str() {
                "policy" => writeln!(out, "{gap}[[policy]]")?,
                name => writeln!(out, "{gap}[{name}]")?,
            }
            for Entry { key, value, origins: said } in &table.entries {
                let line = match value {
                    Some(value) => format!("{key} = {value}"),
                    None => format!("# {key} is not set"),
                };
                let said: Vec<String> = said.iter().map(ToString::to_string).collect();
                match origins {
                    true => writeln!(out, "{line:<46} # {}", said.join(", "))?,
                    false => writeln!(out, "{line}")?,
                }
            }
        }
        Ok(())
    }
}

fn tables_of(policy: &lockwatch_core::policy::Policy, origins: &Origins, name: impl Fn(&str) -> String) -> Vec<Table> {
    // A table in a policy ends it, so what stands in none comes first.
    let (inner, outer): (Vec<_>, Vec<_>) = policies::KEYS.iter().partition(|key| key.name.contains('.'));
    let ordered = outer.into_iter().chain(inner);
    tables(ordered, policy, origins, name, Some(policy.name.clone()))
}

fn tables<T: 'static>(
    keys: impl Iterator<Item = &'static Key<T>>,
    config: &T,
    origins: &Origins,
    name: impl Fn(&str) -> String,
    policy: Option<String>,
) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for key in keys {
        let (table, short) = key.parts();
        let said = origins.get(key.name).map_or(&[][..], Vec::as_slice);
        let origins = match said {
            [] => vec![Origin::Default],
            all if key.name == ADDS_UP => all.to_vec(),
            [.., last] => vec![last.clone()],
        };
        let entry = Entry { key: short, value: (key.get)(config), origins };
        let name = name(table);
        match tables.last_mut().filter(|table| table.name == name) {
            Some(table) => table.entries.push(entry),
            None => tables.push(Table { name, policy: policy.clone(), entries: vec![entry] }),
        }
    }
    tables
}
