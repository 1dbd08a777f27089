//! `cargo xtask setup`: finds what the eBPF build needs, and installs what is missing.

mod advice;
mod apt;
mod plan;

use std::{
    fs,
    io::{self, BufRead, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use lockwatch_toolchain::{Found, LINKER_LLVM, find, remember, tools_dir};

use crate::command::{cargo, is_root, on_terminal, output, run, say, which};
use advice::Distro;
use plan::{Facts, Step};

/// Packages of the programs that the tests use, and such a program of each.
const TESTS: &[(&str, &str)] = &[
    ("stress-ng", "stress-ng"),
    ("strace", "strace"),
    ("util-linux", "lslocks"),
    ("sqlite3", "sqlite3"),
    ("bindfs", "bindfs"),
    ("btrfs-progs", "mkfs.btrfs"),
    ("graphviz", "dot"),
    ("iproute2", "ip"),
    ("systemd", "systemd-analyze"),
    ("lintian", "lintian"),
    ("debootstrap", "debootstrap"),
    ("chromium", "chromium"),
];

/// The same, of packages that would start a service: they are unpacked under target/tools and not installed.
const SERVICES: &[(&str, &str)] =
    &[("prometheus", "prometheus"), ("prometheus", "promtool"), ("prometheus-alertmanager", "amtool")];

/// Of Python's archive, into an environment under target/tools: what validates manifests, and its version.
const VALIDATOR: &str = "kubernetes-validate";
const VALIDATOR_VERSION: &str = "1.34.1";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask nothing
    #[arg(long)]
    yes: bool,
    /// Also install the programs that the tests use (strace, chromium, prometheus and others)
    #[arg(long)]
    tests: bool,
}

/// What is to be possible afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Building.
    Build,
    /// Building and testing.
    Tests,
}

/// Installs what is missing; an error says what a human must install.
pub(crate) fn setup(root: &Path, args: &Args) -> Result<()> {
    let found = prepare(root, if args.tests { For::Tests } else { For::Build }, !args.yes && on_terminal())?;
    say(format!("ready: {found}"));
    Ok(())
}

/// For the other commands: what cannot be set up is said, and they go on with what there is.
/// Returns why the programs cannot be built, if they cannot.
pub(crate) fn or_go_on(root: &Path, purpose: For) -> Option<String> {
    let error = prepare(root, purpose, on_terminal()).err()?;
    eprintln!("error: {error:#}");
    let found = find(root);
    if found.toolchain().is_some() {
        return None;
    }
    say("going on without eBPF");
    Some(found.to_string())
}

fn prepare(root: &Path, purpose: For, ask: bool) -> Result<Found> {
    let found = find(root);
    let facts = facts(&found, purpose);
    let plan = plan::plan(&facts);
    let outcome = if plan.steps.is_empty() { Ok(()) } else { carry_out(root, &plan.steps, ask) };
    let found = find(root);
    remember(root, &found, None).context("write target/tools/found")?;
    outcome?;
    if !plan.advice.is_empty() {
        bail!("this machine lacks something that setup cannot install:\n  {}", plan.advice.join("\n  "));
    }
    ensure!(found.toolchain().is_some(), "still missing: {found}");
    Ok(found)
}

