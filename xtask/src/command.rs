//! Calls other programs, and says so first.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// Tells the human what happens next.
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("==> {}", text.as_ref());
}

/// A call of cargo in the workspace. By name: what is printed can be typed, and the outer cargo has seen to the PATH.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(root);
    command
}

/// Runs a command with our own standard streams; an error names it and how it ended.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("    {}", line(command));
    let status = command.status().with_context(|| format!("run {}", command.get_program().display()))?;
    ensure!(status.success(), "{} ended with {status}", line(command));
    Ok(())
}

/// What a command prints, or an error with its complaint.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}: {}", line(command), output.status, complaint.trim());
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", line(command)))
}

/// Where a program is, by the PATH.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether we may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether there is a human who can answer.
pub(crate) fn on_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Becomes `program args`, as root: directly, through sudo when a human can type a password, else not at all.
/// Returns only with an error.
pub(crate) fn become_root(program: &Path, args: &[impl AsRef<OsStr>]) -> Result<()> {
    let mut direct = Command::new(program);
    direct.args(args);
    let mut sudo = Command::new("sudo");
    sudo.arg("--").arg(program).args(args);
    let command = if is_root() {
        &mut direct
    } else if on_terminal() && which("sudo").is_some() {
        &mut sudo
    } else {
        bail!("this needs root; as root, run: {}", line(&direct));
    };
    eprintln!("    {}", line(command));
    let error = command.exec();
    Err(error).with_context(|| format!("run {}", command.get_program().display()))
}

/// A command as one would type it, with what was set for it in front.
pub(crate) fn line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let set = set.map(|(name, value)| format!("{}={}", name.display(), quote(value)));
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(quote);
    set.chain(words).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_can_be_typed() {
        let check = |words: &[&str], expect: &str| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            assert_eq!(line(&command), expect);
        };
        check(&["cargo", "test", "--", "a b"], "cargo test -- 'a b'");
        check(&["echo", "it's", ""], r"echo 'it'\''s' ''");
        assert_eq!(line(Command::new("x").env("A", "1").env_remove("B")), "A=1 x");
    }
}
