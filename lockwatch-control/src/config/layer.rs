//! One file of the configuration: what it says, and nothing that it does not.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::bail;
use lockwatch_core::{clear::Method, text::Text};
use serde::{Deserialize, Deserializer, de::Error};
use std::os::unix::ffi::OsStrExt;

use super::span;

/// A file. Other parts than `[control]` will stand beside it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layer {
    #[serde(default)]
    pub(super) control: Control,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) approvals: Option<Approvals>,
    #[serde(default)]
    pub(super) protect: Vec<Entry>,
    pub(super) protect_defaults: Option<bool>,
    #[serde(default)]
    pub(super) group: Group,
    pub(super) audit_log: Option<Absolute>,
    pub(super) pending: Option<Absolute>,
    pub(super) settle: Option<Span>,
    pub(super) hold_max: Option<Span>,
    pub(super) grace: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) methods: Option<Vec<Named>>,
    pub(super) paths: Option<Vec<Pattern>>,
    pub(super) hold: Option<bool>,
}

/// 1 or 2.
#[derive(Debug)]
pub(super) struct Approvals(pub(super) u32);

/// An entry of the protect list.
#[derive(Debug)]
pub(super) struct Entry(pub(super) String);

/// A pattern of paths.
#[derive(Debug)]
pub(super) struct Pattern(pub(super) String);

/// A method by its name.
#[derive(Debug)]
pub(super) struct Named(pub(super) Method);

/// A path from the root.
#[derive(Debug)]
pub(super) struct Absolute(pub(super) PathBuf);

/// A length of time.
#[derive(Debug)]
pub(super) struct Span(pub(super) Duration);

impl Layer {
    /// Reads a file's text.
    pub(super) fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        let error = match toml::from_str(text) {
            Ok(layer) => return Ok(layer),
            Err(error) => error,
        };
        let path = Text::new(path.as_os_str().as_bytes());
        let words = Text::from(plainer(error.message()).as_str());
        match error.span() {
            Some(span) => {
                let before = text.as_bytes().get(..span.start).unwrap_or_default();
                bail!("{path}, line {}: {words}", before.iter().filter(|b| **b == b'\n').count() + 1)
            }
            None => bail!("{path}: {words}"),
        }
    }

    /// This, and then what the later one says.
    pub(super) fn then(self, later: Self) -> Self {
        let (before, after) = (self.control, later.control);
        let control = Control {
            approvals: after.approvals.or(before.approvals),
            protect: before.protect.into_iter().chain(after.protect).collect(),
            protect_defaults: after.protect_defaults.or(before.protect_defaults),
            group: Group {
                methods: after.group.methods.or(before.group.methods),
                paths: after.group.paths.or(before.group.paths),
                hold: after.group.hold.or(before.group.hold),
            },
            audit_log: after.audit_log.or(before.audit_log),
            pending: after.pending.or(before.pending),
            settle: after.settle.or(before.settle),
            hold_max: after.hold_max.or(before.hold_max),
            grace: after.grace.or(before.grace),
        };
        Self { control }
    }
}

/// Says of an unknown key what was probably meant. serde names the key and then every known one in backquotes
/// (`serde::de::Error::unknown_field`, 1.0).
fn plainer(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(key)) = (message.starts_with("unknown field"), quoted.next()) else { return message.to_owned() };
    let close = |known: &&str| strsim::osa_distance(key, known) <= 1 + known.len() / 4;
    match quoted.clone().filter(close).min_by_key(|known| strsim::osa_distance(key, known)) {
        Some(known) => format!("unknown key {key} (did you mean {known}?)"),
        None => format!("unknown key {key} (there are: {})", quoted.collect::<Vec<_>>().join(", ")),
    }
}

impl<'de> Deserialize<'de> for Approvals {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u32::deserialize(from)? {
            count @ 1..=2 => Ok(Self(count)),
            count => Err(D::Error::custom(format!("{count} approvals: only 1 or 2 are possible"))),
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let entry = String::deserialize(from)?;
        // What has a slash is compared with whole paths, and would silently protect nothing.
        if entry.contains('/') { path_pattern(entry).map(Self) } else { not_empty(entry).map(Self) }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        path_pattern(String::deserialize(from)?).map(Self)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let known = Method::ALL.map(Method::name).join(", ");
        let method = Method::ALL.into_iter().find(|method| method.name() == name);
        method.map(Self).ok_or_else(|| D::Error::custom(format!("no method is called {name:?} (there are: {known})")))
    }
}

impl<'de> Deserialize<'de> for Absolute {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let path = PathBuf::from(String::deserialize(from)?);
        let is_file = path.is_absolute() && path.file_name().is_some();
        if is_file { Ok(Self(path)) } else { Err(D::Error::custom(format!("{path:?} is no path from the root"))) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        span::parse(&String::deserialize(from)?).map(Self).map_err(D::Error::custom)
    }
}

fn path_pattern<E: Error>(pattern: String) -> Result<String, E> {
    match pattern.starts_with(['/', '*']) {
        true => Ok(pattern),
        false => Err(E::custom(format!("{pattern:?} can be no file's path: it begins neither with / nor with *"))),
    }
}

fn not_empty<E: Error>(entry: String) -> Result<String, E> {
    if entry.trim().is_empty() { Err(E::custom("an empty entry protects nothing")) } else { Ok(entry) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_file_line_and_what_was_meant() {
        let check = |text: &str, expect: &str| {
            let error = Layer::parse(Path::new("/etc/x.toml"), text).expect_err(text);
            assert_eq!(error.to_string(), format!("/etc/x.toml, {expect}"), "{text}");
        };
        check("[control]\naprovals = 2", "line 2: unknown key aprovals (did you mean approvals?)");
        check("\n\n[contrl]", "line 3: unknown key contrl (did you mean control?)");
        check("[control]\ngroup.hodl = true", "line 2: unknown key hodl (did you mean hold?)");
        check("[control.group]\nuser = []", "line 2: unknown key user (there are: methods, paths, hold)");
        check("[control]\n\napprovals = 3", "line 3: 3 approvals: only 1 or 2 are possible");
        check("[control]\napprovals = \"2\"", "line 2: invalid type: string \"2\", expected u32");
        check("[control]\nprotect = ['']", "line 2: an empty entry protects nothing");
        check(
            "[control]\nprotect = [\n  'a',\n  'srv/*' ]",
            "line 2: \"srv/*\" can be no file's path: it begins neither with / nor with *",
        );
        check(
            "[control.group]\nmethods = ['releese']",
            "line 2: no method is called \"releese\" (there are: release, terminate, kill, expire-client)",
        );
        check("[control]\naudit_log = 'a.log'", "line 2: \"a.log\" is no path from the root");
        check("[control]\nsettle = '1'", "line 2: \"1\" is no length of time; write it like 500ms, 90s or 1m30s");
        check("[control]\nsettle = '1s'\nsettle = '2s'", "line 3: duplicate key");
        check("[control", "line 1: unclosed table, expected `]`");
    }
}
