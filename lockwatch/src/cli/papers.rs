//! Every command line that the papers show is one: README, the runbooks, the alerts and the rest are read by this test, so
//! that none of them can go on telling what nobody can type any more.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;

use super::{Cli, help::Help};

/// What stands for something, and an example of that.
const STAND_INS: &[(&str, &str)] = &[
    ("ID|PATH", "f3k9-27qd"),
    ("UNIT|PID|CGROUP", "app.service"),
    ("ID", "f3k9-27qd"),
    ("PID", "4711"),
    ("UNIT", "app.service"),
    ("CODE", "07xk-23mt"),
    ("DIR", "/tmp"),
    ("FILE", "/etc/lockwatch/config.toml"),
    ("[PATH…]", ""),
];

/// Where a shell takes over from lockwatch.
const SHELL: [&str; 8] = ["|", ">", ">>", "<", ";", "&&", "||", "#"];

#[test]
fn every_command_in_the_papers_parses() {
    let papers = papers();
    assert!(papers.len() > 20, "{papers:?}");
    let mut wrong = Vec::new();
    let mut count = 0;
    for paper in &papers {
        let text = fs::read_to_string(paper).unwrap();
        for line in commands(&text) {
            count += 1;
            if let Err(error) = Cli::try_parse_from(typed(&line)) {
                use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
                if ![DisplayHelp, DisplayVersion].contains(&error.kind()) {
                    wrong.push(format!("{}: {line}: {error}", paper.display()));
                }
            }
        }
    }
    assert!(count > 60, "only {count} commands found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a stranger reads.
fn papers() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut papers =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)).to_vec();
    for dir in ["docs", "docs/runbooks", "contrib", "contrib/prometheus", "contrib/systemd", "contrib/kubernetes"] {
        let files = fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        papers.extend(files.filter(|path| path.is_file()));
    }
    papers
}

/// The command lines of a text: in back quotes, on a line of their own (after `$`), or behind `type: `.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines().chain([""]) {
        let line = line.trim();
        if line.starts_with("```") {
            is_code = !is_code;
        }
        // A line of its own, as code has it, and the files in contrib.
        found.push(line.trim_start_matches("$ ").to_owned());
        found.extend(line.rsplit_once("type: ").map(|(_, command)| command.trim_end_matches('"').to_owned()));
        if is_code || line.is_empty() || line.starts_with(['|', '`']) {
            // Every second piece is in back quotes; they may be broken at the end of a line, but not of a paragraph.
            found.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
            prose.clear();
        }
        if !is_code {
            prose += line;
            prose.push(' ');
        }
    }
    let run = |line: String| match line.strip_prefix("cargo xtask run -- ") {
        Some(args) => format!("lockwatch {args}"),
        None => line,
    };
    // "lockwatch on such a lock" is prose: only what goes on with a command or an option is meant.
    let is_command = |line: &String| {
        let word = line.strip_prefix("lockwatch ").and_then(|rest| rest.split([' ', '\\']).next()).unwrap_or_default();
        !word.is_empty() && (word.starts_with("--") || Help::of(word).is_some())
    };
    found.into_iter().map(run).filter(is_command).collect()
}

/// The words that lockwatch would get.
fn typed(line: &str) -> Vec<String> {
    let words = line.replace("\\|", "|");
    let words = words.split_whitespace().take_while(|word| !SHELL.contains(word) && !word.starts_with('>'));
    let word = |word: &str| {
        let word = word.trim_matches(['"', '\'']);
        STAND_INS.iter().find(|(name, _)| *name == word).map_or(word, |(_, example)| example).to_owned()
    };
    words.map(word).filter(|word| !word.is_empty()).collect()
}

#[test]
fn commands_are_found_in_prose_and_code() {
    let check = |text: &str, expect: &[&str]| assert_eq!(commands(text), expect, "{text}");
    check("Then `lockwatch clear\nID` shows a plan.", &["lockwatch clear ID"]);
    check("```text\n$ lockwatch list\nlockwatch answers\n```", &["lockwatch list"]);
    check("lockwatch explains it; `lockwatch-control` does not; `lockwatch`", &[]);
    check("`cargo xtask run -- doctor`, `lockwatch --version`", &["lockwatch doctor", "lockwatch --version"]);
    check("description: \"On x type: lockwatch graph\"", &["lockwatch graph"]);
}

#[test]
fn stand_ins_are_filled_in() {
    let check = |line: &str, expect: &[&str]| assert_eq!(typed(line), expect, "{line}");
    check("lockwatch explain ID\\|PATH", &["lockwatch", "explain", "f3k9-27qd"]);
    check("lockwatch list [PATH…]", &["lockwatch", "list"]);
    check("lockwatch list --json | jq x", &["lockwatch", "list", "--json"]);
    check("lockwatch config check   # says so", &["lockwatch", "config", "check"]);
}
