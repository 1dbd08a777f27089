//! The contract's JSON documents as data, and a checker that walks every field.
//!
//! Fields may be added, so unknown ones pass; every known one must be there, with its type. Nothing unknown may be
//! said with 0 or an empty text: it is null.

use serde_json::Value;

use Shape::*;

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Text that says something.
    Text,
    /// RFC 3339 in UTC (`2026-11-22T03:12:07.123456789Z`).
    Time,
    /// A whole number, zero or more.
    Number,
    /// true or false.
    Bool,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Null, or this.
    OrNull(&'static Shape),
    /// Any number of these.
    List(&'static Shape),
    /// An object with at least these fields.
    Object(&'static [(&'static str, Shape)]),
}

/// `lockwatch.locks/1`, CONTRACT section 2.
pub const LOCKS: Shape = Object(&[
    ("schema", Word(&["lockwatch.locks/1"])),
    ("taken_at", Time),
    ("host", Object(&[("hostname", Text), ("kernel", Text), ("boot_id", Text)])),
    ("sources", List(&SOURCE)),
    ("exact", Bool),
    ("warnings", List(&Text)),
    ("locks", List(&LOCK)),
]);

/// One lock of it.
pub const LOCK: Shape = Object(&[
    ("id", Text),
    ("kind", Word(&["flock", "posix", "ofd", "lease", "delegation"])),
    ("mode", MODE),
    ("range", RANGE),
    ("file", FILE),
    ("acquirer", OrNull(&ACQUIRER)),
    ("acquired_at", OrNull(&Time)),
    ("holders", List(&HOLDER)),
    ("holders_complete", Bool),
    ("waiters", List(&WAITER)),
    ("verdict", Word(&["held", "handed_over", "orphaned", "unknown"])),
    ("cause", OrNull(&Word(CAUSES))),
    ("hot", Bool),
    ("deadlock", Bool),
    ("evidence", List(&Text)),
]);

/// A line of the audit log, CONTRACT section 4.
pub const AUDIT: Shape = Object(&[
    ("schema", Word(&["lockwatch.audit/1"])),
    ("at", Time),
    ("actor", Object(&[("uid", Number), ("pid", Number), ("comm", OrNull(&Text)), ("tty", OrNull(&Text))])),
    ("id", Text),
    ("file", OrNull(&Text)),
    ("method", OrNull(&Word(&["release", "terminate", "kill", "expire-client"]))),
    ("reason", OrNull(&Text)),
    ("phase", Word(&["planned", "refused", "intent", "outcome"])),
    ("outcome", OrNull(&Word(&["planned", "refused", "changed", "cleared", "still_held"]))),
    ("plan_hash", OrNull(&Text)),
]);

const CAUSES: &[&str] = &[
    "passed",
    "borrowed",
    "daemonized",
    "child",
    "leaked",
    "inherited",
    "mapped",
    "in_flight",
    "io_uring",
    "shared_files",
    "kernel",
    "remote",
];

const SOURCE: Shape =
    Object(&[("name", Text), ("state", Word(&["ok", "degraded", "unavailable", "unused"])), ("reason", OrNull(&Text))]);

const MODE: Shape = Word(&["read", "write"]);

const RANGE: Shape = Object(&[("start", Number), ("end", OrNull(&Number))]);

const FILE: Shape = Object(&[
    ("path", OrNull(&Text)),
    ("deleted", OrNull(&Bool)),
    ("dev", Text),
    ("major", Number),
    ("minor", Number),
    ("inode", Number),
    ("fs", OrNull(&Text)),
]);

const ACQUIRER: Shape = Object(&[
    ("pid", Number),
    ("start_time", OrNull(&Time)),
    ("comm", OrNull(&Text)),
    ("exe", OrNull(&Text)),
    ("uid", OrNull(&Number)),
    ("unit", OrNull(&Text)),
    ("container", OrNull(&Text)),
    ("state", Word(&["alive", "dead", "unknown"])),
    ("died_at", OrNull(&Time)),
    ("exit", OrNull(&EXIT)),
]);

