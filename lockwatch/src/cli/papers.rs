//! Every command line that the papers show is one: README, the runbooks, the alerts and the rest are read by this test, so
//! that none of them can go on telling what nobody can type any more.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Parser, error::ErrorKind};

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
            let words = typed(&line);
            let Err(error) = Cli::try_parse_from(&words) else { continue };
            // A command's mere name stands for the command.
            let is_name = words.len() == 2 && error.kind() == ErrorKind::MissingRequiredArgument;
            if !is_name && ![ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind()) {
                wrong.push(format!("{}: {line}: {error}", paper.display()));
            }
        }
    }
    assert!(count > 60, "only {count} commands found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that are named by links are there, pictures too.
#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for paper in papers().into_iter().filter(|paper| paper.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(&paper).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.contains("://") {
                let to = paper.parent().unwrap().join(link);
                assert!(to.exists(), "{} leads to {link}", paper.display());
                count += 1;
            }
        }
    }
    assert!(count > 10, "only {count} links");
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
    let (mut found, mut quoted) = (Vec::new(), Vec::new());
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
            quoted.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
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
    // Outside of quotes "lockwatch on such a lock" is prose: there only what goes on with a command or an option is meant.
    let is_command = |line: &String| {
        let word = line.strip_prefix("lockwatch ").and_then(|rest| rest.split([' ', '\\']).next()).unwrap_or_default();
        !word.is_empty() && (word.starts_with("--") || Help::of(word).is_some())
    };
    let quoted = quoted.into_iter().map(run).filter(|line| line.starts_with("lockwatch "));
    found.into_iter().map(run).filter(is_command).chain(quoted).collect()
}

/// The words that lockwatch would get.
fn typed(line: &str) -> Vec<String> {
    // In a list of commands, what each does stands farther to the right.
    let words = line.split("  ").next().unwrap_or_default().replace("\\|", "|");
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
    check("`lockwatch claer ID`", &["lockwatch claer ID"]);
    check("`cargo xtask run -- doctor`, `lockwatch --version`", &["lockwatch doctor", "lockwatch --version"]);
    check("description: \"On x type: lockwatch graph\"", &["lockwatch graph"]);
}

#[test]
fn stand_ins_are_filled_in() {
    let check = |line: &str, expect: &[&str]| assert_eq!(typed(line), expect, "{line}");
    check("lockwatch explain ID\\|PATH", &["lockwatch", "explain", "f3k9-27qd"]);
    check("lockwatch list [PATH…]", &["lockwatch", "list"]);
    check("lockwatch list --json | jq x", &["lockwatch", "list", "--json"]);
    check("lockwatch doctor    look at this host", &["lockwatch", "doctor"]);
    check("lockwatch config check   # says so", &["lockwatch", "config", "check"]);
}
