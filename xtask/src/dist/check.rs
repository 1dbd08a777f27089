//! Whether what was packed can be trusted: the same again, nothing that lintian calls an error, and a root that is as it
//! was before when the package has come and gone.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{Made, Release, pack};
use crate::command::{is_root, output, run, say, which};

/// Goes there. It is called with the clean root, where to write, a directory for the kernel, where to put it, and the visit.
const ENTER: &str = r#"
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
mount -t proc proc "$4/proc"
exec chroot "$4" sh -c "$5"
"#;

/// What is typed in the clean root. What is expected is said by `set -e`.
const VISIT: &str = r#"
set -e
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
list() { find / -xdev \( -path /proc -o -path /tmp -o -path /var/lib/dpkg \) -prune -o -print | LC_ALL=C sort; cat /etc/group; }
list > /tmp/before
dpkg -i /tmp/old.deb
getent group lockwatch
test "$(stat -c %a /var/log/lockwatch)" = 700
test -L /etc/systemd/system/sysinit.target.wants/lockwatch.service
test -L /etc/systemd/system/sockets.target.wants/lockwatch-control.socket
lockwatch --version
lockwatch config check
echo '[control]
approvals = 1' >> /etc/lockwatch/config.toml
systemctl disable lockwatch-control.socket
echo '{}' > /var/log/lockwatch/audit.jsonl
dpkg -i /tmp/new.deb
grep -q '^approvals = 1' /etc/lockwatch/config.toml
test ! -e /etc/systemd/system/sockets.target.wants/lockwatch-control.socket
test -L /etc/systemd/system/sysinit.target.wants/lockwatch.service
lockwatch config check
dpkg --remove lockwatch
test -e /etc/lockwatch/config.toml
dpkg --purge lockwatch
list > /tmp/after
"#;

/// What a purge may leave.
const LEFT: [&str; 2] = ["/var/log/lockwatch", "/var/log/lockwatch/audit.jsonl"];

/// What others write when a package comes and goes: their own logs, and copies of what the group's file was before.
const OTHERS: [&str; 5] = ["/etc/group-", "/etc/gshadow-", "/etc/.pwd.lock", "/var/log/dpkg.log", "/etc/passwd-"];

pub(super) fn check(release: &Release<'_>, made: &Made, target: &Path) -> Result<()> {
    let place = tempfile::tempdir_in(target).context("make a place for checks")?;
    say("the same again");
    let again = pack(release, place.path())?;
    for (one, other) in [(&made.deb, &again.deb), (&made.tarball, &again.tarball)] {
        ensure!(fs::read(one)? == fs::read(other)?, "packed again, {} is another", one.display());
    }

    if which("lintian").is_some() {
        say("lintian");
        run(Command::new("lintian").args(["--fail-on", "error", "--tag-display-limit", "0"]).arg(&made.deb))?;
    } else {
        say("LEFT OUT: lintian: not installed");
    }
    match why_not() {
        None => visit(release, made, target, place.path()),
        Some(why) => {
            say(format!("LEFT OUT: install, upgrade and purge in a clean root: {why}"));
            Ok(())
        }
    }
}

fn why_not() -> Option<&'static str> {
    match () {
        () if !is_root() => Some("needs root"),
        () if which("debootstrap").is_none() => Some("needs debootstrap"),
        () => None,
    }
}

/// Installs one that is older, then this one, then takes it away, in a root that has seen nothing else.
fn visit(release: &Release<'_>, made: &Made, target: &Path, place: &Path) -> Result<()> {
    let clean = target.join("clean-root");
    if !clean.exists() {
        say("a clean root (once)");
        let draft = target.join("clean-root.draft");
        let _ = fs::remove_dir_all(&draft);
        run(Command::new("debootstrap").args(["--variant=minbase", "--include=systemd", "stable"]).arg(&draft))?;
        fs::rename(&draft, &clean).context("keep the clean root")?;
    }
    say("install, upgrade and purge in a clean root");
    // What the visit writes lies beside it: the clean root stays clean, and need not be copied.
    let [root, upper, work] = ["root", "upper", "work"].map(|name| place.join(name));
    for dir in [&root, &upper.join("tmp"), &work] {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let before = Release { version: "0.0.1", ..*release };
    let old = pack(&before, &place.join("old"))?;
    fs::copy(&old.deb, upper.join("tmp/old.deb")).context("copy the older package")?;
    fs::copy(&made.deb, upper.join("tmp/new.deb")).context("copy the package")?;
    // Its mounts end with it, and whatever it has started too.
    run(Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-c", ENTER, "sh"])
        .args([&clean, &upper, &work, &root])
        .arg(VISIT))?;
    let lines = |name: &str| -> Result<BTreeSet<String>> {
        let text = output(Command::new("cat").arg(upper.join("tmp").join(name)))?;
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
