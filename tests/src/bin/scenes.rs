//! Stages every scene so often and has each judged by all who look: `scenes RUNS [FILTER]`, as root.
//!
//! The table at the end says what was wrong; it fails if anything was.

use std::time::Instant;

use anyhow::{Result, bail};
use lockwatch_tests::{scenario::Theatre, sources_that_see_all};

/// So many of each stand side by side.
const COPIES: usize = 4;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let runs: usize = args.next().map_or(Ok(100), |n| n.parse())?;
    let filter = args.next().unwrap_or_default();
    let start = Instant::now();
    let copies = COPIES.min(runs);
    let mut theatre = Theatre::open(&sources_that_see_all("scenes"), copies, &filter);
    let mut shown = 0;
    for done in (copies..=runs.next_multiple_of(copies)).step_by(copies) {
        theatre.play();
        println!("{done} of {runs} runs, {} wrong answers, {:.0?}", theatre.wrong().len(), start.elapsed());
        // The first of them in full: the rest is mostly more of the same.
        for wrong in theatre.wrong().iter().skip(shown).take(3) {
            println!("{}, {}: {:#?}\n{:#}", wrong.scene, wrong.who, wrong.faults, wrong.said);
        }
        shown = theatre.wrong().len();
    }
    print!("{theatre}");
    if !theatre.wrong().is_empty() {
        bail!("{} wrong answers", theatre.wrong().len());
    }
    Ok(())
}
