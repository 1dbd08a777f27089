//! What stages are made of.

use std::{
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Lines, Process, Scene, holders, locker::words::encode, until};

/// A socket's name as the locker's commands have it.
pub fn socket(scene: &Scene) -> String {
    encode(scene.socket().as_os_str().as_bytes())
}

/// The commonest lock there is. The `:` keeps dash from becoming the sleep itself.
pub const IDIOM: &str = r#"( flock -n 9 || exit 1; echo locked $$; sleep 60; : ) 9>"$1""#;

/// The same where the last command of the subshell may replace it.
pub const LAST_COMMAND: &str = r#"( flock -n 9 && echo locked $$ || exit 1; sleep 60 ) 9>"$1""#;

/// Runs a shell script on the file until its sleep holds the lock: the shell, and every process that has the file open,
/// by number, the sleep last.
///
/// # Panics
///
/// When the script does not say `locked`.
pub fn shell(script: &str, path: &Path) -> (Process, Vec<Process>) {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap_or_else(|e| panic!("start sh: {e}"));
    let output = shell.stdout.take().map(Lines::from);
    let shell = Process::of_child(shell);
    let locked = output.and_then(|output| output.take(|line| line.starts_with("locked")));
    assert!(locked.is_some(), "the shell has no lock");
    let mut found = until("the shell sleeps", || {
        let found = holders(path);
        found.iter().any(|(_, comm)| comm == "sleep").then_some(found)
    });
    found.sort_by_key(|(pid, comm)| (comm == "sleep", *pid));
    (shell, found.into_iter().map(|(pid, _)| Process::of_pid(pid)).collect())
}
