//! What the host's owner allows: the part `[control]` of `/etc/lockwatch/config.toml` and its drop-ins.

mod layer;
mod span;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use lockwatch_core::{
    clear::{Method, Policy, Protection},
    text::Text,
};
use std::os::unix::ffi::OsStrExt;

use self::layer::{Control, Layer};
pub use self::span::parse as time_span;
use crate::{audit, peer::Peer, pending, trusted};

/// Where the configuration is.
pub const FILE: &str = "/etc/lockwatch/config.toml";

/// What is configured, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many different users must confirm a plan: 1 or 2.
    pub approvals: u32,
    /// Whose locks are not cleared.
    pub protection: Protection,
    /// What members of the control socket's group may do. Root may do everything.
    pub group: Group,
    /// Where clears are recorded.
    pub audit_log: PathBuf,
    /// Where plans wait for a second person.
    pub pending: PathBuf,
    /// How far apart the first two looks are, at least.
    pub settle: Duration,
    /// How long others are held still, at most.
    pub hold_max: Duration,
    /// How long a holder has after SIGTERM.
    pub grace: Duration,
}

/// What members of the control socket's group may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// By which methods they may clear.
    pub methods: Vec<Method>,
    /// Patterns of paths whose locks they may clear; `None` for all.
    pub paths: Option<Vec<String>>,
    /// Whether they may hold others still.
    pub hold: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            approvals: 1,
            protection: Protection::default(),
            group: Group { methods: vec![Method::Release], paths: None, hold: false },
            audit_log: audit::PATH.into(),
            pending: pending::DIRECTORY.into(),
            settle: Duration::from_secs(1),
            hold_max: Duration::from_secs(90),
            grace: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Reads this file, or [`FILE`], and then its drop-ins, `NAME.d/*.toml` beside `NAME.toml`, by name. What is said
    /// later wins; lists of what is protected add up. Without any file it is the defaults.
    ///
    /// # Errors
    ///
    /// A file can be written by others than root, is no TOML, or says something unknown: file, line, and what was
    /// probably meant. Then nothing must be cleared: whatever it forbids may be what was asked for.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let path = file.unwrap_or(Path::new(FILE));
        let main = trusted::read(path)?;
        ensure!(main.is_some() || file.is_none(), "there is no {}", Text::new(path.as_os_str().as_bytes()));
        let mut all = main.map(|text| Layer::parse(path, &text)).transpose()?.unwrap_or_default();
        for path in trusted::list(&path.with_extension("d"))? {
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = trusted::read(&path)?;
                let text = text.with_context(|| format!("{} is gone", Text::new(path.as_os_str().as_bytes())))?;
                all = all.then(Layer::parse(&path, &text)?);
            }
        }
        Ok(Self::of(all))
    }

    fn of(layer: Layer) -> Self {
        let usual = Self::default();
        let Control { approvals, protect, protect_defaults, group, audit_log, pending, settle, hold_max, grace } =
            layer.control;
        let kept = if protect_defaults.unwrap_or(true) { usual.protection.entries } else { Vec::new() };
        let entries = kept.into_iter().chain(protect.into_iter().map(|entry| entry.0)).collect();
        Self {
            approvals: approvals.map_or(usual.approvals, |count| count.0),
            protection: Protection { entries },
            group: Group {
                methods: group.methods.map_or(usual.group.methods, |all| all.into_iter().map(|one| one.0).collect()),
                paths: group.paths.map(|all| all.into_iter().map(|one| one.0).collect()),
                hold: group.hold.unwrap_or(usual.group.hold),
            },
            audit_log: audit_log.map_or(usual.audit_log, |path| path.0),
            pending: pending.map_or(usual.pending, |path| path.0),
            settle: settle.map_or(usual.settle, |span| span.0),
            hold_max: hold_max.map_or(usual.hold_max, |span| span.0),
            grace: grace.map_or(usual.grace, |span| span.0),
        }
    }

    /// What the one who asks may do: root everything, all others what members of the group may. That they are members
    /// has been checked by the kernel, when they connected ([`Peer`]).
    pub fn policy_for(&self, peer: &Peer) -> Policy {
        Policy { ourselves: peer.ourselves.clone(), ..self.policy_of(peer.uid) }
    }

    /// What a user may do who is not here now: the first of two.
    pub fn policy_of(&self, uid: u32) -> Policy {
        let protection = self.protection.clone();
        if uid == 0 {
            return Policy { protection, ..Policy::default() };
        }
        let Group { methods, paths, hold } = self.group.clone();
        Policy { protection, may_override: false, methods, paths, may_hold: hold, ourselves: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(texts: &[&str]) -> Config {
        let parse = |text: &&str| Layer::parse(Path::new("/etc/x.toml"), text).unwrap();
        Config::of(texts.iter().map(parse).fold(Layer::default(), Layer::then))
    }

    #[test]
    fn later_layers_win_and_protection_adds_up() {
        let usual = Config::default();
        assert_eq!(of(&[]), usual);
        assert_eq!(of(&["", "[control]"]), usual);
        let first = "[control]\napprovals = 2\nprotect = ['dpkg', '/srv/db/*']\nsettle = '2s'\naudit_log = '/a/b'";
        let second =
            "[control]\napprovals = 1\nprotect = ['mydb']\nprotect_defaults = false\nhold_max = '1m'\ngrace = '1s'";
        let group = "[control.group]\nmethods = ['release', 'kill']\npaths = ['/srv/*']\nhold = true";
        let both = of(&[first, second, group]);
        assert_eq!((both.approvals, both.settle), (1, Duration::from_secs(2)));
        assert_eq!(both.protection.entries, ["dpkg", "/srv/db/*", "mydb"]);
        assert_eq!((both.hold_max, both.grace), (Duration::from_secs(60), Duration::from_secs(1)));
        assert_eq!(both.audit_log, Path::new("/a/b"));
        let expect =
            Group { methods: vec![Method::Release, Method::Kill], paths: Some(vec!["/srv/*".into()]), hold: true };
        assert_eq!(both.group, expect);
        let entries = of(&[first]).protection.entries;
        assert!(entries.starts_with(&usual.protection.entries) && entries.ends_with(&["/srv/db/*".into()]));
    }

    #[test]
    fn the_sample_says_what_holds_anyway() {
        assert_eq!(of(&[include_str!("../../contrib/config.toml")]), Config::default());
    }

    #[test]
    fn root_may_everything_and_the_group_what_is_said() {
        let config = of(&["[control]\nprotect = ['mydb']\n[control.group]\npaths = ['/srv/*']"]);
        let root = config.policy_of(0);
        assert_eq!(root, Policy { protection: config.protection.clone(), ..Policy::default() });
        let member = Policy {
            protection: config.protection.clone(),
            may_override: false,
            methods: vec![Method::Release],
            paths: Some(vec!["/srv/*".into()]),
            may_hold: false,
            ourselves: Vec::new(),
        };
        assert_eq!(config.policy_of(1000), member);
        assert_eq!(Config::default().policy_of(1000).paths, None);
    }

    #[test]
    fn files_are_read_in_order_or_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("LEFT OUT: needs root");
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("config.toml");
        assert_eq!(Config::load(Some(&path)).unwrap_err().to_string(), format!("there is no {}", path.display()));
        fs::write(&path, "[control]\napprovals = 2\nsettle = '3s'").unwrap();
        fs::create_dir(temporary.path().join("config.d")).unwrap();
        let drop_in = |name: &str, text: &str| fs::write(temporary.path().join("config.d").join(name), text).unwrap();
        drop_in("20-b.toml", "[control]\nsettle = '5s'");
        drop_in("10-a.toml", "[control]\nsettle = '4s'");
        drop_in("30-c.toml.bak", "no TOML");
        drop_in(".hidden.toml", "no TOML");
        let config = Config::load(Some(&path)).unwrap();
        assert_eq!((config.approvals, config.settle), (2, Duration::from_secs(5)));
        drop_in("40-d.toml", "no TOML");
        assert!(Config::load(Some(&path)).unwrap_err().to_string().contains("config.d/40-d.toml, line 1: "));
        let theirs = temporary.path().join("config.d/40-d.toml");
        std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
        assert!(Config::load(Some(&path)).unwrap_err().to_string().contains("belongs to uid 65534"));
    }
}
