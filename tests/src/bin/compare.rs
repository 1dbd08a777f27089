//! `compare [--check] [--also ROOT]… DOCUMENT`: asks lockwatch and its peers about the same real locks, and writes the
//! table of what they said into the document, or says what is another there. As root.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use lockwatch_tests::{compare, needs_bpf};

fn main() -> Result<()> {
    let (mut check, mut roots, mut document) = (false, Vec::new(), None);
    let mut args = env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--check") => check = true,
            Some("--also") => roots.push(PathBuf::from(args.next().context("--also without a directory")?)),
            _ => document = Some(PathBuf::from(arg)),
        }
    }
    let document = document.context("which document?")?;
    if !needs_bpf("compare") {
        bail!("lockwatch cannot show what it can");
    }
    let findings = compare::run(&roots.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    if !check {
        compare::write(&findings, &document)?;
        findings.left_out.iter().for_each(|left_out| println!("LEFT OUT: {left_out}"));
        return Ok(());
    }
    let text = fs::read_to_string(&document).with_context(|| format!("read {}", document.display()))?;
    let (differences, left_out) = findings.differences(&text)?;
    left_out.iter().for_each(|left_out| println!("LEFT OUT: {left_out}"));
    if !differences.is_empty() {
        bail!("{} is not what was found:\n{}", document.display(), differences.join("\n"));
    }
    println!("{} is what was found", document.display());
    Ok(())
}
