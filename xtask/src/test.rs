//! `cargo xtask test`: every test this machine can run, and the names of those it cannot.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use lockwatch_toolchain::target_dir;

use self::again::Failures;
use crate::{
    command::{cargo, is_root, line, run, say},
    setup,
};

mod again;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail when eBPF tests were left out although the kernel has BTF
    #[arg(long)]
    require_bpf: bool,
    /// Do not run a test that has failed once more, alone, to see whether it fails again
    #[arg(long)]
    once: bool,
    /// More arguments for cargo test, such as `-p lockwatch-core`
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// A test that cannot run appends `NAME: REASON` to the file that this variable names, and passes.
const LEFT_OUT: &str = "LOCKWATCH_LEFT_OUT";

/// Sets up, tests, and sums up.
pub(crate) fn test(root: &Path, args: &Args) -> Result<()> {
    let no_build = setup::or_go_on(root, setup::For::Tests);
    let notes = target_dir(root).join("left-out");
    fs::create_dir_all(target_dir(root)).context("create the target directory")?;
    fs::write(&notes, "").with_context(|| format!("write {}", notes.display()))?;

    say("building");
    // The tests against the kernel run the programs, and cargo test builds no other package's programs.
    run(&mut cargo(root, &["build", "--workspace"]))?;
    say(if is_root() { "testing" } else { "testing (not as root: what needs root is left out)" });
    let mut command = cargo(root, &["test", "--no-fail-fast"]);
    if args.args.is_empty() {
        command.arg("--workspace");
    }
    command.args(&args.args).env(LEFT_OUT, &notes);
    let mut sum = Sum::default();
    let mut passed = watch(&mut command, &mut sum)?;
    if !passed && !args.once {
        passed = again(root, &notes, &mut sum)?;
    }

    let notes = fs::read_to_string(&notes).with_context(|| format!("read {}", notes.display()))?;
    sum.left_out.extend(notes.lines().map(str::to_owned));
    sum.left_out.extend(no_build.map(|reason| format!("eBPF build: {reason}")));
    for left_out in &sum.left_out {
        println!("LEFT OUT: {left_out}");
    }
    for failure in &sum.passed_later {
        println!("FAILED ONCE, and passed alone: {failure}");
    }
    println!("{}", sum.line(passed));
    if !passed {
        bail!("tests failed");
    }
    if args.require_bpf && Path::new("/sys/kernel/btf/vmlinux").exists() {
        let bpf: Vec<_> = sum.left_out.iter().filter(|line| needs_bpf(line)).collect();
        ensure!(bpf.is_empty(), "eBPF tests were left out on a kernel that has BTF ({})", bpf.len());
    }
    Ok(())
}

/// Runs what has failed once more, and says whether all of it passes now.
fn again(root: &Path, notes: &Path, sum: &mut Sum) -> Result<bool> {
    let failures = sum.failures.worth_another_run().to_vec();
    let mut all = !failures.is_empty();
    for failure in failures {
        say(format!("once more, alone: {failure}"));
        let mut alone = Sum::default();
        let passes = watch(failure.command(root).env(LEFT_OUT, notes), &mut alone)?;
        // A name that is not found is no test that passes.
        if passes && alone.passed > 0 {
            sum.failed -= 1;
            sum.passed += 1;
            sum.passed_later.push(failure.to_string());
        } else {
            all = false;
        }
    }
    Ok(all)
}

/// Runs a command, passes its output on line by line, and counts. Returns whether it succeeded.
fn watch(command: &mut Command, sum: &mut Sum) -> Result<bool> {
    eprintln!("    {}", line(command));
    // One pipe for both, because only their order tells which program's tests have failed.
    let (output, input) = io::pipe().context("make a pipe")?;
    let other = input.try_clone().context("duplicate a pipe")?;
    let mut child = command.stdout(input).stderr(other).spawn().context("run cargo")?;
    // Our own copies of its writing end.
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    for line in BufReader::new(output).split(b'\n') {
        let mut line = line.context("read the output of cargo test")?;
        sum.read(&String::from_utf8_lossy(&line));
        line.push(b'\n');
        io::stdout().write_all(&line).context("write the output of cargo test")?;
    }
    Ok(child.wait().context("wait for cargo")?.success())
}

/// What all test programs together said.
#[derive(Debug, Default)]
struct Sum {
    passed: u64,
    failed: u64,
    ignored: u64,
    left_out: BTreeSet<String>,
    failures: Failures,
    passed_later: Vec<String>,
}

impl Sum {
    fn read(&mut self, line: &str) {
        self.failures.read(line);
        if let Some(left_out) = line.strip_prefix("LEFT OUT: ") {
            self.left_out.insert(left_out.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let count = |word: &str| {
            let before = result.split(word).next().filter(|before| before.len() < result.len())?;
            before.split_whitespace().next_back()?.parse::<u64>().ok()
        };
        self.passed += count(" passed;").unwrap_or(0);
        self.failed += count(" failed;").unwrap_or(0);
        self.ignored += count(" ignored;").unwrap_or(0);
    }

    /// In the words of cargo test, for whoever reads only the last line.
    fn line(&self, passed: bool) -> String {
        let Sum { passed: ok, failed, ignored, left_out, .. } = self;
        let verdict = if passed { "ok" } else { "FAILED" };
        format!("test result: {verdict}. {ok} passed; {failed} failed; {ignored} ignored; {} left out", left_out.len())
    }
}

/// Whether a left-out test is one of those that a kernel with BTF can run.
fn needs_bpf(left_out: &str) -> bool {
    let text = left_out.to_ascii_lowercase();
    text.contains("bpf") || text.contains("btf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_every_test_program() {
        let mut sum = Sum::default();
        let lines = [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "LEFT OUT: walk: no bpf",
            "LEFT OUT: walk: no bpf",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s",
            "test result: ok. nonsense",
        ];
        lines.into_iter().for_each(|line| sum.read(line));
        assert_eq!(sum.line(false), "test result: FAILED. 13 passed; 2 failed; 1 ignored; 1 left out");
    }

    #[test]
    fn knows_what_needs_bpf() {
        let check = |text, expect| assert_eq!(needs_bpf(text), expect, "{text}");
        check("watch::sigkill: built without eBPF", true);
        check("bpf_walk: not root", true);
        check("reuse: no /sys/kernel/btf/vmlinux", true);
        check("stress: no stress-ng", false);
    }
}
