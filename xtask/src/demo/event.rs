//! Finds the death of the demo's locker among the watcher's events (schema `lockwatch.event/1`).

use std::fmt;

use serde_json::Value;

/// How the acquirer of an orphaned lock died, as lockwatch saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    at: Option<String>,
    pub(super) id: Option<String>,
    path: Option<String>,
    pid: u64,
    comm: Option<String>,
    signal: u64,
}

/// The death of `acquirer`, if this line reports its orphaned lock and knows the signal.
pub(super) fn death(line: &str, acquirer: u32) -> Option<Death> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event["event"] != "orphaned" {
        return None;
    }
    let lock = &event["lock"];
    let process = [&lock["acquirer"], &event["process"]].into_iter().find(|p| p["pid"] == acquirer)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Death {
        at: text(&process["died_at"]).or_else(|| text(&event["at"])),
        id: text(&lock["id"]),
        path: text(&lock["file"]["path"]),
        pid: acquirer.into(),
        comm: text(&process["comm"]),
        signal: process["exit"]["signal"].as_u64()?,
    })
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        let Death { at, id, path, pid, comm, signal } = self;
        writeln!(f, "lockwatch orphans --watch saw it happen:")?;
        writeln!(f, "  lock      {}  {}", known(id), known(path))?;
        write!(f, "  acquirer  pid {pid} ({}), killed by signal {signal} at {}", known(comm), known(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_this_orphan_and_its_signal() {
        let check = |line: &str, expect: bool| assert_eq!(death(line, 7).is_some(), expect, "{line}");
        check(r#"{"event":"orphaned","lock":{"id":"a","acquirer":{"pid":7,"exit":{"signal":9}}}}"#, true);
        check(r#"{"event":"orphaned","lock":{"id":"a"},"process":{"pid":7,"exit":{"code":null,"signal":9}}}"#, true);
        check(r#"{"event":"orphaned","lock":{"id":"a","acquirer":{"pid":7,"exit":null}}}"#, false);
        check(r#"{"event":"orphaned","lock":{"id":"a","acquirer":{"pid":8,"exit":{"signal":9}}}}"#, false);
        check(r#"{"event":"cleared","lock":{"id":"a","acquirer":{"pid":7,"exit":{"signal":9}}}}"#, false);
        check("not json", false);
    }
}
