//! `config`: says what is wrong with the configuration, or what holds and who says so. Nobody need be root for it.

use std::{
    env,
    io::Read,
    path::{Path, absolute},
};

use anyhow::Context;
use lockwatch_config::{Effective, Layers, layers, origin::Problems};

use super::print;
use crate::{exit::Exit, output};

/// Says what is wrong, and fails then; or that nothing is.
pub fn check(file: Option<&Path>) -> anyhow::Result<Exit> {
    let read = match file {
        Some(file) if file == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("read stdin")?;
            layers::of_text(Path::new("stdin"), &text)
        }
        file => read(file)?,
    };
    match read {
        Ok(effective) => print(|out| output::config::check(&effective, out)),
        Err(problems) => {
            print(|out| output::config::problems(&problems, out))?;
            Ok(Exit::Failed)
        }
    }
}

/// Shows what holds.
pub fn show(file: Option<&Path>, origin: bool, json: bool) -> anyhow::Result<Exit> {
    let effective = read(file)??;
    print(|out| match json {
        true => output::config::json(&effective, out),
        false => effective.write_toml(origin, out),
    })
}

/// As an agent that was started here would read it, but for its flags.
fn read(file: Option<&Path>) -> anyhow::Result<Result<Effective, Problems>> {
    let file = file.map(absolute).transpose().context("find the configuration")?;
    Ok(Layers::files(file.as_deref()).environment(env::vars_os()).read())
}