/// Asks the machine, and only for what matters: when nothing is missing nothing is asked.
fn facts(found: &Found, purpose: For) -> Facts {
    let missing = |programs: &[(&'static str, &str)]| -> Vec<&'static str> {
        let missing = programs.iter().filter(|(_, program)| purpose == For::Tests && which(program).is_none());
        let mut packages: Vec<_> = missing.map(|(package, _)| *package).collect();
        packages.dedup();
        packages
    };
    let mut facts = Facts {
        no_compiler: found.compiler.is_err(),
        no_linker: found.linker.is_err(),
        no_tools: missing(TESTS),
        no_services: missing(SERVICES),
        no_validator: !missing(&[(VALIDATOR, VALIDATOR)]).is_empty(),
        root: is_root(),
        ..Facts::default()
    };
    facts.python = facts.no_validator && can_make_environments();
    if facts.no_validator && !facts.python {
        facts.no_tools.push("python3-venv");
    }
    if !(facts.no_compiler || facts.no_linker || facts.no_validator)
        && facts.no_tools.is_empty()
        && facts.no_services.is_empty()
    {
        return facts;
    }
    for missing in found.missing() {
        say(format!("missing: {missing}"));
    }
    let validator = facts.no_validator.then_some(&VALIDATOR);
    for package in facts.no_tools.iter().chain(&facts.no_services).chain(validator) {
        say(format!("missing for the tests: {package}"));
    }
    facts.distro = Distro::from_os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    facts.rustup = which("rustup").is_some();
    facts.llvm = llvm();
    if which("apt-get").is_some() {
        let wanted = [plan::COMPILER, plan::LLVM, &facts.no_tools, &facts.no_services].concat();
        let apt = apt::ask(&wanted);
        let complete = wanted.iter().all(|package| apt.installed.contains(*package));
        if facts.root && !complete {
            apt::refresh_if_stale(wanted.iter().all(|package| apt.offered.contains(*package)));
        }
        facts.apt = Some(apt::ask(&wanted));
    }
    facts
}

/// The prefix of an LLVM with headers, of the version that bpf-linker is told to use.
fn llvm() -> Option<PathBuf> {
    let names = ["llvm-config-22", "llvm22-config", "llvm-config"].into_iter().map(PathBuf::from);
    let dirs = ["/usr/lib/llvm22/bin/llvm-config", "/usr/lib64/llvm22/bin/llvm-config"].into_iter().map(PathBuf::from);
    names.chain(dirs).find_map(|config| {
        let version = output(Command::new(&config).arg("--version")).ok()?;
        let prefix = output(Command::new(&config).arg("--prefix")).ok()?;
        let fits = version.split('.').next() == Some(&LINKER_LLVM.to_string());
        fits.then(|| PathBuf::from(prefix.trim_end()))
    })
}

fn carry_out(root: &Path, steps: &[Step], ask: bool) -> Result<()> {
    say("to do:");
    for step in steps {
        eprintln!("    {step}");
    }
    if ask && !agreed()? {
        bail!("nothing was installed");
    }
    for step in steps {
        say(step.to_string());
        match step {
            Step::Packages(packages) => apt::install(packages)?,
            Step::Nightly => run(&mut nightly())?,
            Step::Linker(llvm) => run(&mut linker(root, llvm))?,
            // A test that wants one of these is left out by name.
            Step::Unpack(packages) => or_without(unpack(root, packages)),
            Step::Validator => or_without(validator(root)),
        }
    }
    Ok(())
}

fn or_without(outcome: Result<()>) {
    if let Err(error) = outcome {
        eprintln!("error: {error:#}");
        say("going on without that");
    }
}

fn agreed() -> Result<bool> {
    eprint!("Go on? [Y/n] ");
    io::stderr().flush().context("write to the terminal")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    // An empty line is the default; the end of the input is nobody's consent.
    Ok(matches!(answer.as_str(), "\n") || matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Whether Python can make an environment with pip in it; Debian has that in a package of its own.
fn can_make_environments() -> bool {
    output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
}

/// Fetches packages and takes their programs out. Nothing of them is configured, so nothing is started.
fn unpack(root: &Path, packages: &[&str]) -> Result<()> {
    let tools = tools_dir(root);
    let place = tools.join("packages");
    fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    for package in packages {
        // apt gives up root where it downloads, and may not write here.
        let fetched = tempfile::tempdir().context("make a place for a package")?;
        run(Command::new("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(&fetched))?;
        let mut debs = fs::read_dir(&fetched).context("find the package")?;
        let deb = debs.next().with_context(|| format!("apt-get has not brought {package}"))??.path();
        run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&place))?;
    }
    for (_, program) in SERVICES.iter().filter(|(package, _)| packages.contains(package)) {
        link(&place.join("usr/bin").join(program), &tools)?;
    }
    Ok(())
}

fn validator(root: &Path) -> Result<()> {
    let tools = tools_dir(root);
    let place = tools.join("python");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(place.join("bin/python")).args(pip).arg(format!("{VALIDATOR}=={VALIDATOR_VERSION}")))?;
    link(&place.join("bin").join(VALIDATOR), &tools)
}

/// Puts a program where all of ours are.
fn link(program: &Path, tools: &Path) -> Result<()> {
    let program = program.canonicalize().with_context(|| format!("find {}", program.display()))?;
    let link = tools.join("bin").join(program.file_name().unwrap_or_default());
    fs::create_dir_all(tools.join("bin")).context("create target/tools/bin")?;
    let _ = fs::remove_file(&link);
    symlink(&program, &link).with_context(|| format!("link {}", link.display()))
}

fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
    command
}

/// bpf-linker's build script asks for LLVM_PREFIX, the LLVM bindings below it for LLVM_SYS_220_PREFIX: both, or it
/// links against whatever is in /usr/lib64.
fn linker(root: &Path, llvm: &Path) -> Command {
    let mut command = cargo(root, &["install", "bpf-linker", "--version", "0.13.0", "--locked", "--force"]);
    command.args(["--no-default-features", "--features", &format!("llvm-{LINKER_LLVM}"), "--root"]);
    command.arg(tools_dir(root)).env("LLVM_PREFIX", llvm).env(format!("LLVM_SYS_{LINKER_LLVM}0_PREFIX"), llvm);
    // cargo then builds in a directory of its own and removes it.
    command.env_remove("CARGO_TARGET_DIR");
    command
}
