//! What to install, decided from facts alone.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use super::advice::Distro;

/// Debian's compiler, its cargo, and a `core` for BPF that fits them.
pub(super) const COMPILER: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// What bpf-linker links against, and with.
pub(super) const LLVM: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev", "g++"];
/// Where those packages put LLVM.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// What the plan depends on.
#[derive(Default)]
pub(super) struct Facts {
    /// Nothing here compiles for BPF.
    pub(super) no_compiler: bool,
    /// There is no bpf-linker.
    pub(super) no_linker: bool,
    /// Packages whose programs the tests miss.
    pub(super) no_tools: Vec<&'static str>,
    /// The same, of packages that would start a service.
    pub(super) no_services: Vec<&'static str>,
    /// The tests miss what validates manifests.
    pub(super) no_validator: bool,
    /// There is a Python that can make environments.
    pub(super) python: bool,
    /// Where an LLVM with its headers is, of the version that bpf-linker wants.
    pub(super) llvm: Option<PathBuf>,
    /// There is a rustup.
    pub(super) rustup: bool,
    /// We may install packages.
    pub(super) root: bool,
    /// `None` where there is no apt.
    pub(super) apt: Option<Apt>,
    /// Whom to advise.
    pub(super) distro: Distro,
}

/// What apt says of the packages that matter here.
#[derive(Clone, Debug, Default)]
pub(super) struct Apt {
    /// Installed.
    pub(super) installed: BTreeSet<String>,
    /// Installed, or could be.
    pub(super) offered: BTreeSet<String>,
}

/// What to do, and what only a human can do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order.
    pub(super) steps: Vec<Step>,
    /// Lines to print.
    pub(super) advice: Vec<String>,
}

