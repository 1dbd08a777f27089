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
        crate::build::forget_outer_cargo(&mut command);
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
