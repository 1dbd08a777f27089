//! The call that builds the BPF programs.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    find::{Compiler, TARGET, Toolchain},
    machine::forget_outer_cargo,
};

/// The call that builds the package in `package_dir` for BPF, with its output below `target_dir`.
///
/// It keeps nothing of a cargo around it: a build script's environment would turn the inner cargo into a copy of the
/// outer one.
pub fn command(toolchain: &Toolchain, package_dir: &Path, target_dir: &Path) -> Command {
    let mut command = match toolchain.compiler {
        Compiler::Nightly => Command::new("rustup"),
        Compiler::Debian => Command::new("/usr/bin/cargo"),
    };
    forget_outer_cargo(&mut command);
    match toolchain.compiler {
        Compiler::Nightly => {
            command.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
        }
        Compiler::Debian => {
            command.arg("build").env("RUSTC", "/usr/bin/rustc");
            // aya-ebpf uses an unstable feature, and this compiler is a stable one.
            command.env("RUSTC_BOOTSTRAP", "1");
            // The outer cargo points it at the libraries of another compiler.
            command.env_remove("LD_LIBRARY_PATH");
        }
    }
    command.args(["--release", "--target", TARGET, "--target-dir"]).arg(target_dir).current_dir(package_dir);
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(&toolchain.linker));
    command
}

/// Where [`command`] leaves the object of the binary `name`.
pub fn object(target_dir: &Path, name: &str) -> PathBuf {
    target_dir.join(TARGET).join("release").join(name)
}

/// In cargo's encoded form, where paths may have blanks. v3 has 32-bit arithmetic and atomics, and Linux 5.10 knows it.
fn rustflags(linker: &Path) -> OsString {
    let mut flags = OsString::from("-Clinker=");
    flags.push(linker);
    flags.push("\u{1f}-Clink-arg=--btf\u{1f}-Cdebuginfo=2\u{1f}-Ctarget-cpu=v3");
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(compiler: Compiler, expect: &str) {
        let toolchain = Toolchain { compiler, linker: "/a tool/bpf-linker".into() };
        let command = command(&toolchain, Path::new("/p"), Path::new("/t"));
        let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut words: Vec<String> = set.map(|(n, v)| format!("{}={}", n.display(), v.display())).collect();
        words.push(command.get_program().display().to_string());
        words.extend(command.get_args().map(|a| a.display().to_string()));
        assert_eq!(words.join(" ").replace('\u{1f}', " "), expect.replace("TARGET", TARGET));
        assert_eq!(command.get_current_dir(), Some(Path::new("/p")));
    }

    #[test]
    fn both_ways_are_called_as_designed() {
        let flags =
            "CARGO_ENCODED_RUSTFLAGS=-Clinker=/a tool/bpf-linker -Clink-arg=--btf -Cdebuginfo=2 -Ctarget-cpu=v3";
        let rest = "--release --target TARGET --target-dir /t";
        check(Compiler::Nightly, &format!("{flags} rustup run nightly cargo build -Zbuild-std=core {rest}"));
        check(Compiler::Debian, &format!("{flags} RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo build {rest}"));
    }
}
