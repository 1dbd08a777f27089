//! What is configured, what is wrong with it, and who says so.

use std::io::{self, Write};

use lockwatch_config::{Effective, FILE, Origin, effective::Entry, origin::Problems, span, value::Value};
use lockwatch_core::policy::{Action, Policy, Stage};
use serde::Serialize;

use super::{to_json, words};

/// Says that nothing is wrong, what was read, and what policies will do by themselves.
pub fn check(effective: &Effective, out: &mut impl Write) -> io::Result<()> {
    let files: Vec<String> = effective.files.iter().map(|file| shown(&file.to_string_lossy())).collect();
    match files.is_empty() {
        true => writeln!(out, "ok: there is no {FILE}, and the defaults hold")?,
        false => writeln!(out, "ok: {}", files.join(", "))?,
    }
    for policy in &effective.config.policies {
        writeln!(out, "policy {}: {}", policy.name, promise(policy))?;
    }
    Ok(())
}

/// Everything that is wrong, a line each.
pub fn problems(problems: &Problems, out: &mut impl Write) -> io::Result<()> {
    problems.0.iter().try_for_each(|problem| writeln!(out, "{}", shown(&problem.to_string())))
}

/// Prints the document, schema `lockwatch.config/1`.
pub fn json(effective: &Effective, out: &mut impl Write) -> io::Result<()> {
    to_json(&Document::of(effective), out)?;
    writeln!(out)
}

/// What a policy does without anybody being asked.
fn promise(policy: &Policy) -> String {
    let most = format!("at most {} an hour, by {}", policy.max_per_hour, names(policy));
    let age = span::write(policy.min_age);
    match (policy.action, policy.stage) {
        (Action::Report, _) => format!("reports locks that have been orphaned for {age}, and clears nothing"),
        (Action::Clear, Stage::Observe) => format!("says what it would clear after {age}, and clears nothing"),
        (Action::Clear, Stage::Canary) => {
            let count = if policy.canary == 1 { "one lock".to_owned() } else { format!("{} locks", policy.canary) };
            format!("clears {count} after {age}, {most}, then stops")
        }
        (Action::Clear, Stage::Enforce) => format!("clears locks that have been orphaned for {age}, {most}"),
    }
}

fn names(policy: &Policy) -> String {
    policy.methods.iter().map(|method| method.name()).collect::<Vec<_>>().join(" or ")
}

fn shown(text: &str) -> String {
    words::sentence(text).into_owned()
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    files: Vec<String>,
    values: Vec<ValueObject>,
}

/// One key with its value. A policy's keys begin with `policy.`, and `policy` says whose they are.
#[derive(Serialize)]
struct ValueObject {
    key: String,
    policy: Option<String>,
    value: Option<serde_json::Value>,
    origins: Vec<OriginObject>,
}

#[derive(Serialize)]
struct OriginObject {
    kind: &'static str,
    path: Option<String>,
    line: Option<usize>,
    name: Option<String>,
}

impl Document {
    fn of(effective: &Effective) -> Self {
        let values = effective.tables().into_iter().flat_map(|table| {
            let (name, policy) = (table.name, table.policy);
            table.entries.into_iter().map(move |entry| ValueObject::of(&name, policy.as_deref(), entry))
        });
        let files = effective.files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        Self { schema: "lockwatch.config/1", files, values: values.collect() }
    }
}

impl ValueObject {
    fn of(table: &str, policy: Option<&str>, entry: Entry) -> Self {
        Self {
            key: format!("{table}.{}", entry.key),
            policy: policy.map(str::to_owned),
            value: entry.value.as_ref().map(convert),
            origins: entry.origins.iter().map(OriginObject::of).collect(),
        }
    }
}

impl OriginObject {
    fn of(origin: &Origin) -> Self {
        let bare = Self { kind: origin.kind(), path: None, line: None, name: None };
        match origin {
            Origin::Default => bare,
            Origin::File { path, line } => {
                Self { path: Some(path.to_string_lossy().into_owned()), line: *line, ..bare }
            }
            Origin::Variable(name) => Self { name: Some(name.clone()), ..bare },
            Origin::Flag(name) => Self { name: Some((*name).to_owned()), ..bare },
        }
    }
}

fn convert(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) | Value::Typed(text) => text.as_str().into(),
        Value::Number(number) => (*number).into(),
        Value::Truth(truth) => (*truth).into(),
        Value::List(all) => all.iter().map(convert).collect(),
        Value::Other(_) => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lockwatch_config::layers::of_text;

    use super::*;
    use crate::{fixture::written, output::schema::Schema};

    const TEXT: &str = "[agent]\nlisten = 'none'\n[control]\nprotect = ['a']\n[[policy]]\nname = 'x'\nmatch.kind = ['ofd']\n\
                        action = 'clear'\nstage = 'canary'\n";

    #[test]
    fn the_document_keeps_its_schema() {
        let effective = of_text(Path::new("/etc/x.toml"), TEXT).unwrap();
        let text = written(|out| json(&effective, out));
        Schema::Config.assert_valid(&text);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let value = |key: &str| {
            let all = document["values"].as_array().unwrap();
            all.iter().find(|one| one["key"] == key).cloned().expect(key)
        };
        let from = |line| serde_json::json!([{"kind": "file", "path": "/etc/x.toml", "line": line, "name": null}]);
        assert_eq!((&value("agent.listen")["value"], &value("agent.listen")["origins"]), (&"none".into(), &from(2)));
        assert_eq!(value("control.protect")["value"], serde_json::json!(["a"]));
        assert_eq!((&value("policy.stage")["policy"], &value("policy.stage")["origins"]), (&"x".into(), &from(9)));
        assert_eq!(value("policy.match.unit")["value"], serde_json::Value::Null);
        assert_eq!(value("control.approvals")["origins"][0]["kind"], "default");
    }

    #[test]
    fn a_check_says_what_policies_will_do() {
        let says = |text: &str| written(|out| check(&of_text(Path::new("/etc/x.toml"), text).unwrap(), out));
        assert_eq!(
            says(TEXT),
            "ok: /etc/x.toml\npolicy x: clears one lock after 1m, at most 10 an hour, by release, then stops\n"
        );
        let observe = TEXT.replace("canary", "observe");
        assert!(says(&observe).contains("policy x: says what it would clear after 1m, and clears nothing"));
        let wrong = of_text(Path::new("/etc/x.toml"), "[agnt]").unwrap_err();
        let expect = "/etc/x.toml:1: unknown key agnt (did you mean agent?)\n";
        assert_eq!(written(|out| problems(&wrong, out)), expect);
    }
}
