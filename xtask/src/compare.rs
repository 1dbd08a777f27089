//! `cargo xtask compare`: README's table of what lockwatch and its peers say of the same locks.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use lockwatch_toolchain::target_dir;

use crate::{
    command::{cargo, is_root, run, say},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say whether the table is what is found now
    #[arg(long)]
    check: bool,
    /// Ask the tools of another system too, whose root directory this is
    #[arg(long, value_name = "DIR")]
    also: Vec<PathBuf>,
}

/// Builds, then stages the locks, asks everybody, and writes the table.
pub(crate) fn compare(root: &Path, args: &Args) -> Result<()> {
    setup::or_go_on(root, setup::For::Tests);
    if !is_root() {
        bail!("this needs root");
    }
    say("building");
    run(&mut cargo(root, &["build", "--package", "lockwatch", "--package", "lockwatch-tests"]))?;
    say("asking");
    let mut compare = Command::new(target_dir(root).join("debug/compare"));
    compare.args(args.check.then_some("--check"));
    for also in &args.also {
        compare.arg("--also").arg(also);
    }
    run(compare.arg(root.join("README.md")))
}
