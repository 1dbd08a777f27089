//! `cargo xtask pictures`: those in `docs/pictures`, each of something that really happens while it is made.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    command::{cargo, is_root, run, say},
    setup,
};

/// The tests that check how each picture is made also keep it, when they are told to.
const UPDATE: &str = "UPDATE_PICTURES";

/// Builds, and has each made.
pub(crate) fn pictures(root: &Path) -> Result<()> {
    setup::or_go_on(root, setup::For::Tests);
    if !is_root() {
        bail!("this needs root");
    }
    say("building");
    run(&mut cargo(root, &["build", "--package", "lockwatch"]))?;
    say("making pictures");
    let tests = ["--test", "pictures", "--test", "night"];
    let mut test = cargo(root, &["test", "--package", "lockwatch-tests", "--no-fail-fast"]);
    run(test.args(tests).args(["--", "--include-ignored"]).env(UPDATE, "1"))
}
