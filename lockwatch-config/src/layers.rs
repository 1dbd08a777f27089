//! Layers: files, then the environment, then flags. All that is wrong in any of them is found at once, and then nothing of
//! it holds.

use std::{
    ffi::OsString,
    path::{self, Path, PathBuf},
};

use lockwatch_core::{policy::Policy, text::Text};
use std::os::unix::ffi::OsStrExt;

use crate::{
    Config, FILE,
    effective::{Effective, Origins},
    key::{Key, suggestion},
    keys::keys,
    origin::{Origin, Problem, Problems},
    policies,
    said::{self, Said, Sayings},
    trusted,
    value::Value,
};

/// Where the configuration is said, apart from files' drop-ins. It can be read again and again.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<Said>,
}

/// What may say something of the configuration, and must not be ignored if it does not.
const PREFIXES: [&str; 3] = ["LOCKWATCH_AGENT_", "LOCKWATCH_CONTROL_", "LOCKWATCH_POLICY_"];

impl Layers {
    /// This file, or [`FILE`], and its drop-ins, `NAME.d/*.toml` beside `NAME.toml`, by name.
    pub fn files(file: Option<&Path>) -> Self {
        // Whoever reads it again may work elsewhere by then, and every directory above it is looked at.
        let file = file.map(|file| path::absolute(file).unwrap_or_else(|_| file.to_owned()));
        Self { file, ..Self::default() }
    }

    /// And then what these variables say. Only what `[agent]` says has variables: a guard is root's business, and stands
    /// in files that only root can have written.
    pub fn environment(self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { environment: variables.into_iter().collect(), ..self }
    }

    /// And then what a flag says, if it was given, as it was typed.
    pub fn flag(mut self, flag: &'static str, key: &'static str, typed: Option<&str>) -> Self {
        self.flags.extend(typed.map(|typed| Said {
            key: key.to_owned(),
            value: Value::Typed(typed.to_owned()),
            origin: Origin::Flag(flag),
        }));
        self
    }

    /// Reads everything. What is said later wins; lists of what is protected, and policies, add up. Without any file it is
    /// the defaults.
    ///
    /// # Errors
    ///
    /// A file can be written by others than root, is no TOML, or says something unknown; or a variable or a flag does.
    /// Then nothing of it must be used: whatever it forbids may be what was asked for.
    pub fn read(&self) -> Result<Effective, Problems> {
        let mut sayings = Sayings::default();
        let mut files = Vec::new();
        self.read_files(&mut sayings, &mut files);
        for (name, value) in &self.environment {
            read_variable(name, value, &mut sayings);
        }
        sayings.said.extend(self.flags.iter().cloned());
        settle(sayings, files)
    }

    fn read_files(&self, sayings: &mut Sayings, files: &mut Vec<PathBuf>) {
        let path = self.file.as_deref().unwrap_or(Path::new(FILE));
        let whole = |path: &Path| Origin::File { path: path.to_owned(), line: None };
        match trusted::read(path) {
            Ok(Some(text)) => {
                files.push(path.to_owned());
                take(parse(path, &text), sayings);
            }
            Ok(None) if self.file.is_none() => {}
            Ok(None) => sayings.problems.push(Problem { origin: None, words: format!("there is no {}", shown(path)) }),
            // It names the file, or the directory above it that is to blame.
            Err(error) => sayings.problems.push(Problem { origin: None, words: format!("{error:#}") }),
        }
        let drop_ins = trusted::list(&path.with_extension("d")).unwrap_or_else(|error| {
            sayings.problems.push(Problem { origin: None, words: format!("{error:#}") });
            Vec::new()
        });
        for path in drop_ins.into_iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
            match trusted::read(&path) {
                Ok(Some(text)) => {
                    take(parse(&path, &text), sayings);
                    files.push(path);
                }
                Ok(None) => sayings.problems.push(Problem::at(&whole(&path), "it has gone while it was read")),
                Err(error) => sayings.problems.push(Problem { origin: None, words: format!("{error:#}") }),
            }
        }
    }
}

impl Config {
    /// What the files say: [`Layers::files`] alone.
    ///
    /// # Errors
    ///
    /// As [`Layers::read`].
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        Layers::files(file).read().map(|effective| effective.config)
    }
}

/// What a text would say as the only file, whoever has written it.
///
/// # Errors
///
/// As [`Layers::read`], but for whose file it is.
pub fn of_text(path: &Path, text: &str) -> Result<Effective, Problems> {
    settle(parse(path, text), vec![path.to_owned()])
}

