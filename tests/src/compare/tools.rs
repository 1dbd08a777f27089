//! The tools, and how somebody who knows each of them well would ask it about one file.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::said::{self, Death, Said};
use crate::{Run, lockwatch_command, plain, run};

/// What README calls lockwatch.
pub(super) const LOCKWATCH: &str = "lockwatch";

/// After so many seconds a tool is said to have hung: lslocks takes long on a host with very many locks.
const LONGEST: &str = "20";

/// One that can be asked.
pub(super) struct Tool {
    /// Its name and version.
    pub(super) title: String,
    kind: Kind,
    /// What runs it.
    words: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lslocks,
    Lsfd,
    Lsof,
    Fuser,
    Lockwatch,
}

const PEERS: [(&str, Kind); 4] =
    [("lslocks", Kind::Lslocks), ("lsfd", Kind::Lsfd), ("lsof", Kind::Lsof), ("fuser", Kind::Fuser)];

/// lockwatch's peers in `PATH` and in these root directories of other systems, by tool; and those that are not there.
pub(super) fn found(roots: &[&Path]) -> (Vec<Tool>, Vec<String>) {
    let (mut tools, mut left_out): (Vec<Tool>, Vec<String>) = Default::default();
    for (name, kind) in PEERS {
        let elsewhere = roots.iter().map(|root| in_root(root, name));
        for words in std::iter::once(in_path(name)).chain(elsewhere).flatten() {
            let asked = run(command(&words).arg(if kind == Kind::Lsof { "-v" } else { "-V" }));
            let title = match version(&(String::from_utf8_lossy(&asked.stdout).into_owned() + &asked.stderr)) {
                Some(version) => format!("{name} {version}"),
                None => name.to_owned(),
            };
            if !tools.iter().any(|tool| tool.title == title) {
                tools.push(Tool { title, kind, words });
            }
        }
        if !tools.iter().any(|tool| tool.kind == kind) {
            left_out.push(format!("{name}: not installed"));
        }
    }
    (tools, left_out)
}

impl Tool {
    /// lockwatch, with an agent that listens there.
    pub(super) fn lockwatch(api_socket: &Path) -> Self {
        Self { title: LOCKWATCH.into(), kind: Kind::Lockwatch, words: vec![api_socket.into()] }
    }

    /// Whether it is not lockwatch.
    pub(super) fn is_peer(&self) -> bool {
        self.kind != Kind::Lockwatch
    }

    /// What it says of this file.
    pub(super) fn ask(&self, path: &Path) -> Result<Said> {
        match self.kind {
            Kind::Lslocks => self.lslocks(path),
            Kind::Lsfd => self.lsfd(path),
            // Both end with 1 where nobody has the file.
            Kind::Lsof => {
                said::lsof(self.run(&["-w".into(), "-F".into(), "pfl".into(), "--".into(), path.into()])?.text())
            }
            Kind::Fuser => said::fuser(self.run(&[path.into()])?.text()),
            Kind::Lockwatch => self.with_and_without_agent(path),
        }
    }

    fn lslocks(&self, path: &Path) -> Result<Said> {
        let file = fs::metadata(path).with_context(|| format!("stat {}", path.display()))?;
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        let columns = "COMMAND,PID,MODE,INODE,MAJ:MIN";
        // It tells holders since util-linux 2.41.
        let run = self.first_to_succeed(
            [format!("{columns},HOLDERS"), columns.to_owned()]
                .map(|columns| vec!["--json".into(), "--output".into(), columns.into()]),
        )?;
        said::lslocks(run.text(), (major, minor, file.ino()))
    }

    fn lsfd(&self, path: &Path) -> Result<Said> {
        let filter = format!("NAME == \"{}\"", path.display());
        // It tells locked descriptors since util-linux 2.40.
        let run = self.first_to_succeed(["PID,XMODE", "PID"].map(|columns| {
            let words = ["--json", "--output", columns, "--filter", &filter];
            words.map(OsString::from).into()
        }))?;
        said::lsfd(run.text())
    }

    fn with_and_without_agent(&self, path: &Path) -> Result<Said> {
        let ask =
            |command: &mut Command| said::lockwatch(&run(command.args(["list", "--json"]).arg(path)).document(), path);
        let alone = ask(&mut lockwatch_command())?;
        let mut said = ask(lockwatch_command().env("LOCKWATCH_API_SOCKET", &self.words[0]))?;
        if alone.death == Death::Unsaid && said.death == Death::Said {
            said.death = Death::SaidWhenWatched;
        }
        Ok(said)
    }

    fn first_to_succeed<const N: usize>(&self, ways: [Vec<OsString>; N]) -> Result<Run> {
        let mut failed = String::new();
        for args in &ways {
            let run = self.run(args)?;
            if run.code == Some(0) {
                return Ok(run);
            }
            failed = run.stderr;
        }
        anyhow::bail!("{}", failed.trim())
    }

    fn run(&self, args: &[OsString]) -> Result<Run> {
        let run = run(command(&self.words).args(args));
        // timeout(1).
        ensure!(run.code != Some(124), "no answer within {LONGEST} s");
        Ok(run)
    }
}

fn command(words: &[OsString]) -> Command {
    let mut command = plain("timeout");
    command.arg(LONGEST).args(words).env("LC_ALL", "C");
    command
}

fn in_path(name: &str) -> Option<Vec<OsString>> {
    let path = env::var_os("PATH")?;
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.map(|file| vec![file.into()])
}

/// Run by its own system's loader with its own system's libraries, so that it sees this system's files.
fn in_root(root: &Path, name: &str) -> Option<Vec<OsString>> {
    let files = |dir: &str| -> Vec<PathBuf> {
        fs::read_dir(root.join(dir)).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let named =
        |path: &PathBuf, begin: &str| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin));
    let program = ["usr/bin", "usr/sbin", "bin", "sbin"]
        .map(|dir| root.join(dir).join(name))
        .into_iter()
        .find(|p| p.is_file())?;
    let loader =
        ["usr/lib64", "lib64", "usr/lib", "lib"].into_iter().flat_map(files).find(|path| named(path, "ld-linux"))?;
    let libraries =
        files("usr/lib").into_iter().find(|path| path.is_dir() && path.to_string_lossy().ends_with("-linux-gnu"))?;
    Some(vec![loader.into(), "--library-path".into(), libraries.into(), program.into()])
}

/// The first word that is a number with dots.
fn version(text: &str) -> Option<&str> {
    let is = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    text.split_whitespace().find(is).map(|word| word.trim_end_matches(|c: char| !c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        let check = |text, expect| assert_eq!(version(text), expect, "{text}");
        check("lslocks from util-linux 2.38.1\n", Some("2.38.1"));
        check("lsof version information:\n    revision: 4.95.0\n", Some("4.95.0"));
        check("fuser (PSmisc) 23.6\nCopyright (C) 1993-2022", Some("23.6"));
        check("none", None);
    }
}
