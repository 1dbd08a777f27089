//! The few questions asked of the machine, so that tests can answer them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What `find` wants to know.
pub(crate) trait Machine {
    /// What a program prints; `None` when it is not there or fails.
    fn output(&self, program: &Path, args: &[&str]) -> Option<String>;
    /// The names in a directory; empty when it cannot be read.
    fn names(&self, dir: &Path) -> Vec<String>;
    /// Where programs are looked for.
    fn search_path(&self) -> Vec<PathBuf>;
}

/// The machine that this runs on.
pub(crate) struct ThisMachine;

impl Machine for ThisMachine {
    fn output(&self, program: &Path, args: &[&str]) -> Option<String> {
        let mut command = Command::new(program);
        forget_outer_cargo(&mut command);
        let output = command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn names(&self, dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    fn search_path(&self) -> Vec<PathBuf> {
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
    }
}

/// Removes what a cargo around us has set, or its user has set for it, but for the way to the registry.
pub(crate) fn forget_outer_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_cargo) {
            command.env_remove(&name);
        }
    }
}

fn is_of_outer_cargo(name: &str) -> bool {
    let keep = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
    let drop = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "MAKEFLAGS", "MFLAGS"];
    drop.iter().any(|d| name.starts_with(d)) && !keep.iter().any(|k| name.starts_with(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_registry_stays() {
        let check = |name, expect| assert_eq!(is_of_outer_cargo(name), expect, "{name}");
        check("CARGO_ENCODED_RUSTFLAGS", true);
        check("CARGO_TARGET_DIR", true);
        check("CARGO", true);
        check("RUSTC_WRAPPER", true);
        check("RUSTUP_TOOLCHAIN", true);
        check("RUSTUP_HOME", false);
        check("CARGO_HOME", false);
        check("CARGO_NET_OFFLINE", false);
        check("CARGO_REGISTRIES_MIRROR_INDEX", false);
        check("PATH", false);
    }
}
