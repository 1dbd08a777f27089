//! A systemd unit of contrib, as far as systemd is not needed to live by it.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::{door::User, program::run};

/// What stands in a unit's `[Service]`.
#[derive(Debug)]
pub struct Service(Vec<(String, String)>);

impl Service {
    /// A unit of contrib/systemd.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/systemd").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let lines = text.lines().skip_while(|line| *line != "[Service]").skip(1);
        let lines = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    /// What it says of something, line by line.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| &**value).collect()
    }

    /// What it says of something once.
    ///
    /// # Panics
    ///
    /// When it says nothing of it, or more.
    pub fn one(&self, key: &str) -> &str {
        let [value] = self.all(key)[..] else { panic!("{key}= stands in it {} times", self.all(key).len()) };
        value
    }

    /// The call that gives a program the rights of this service, as this user instead of its own.
    ///
    /// # Panics
    ///
    /// When the unit says something that this cannot do.
    pub fn rights(&self, user: User) -> Vec<String> {
        assert_ne!(self.one("User"), "root");
        assert_eq!((self.one("NoNewPrivileges"), self.all("SupplementaryGroups").len()), ("yes", 0));
        let set = |key: &str| {
            let names = self.one(key).split_whitespace().map(|name| match name.strip_prefix("CAP_") {
                Some(name) => format!(",+{}", name.to_lowercase()),
                None => panic!("{key}={name} is no capability"),
            });
            format!("-all{}", names.collect::<String>())
        };
        let (ambient, bounding) = (set("AmbientCapabilities"), set("CapabilityBoundingSet"));
        [
            "setpriv".to_owned(),
            format!("--reuid={}", user.uid()),
            format!("--regid={}", user.gid()),
            "--clear-groups".to_owned(),
            format!("--inh-caps={ambient}"),
            format!("--ambient-caps={ambient}"),
            format!("--bounding-set={bounding}"),
            "--no-new-privs".to_owned(),
        ]
        .to_vec()
    }

    /// The system calls that it may make, as this machine's systemd knows their sets.
    ///
    /// # Panics
    ///
    /// When systemd does not know a set.
    pub fn calls(&self) -> BTreeSet<String> {
        let known = run(Command::new("systemd-analyze").arg("syscall-filter").env("SYSTEMD_COLORS", "0"));
        let known = known.text();
        // What is always allowed, whatever is said (systemd.exec(5)).
        let mut calls = members(known, "@default");
        for line in self.all("SystemCallFilter") {
            let (words, allows) = line.strip_prefix('~').map_or((line, true), |words| (words, false));
            for word in words.split_whitespace() {
                let named = match word.starts_with('@') {
                    true => members(known, word),
                    false => BTreeSet::from([word.to_owned()]),
                };
                match allows {
                    true => calls.extend(named),
                    false => calls.retain(|call| !named.contains(call)),
                }
            }
        }
        calls
    }
}

/// The calls of a set, and of the sets in it.
fn members(known: &str, set: &str) -> BTreeSet<String> {
    let lines = known.lines().skip_while(|line| *line != set).skip(1);
    let lines = lines.map_while(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with('#'));
    let members: BTreeSet<String> = lines
        .flat_map(|line| if line.starts_with('@') { members(known, line) } else { BTreeSet::from([line.to_owned()]) })
        .collect();
    assert!(!members.is_empty(), "systemd knows no {set}");
    members
}
