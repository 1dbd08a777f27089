//! The JSON Schemas of what lockwatch prints. They are kept by hand, and tests hold real documents against them.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

/// Which output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Schema {
    /// The document of list, orphans and explain with --json; --ndjson prints its locks.
    #[default]
    Locks,
    /// A line of trace --ndjson and orphans --watch --ndjson.
    Event,
    /// The document of doctor --json.
    Doctor,
    /// The document of graph --format json.
    Graph,
    /// The document of clear --json and approve --json.
    Clear,
    /// A line of the audit log, and of audit --ndjson.
    Audit,
    /// The document of audit --json.
    Records,
}

impl Schema {
    /// The schema as a value.
    fn value(self) -> serde_json::Result<Value> {
        const LOCKS: &str = include_str!("schema/locks.json");
        const AUDIT: &str = include_str!("schema/audit.json");
        let mut schema: Value = serde_json::from_str(match self {
            Schema::Locks => LOCKS,
            Schema::Event => include_str!("schema/event.json"),
            Schema::Doctor => include_str!("schema/doctor.json"),
            Schema::Graph => include_str!("schema/graph.json"),
            Schema::Clear => include_str!("schema/clear.json"),
            Schema::Audit => AUDIT,
            Schema::Records => include_str!("schema/records.json"),
        })?;
        // What speaks of the same things as another must still stand alone when it is printed.
        let shared = match self {
            Schema::Event | Schema::Graph => Some(LOCKS),
            Schema::Records => Some(AUDIT),
            _ => None,
        };
        if let Some(shared) = shared {
            let mut shared: Value = serde_json::from_str(shared)?;
            if let (Some(own), Some(shared)) = (schema["$defs"].as_object_mut(), shared["$defs"].as_object_mut()) {
                own.append(shared);
            }
        }
        Ok(schema)
    }
}

/// Prints a schema for people and machines.
pub fn write(schema: Schema, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &schema.value()?)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture,
        output::{json, ndjson},
    };

    impl Schema {
        /// Panics if a document breaks the schema or has a field that the schema does not know.
        pub(crate) fn assert_valid(self, document: &str) {
            let mut schema = self.value().unwrap();
            close(&mut schema);
            let document = serde_json::from_str(document).expect("valid JSON");
            if let Err(error) = jsonschema::validate(&schema, &document) {
                panic!("{self:?} at {}: {error}", error.instance_path());
            }
        }
    }

    /// Forbids what is not described; the printed schema allows it, since fields may be added.
    fn close(schema: &mut Value) {
        match schema {
            Value::Object(map) => {
                if map.get("properties").is_some_and(Value::is_object) {
                    map.insert("additionalProperties".into(), false.into());
                }
                map.values_mut().for_each(close);
            }
            Value::Array(list) => list.iter_mut().for_each(close),
            _ => {}
        }
    }

    #[test]
    fn documents_keep_the_schema() {
        for report in [fixture::report(), fixture::hostile()] {
            Schema::Locks.assert_valid(&fixture::written(|out| json::write(&report, &fixture::options(), out)));
            assert_eq!(
                fixture::written(|out| ndjson::write(&report, &fixture::options(), out)).lines().count(),
                report.locks.len()
            );
        }
    }

    #[test]
    fn the_schema_would_notice() {
        let text = fixture::written(|out| json::write(&fixture::report(), &fixture::options(), out));
        let broken = |path: &str, value: Value| {
            let mut document: Value = serde_json::from_str(&text).unwrap();
            *document.pointer_mut(path).expect(path) = value;
            let schema = Schema::Locks.value().unwrap();
            assert!(!jsonschema::is_valid(&schema, &document), "{path}");
        };
        broken("/taken_at", "yesterday".into());
        broken("/locks/0/verdict", "lost".into());
        broken("/locks/0/holders/0/pid", "4720".into());
        broken("/locks/0/acquirer/exit/oom", Value::Null);
    }

    #[test]
    fn each_is_a_schema() {
        for schema in Schema::value_variants() {
            assert!(jsonschema::meta::is_valid(&schema.value().unwrap()), "{schema:?}");
        }
    }
}
