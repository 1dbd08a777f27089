//! Where a value comes from, and what is wrong with one.

use std::{fmt, path::PathBuf};

use lockwatch_core::text::Text;
use std::os::unix::ffi::OsStrExt;

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it holds anyway.
    Default,
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// On which line, from 1; `None` where it concerns the whole file.
        line: Option<usize>,
    },
    /// In an environment variable of this name.
    Variable(String),
    /// By a flag, with its dashes.
    Flag(&'static str),
}

impl Origin {
    /// The word for it in documents.
    pub fn kind(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File { .. } => "file",
            Origin::Variable(_) => "variable",
            Origin::Flag(_) => "flag",
        }
    }
}

/// `default`, `/etc/lockwatch/config.toml:3`, `LOCKWATCH_AGENT_LISTEN`, `--listen`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line: Some(line) } => write!(f, "{}:{line}", Text::new(path.as_os_str().as_bytes())),
            Origin::File { path, line: None } => write!(f, "{}", Text::new(path.as_os_str().as_bytes())),
            Origin::Variable(name) => write!(f, "{}", Text::from(name.as_str())),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` if the words tell it.
    pub origin: Option<Origin>,
    /// What, and what was probably meant.
    pub words: String,
}

impl Problem {
    /// Something wrong there.
    pub fn at(origin: &Origin, words: impl Into<String>) -> Self {
        Self { origin: Some(origin.clone()), words: words.into() }
    }
}

/// `/etc/lockwatch/config.toml:2: unknown key aprovals (did you mean approvals?)`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Text::from(self.words.as_str());
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {words}"),
            None => write!(f, "{words}"),
        }
    }
}

/// Everything that is wrong, never nothing. A line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if n > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
