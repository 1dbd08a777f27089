//! `cargo xtask lint`: format, lints, documentation, dependencies.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, ensure};

use crate::command::{cargo, output, run, say, which};

/// How many packages `lockwatch` may be built from, itself included. Whoever raises it says in the commit what for.
const PACKAGES: usize = 86;

/// Runs every check; the first that fails ends it.
pub(crate) fn lint(root: &Path) -> Result<()> {
    say("format");
    run(&mut cargo(root, &["fmt", "--all", "--check"]))?;
    run(&mut cargo(root, &["fmt", "--manifest-path", "lockwatch-ebpf/Cargo.toml", "--check"]))?;

    say("lints");
    run(&mut cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;

    say("documentation");
    let mut doc = cargo(root, &["doc", "--workspace", "--no-deps", "--document-private-items"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;

    say("dependencies");
    let tree =
        output(&mut cargo(root, &["tree", "-p", "lockwatch", "-e", "normal", "--prefix", "none", "--no-dedupe"]))?;
    let count = packages(&tree);
    eprintln!("    {count} packages, at most {PACKAGES}");
    ensure!(count <= PACKAGES, "lockwatch depends on {count} packages, and xtask/src/lint.rs allows {PACKAGES}");

    deny(root)?;
    say("lint: all is well");
    Ok(())
}

/// Licences, bans and sources always; advisories where their database can be fetched.
fn deny(root: &Path) -> Result<()> {
    if which("cargo-deny").is_none() {
        say("LEFT OUT: cargo deny: not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    run(&mut cargo(root, &["deny", "check", "bans", "licenses", "sources"]))?;
    match run(&mut cargo(root, &["deny", "fetch", "db"])) {
        Ok(()) => run(&mut cargo(root, &["deny", "check", "--disable-fetch", "advisories"])),
        Err(error) => {
            say(format!("LEFT OUT: cargo deny check advisories: {error:#}"));
            Ok(())
        }
    }
}

/// The number of different packages in a tree, where `(*)` and `(proc-macro)` may follow a name.
fn packages(tree: &str) -> usize {
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    tree.lines().map(name).filter(|name| !name.is_empty()).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_package_once() {
        let check = |tree, expect| assert_eq!(packages(tree), expect);
        check("a v0.1.0 (/a)\nb v1.0.0\nc v1.0.0 (proc-macro)\nb v1.0.0 (*)\nc v1.0.0 (proc-macro) (*)\n", 3);
        check("b v1.0.0\nb v2.0.0\n\n", 2);
    }
}
