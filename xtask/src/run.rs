//! `cargo xtask run [-- ARGS]`: from a clone to the answer.

use std::{ffi::OsString, path::Path, path::PathBuf};

use anyhow::Result;
use lockwatch_toolchain::target_dir;

use crate::{
    command::{become_root, cargo, run as call, say},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What lockwatch is told [default: agent]
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Sets up, builds, and becomes lockwatch.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    setup::or_go_on(root, setup::For::Build);
    let program = build(root)?;
    if args.args.is_empty() {
        return become_root(&program, &["agent"]);
    }
    become_root(&program, &args.args)
}

/// Builds lockwatch as it is shipped, and returns where it is.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    say("building lockwatch (the first time takes a minute or two)");
    call(&mut cargo(root, &["build", "--release", "--package", "lockwatch"]))?;
    Ok(target_dir(root).join("release/lockwatch"))
}
