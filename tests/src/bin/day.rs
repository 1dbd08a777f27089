//! `day [--minutes N]`: a day of an agent's in so many minutes (20 by default), as root. It fails if anything was wrong.

use std::path::Path;

use anyhow::{Result, bail};
use lockwatch_tests::{day, needs_bpf};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let minutes = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--cradle", dir, seconds] => return day::cradle(Path::new(dir), seconds.parse::<f64>()? as u32),
        ["--minutes", minutes] => minutes.parse()?,
        [] => 20.0,
        _ => bail!("usage: day [--minutes N]"),
    };
    if !needs_bpf("day") {
        bail!("needs BPF");
    }
    let day = day::live(minutes)?;
    println!("{day}");
    let wrong = day.wrong();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}
