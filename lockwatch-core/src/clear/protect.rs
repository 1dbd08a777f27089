//! The protect list: whose locks are not cleared, because a lock lost in silence costs them data.

use super::case::Case;
use crate::text::Text;

/// Files, units and programs whose locks are refused.
///
/// An entry is a path or a name, with `*` for any run of characters. One with a `/` is compared with the locked file's
/// path, one that ends in `.service`, `.scope`, `.slice`, `.socket` or `.mount` with the units of acquirer and holders,
/// any other with their command names and the last part of their executables' paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The entries.
    pub entries: Vec<String>,
}

/// What is protected until somebody says otherwise: package managers, databases, systemd.
const USUAL: &[&str] = &[
    "/var/lib/dpkg/*",
    "/var/lib/apt/*",
    "/var/cache/apt/*",
    "/var/lib/rpm/*",
    "/usr/lib/sysimage/rpm/*",
    "/var/lib/pacman/*",
    "/run/systemd/*",
    "/var/lib/systemd/*",
    "/var/lib/postgresql/*",
    "/var/lib/mysql/*",
    "/var/lib/mariadb/*",
    "/var/lib/etcd/*",
    "dpkg",
    "apt",
    "apt-get",
    "rpm",
    "dnf",
    "dnf5",
    "yum",
    "zypper",
    "pacman",
    "postgres",
    "mysqld",
    "mariadbd",
    "etcd",
    "systemd",
    "systemd-*",
    "postgresql*.service",
    "mysql*.service",
    "mariadb*.service",
    "etcd*.service",
    "systemd-*.service",
];

impl Default for Protection {
    fn default() -> Self {
        Self { entries: USUAL.iter().map(|entry| (*entry).to_owned()).collect() }
    }
}

impl Protection {
    /// What of this lock is protected, and the entry that says so.
    pub(super) fn find(&self, case: &Case) -> Option<(String, String)> {
        self.entries.iter().find_map(|entry| {
            let what = match () {
                () if entry.contains('/') => file(entry, case),
                () if is_unit(entry) => unit(entry, case),
                () => program(entry, case),
            };
            what.map(|what| (what, entry.clone()))
        })
    }
}

fn is_unit(entry: &str) -> bool {
    [".service", ".scope", ".slice", ".socket", ".mount"].iter().any(|end| entry.ends_with(end))
}

fn file(entry: &str, case: &Case) -> Option<String> {
    let path = case.path.as_ref()?;
    fits(entry.as_bytes(), path.as_bytes()).then(|| format!("the file {path}"))
}

fn unit(entry: &str, case: &Case) -> Option<String> {
    people(case).find_map(|person| {
        let unit = person.unit.as_ref().filter(|unit| fits(entry.as_bytes(), unit.as_bytes()))?;
        Some(format!("{person} of {unit}"))
    })
}

fn program(entry: &str, case: &Case) -> Option<String> {
    let name = |path: &Text| path.as_bytes().rsplit(|b| *b == b'/').next().map(<[u8]>::to_vec).unwrap_or_default();
    let is = |person: &&super::case::Person| {
        let comm = person.comm.as_ref().is_some_and(|comm| fits(entry.as_bytes(), comm.as_bytes()));
        comm || person.exe.as_ref().is_some_and(|exe| fits(entry.as_bytes(), &name(exe)))
    };
    people(case).find(is).map(ToString::to_string)
}

fn people(case: &Case) -> impl Iterator<Item = &super::case::Person> {
    case.acquirer.iter().chain(case.holders.iter().filter_map(|keeper| keeper.who.as_ref()))
}

/// Whether a pattern with `*` for any run of bytes, slashes too, fits the whole text.
pub(crate) fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|b| *b == b'*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    // The first place that fits leaves most room for the others.
    let middle = parts.iter().try_fold(rest, |rest, part| {
        let at = if part.is_empty() { Some(0) } else { rest.windows(part.len()).position(|window| window == *part) };
        at.map(|at| &rest[at + part.len()..])
    });
    middle.is_some_and(|rest| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clear::samples::{ghost, person};

    #[test]
    fn stars_stand_for_anything() {
        let check = |pattern: &str, text: &str, expect| {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expect, "{pattern} {text}");
        };
        check("dpkg", "dpkg", true);
        check("dpkg", "dpkgs", false);
        check("systemd-*", "systemd-journald", true);
        check("/var/lib/dpkg/*", "/var/lib/dpkg/lock", true);
        check("/var/lib/dpkg/*", "/home/var/lib/dpkg/lock", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("*", "", true);
        check("aa*aa", "aaa", false);
    }

    #[test]
    fn files_units_and_programs_are_protected() {
        let usual = Protection::default();
        assert_eq!(usual.find(&ghost()), None);
        let check = |case: &Case, what: &str, entry: &str| {
            assert_eq!(usual.find(case), Some((what.to_owned(), entry.to_owned())));
        };
        let at = |path: &str| Case { path: Some(path.into()), ..ghost() };
        check(&at("/var/lib/dpkg/lock"), "the file /var/lib/dpkg/lock", "/var/lib/dpkg/*");
        let taken_by = |comm: &str, exe: &str, unit: &str| {
            let who = person(4711, Some(true));
            let acquirer =
                super::super::Person { comm: Some(comm.into()), exe: Some(exe.into()), unit: Some(unit.into()), ..who };
            Case { acquirer: Some(acquirer), ..ghost() }
        };
        check(&taken_by("postgres", "/x", "y"), "pid 4711 (postgres)", "postgres");
        check(&taken_by("x", "/usr/sbin/mysqld", "y"), "pid 4711 (x)", "mysqld");
        check(&taken_by("x", "/x", "etcd.service"), "pid 4711 (x) of etcd.service", "etcd*.service");
    }
}
