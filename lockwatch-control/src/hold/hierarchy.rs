//! Control groups: where their hierarchies are mounted, and who is in a group.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use lockwatch_core::{clear::Hold, text::Text};

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) kind: Kind,
    /// Where it is mounted.
    point: PathBuf,
    /// Which of its groups is seen there.
    root: Vec<u8>,
    /// Whether it may be written.
    pub(super) writable: bool,
}

/// In the order in which they are preferred for freezing. Units stand in the first or the third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Version 2.
    Unified,
    /// Version 1 with the freezer.
    Freezer,
    /// Version 1, systemd's own.
    Systemd,
    /// Version 1 with other controllers.
    Other,
}

/// One group, as one hierarchy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) kind: Kind,
    pub(super) dir: PathBuf,
}

/// The hierarchies that are mounted here, the preferred ones first.
pub(super) fn mounted() -> anyhow::Result<Vec<Hierarchy>> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    Ok(parse(&fs::read(MOUNTS).with_context(|| format!("read {MOUNTS}"))?))
}

/// The same group in every hierarchy that has it, the preferred ones first. The error says why there is none.
pub(super) fn find(hold: &Hold, hierarchies: &[Hierarchy]) -> anyhow::Result<Vec<Group>> {
    let path = match hold {
        Hold::Cgroup(path) => path.clone(),
        Hold::Unit(name) => path_of_unit(name, hierarchies)?,
        Hold::Process(pid) => bail!("pid {pid} is no control group"),
    };
    let parts: Vec<&[u8]> = path.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
    ensure!(!parts.is_empty(), "the root group has every process of the host in it");
    ensure!(!parts.iter().any(|part| matches!(*part, b"." | b"..")), "{path} has dots in it");
    let groups: Vec<_> = hierarchies.iter().filter_map(|hierarchy| hierarchy.group(&parts)).collect();
    ensure!(!groups.is_empty(), "there is no control group {path} here");
    Ok(groups)
}

impl Hierarchy {
    fn group(&self, parts: &[&[u8]]) -> Option<Group> {
        let root = self.root.split(|b| *b == b'/').filter(|part| !part.is_empty());
        let mut parts = parts.iter();
        for expected in root {
            (*parts.next()? == expected).then_some(())?;
        }
        let dir = parts.fold(self.point.clone(), |dir, part| dir.join(OsStr::from_bytes(part)));
        // What is the mount itself has no freezer, and holds whoever lockwatch can see.
        (dir != self.point && dir.join("cgroup.procs").exists()).then_some(Group { kind: self.kind, dir })
    }
}

impl Group {
    /// The processes in the group and below it.
    ///
    /// The kernel writes 0 for a process that has no number in our pid namespace, but in version 2 for one that is just
    /// being buried, too (cgroup_procs_show in kernel/cgroup/cgroup.c, 6.18): that one is not there when asked again.
    pub(super) fn members(&self) -> anyhow::Result<BTreeSet<u32>> {
        const LOOKS: usize = 50;
        for _ in 0..LOOKS {
            let members = self.listed()?;
            if !members.contains(&0) {
                return Ok(members);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("processes of another pid namespace are in it, and cannot be told apart from here")
    }

    /// A group of version 2 whose threads are managed apart refuses `cgroup.procs` (EOPNOTSUPP, cgroups(7)) but lists
    /// its threads.
    fn listed(&self) -> anyhow::Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            let listed = match fs::read_to_string(dir.join("cgroup.procs")) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => threads(&dir),
                listed => listed,
            };
            let listed = still_there(listed).with_context(|| format!("read {}", shown(&dir, "cgroup.procs")))?;
            found.extend(listed.iter().flat_map(|listed| listed.lines()).filter_map(|line| line.parse::<u32>().ok()));
            dirs.extend(below(&dir).with_context(|| format!("list {}", shown(&dir, "")))?);
        }
        Ok(found)
    }
}

/// The processes of the group's threads, a line each.
fn threads(dir: &Path) -> io::Result<String> {
    let listed = fs::read_to_string(dir.join("cgroup.threads"))?;
    let process = |tid: &str| {
        let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().to_owned())
    };
    Ok(listed.lines().filter_map(process).collect::<Vec<_>>().join("\n"))
}

/// `None` for a group that was removed meanwhile.
fn still_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        result => result.map(Some),
    }
}

fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(entries) = still_there(fs::read_dir(dir))? else { return Ok(Vec::new()) };
    let mut dirs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            dirs.push(entry.path());
        }
    }
    Ok(dirs)
}

