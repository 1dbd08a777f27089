//! The world, as lockwatch-core's vocabulary: whatever reads `/proc` or the kernel lives here.

pub mod bpf;
pub mod clock;
pub mod files;
pub mod hidden;
pub mod lockfile;
pub mod mounts;
pub mod names;
pub mod processes;
pub mod procfs;

mod cgroup;
mod confirm;
mod fds;
mod join;
mod peek;
mod place;
mod remote;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueEnum;
use lockwatch_core::{
    observation::Picture,
    report::{SourceState, SourceStatus},
};
use lockwatch_sys::{kcmp, procdir};

use self::{
    bpf::{Bpf, Depth},
    procfs::ProcfsOptions,
};

/// Who is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SourceChoice {
    /// eBPF if it works here, else /proc.
    #[default]
    Auto,
    /// /proc only. Reading /proc/locks holds up every lock operation of the host for a moment.
    Procfs,
    /// eBPF only: exact, and disturbs nobody. An error where it does not work.
    Bpf,
}

/// Whoever is asked, ready for as many looks as are wanted.
pub struct Source {
    choice: SourceChoice,
    bpf: Result<Bpf, (SourceState, String)>,
    proc_root: PathBuf,
}

impl Source {
    /// Loads what the choice asks for. The error says why the chosen source cannot be used.
    pub fn open(choice: SourceChoice, proc_root: &Path) -> anyhow::Result<Self> {
        let bpf = match choice {
            SourceChoice::Procfs => Err((SourceState::Unused, "not asked: --source procfs".to_owned())),
            _ => load(proc_root).map_err(unavailable),
        };
        match bpf {
            Err((_, reason)) if choice == SourceChoice::Bpf => cannot_be_used(&reason),
            bpf => Ok(Self { choice, bpf, proc_root: proc_root.to_owned() }),
        }
    }

    /// Takes one picture, and tells how each source did.
    pub fn take(&mut self, depth: Depth) -> anyhow::Result<(Picture, Vec<SourceStatus>)> {
        let (mut picture, statuses) = self.take_one(depth)?;
        picture.warnings.extend(warnings());
        Ok((picture, statuses))
    }

    fn take_one(&mut self, depth: Depth) -> anyhow::Result<(Picture, Vec<SourceStatus>)> {
        let bpf = match &mut self.bpf {
            Ok(bpf) => bpf.look(depth).map_err(unavailable),
            Err(why) => Err(why.clone()),
        };
        match bpf {
            Ok(picture) => Ok((picture, by_bpf(SourceState::Ok, None))),
            Err((_, reason)) if self.choice == SourceChoice::Bpf => cannot_be_used(&reason),
            Err((state, reason)) => {
                log::info!("bpf: {reason}");
                let root = self.proc_root.clone();
                let picture = procfs::look(&ProcfsOptions { root, ..ProcfsOptions::default() })?;
                let procfs = match picture.exact && picture.fds_complete {
                    true => status("procfs", SourceState::Ok, None),
                    false => status("procfs", SourceState::Degraded, Some(why(&picture))),
                };
                Ok((picture, vec![status("bpf", state, Some(reason)), procfs]))
            }
        }
    }
}

/// How the sources did if BPF has answered.
pub fn by_bpf(state: SourceState, reason: Option<String>) -> Vec<SourceStatus> {
    vec![status("bpf", state, reason), status("procfs", SourceState::Unused, None)]
}

/// What no source can see here.
pub fn warnings() -> Option<String> {
    remote::warning(&remote::mounts())
}

fn cannot_be_used<T>(reason: &str) -> anyhow::Result<T> {
    bail!("the bpf source cannot be used: {reason} (lockwatch doctor)")
}

fn unavailable(error: anyhow::Error) -> (SourceState, String) {
    (SourceState::Unavailable, format!("{error:#}"))
}

fn load(proc_root: &Path) -> anyhow::Result<Bpf> {
    if proc_root != Path::new("/proc") {
        bail!("it shows the running kernel, not {}", proc_root.display());
    }
    Bpf::for_a_look()
}

fn status(name: &'static str, state: SourceState, reason: Option<String>) -> SourceStatus {
    SourceStatus { name, state, reason }
}

/// The first warning says it best.
fn why(picture: &Picture) -> String {
    picture.warnings.first().cloned().unwrap_or_else(|| "not everything could be read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_cannot_be_used_is_an_error_only_for_who_wants_it() {
        let take = |choice, root| Source::open(choice, Path::new(root)).and_then(|mut s| s.take(Depth::Usual));
        let error = format!("{:#}", take(SourceChoice::Bpf, "/nonexistent").unwrap_err());
        assert!(error.starts_with("the bpf source cannot be used: ") && error.contains("lockwatch doctor"), "{error}");
        let (_, statuses) = take(SourceChoice::Procfs, "/proc").unwrap();
        let states: Vec<_> = statuses.iter().map(|s| (s.name, s.state)).collect();
        assert_eq!(states[0], ("bpf", SourceState::Unused));
        assert_eq!(states[1].0, "procfs");
        assert!(statuses.iter().all(|s| s.reason.is_none() == (s.state == SourceState::Ok)), "{statuses:?}");
    }

    #[test]
    fn no_proc_is_named() {
        let mut source = Source::open(SourceChoice::Procfs, Path::new("/nonexistent")).unwrap();
        let error = format!("{:#}", source.take(Depth::Usual).unwrap_err());
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
