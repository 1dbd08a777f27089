//! `cargo xtask soak`: the long forms of what the tests do briefly.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use lockwatch_toolchain::target_dir;

use crate::{
    command::{cargo, is_root, run, say},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only a day of an agent's in minutes: its memory, its descriptors, and every orphan reported once
    #[arg(long)]
    agent: bool,
    /// How many minutes that is
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// How often every scene is staged and judged
    #[arg(long, default_value_t = 100)]
    runs: u32,
    /// How many random lock operations are done
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// How often everything stands still and is compared
    #[arg(long, default_value_t = 200)]
    stops: u64,
    /// How many clears are raced against an adversary
    #[arg(long, default_value_t = 100_000)]
    clears: u64,
    /// What the random operations and the race follow from; a failure says its own
    #[arg(long)]
    seed: Option<u64>,
    /// How many lines are written to an audit log that somebody keeps swapping
    #[arg(long, default_value_t = 100_000)]
    appends: u64,
    /// How much longer than in the tests real programs are watched
    #[arg(long, default_value_t = 10)]
    rounds: u32,
}

/// Runs all of them, and says at the end which failed.
pub(crate) fn soak(root: &Path, args: &Args) -> Result<()> {
    setup::or_go_on(root, setup::For::Tests);
    if !is_root() {
        bail!("this needs root");
    }
    say("building");
    run(&mut cargo(root, &["build", "--package", "lockwatch", "--package", "lockwatch-tests"]))?;
    let program = |name: &str| Command::new(target_dir(root).join("debug").join(name));

    let mut failed = Vec::new();
    let mut part = |what: String, command: &mut Command| {
        say(&what);
        if let Err(error) = run(command) {
            eprintln!("error: {error:#}");
            failed.push(what);
        }
    };
    part(
        format!("an agent's day in {} minutes", args.minutes),
        program("day").args(["--minutes", &args.minutes.to_string()]),
    );
    if args.agent {
        return told(&failed);
    }
    part(format!("every scene {} times", args.runs), program("scenes").arg(args.runs.to_string()));
    let mut random = program("soak");
    random.args(["--operations", &args.operations.to_string(), "--stops", &args.stops.to_string()]);
    if let Some(seed) = args.seed {
        random.args(["--seed", &seed.to_string()]);
    }
    part(format!("{} random operations", args.operations), &mut random);
    let mut race = program("race");
    race.args(["--clears", &args.clears.to_string()]);
    if let Some(seed) = args.seed {
        race.args(["--seed", &seed.to_string()]);
    }
    part(format!("{} clears against an adversary", args.clears), &mut race);
    let test = |name| cargo(root, &["test", "--package", "lockwatch-tests", "--test", name, "--", "--nocapture"]);
    let appends = args.appends.to_string();
    part(
        format!("{appends} lines for an audit log that somebody keeps swapping"),
        test("audit").arg("no_line_lands_elsewhere").env("LOCKWATCH_APPENDS", appends),
    );
    part("real programs at work".into(), test("workloads").env("LOCKWATCH_ROUNDS", args.rounds.to_string()));
    told(&failed)
}

fn told(failed: &[String]) -> Result<()> {
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    say("soak: nothing was wrong");
    Ok(())
}