/// Where systemd keeps a unit. Its own tree is in version 2, or in a hierarchy of its own in version 1.
fn path_of_unit(name: &Text, hierarchies: &[Hierarchy]) -> anyhow::Result<Text> {
    let trees = hierarchies.iter().filter(|h| matches!(h.kind, Kind::Unified | Kind::Systemd));
    for tree in trees {
        let found = units(tree, name)?;
        match found.as_slice() {
            [] => {}
            [path] => return Ok(path.clone()),
            [one, other, ..] => {
                bail!("there are several units {name}: {one} and {other}; give the path of its control group instead")
            }
        }
    }
    bail!("there is no control group of a unit {name} here: it does not run, or systemd does not run here")
}

/// A unit is the first group below the slices, and users' managers have a tree of their own below theirs
/// (cg_path_get_unit and cg_path_get_user_unit in systemd's src/basic/cgroup-util.c, v257). Deeper groups are a unit's
/// own business: a container has units too.
fn units(tree: &Hierarchy, name: &Text) -> anyhow::Result<Vec<Text>> {
    let full = [name.as_bytes(), b".service"].concat();
    let is_wanted =
        |unit: &[u8]| unit == name.as_bytes() || (unit == full.as_slice() && !name.as_bytes().contains(&b'.'));
    let mut found = Vec::new();
    let mut dirs = vec![tree.point.clone()];
    while let Some(dir) = dirs.pop() {
        for group in below(&dir).with_context(|| format!("list {}", shown(&dir, "")))? {
            let component = group.file_name().unwrap_or_default().as_bytes();
            // systemd puts an underscore before names that the kernel might use itself (cg_escape, same file).
            let unit = component.strip_prefix(b"_").unwrap_or(component);
            if is_wanted(unit) {
                let below = group.strip_prefix(&tree.point).unwrap_or(&group).as_os_str().as_bytes();
                let root = tree.root.strip_suffix(b"/").unwrap_or(&tree.root);
                found.push(Text::new([root, b"/", below].concat()));
            } else if unit.ends_with(b".slice") || (unit.starts_with(b"user@") && unit.ends_with(b".service")) {
                dirs.push(group);
            }
        }
    }
    Ok(found)
}

fn shown(dir: &Path, file: &str) -> Text {
    Text::new(dir.join(file).as_os_str().as_bytes())
}

/// Lines of proc_pid_mountinfo(5). One mount of each hierarchy is enough: the one that shows most of it. Of two in one
/// place the later one is seen.
pub(super) fn parse(mountinfo: &[u8]) -> Vec<Hierarchy> {
    let mut found: Vec<(&[u8], Hierarchy)> = Vec::new();
    for line in mountinfo.split(|b| *b == b'\n') {
        let Some((device, hierarchy)) = mount(line) else { continue };
        match found.iter_mut().find(|(known, _)| *known == device) {
            Some((_, known)) if known.root.len() > hierarchy.root.len() || known.point == hierarchy.point => {
                *known = hierarchy;
            }
            Some(_) => {}
            None => found.push((device, hierarchy)),
        }
    }
    let mut hierarchies: Vec<_> = found.into_iter().map(|(_, hierarchy)| hierarchy).collect();
    hierarchies.sort_by_key(|hierarchy| hierarchy.kind);
    hierarchies
}

/// `41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw`: its device, and what it is.
fn mount(line: &[u8]) -> Option<(&[u8], Hierarchy)> {
    let dash = line.windows(3).position(|window| window == b" - ")?;
    let before: Vec<&[u8]> = line[..dash].split(|b| *b == b' ').collect();
    let after: Vec<&[u8]> = line[dash + 3..].split(|b| *b == b' ').collect();
    let [_, _, device, root, point, options, ..] = before.as_slice() else { return None };
    let [fs_type, _, super_options] = after.as_slice() else { return None };
    let has = |option: &[u8]| super_options.split(|b| *b == b',').any(|one| one == option);
    let kind = match *fs_type {
        b"cgroup2" => Kind::Unified,
        b"cgroup" if has(b"freezer") => Kind::Freezer,
        b"cgroup" if has(b"name=systemd") => Kind::Systemd,
        b"cgroup" => Kind::Other,
        _ => return None,
    };
    let writable = options.split(|b| *b == b',').any(|one| one == b"rw");
    let point = PathBuf::from(OsStr::from_bytes(&plain(point)));
    Some((device, Hierarchy { kind, point, root: plain(root), writable }))
}

