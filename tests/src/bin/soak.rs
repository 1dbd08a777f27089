//! `soak [--operations N] [--stops N] [--seed N]`: random operations on locks, compared with the kernel and with a
//! model whenever everything stands still. As root. It fails if anything was wrong.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, bail};
use lockwatch_tests::{needs_bpf, soak};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [word, memory, dir, seed] = args.as_slice()
        && word == "--nursery"
    {
        return soak::nursery(memory.parse()?, Path::new(dir), seed.parse()?);
    }
    let (mut operations, mut stops, mut seed) = (1_000_000, 200, u64::from(std::process::id()));
    for pair in args.chunks(2) {
        let [word, number] = pair else { bail!("{} without a number", pair[0]) };
        let number: u64 = number.parse().with_context(|| format!("{number} is no number"))?;
        match word.as_str() {
            "--operations" => operations = number,
            "--stops" => stops = number,
            "--seed" => seed = number,
            other => bail!("unknown option: {other}"),
        }
    }
    if !needs_bpf("soak") {
        bail!("needs BPF");
    }
    let start = Instant::now();
    let mut soak = soak::Soak::start(seed)?;
    for stop in 1..=stops {
        soak.step(operations / stops)?;
        if stop % 10 == 0 || stop == stops {
            println!("stop {stop} of {stops}, {:.0?}: {}", start.elapsed(), soak.tally());
        }
    }
    let wrong = soak.tally().wrong() + soak.tally().unsearched;
    println!("seed {seed}: {wrong} wrong in {operations} operations and {stops} stops");
    if wrong > 0 {
        bail!("{wrong} wrong; run again with --seed {seed}");
    }
    Ok(())
}
