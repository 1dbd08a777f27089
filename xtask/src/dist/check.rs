//! Whether what was packed can be trusted: the same again, nothing that lintian calls an error, and a root that is as it
//! was before when the package has come, run, been upgraded and gone.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Made, Release, pack, pack_roughly};
use crate::command::{is_root, run, say, which};

/// Goes there. It is called with the clean root, an empty directory, a directory to share, and the script of the visit. All
/// that is mounted is gone with the last process of this mount namespace, and what is written with it.
const ENTER: &str = r#"
set -e
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount --rbind /proc "$2/root/proc"
mount --rbind /sys "$2/root/sys"
mount --bind "$3" "$2/root/tmp"
ip link set lo up
exec chroot "$2/root" bash "/tmp/$4"
"#;

/// What is typed in the clean root. What is expected is said by `set -e`.
const VISIT: &str = include_str!("visit.sh");

/// What a purge may leave.
const LEFT: [&str; 2] = ["/var/log/lockwatch", "/var/log/lockwatch/audit.jsonl"];

/// What others write when a package comes and goes: their own logs, copies of what the files of users and groups were
/// before, and systemctl's note that it has looked at units.
const OTHERS: [&str; 7] = [
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/.pwd.lock",
    "/var/log/dpkg.log",
    "/run/systemd/systemd-units-load",
];

/// Checks what was made. What cannot be checked here is named, and an error if `all` must be.
pub(super) fn check(release: &Release<'_>, made: &Made, target: &Path, all: bool) -> Result<()> {
    let place = tempfile::tempdir_in(target).context("make a place for checks")?;
    say("the same again");
    let again = pack(release, place.path())?;
    for (one, other) in [(&made.deb, &again.deb), (&made.tarball, &again.tarball)] {
        ensure!(fs::read(one)? == fs::read(other)?, "packed again, {} is another", one.display());
    }
    let mut left_out = Vec::new();
    match which("lintian") {
        Some(lintian) => {
            say("lintian");
            run(Command::new(lintian).args(["--fail-on", "error", "--tag-display-limit", "0"]).arg(&made.deb))?;
        }
        None => left_out.push("lintian: it is not installed".to_owned()),
    }
    match why_not() {
        None => match clean_root(target) {
            Ok(clean) => visit(release, made, &clean, place.path())?,
            // An archive that cannot be reached is nobody's fault here.
            Err(error) => say(format!("LEFT OUT: {VISITED}: {error:#}")),
        },
        Some(why) => left_out.push(format!("{VISITED}: {why}")),
    }
    for what in &left_out {
        say(format!("LEFT OUT: {what}"));
    }
    ensure!(left_out.is_empty() || !all, "not everything was checked ({})", left_out.len());
    Ok(())
}

const VISITED: &str = "install, start, upgrade and purge in a clean root";

fn why_not() -> Option<String> {
    let missing = ["debootstrap", "unshare", "ip"].into_iter().find(|program| which(program).is_none());
    match () {
        () if !is_root() => Some("needs root".to_owned()),
        () if !Path::new("/sys/kernel/btf/vmlinux").exists() => Some("the agent needs a kernel with BTF".to_owned()),
        () => missing.map(|program| format!("needs {program}")),
    }
}

/// Installs one that is older, has it run, then this one, then takes it away, in a root that has seen nothing else.
fn visit(release: &Release<'_>, made: &Made, clean: &Path, place: &Path) -> Result<()> {
    say(VISITED);
    let [mounts, shared] = ["mounts", "shared"].map(|name| place.join(name));
    for dir in [&mounts, &shared] {
        fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let before = Release { version: "0.0.1", ..*release };
    pack_roughly(&before, &shared.join("old.deb"))?;
    fs::copy(&made.deb, shared.join("new.deb")).context("copy the package")?;
    fs::write(shared.join("visit.sh"), VISIT).context("write the script of the visit")?;
    run(Command::new("unshare")
        .args(["--mount", "--net", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"])
        .args([clean, &mounts, &shared])
        .arg("visit.sh"))?;
    let lines = |name: &str| -> Result<BTreeSet<String>> {
        let text = fs::read_to_string(shared.join(name)).with_context(|| format!("read what was there {name}"))?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let (was, is) = (lines("before")?, lines("after")?);
    let known = |line: &&String| LEFT.contains(&line.as_str()) || OTHERS.contains(&line.as_str());
    let left: Vec<_> = is.difference(&was).filter(|line| !known(line)).collect();
    ensure!(left.is_empty(), "a purge leaves {left:?}");
    let lost: Vec<_> = was.difference(&is).collect();
    ensure!(lost.is_empty(), "a purge has taken away {lost:?}");
    ensure!(LEFT.iter().all(|path| is.contains(*path)), "a purge has taken away the record of every clear");
    Ok(())
}

/// A root that has systemd and nothing else, made once.
fn clean_root(target: &Path) -> Result<PathBuf> {
    let clean = target.join("clean-root");
    if !clean.exists() {
        say("a clean root (once, a minute or two)");
        let draft = target.join("clean-root.draft");
        let _ = fs::remove_dir_all(&draft);
        run(Command::new("debootstrap").args(["--variant=minbase", "--include=systemd", "stable"]).arg(&draft))?;
        fs::rename(&draft, &clean).context("keep the clean root")?;
    }
    Ok(clean)
}
