//! Completion scripts and manual pages, made from the definition of the command line.

mod configuration;

use std::io::{self, Write};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::{
    cli::{Cli, about, help::Help},
    commands::print,
    exit::Exit,
};

/// Prints the completion script for a shell.
pub fn completions(shell: Shell) -> anyhow::Result<Exit> {
    // clap_complete panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lockwatch", &mut script);
    print(|out| out.write_all(&script))
}

/// Prints the manual page of a command, or of lockwatch itself.
pub fn man(command: Option<&str>) -> anyhow::Result<Exit> {
    if command == Some(configuration::NAME) {
        return print(|out| configuration::page().to_writer(out));
    }
    let mut root = Cli::command();
    root.build();
    let name = command.unwrap_or_default();
    let command = match command {
        None => root,
        Some(name) => root
            .find_subcommand(name)
            .cloned()
            .with_context(|| format!("no command {} (lockwatch --help)", lockwatch_core::text::Text::from(name)))?,
    };
    print(|out| page(command, name, out))
}

/// What to type comes first, after what it is for: whoever reads this is in a hurry.
fn page(mut command: Command, name: &str, out: &mut impl Write) -> io::Result<()> {
    let title = if name.is_empty() { "lockwatch".to_owned() } else { format!("lockwatch-{name}") };
    let usage = command.render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(usage.trim_start_matches("Usage: "))]);
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in about::about(name) {
        roff.control("PP", []).text([roman(*paragraph)]);
    }
    let help = Help::of(name);
    list(&mut roff, "EXAMPLES", help.into_iter().flat_map(|help| help.examples).copied());
    if command.has_subcommands() {
        let commands = subcommands(&command, name.is_empty());
        list(&mut roff, "COMMANDS", commands.iter().map(|(what, says)| (what.as_str(), says.as_str())));
    }
    let mut end = Roff::new();
    let codes: Vec<_> = help.into_iter().flat_map(Help::codes).map(|(code, says)| (code.to_string(), says)).collect();
    list(&mut end, "EXIT STATUS", codes.iter().map(|(code, says)| (code.as_str(), *says)));
    if name.is_empty() {
        list(&mut end, "FILES", about::FILES);
        list(&mut end, "ENVIRONMENT", about::ENVIRONMENT);
    }
    end.control("SH", ["SEE ALSO"]).text([roman(see_also(name))]);

    let man = Man::new(command)
        .title(title.to_uppercase())
        .manual("lockwatch manual")
        .source(concat!("lockwatch ", env!("CARGO_PKG_VERSION")));
    man.render_title(out)?;
    man.render_name_section(out)?;
    roff.to_writer(out)?;
    man.render_options_section(out)?;
    end.to_writer(out)
}

fn list<'a>(roff: &mut Roff, section: &str, entries: impl IntoIterator<Item = (&'a str, &'a str)>) {
    roff.control("SH", [section]);
    for (what, says) in entries {
        roff.control("TP", []).text([bold(what)]).text([roman(says)]);
    }
}

/// Commands and what they do. Those of lockwatch itself have pages of their own; of others the options are here.
fn subcommands(command: &Command, have_pages: bool) -> Vec<(String, String)> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    let said = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let mut list = Vec::new();
    for sub in shown {
        let about = said(sub.get_about());
        if have_pages {
            list.push((format!("lockwatch-{}(1)", sub.get_name()), about));
            continue;
        }
        list.push((format!("{} {}", command.get_bin_name().unwrap_or_default(), sub.get_name()), about));
        let own = sub
            .get_arguments()
            .filter(|arg| !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str()));
        list.extend(own.map(|arg| (format!("  {arg}"), said(arg.get_help()))));
    }
    list
}

/// Where a reader of this page goes next.
fn see_also(name: &str) -> &'static str {
    match name {
        "" => "lslocks(8), lsof(8), fuser(1), flock(1), flock(2), fcntl(2), proc_locks(5)",
        "clear" | "approve" => "lockwatch-explain(1), lockwatch-audit(1), lockwatch-control(1)",
        "agent" | "config" => "lockwatch(1), lockwatch-config(5), lockwatch-doctor(1)",
        "control" | "audit" => "lockwatch-clear(1), lockwatch-config(5)",
        "orphans" | "list" | "graph" | "trace" => "lockwatch(1), lockwatch-explain(1), lockwatch-clear(1)",
        "explain" => "lockwatch-orphans(1), lockwatch-graph(1), lockwatch-clear(1)",
        _ => "lockwatch(1)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_examples_and_exit_status() {
        let mut root = Cli::command();
        root.build();
        let shown = root.get_subcommands().filter(|command| !command.is_hide_set());
        let names = shown.map(|c| c.get_name().to_owned()).filter(|name| name != "help");
        for name in std::iter::once(String::new()).chain(names) {
            let command = root.find_subcommand(&name).unwrap_or(&root).clone();
            let text = crate::fixture::written(|out| page(command, &name, out));
            let sections =
                ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "OPTIONS", "\"EXIT STATUS\"", "\"SEE ALSO\""];
            let pieces: Vec<_> = text.split(".SH ").skip(1).filter_map(|piece| piece.split_once('\n')).collect();
            let found: Vec<_> =
                pieces.iter().map(|(title, _)| *title).filter(|title| sections.contains(title)).collect();
            assert_eq!(found, sections, "{name}: {text}");
            for (title, says) in pieces {
                assert!(says.trim().len() > 10, "{name}: nothing under {title}: {text}");
            }
        }
    }

    /// No page names another that is not there.
    #[test]
    fn pages_that_are_named_exist() {
        let names: Vec<_> = crate::cli::help::ALL.iter().map(|help| help.command).collect();
        let mut root = Cli::command();
        root.build();
        for name in &names {
            let command = root.find_subcommand(name).unwrap_or(&root).clone();
            let text = crate::fixture::written(|out| page(command, name, out)).replace('\\', "");
            for named in text.split("lockwatch-").skip(1).filter_map(|rest| rest.split_once("(1)")) {
                let plain = |c: char| c.is_ascii_lowercase();
                assert!(!named.0.chars().all(plain) || names.contains(&named.0), "{name} names {}", named.0);
            }
        }
    }

    #[test]
    fn an_unknown_page_is_an_error() {
        assert_eq!(man(Some("lst")).unwrap_err().to_string(), "no command lst (lockwatch --help)");
    }
}