fn parse(path: &Path, text: &str) -> Sayings {
    let names: Vec<&str> = keys().map(|key| key.name).collect();
    let of_policies: Vec<&str> = policies::KEYS.iter().map(|key| key.name).collect();
    said::parse(path, text, &names, &of_policies)
}

fn take(later: Sayings, sayings: &mut Sayings) {
    sayings.said.extend(later.said);
    sayings.policies.extend(later.policies);
    sayings.problems.extend(later.problems);
}

fn read_variable(name: &OsString, value: &OsString, sayings: &mut Sayings) {
    let Some(name) = name.to_str().filter(|name| name.starts_with("LOCKWATCH_")) else { return };
    let origin = Origin::Variable(name.to_owned());
    let named = keys().find(|key| key.variable().as_deref() == Some(name));
    match (named, value.to_str()) {
        // How a unit file takes one back.
        (Some(_), Some("")) => {}
        (Some(key), Some(text)) => {
            let (key, value) = (key.name.to_owned(), Value::Typed(text.to_owned()));
            sayings.said.push(Said { key, value, origin });
        }
        (Some(_), None) => sayings.problems.push(Problem::at(&origin, "it is no text")),
        (None, _) if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => {
            let variables: Vec<String> = keys().filter_map(Key::variable).collect();
            let known = suggestion(name, variables.iter().map(String::as_str));
            sayings.problems.push(Problem::at(&origin, format!("unknown variable {known}")));
        }
        // Some are for tests and for finding faults.
        (None, _) => {}
    }
}

/// Makes a configuration of what was said.
fn settle(sayings: Sayings, files: Vec<PathBuf>) -> Result<Effective, Problems> {
    let Sayings { said, policies, mut problems } = sayings;
    let mut config = Config::default();
    let origins = apply(keys(), &mut config, &said, &mut problems);
    let mut of_policies: Vec<(Origin, Origins)> = Vec::new();
    for (origin, said) in policies {
        let mut policy = Policy::default();
        let before = problems.len();
        let origins = apply(policies::KEYS.iter(), &mut policy, &said, &mut problems);
        if problems.len() == before {
            problems.extend(policies::faults(&policy).into_iter().map(|words| Problem::at(&origin, words)));
        }
        if let Some(at) = config.policies.iter().position(|other| other.name == policy.name && !other.name.is_empty()) {
            let words = format!("there is a policy {} already, at {}", policy.name, of_policies[at].0);
            problems.push(Problem::at(&origin, words));
        }
        if config.policies.len() == policies::MOST {
            problems.push(Problem::at(&origin, format!("more than {} policies", policies::MOST)));
        }
        config.policies.push(policy);
        of_policies.push((origin, origins));
    }
    for (policy, (origin, _)) in config.policies.iter().zip(&of_policies) {
        if policy.acts() && config.control.approvals > 1 {
            let words =
                "two people must confirm a clear (control.approvals), and a policy is none: say stage = \"observe\"";
            problems.push(Problem::at(origin, words));
        }
    }
    // Files in the order in which they were read, each from its top; then variables and flags.
    problems.sort_by_key(|problem| match &problem.origin {
        Some(Origin::File { path, line }) => (files.iter().position(|file| file == path).unwrap_or(0), *line),
        Some(Origin::Variable(_) | Origin::Flag(_)) => (usize::MAX, None),
        Some(Origin::Default) | None => (0, None),
    });
    match problems.is_empty() {
        true => Ok(Effective::new(config, files, origins, of_policies.into_iter().map(|(_, all)| all).collect())),
        false => Err(Problems(problems)),
    }
}

/// Applies what was said, and returns where.
fn apply<T: 'static>(
    keys: impl Iterator<Item = &'static Key<T>> + Clone,
    target: &mut T,
    all: &[Said],
    problems: &mut Vec<Problem>,
) -> Origins {
    let mut origins = Origins::new();
    for said in all {
        // Which keys there are was looked at when it was read.
        let Some(key) = keys.clone().find(|key| key.name == said.key) else { continue };
        match (key.set)(target, &said.value) {
            Ok(()) => origins.entry(key.name).or_default().push(said.origin.clone()),
            Err(words) => problems.push(Problem::at(&said.origin, format!("{}: {words}", key.parts().1))),
        }
    }
    origins
}

fn shown(path: &Path) -> Text {
    Text::new(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
