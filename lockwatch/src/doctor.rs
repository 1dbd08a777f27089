//! What works on this host, what does not, why, and how to mend it.

mod bpf;
mod host;
mod privileges;
mod probes;

use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize;

use crate::{
    commands::print,
    exit::Exit,
    output::{style, to_json, words},
};

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// Why, in words.
    pub detail: String,
    /// What to type or to do, in one line.
    pub fix: Option<String>,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// lockwatch does its main work, but sees less or sees it later.
    Degraded,
    /// Something that lockwatch needs is not there.
    Missing,
}

impl Check {
    /// It is as it should be.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), fix: None }
    }

    /// lockwatch can live with it.
    pub fn degraded(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Degraded, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// lockwatch needs it.
    pub fn missing(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Missing, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Looks at everything and prints it. Fails, without a message, if something needed is missing.
pub fn run(json: bool, colour: bool) -> anyhow::Result<Exit> {
    let checks = checks();
    print(|out| if json { document(&checks, out) } else { human(&checks, colour, out) })?;
    Ok(if all_there(&checks) { Exit::Done } else { Exit::Failed })
}

fn checks() -> Vec<Check> {
    let mut checks = privileges::checks();
    checks.extend(host::checks());
    checks.extend(bpf::checks());
    checks.extend(probes::checks());
    checks
}

fn all_there(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Missing)
}

/// Schema `lockwatch.doctor/1`.
fn document(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        ok: bool,
        checks: &'a [Check],
    }
    to_json(&Document { schema: "lockwatch.doctor/1", ok: all_there(checks), checks }, out)?;
    writeln!(out)
}

fn human(checks: &[Check], colour: bool, out: &mut impl Write) -> io::Result<()> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let (word, style): (_, Style) = match check.state {
            State::Ok => ("ok", style::GOOD),
            State::Degraded => ("degraded", style::DOUBT),
            State::Missing => ("MISSING", style::HOT),
        };
        let word = style::paint(colour, style, format!("{word:<8}"));
        writeln!(out, "{word}  {:<width$}  {}", check.name, words::sentence(&check.detail))?;
        if let Some(fix) = &check.fix {
            writeln!(out, "{:10}{:width$}  fix: {}", "", "", words::sentence(fix))?;
        }
    }
    let number = |state| checks.iter().filter(|check| check.state == state).count();
    let verdict = match (number(State::Missing), number(State::Degraded)) {
        (0, 0) => "Everything works here. Next: lockwatch orphans".to_owned(),
        (0, degraded) => format!("Everything needed is here, {degraded} degraded. Next: lockwatch orphans"),
        (missing, _) => {
            format!("{missing} missing. Until that is mended lockwatch uses what works, and says what it cannot know.")
        }
    };
    writeln!(out, "\n{verdict}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{fixture, output::schema::Schema};

    fn some() -> Vec<Check> {
        vec![
            Check::ok("btf", "/sys/kernel/btf/vmlinux is readable"),
            Check::degraded("tracefs", "it is not \u{1b}mounted", "mount -t tracefs tracefs /sys/kernel/tracing"),
            Check::missing("ebpf build", "this lockwatch was built without eBPF", "cargo xtask setup && cargo build"),
        ]
    }

    #[test]
    fn the_worst_is_loud_and_every_fix_is_one_line() {
        expect![[r#"
            ok        btf         /sys/kernel/btf/vmlinux is readable
            degraded  tracefs     it is not \u{1b}mounted
                                  fix: mount -t tracefs tracefs /sys/kernel/tracing
            MISSING   ebpf build  this lockwatch was built without eBPF
                                  fix: cargo xtask setup && cargo build

            1 missing. Until that is mended lockwatch uses what works, and says what it cannot know.
        "#]]
        .assert_eq(&fixture::written(|out| human(&some(), false, out)));
        expect![[r#"
            ok        btf  /sys/kernel/btf/vmlinux is readable

            Everything works here. Next: lockwatch orphans
        "#]]
        .assert_eq(&fixture::written(|out| human(&some()[..1], false, out)));
    }

    #[test]
    fn the_document_keeps_its_schema() {
        Schema::Doctor.assert_valid(&fixture::written(|out| document(&some(), out)));
        Schema::Doctor.assert_valid(&fixture::written(|out| document(&checks(), out)));
        assert!(!all_there(&some()) && all_there(&some()[..2]));
    }

    #[test]
    fn this_host_gets_an_answer_to_every_question() {
        let checks = checks();
        let names: std::collections::HashSet<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), checks.len(), "{checks:?}");
        for check in &checks {
            assert_eq!(check.fix.is_none(), check.state == State::Ok, "{check:?}");
            assert!(!check.detail.is_empty() && !check.detail.contains('\n'), "{check:?}");
        }
    }
}
