//! lockwatch: who took a file lock, how that process died, who really keeps the lock, and who waits for it.
//!
//! This file is the table of contents. What was typed is in [`cli`], what it means in [`request`], what a command does
//! in [`commands`]; [`sources`] look at the world and [`output`] prints what `lockwatch-core` made of it.

// In a program, `pub` says "for the other rooms"; nothing is reachable from outside anyway.
#![allow(unreachable_pub)]

mod agent;
mod alarms;
mod clear;
mod cli;
mod commands;
mod control;
mod doctor;
mod engine;
mod exit;
mod eyes;
#[cfg(test)]
mod fixture;
mod logging;
mod look;
mod memory;
mod output;
mod pages;
mod progress;
mod request;
mod select;
mod sources;
mod terminal;
mod through;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, exit::Exit, request::Action, terminal::Terminal};

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| commands::check::wrong_usage(&error));
    logging::init(cli.verbose);
    exit::settle(run(cli.resolve(&Terminal::detect()))).into()
}

fn run(action: Action) -> anyhow::Result<Exit> {
    match action {
        Action::List(request) => commands::list(&request),
        Action::Orphans { request, exit_code } => commands::orphans(&request, exit_code),
        Action::Watch(request) => watch::orphans(&request),
        Action::Explain { request, what, watch: false } => commands::explain(&request, &what),
        Action::Explain { request, what, watch: true } => watch::explain(&request, &what),
        Action::Graph { request, form, all } => commands::graph(&request, form, all),
        Action::Trace(request) => watch::trace(&request),
        Action::Clear(errand) => clear::run(&errand),
        Action::Control { listen: None, config, .. } => control::serve(config.as_deref()),
        Action::Control { listen: Some(path), group, config } => control::listen(&path, &group, config.as_deref()),
        Action::Agent(request) => agent::run(&request),
        Action::Eyes(request) => eyes::run(&request),
        Action::CheckConfig(file) => commands::config::check(file.as_deref()),
        Action::ShowConfig { file, origin, json } => commands::config::show(file.as_deref(), origin, json),
        Action::Check { request, limits } => commands::check::run(&request, limits),
        Action::Metrics { request, textfile } => commands::metrics::run(&request, textfile.as_deref()),
        Action::Audit(request) => commands::audit::run(&request),
        Action::Doctor { json, colour } => doctor::run(json, colour),
        Action::Schema(schema) => commands::schema(schema),
        Action::Completions(shell) => pages::completions(shell),
        Action::Man(command) => pages::man(command.as_deref()),
    }
}