/// One step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Packages through apt.
    Packages(Vec<&'static str>),
    /// rustup's nightly with rust-src.
    Nightly,
    /// bpf-linker through cargo, against the LLVM of this prefix.
    Linker(PathBuf),
    /// Programs of packages, under target/tools.
    Unpack(Vec<&'static str>),
    /// What validates manifests, under target/tools.
    Validator,
}

/// The steps, and the advice where steps cannot do.
pub(super) fn plan(facts: &Facts) -> Plan {
    let (mut packages, mut by_root) = (Vec::new(), Vec::new());
    let (mut steps, mut advice) = (Vec::new(), Vec::new());
    if facts.no_compiler {
        match supply(facts, COMPILER) {
            Supply::Install(missing) => packages.extend(missing),
            Supply::ByRoot(missing) => by_root.extend(missing),
            Supply::Installed | Supply::Nowhere if facts.rustup => steps.push(Step::Nightly),
            Supply::Installed | Supply::Nowhere => advice.push(facts.distro.rust()),
        }
    }
    if facts.no_linker {
        match (supply(facts, LLVM), &facts.llvm) {
            (Supply::Installed, _) => steps.push(Step::Linker(DEBIAN_LLVM.into())),
            (Supply::Install(missing), _) => {
                packages.extend(missing);
                steps.push(Step::Linker(DEBIAN_LLVM.into()));
            }
            (Supply::ByRoot(missing), _) => by_root.extend(missing),
            (Supply::Nowhere, Some(llvm)) => steps.push(Step::Linker(llvm.clone())),
            (Supply::Nowhere, None) => advice.push(facts.distro.llvm()),
        }
    }
    // Each for itself: not every archive has all of them.
    let mut nowhere = Vec::new();
    for package in &facts.no_tools {
        match supply(facts, &[*package]) {
            Supply::Installed => {}
            Supply::Install(missing) => packages.extend(missing),
            Supply::ByRoot(missing) => by_root.extend(missing),
            Supply::Nowhere => nowhere.push(*package),
        }
    }
    let offered = |package: &&str| facts.apt.as_ref().is_some_and(|apt| apt.offered.contains(*package));
    let (unpacked, absent): (Vec<_>, Vec<_>) = facts.no_services.iter().copied().partition(offered);
    nowhere.extend(absent);
    if !nowhere.is_empty() {
        advice.push(facts.distro.tools(&nowhere));
    }
    if !unpacked.is_empty() {
        steps.push(Step::Unpack(unpacked));
    }
    if facts.no_validator && (facts.python || packages.contains(&"python3-venv")) {
        steps.push(Step::Validator);
    }
    if !packages.is_empty() {
        steps.insert(0, Step::Packages(packages));
    }
    if !by_root.is_empty() {
        advice.push(format!("as root: apt-get update && apt-get install {}", by_root.join(" ")));
    }
    Plan { steps, advice }
}

/// Where packages come from.
enum Supply {
    /// They are here.
    Installed,
    /// These of them are missing, and apt has them.
    Install(Vec<&'static str>),
    /// The same, but only root may install them.
    ByRoot(Vec<&'static str>),
    /// apt does not have all of them, or there is no apt.
    Nowhere,
}

fn supply(facts: &Facts, wanted: &[&'static str]) -> Supply {
    let installed = |p: &str| facts.apt.as_ref().is_some_and(|apt| apt.installed.contains(p));
    let offered = |p: &str| facts.apt.as_ref().is_some_and(|apt| apt.offered.contains(p));
    let missing: Vec<_> = wanted.iter().copied().filter(|p| !installed(p)).collect();
    match (missing.is_empty(), missing.iter().all(|p| offered(p)), facts.root) {
        (true, _, _) => Supply::Installed,
        (_, false, _) => Supply::Nowhere,
        (_, true, true) => Supply::Install(missing),
        (_, true, false) => Supply::ByRoot(missing),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Packages(packages) => write!(f, "install packages: {}", packages.join(" ")),
            Step::Nightly => write!(f, "install rustup's nightly with rust-src (about 300 MB)"),
            Step::Unpack(packages) => {
                write!(f, "unpack under target/tools, and install nothing: {}", packages.join(" "))
            }
            Step::Validator => write!(f, "kubernetes-validate by pip, under target/tools"),
            Step::Linker(llvm) => write!(f, "build bpf-linker against {} (a minute or two)", llvm.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lists: &[&[&str]]) -> BTreeSet<String> {
        lists.concat().into_iter().map(str::to_owned).collect()
    }

    /// A machine with nothing but Rust, and what its apt has.
    fn bare(root: bool, rustup: bool, apt: Option<Apt>) -> Facts {
        Facts { no_compiler: true, no_linker: true, root, rustup, apt, ..Facts::default() }
    }

    fn check(facts: &Facts, steps: &[&str], advice: &[&str]) {
        let plan = plan(facts);
        assert_eq!(plan.steps.iter().map(Step::to_string).collect::<Vec<_>>(), steps);
        assert_eq!(plan.advice, advice);
    }

    const ALL: &str =
        "rustc-web cargo-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev g++";
    const BUILD: &str = "build bpf-linker against /usr/lib/llvm-22 (a minute or two)";
    const NIGHTLY: &str = "install rustup's nightly with rust-src (about 300 MB)";

    #[test]
    fn debian_gets_packages_and_a_linker() {
        let apt = Apt { installed: names(&[]), offered: names(&[COMPILER, LLVM, &["strace"]]) };
        check(&bare(true, true, Some(apt.clone())), &[&format!("install packages: {ALL}"), BUILD], &[]);
        let by_root = format!("as root: apt-get update && apt-get install {ALL}");
        check(&bare(false, true, Some(apt.clone())), &[], &[&by_root]);

        let tools = Facts { no_tools: vec!["strace"], root: true, apt: Some(apt), ..Facts::default() };
        check(&tools, &["install packages: strace"], &[]);
    }

    #[test]
    fn what_would_start_a_service_is_not_installed() {
        let apt = || Some(Apt { installed: names(&[]), offered: names(&[&["strace", "prometheus", "python3-venv"]]) });
        let facts = Facts {
            no_tools: vec!["strace", "chromium"],
            no_services: vec!["prometheus", "prometheus-alertmanager"],
            no_validator: true,
            python: true,
            root: true,
            apt: apt(),
            ..Facts::default()
        };
        let unpack = "unpack under target/tools, and install nothing: prometheus";
        let validator = "kubernetes-validate by pip, under target/tools";
        let advice = facts.distro.tools(&["chromium", "prometheus-alertmanager"]);
        check(&facts, &["install packages: strace", unpack, validator], &[&advice]);
        let facts = Facts { no_tools: vec!["python3-venv"], python: false, no_services: vec![], ..facts };
        check(&facts, &["install packages: python3-venv", validator], &[]);
        let facts = Facts { root: false, apt: apt(), ..facts };
        check(&facts, &[], &["as root: apt-get update && apt-get install python3-venv"]);
    }

    #[test]
    fn what_is_there_is_left_alone() {
        check(&Facts::default(), &[], &[]);
        let all = names(&[COMPILER, LLVM]);
        let apt = Apt { installed: all.clone(), offered: all };
        let facts = Facts { no_linker: true, apt: Some(apt), ..Facts::default() };
        check(&facts, &[BUILD], &[]);
    }

    #[test]
    fn rustup_serves_where_apt_has_no_compiler() {
        let apt = Apt { installed: names(&[&["g++"]]), offered: names(&[LLVM]) };
        let llvm = "install packages: llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev";
        check(&bare(true, true, Some(apt)), &[llvm, NIGHTLY, BUILD], &[]);
        let facts = Facts { llvm: Some("/opt/llvm".into()), ..bare(false, true, None) };
        check(&facts, &[NIGHTLY, "build bpf-linker against /opt/llvm (a minute or two)"], &[]);
    }

    #[test]
    fn without_a_way_there_is_advice() {
        let facts = bare(true, false, None);
        check(&facts, &[], &[&facts.distro.rust(), &facts.distro.llvm()]);
    }
}