/// Blanks, newlines and backslashes are written in octal, as `\040` (mangle in fs/seq_file.c, 6.18).
fn plain(field: &[u8]) -> Vec<u8> {
    let mut rest = field;
    let mut bytes = Vec::with_capacity(field.len());
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| matches!(d, b'0'..=b'7')));
        let value = octal.map(|digits| digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0')));
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(point: &Path, kind: Kind) -> Hierarchy {
        Hierarchy { kind, point: point.to_owned(), root: b"/".to_vec(), writable: true }
    }

    /// A directory that looks like a hierarchy with these groups and processes.
    fn drawn(groups: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, pids) in groups {
            let group = dir.path().join(path);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.procs"), pids).unwrap();
        }
        dir
    }

    #[test]
    fn hierarchies_are_found_and_ordered() {
        let check = |mountinfo: &str, expect: &[(Kind, &str, &str, bool)]| {
            let found = parse(mountinfo.as_bytes());
            let shown: Vec<_> = found
                .iter()
                .map(|h| (h.kind, h.point.to_str().unwrap(), str::from_utf8(&h.root).unwrap(), h.writable))
                .collect();
            assert_eq!(shown, expect);
        };
        check("22 27 0:21 / /proc rw,relatime - proc proc rw\ngarbage\n - \n", &[]);
        check(
            "40 31 0:37 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd\n37 31 0:34 / /c/fr\\040z rw - cgroup \
             cgroup rw,freezer\n33 31 0:30 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct\n41 31 0:38 / /c/u ro - cgroup2 \
             cgroup2 rw\n",
            &[
                (Kind::Unified, "/c/u", "/", false),
                (Kind::Freezer, "/c/fr z", "/", true),
                (Kind::Systemd, "/c/systemd", "/", true),
                (Kind::Other, "/c/cpu", "/", true),
            ],
        );
        check(
            "1 2 0:38 /a/b /here rw - cgroup2 cgroup2 rw\n2 2 0:38 / /there rw shared:4 - cgroup2 cgroup rw,nsdelegate\n",
            &[(Kind::Unified, "/there", "/", true)],
        );
        check(
            "1 2 0:38 / /c ro - cgroup2 cgroup2 rw\n2 1 0:38 / /c rw - cgroup2 cgroup2 rw\n",
            &[(Kind::Unified, "/c", "/", true)],
        );
    }

    #[test]
    fn a_group_has_everybody_below_it() {
        let dir = drawn(&[("", "1\n"), ("a", "10\n11\n"), ("a/b", "12\n10\n"), ("c", "13\n")]);
        let trees = [tree(dir.path(), Kind::Unified)];
        let members = |path: &str| find(&Hold::Cgroup(path.into()), &trees).unwrap()[0].members().unwrap();
        assert_eq!(members("/a"), [10, 11, 12].into());
        assert_eq!(members("/a/b/"), [10, 12].into());
        let check = |path: &str, expect: &str| {
            let error = find(&Hold::Cgroup(path.into()), &trees).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("/", "every process of the host");
        check("/a/../c", "dots");
        check("/missing", "no control group /missing");
        fs::write(dir.path().join("c/cgroup.procs"), "13\n0\n").unwrap();
        let hidden = find(&Hold::Cgroup("/c".into()), &trees).unwrap()[0].members().unwrap_err().to_string();
        assert!(hidden.contains("another pid namespace"), "{hidden}");
    }

    #[test]
    fn a_mount_of_a_part_shows_only_that_part() {
        let dir = drawn(&[("", "1\n"), ("job", "10\n")]);
        let part = Hierarchy { root: b"/box/7".to_vec(), ..tree(dir.path(), Kind::Freezer) };
        let find = |path: &str| find(&Hold::Cgroup(path.into()), std::slice::from_ref(&part));
        assert_eq!(find("/box/7/job").unwrap()[0].dir, dir.path().join("job"));
        assert!(find("/box/8/job").is_err());
        assert!(find("/box/7").is_err(), "all that is seen here");
    }

    #[test]
    fn a_unit_is_found_below_the_slices_and_nowhere_else() {
        let dir = drawn(&[
            ("system.slice/cron.service", "10\n"),
            ("system.slice/_cpu.service", "11\n"),
            ("machine.slice/box.service/payload/system.slice/cron.service", "12\n"),
            ("machine.slice/box.service/payload/system.slice/inner.service", "13\n"),
            ("user.slice/user-7.slice/user@7.service/app.slice/mine.service", "14\n"),
            ("user.slice/user-7.slice/user@7.service/app.slice/ours.service", "15\n"),
            ("user.slice/user-8.slice/user@8.service/app.slice/ours.service", "16\n"),
        ]);
        let trees = [tree(dir.path(), Kind::Systemd)];
        let check = |name: &str, expect: Result<&str, &str>| {
            let found = path_of_unit(&name.into(), &trees).map_err(|error| error.to_string());
            match (found, expect) {
                (Ok(path), Ok(expect)) => assert_eq!(path, expect.into()),
                (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        };
        check("cron.service", Ok("/system.slice/cron.service"));
        check("cron", Ok("/system.slice/cron.service"));
        check("cpu.service", Ok("/system.slice/_cpu.service"));
        check("mine.service", Ok("/user.slice/user-7.slice/user@7.service/app.slice/mine.service"));
        check("system.slice", Ok("/system.slice"));
        check("inner.service", Err("no control group of a unit inner.service"));
        check("ours.service", Err("several units"));
    }
}
