//! One key of the configuration, as data.

use std::fmt::Write;

use crate::value::Value;

/// One key of `T`.
pub struct Key<T> {
    /// Its name with that of its tables: `agent.listen`; of a policy without `policy.`: `match.paths`.
    pub name: &'static str,
    /// What it says, in a line or two for a tired human, without an end.
    pub about: &'static str,
    /// Reads a value into `T`.
    pub set: fn(&mut T, &Value) -> Result<(), String>,
    /// The value in `T`; `None` if there is none, which only some keys allow.
    pub get: fn(&T) -> Option<Value>,
}

impl<T> Key<T> {
    /// The variable that says it: `LOCKWATCH_AGENT_LISTEN`. Only the agent's keys have one; two have a name that other
    /// commands know as well.
    pub fn variable(&self) -> Option<String> {
        match self.name {
            "agent.api_socket" => Some("LOCKWATCH_API_SOCKET".to_owned()),
            "agent.control_socket" => Some("LOCKWATCH_CONTROL_SOCKET".to_owned()),
            name => name.starts_with("agent.").then(|| format!("LOCKWATCH_{}", name.to_uppercase().replace('.', "_"))),
        }
    }

    /// The table it stands in, and its name there: (`agent.tables`, `held`).
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }
}

/// `(did you mean approvals?)`, or all that there are.
pub(crate) fn suggestion<'a>(typed: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let distance = |known: &&str| strsim::osa_distance(typed, known);
    let close = |known: &&str| distance(known) <= 1 + known.len() / 4;
    let mut words = String::new();
    let _ = match known.clone().filter(close).min_by_key(distance) {
        Some(known) => write!(words, "(did you mean {known}?)"),
        None => write!(words, "(there are: {})", known.collect::<Vec<_>>().join(", ")),
    };
    words
}