const EXIT: Shape = Object(&[
    ("code", OrNull(&Number)),
    ("signal", OrNull(&Number)),
    ("sender", OrNull(&Object(&[("pid", Number), ("comm", OrNull(&Text))]))),
    ("oom", Bool),
]);

const HOLDER: Shape = Object(&[
    ("pid", OrNull(&Number)),
    ("start_time", OrNull(&Time)),
    ("comm", OrNull(&Text)),
    ("exe", OrNull(&Text)),
    ("uid", OrNull(&Number)),
    ("unit", OrNull(&Text)),
    ("container", OrNull(&Text)),
    ("via", Word(&["fd", "mapping", "message", "io_uring", "kernel", "remote"])),
    ("fd", OrNull(&Number)),
    ("detail", OrNull(&Text)),
]);

const WAITER: Shape = Object(&[
    ("pid", OrNull(&Number)),
    ("comm", OrNull(&Text)),
    ("exe", OrNull(&Text)),
    ("uid", OrNull(&Number)),
    ("unit", OrNull(&Text)),
    ("container", OrNull(&Text)),
    ("mode", MODE),
    ("range", RANGE),
    ("since", OrNull(&Time)),
    ("behind", List(&Number)),
]);

/// Every difference between `value` and `shape`, by path (`locks[3].file.inode: a number, not "7"`).
pub fn differences(value: &Value, shape: Shape) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, shape, "", &mut found);
    found
}

fn walk(value: &Value, shape: Shape, path: &str, found: &mut Vec<String>) {
    let mut expect = |right: bool, what: &str| {
        if !right {
            found.push(format!("{path}: {what}, not {value}"));
        }
    };
    match shape {
        Text => expect(value.as_str().is_some_and(|s| !s.is_empty()), "a text that says something"),
        Time => expect(value.as_str().is_some_and(is_time), "a time in UTC"),
        Number => expect(value.is_u64(), "a number"),
        Bool => expect(value.is_boolean(), "true or false"),
        Word(words) => expect(value.as_str().is_some_and(|s| words.contains(&s)), &format!("one of {words:?}")),
        OrNull(shape) => {
            if !value.is_null() {
                walk(value, *shape, path, found);
            }
        }
        List(shape) => match value.as_array() {
            Some(items) => {
                for (i, item) in items.iter().enumerate() {
                    walk(item, *shape, &format!("{path}[{i}]"), found);
                }
            }
            None => expect(false, "a list"),
        },
        Object(fields) => match value.as_object() {
            Some(object) => {
                for (name, shape) in fields {
                    let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
                    match object.get(*name) {
                        Some(value) => walk(value, *shape, &path, found),
                        None => found.push(format!("{path}: is missing")),
                    }
                }
            }
            None => expect(false, "an object"),
        },
    }
}

/// `2026-11-22T03:12:07Z`, with or without a fraction.
fn is_time(text: &str) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:dd";
    let matches = |(c, p): (char, char)| if p == 'd' { c.is_ascii_digit() } else { c == p };
    let Some((head, tail)) = text.split_at_checked(pattern.len()) else { return false };
    let fraction = tail.strip_suffix('Z').map(|tail| tail.strip_prefix('.').map_or(tail.is_empty(), is_digits));
    head.chars().zip(pattern.chars()).all(matches) && fraction == Some(true)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_difference_is_named() {
        let check = |value: Value, shape: Shape, expect: &[&str]| assert_eq!(differences(&value, shape), expect);
        check(json!({"start": 0, "end": null}), RANGE, &[]);
        check(json!({"start": "0", "more": 1}), RANGE, &["start: a number, not \"0\"", "end: is missing"]);
        check(json!(["ok", ""]), List(&Text), &["[1]: a text that says something, not \"\""]);
        check(json!("w"), MODE, &[": one of [\"read\", \"write\"], not \"w\""]);
    }

    #[test]
    fn times_are_utc() {
        for (text, expect) in [
            ("2026-11-22T03:12:07.123456789Z", true),
            ("2026-11-22T03:12:07Z", true),
            ("2026-11-22T03:12:07.Z", false),
            ("2026-11-22T03:12:07+01:00", false),
            ("2026-11-22", false),
        ] {
            assert_eq!(is_time(text), expect, "{text}");
        }
    }
}
