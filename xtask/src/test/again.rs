//! Which tests have failed, and whether they fail once more, each alone.
//!
//! Tests against a real kernel share the host: its process numbers, its lock list, two busy cores. A failure that does
//! not come again is told by name and does not hold up a change; more than a few are a failure after all.

use std::{mem::take, path::Path, process::Command};

use crate::command::cargo;

/// More than these at once are no accident.
const MOST: usize = 3;

/// One test that has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What cargo test must be told to build its program alone: `-p lockwatch-tests --test agent`.
    target: String,
    name: String,
}

impl Failure {
    /// Runs it alone. Not by its package: with the features of that one alone everything would have to be built anew.
    pub(super) fn command(&self, root: &Path) -> Command {
        let mut command = cargo(root, &["test", "--workspace"]);
        command.args(self.kind()).args(["--", "--exact", &self.name]);
        command
    }

    /// `--test agent`, `--lib`, `--bin lockwatch`, `--doc`.
    fn kind(&self) -> impl Iterator<Item = &str> {
        let mut words = self.target.split(' ').peekable();
        words.next_if_eq(&"-p").and_then(|_| words.next());
        words
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.target, self.name)
    }
}

/// What cargo test has said of failures, line by line.
#[derive(Debug, Default)]
pub(super) struct Failures {
    named: Vec<Failure>,
    /// Of the program that runs now.
    pending: Vec<String>,
    is_list: bool,
    /// Something failed that has no name: a program that did not build, or was ended.
    unnamed: bool,
}

impl Failures {
    /// Standard output and error, in the order in which they were written.
    pub(super) fn read(&mut self, line: &str) {
        let listed = line.strip_prefix("    ").filter(|name| self.is_list && !name.starts_with(' '));
        self.is_list = line == "failures:" || listed.is_some();
        if let Some(name) = listed {
            self.pending.push(name.to_owned());
        }
        if line.starts_with("error: could not compile") {
            self.unnamed = true;
        }
        let Some(target) = line.strip_prefix("error: test failed, to rerun pass `").and_then(|t| t.strip_suffix('`'))
        else {
            return;
        };
        self.unnamed |= self.pending.is_empty();
        let failure = |name| Failure { target: target.to_owned(), name };
        self.named.extend(take(&mut self.pending).into_iter().map(failure));
    }

    /// Those that it makes sense to run once more; nothing if there is something else, or too much.
    pub(super) fn worth_another_run(&self) -> &[Failure] {
        let all = !self.unnamed && self.pending.is_empty() && self.named.len() <= MOST;
        if all { &self.named } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_run_without_naming_its_package() {
        let check = |target: &str, expect: &[&str]| {
            let failure = Failure { target: target.to_owned(), name: "a".to_owned() };
            assert_eq!(failure.kind().collect::<Vec<_>>(), expect, "{target}");
        };
        check("-p x --test y", &["--test", "y"]);
        check("-p x --lib", &["--lib"]);
        check("--doc", &["--doc"]);
    }

    fn check(lines: &str, expect: &[&str]) {
        let mut failures = Failures::default();
        lines.lines().for_each(|line| failures.read(line));
        let found: Vec<_> = failures.worth_another_run().iter().map(Failure::to_string).collect();
        assert_eq!(found, expect, "{lines}");
    }

    const ONE: &str = "running 2 tests
test a::b ... ok
test a::c ... FAILED

failures:

---- a::c stdout ----
    indented text
thread 'a::c' panicked

failures:
    a::c

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.14s

error: test failed, to rerun pass `-p x --lib`
";

    #[test]
    fn failures_have_names() {
        check(ONE, &["-p x --lib a::c"]);
        check(&ONE.replace("    a::c\n", "    a::c\n    a::d\n"), &["-p x --lib a::c", "-p x --lib a::d"]);
        check("test a ... ok\n\ntest result: ok. 1 passed", &[]);
    }

    #[test]
    fn what_has_no_name_or_is_too_much_is_not_run_again() {
        check(&format!("{ONE}error: test failed, to rerun pass `-p x --test y`"), &[]);
        check(&format!("{ONE}error: could not compile `x` (lib) due to 1 previous error"), &[]);
        check(&ONE.replace("    a::c\n", "    a\n    b\n    c\n    d\n"), &[]);
    }
}
