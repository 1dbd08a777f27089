//! `race [--clears N] [--seed N] [--calm]`: clears against an adversary; says how often what happened, and fails if
//! anything was unlocked or signalled that was not planned. `--calm` is without the adversary, to measure. As root.

use anyhow::{Context, Result, bail};
use lockwatch_tests::{needs_root, race};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [word, rest @ ..] = args.as_slice()
        && word == "--holder"
    {
        return race::holder(rest);
    }
    let mut race = race::Race { clears: 10_000, seed: u64::from(std::process::id()), calm: false };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            let number = words.next().with_context(|| format!("{word} without a number"))?;
            number.parse().with_context(|| format!("{number} is no number"))
        };
        match word.as_str() {
            "--clears" => race.clears = number()?,
            "--seed" => race.seed = number()?,
            "--calm" => race.calm = true,
            other => bail!("unknown option: {other}"),
        }
    }
    if !needs_root("race") {
        bail!("needs root");
    }
    race.run()
}
