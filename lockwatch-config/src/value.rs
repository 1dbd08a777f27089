//! A value, as it was said in a file or typed into a variable or behind a flag, and what a key makes of it.

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use crate::span;

/// What stands behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `"text"`.
    Text(String),
    /// `64`.
    Number(i64),
    /// `true`.
    Truth(bool),
    /// `["a", "b"]`.
    List(Vec<Value>),
    /// What was typed without any form: it is whatever the key needs.
    Typed(String),
    /// What no key takes: its words in an error.
    Other(&'static str),
}

impl Value {
    /// A text.
    pub fn text(&self) -> Result<String, String> {
        match self {
            Value::Text(text) | Value::Typed(text) => Ok(text.clone()),
            other => Err(format!("{other} is no text; write it in quotation marks")),
        }
    }

    /// A whole number within these bounds.
    pub fn number(&self, bounds: RangeInclusive<u32>) -> Result<u32, String> {
        let number = match self {
            Value::Number(number) => u32::try_from(*number).ok(),
            Value::Typed(text) => text.trim().parse().ok(),
            other => return Err(format!("{other} is no number")),
        };
        let fits = number.filter(|number| bounds.contains(number));
        fits.ok_or_else(|| format!("{self} is not between {} and {}", bounds.start(), bounds.end()))
    }

    /// Yes or no.
    pub fn truth(&self) -> Result<bool, String> {
        match self {
            Value::Truth(truth) => Ok(*truth),
            Value::Typed(text) if text == "true" => Ok(true),
            Value::Typed(text) if text == "false" => Ok(false),
            other => Err(format!("{other} is neither true nor false")),
        }
    }

    /// Texts; typed, they are separated by commas.
    pub fn list(&self) -> Result<Vec<String>, String> {
        match self {
            Value::List(list) => list.iter().map(Value::text).collect(),
            Value::Typed(text) if text.trim().is_empty() => Ok(Vec::new()),
            Value::Typed(text) => Ok(text.split(',').map(|part| part.trim().to_owned()).collect()),
            other => Err(format!("{other} is no list; write it in brackets")),
        }
    }

    /// A length of time within these bounds.
    pub fn span(&self, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
        let time = match self {
            Value::Number(_) | Value::Truth(_) => span::parse(&self.to_string()),
            other => span::parse(&other.text()?),
        }?;
        let words = |bound: &Duration| span::write(*bound);
        let wrong = || format!("{self} is not between {} and {}", words(bounds.start()), words(bounds.end()));
        if bounds.contains(&time) { Ok(time) } else { Err(wrong()) }
    }

    /// A file's path from the root.
    pub fn path(&self) -> Result<PathBuf, String> {
        let path = PathBuf::from(self.text()?);
        let is_file = path.is_absolute() && path.file_name().is_some();
        if is_file { Ok(path) } else { Err(format!("{self} is no path from the root")) }
    }

    /// One of these, by its name.
    pub fn named<T: Copy>(&self, what: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
        by_name(&self.text()?, what, all, name)
    }

    /// Several of these, by their names.
    pub fn all_named<T: Copy>(&self, what: &str, all: &[T], name: fn(T) -> &'static str) -> Result<Vec<T>, String> {
        self.list()?.iter().map(|one| by_name(one, what, all, name)).collect()
    }

    /// Texts.
    pub fn of_texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Value::List(texts.into_iter().map(|text| Value::Text(text.into())).collect())
    }
}

fn by_name<T: Copy>(text: &str, what: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let known = || all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.ok_or_else(|| format!("no {what} is called {text:?} (there are: {})", known()))
}

/// As TOML, but for what was typed, which is in quotation marks.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) | Value::Typed(text) => quoted(text, f),
            Value::Number(number) => write!(f, "{number}"),
            Value::Truth(truth) => write!(f, "{truth}"),
            Value::List(list) => {
                f.write_str("[")?;
                for (n, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", if n > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Value::Other(words) => f.write_str(words),
        }
    }
}

/// A basic string of TOML 1.0.
fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_a_key_needs() {
        let typed = |text: &str| Value::Typed(text.to_owned());
        let text = |text: &str| Value::Text(text.to_owned());
        let error = |result: Result<(), String>, expect: &str| assert_eq!(result.unwrap_err(), expect);
        assert_eq!(Value::Number(64).number(1..=64), Ok(64));
        assert_eq!(typed(" 64").number(1..=64), Ok(64));
        error(Value::Number(65).number(1..=64).map(drop), "65 is not between 1 and 64");
        error(Value::Number(-1).number(0..=64).map(drop), "-1 is not between 0 and 64");
        error(typed("x").number(0..=64).map(drop), "\"x\" is not between 0 and 64");
        error(text("2").number(0..=64).map(drop), "\"2\" is no number");
        error(Value::Number(2).text().map(drop), "2 is no text; write it in quotation marks");
        assert_eq!((Value::Truth(true).truth(), typed("false").truth()), (Ok(true), Ok(false)));
        error(text("true").truth().map(drop), "\"true\" is neither true nor false");
        assert_eq!(typed("a, b").list().unwrap(), ["a", "b"]);
        assert_eq!(typed("").list().unwrap(), [""; 0]);
        error(text("a").list().map(drop), "\"a\" is no list; write it in brackets");
        error(Value::List(vec![Value::Number(1)]).list().map(drop), "1 is no text; write it in quotation marks");
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        assert_eq!(text("1m30s").span(second..=hour), Ok(Duration::from_secs(90)));
        error(text("1ms").span(second..=hour).map(drop), "\"1ms\" is not between 1s and 1h");
        error(
            Value::Number(5).span(second..=hour).map(drop),
            "\"5\" is no length of time; write it like 500ms, 90s or 1m30s",
        );
        error(text("a/b").path().map(drop), "\"a/b\" is no path from the root");
        error(text("/").path().map(drop), "\"/\" is no path from the root");
    }

    #[test]
    fn values_are_written_as_toml() {
        let check = |value: Value, expect: &str| assert_eq!(value.to_string(), expect);
        check(Value::Text("a\"\\\n\u{7f}ä".into()), r#""a\"\\\u000A\u007Fä""#);
        check(Value::of_texts(["a", "b"]), r#"["a", "b"]"#);
        check(Value::List(vec![]), "[]");
    }
}
