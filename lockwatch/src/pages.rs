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
    cli::{Cli, help::Help},
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

fn page(command: Command, name: &str, out: &mut impl Write) -> io::Result<()> {
    let title = if name.is_empty() { "lockwatch".to_owned() } else { format!("lockwatch-{name}") };
    let has_commands = command.has_subcommands();
    let man = Man::new(command).title(title.to_uppercase()).manual("lockwatch manual");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if has_commands {
        man.render_subcommands_section(out)?;
    }
    // clap's own "extra" section would print the end of --help; as data it makes proper sections.
    if let Some(help) = Help::of(name) {
        sections(help).to_writer(out)?;
    }
    Ok(())
}

fn sections(help: &Help) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (line, what) in help.examples {
        roff.control("TP", []).text([bold(*line)]).text([roman(*what)]);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (code, what) in help.codes() {
        roff.control("TP", []).text([bold(code.to_string())]).text([roman(what)]);
    }
    roff
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
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "\"EXIT STATUS\""] {
                assert!(text.contains(&format!(".SH {section}\n")), "{name} {section}: {text}");
            }
        }
    }

    #[test]
    fn an_unknown_page_is_an_error() {
        assert_eq!(man(Some("lst")).unwrap_err().to_string(), "no command lst (lockwatch --help)");
    }
}
