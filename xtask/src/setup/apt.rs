//! The few calls of apt and dpkg.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Result;

use super::plan::Apt;
use crate::command::{run, say};

/// Package lists older than this are asked for again before anything is installed: the archive drops old versions.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// What apt says of these packages.
pub(super) fn ask(packages: &[&str]) -> Apt {
    let installed =
        output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Package}\n"]).args(packages));
    let offered = output(Command::new("apt-cache").arg("policy").args(packages));
    Apt { installed: installed_in(&installed), offered: offered_in(&offered) }
}

/// Asks the archives for their lists, unless they were asked lately and have all that is wanted.
pub(super) fn refresh_if_stale(offered_all: bool) {
    if !(offered_all && are_fresh(Path::new("/var/lib/apt/lists"))) {
        refresh();
    }
}

/// An archive that does not answer is no reason to stop: the others may have what is needed.
fn refresh() {
    say("refreshing apt's package lists");
    if let Err(error) = run(&mut apt_get(&["update", "-q"])) {
        say(format!("{error:#}; going on with the lists that are there"));
    }
}

/// Installs packages, and asks nothing.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let install = || run(apt_get(&["install", "-qq", "--no-install-recommends", "--yes"]).args(packages));
    install().or_else(|_| {
        // The archive may have moved on since the lists were fetched.
        refresh();
        install()
    })
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// What a program prints, whatever its exit code: dpkg-query's says that one of the packages is unknown to it.
fn output(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}

/// apt renews the directory's time when it has fetched something.
fn are_fresh(lists: &Path) -> bool {
    let changed = fs::metadata(lists).and_then(|m| m.modified());
    changed.is_ok_and(|t| t.elapsed().is_ok_and(|age| age < FRESH))
}

fn installed_in(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect()
}

/// The packages of `apt-cache policy` that have a candidate.
fn offered_in(text: &str) -> BTreeSet<String> {
    let mut package = "";
    let mut offered = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = name;
        } else if line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)") {
            offered.insert(package.to_owned());
        }
    }
    offered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dpkg_and_apt_print() {
        let check = |set: BTreeSet<String>, expect: &[&str]| assert_eq!(Vec::from_iter(set), expect);
        check(installed_in("installed g++\nconfig-files strace\nnot-installed llvm-22-dev\n"), &["g++"]);
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0\n  Version table:\n     1.96.0 500\n\
                      llvm-22-dev:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        check(offered_in(policy), &["rustc-web"]);
        check(offered_in(""), &[]);
    }
}
