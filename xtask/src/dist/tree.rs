//! The tree that is packed: which file comes from where.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::Release;
use crate::command::{output, run};

const DOC: &str = "usr/share/doc/lockwatch";

/// Files of the repository, and where they go. Of a directory, everything.
const FILES: &[(&str, &str)] = &[
    ("contrib/systemd/lockwatch.service", "usr/lib/systemd/system/lockwatch.service"),
    ("contrib/systemd/lockwatch.socket", "usr/lib/systemd/system/lockwatch.socket"),
    ("contrib/systemd/lockwatch-control.socket", "usr/lib/systemd/system/lockwatch-control.socket"),
    ("contrib/systemd/lockwatch-control@.service", "usr/lib/systemd/system/lockwatch-control@.service"),
    ("contrib/systemd/sysusers.d/lockwatch.conf", "usr/lib/sysusers.d/lockwatch.conf"),
    ("contrib/systemd/tmpfiles.d/lockwatch.conf", "usr/lib/tmpfiles.d/lockwatch.conf"),
    ("contrib/config.toml", "usr/share/doc/lockwatch/examples/config.toml"),
    ("contrib/debian/copyright", "usr/share/doc/lockwatch/copyright"),
    ("README.md", "usr/share/doc/lockwatch/README.md"),
    ("docs", "usr/share/doc/lockwatch/docs"),
];

/// What else is in contrib is an example.
const NOT_EXAMPLES: [&str; 3] = ["systemd", "debian", "config.toml"];

/// Where each shell looks for completions.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/lockwatch"),
    ("zsh", "usr/share/zsh/vendor-completions/_lockwatch"),
    ("fish", "usr/share/fish/vendor_completions.d/lockwatch.fish"),
];

/// Everything but what only Debian's package manager reads.
pub(super) fn fill(release: &Release<'_>, tree: &Path) -> Result<()> {
    let Release { root, program, .. } = release;
    for (from, to) in FILES {
        copy(&root.join(from), &tree.join(to))?;
    }
    let contrib = root.join("contrib");
    for entry in fs::read_dir(&contrib).with_context(|| format!("read {}", contrib.display()))? {
        let name = entry?.file_name();
        if !NOT_EXAMPLES.iter().any(|other| name == *other) {
            copy(&contrib.join(&name), &tree.join(DOC).join("examples").join(&name))?;
        }
    }
    let bin = tree.join("usr/bin/lockwatch");
    let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    write(&bin, &bytes)?;
    run(Command::new("strip").arg(&bin))?;
    fs::set_permissions(&bin, Permissions::from_mode(0o755))?;

    let config = fs::read_to_string(contrib.join("config.toml")).context("read contrib/config.toml")?;
    write(&tree.join("etc/lockwatch/config.toml"), commented(&config).as_bytes())?;
    for (shell, to) in SHELLS {
        write(&tree.join(to), &said(program, &["completions", shell])?)?;
    }
    for command in commands(&String::from_utf8_lossy(&said(program, &["--help"])?)) {
        let page = said(program, &["man", &command])?;
        write(&tree.join(format!("usr/share/man/man1/lockwatch-{command}.1.gz")), &gzip(&page)?)?;
    }
    write(&tree.join("usr/share/man/man1/lockwatch.1.gz"), &gzip(&said(program, &["man"])?)?)?;
    let config = said(program, &["man", "config.toml"])?;
    write(&tree.join("usr/share/man/man5/lockwatch-config.5.gz"), &gzip(&config)?)?;
    let changes = fs::read(root.join("CHANGELOG.md")).context("read CHANGELOG.md")?;
    write(&tree.join(DOC).join("changelog.gz"), &gzip(&changes)?)
}

/// What only Debian's package manager reads.
pub(super) fn control(release: &Release<'_>, tree: &Path, arch: &str) -> Result<()> {
    let Release { root, version, time, .. } = release;
    let debian = root.join("contrib/debian");
    let date = output(Command::new("date").args(["-u", "-R", "-d"]).arg(format!("@{time}")).env("LC_ALL", "C"))?;
    let news = format!(
        "lockwatch ({version}-1) stable; urgency=medium\n\n  * CHANGELOG.md has what is new.\n\n -- {MAINTAINER}  {}\n",
        date.trim()
    );
    write(&tree.join(DOC).join("changelog.Debian.gz"), &gzip(news.as_bytes())?)?;
    let bin = fs::read(tree.join("usr/bin/lockwatch")).context("read the program")?;
    let libraries = if is_static(&bin) {
        copy(&debian.join("lintian-overrides"), &tree.join("usr/share/lintian/overrides/lockwatch"))?;
        ""
    } else {
        "libc6, libgcc-s1, "
    };
    let files = files(tree)?;
    let mut size = 0;
    for file in &files {
        size += fs::metadata(tree.join(file))?.len().div_ceil(1024);
    }
    let text = format!(
        "Package: lockwatch\nVersion: {version}-1\nArchitecture: {arch}\nMaintainer: {MAINTAINER}\nInstalled-Size: {size}\n\
         Depends: {libraries}init-system-helpers (>= 1.54), passwd, \
         systemd | systemd-standalone-sysusers | systemd-sysusers\n\
         Section: admin\nPriority: optional\n\
         Description: who took a file lock, how that process died, who really keeps it\n \
         A lock outlives its owner when a child or a leaked descriptor keeps it.\n \
         lockwatch finds such locks with eBPF, tells their story, and clears them.\n \
         It has an agent for Prometheus and a plug-in for other monitoring systems.\n"
    );
    let meta = tree.join("DEBIAN");
    write(&meta.join("control"), text.as_bytes())?;
    write(&meta.join("conffiles"), b"/etc/lockwatch/config.toml\n")?;
    write(&meta.join("md5sums"), output(Command::new("md5sum").args(&files).current_dir(tree))?.as_bytes())?;
    for script in ["postinst", "prerm", "postrm"] {
        copy(&debian.join(script), &meta.join(script))?;
        fs::set_permissions(meta.join(script), Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Who answers for the package.
const MAINTAINER: &str = "The lockwatch authors <maintainers@lockwatch.invalid>";

/// A configuration that says nothing: every line a comment. What was one already stays.
fn commented(config: &str) -> String {
    let line = |line: &str| match line {
        "" => "\n".to_owned(),
        comment if comment.starts_with('#') => format!("{comment}\n"),
        said => format!("#{said}\n"),
    };
    config.lines().map(line).collect()
}

/// The names of the commands, as `--help` lists them.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// A program that asks for no loader (`PT_INTERP`).
fn is_static(elf: &[u8]) -> bool {
    let loader = b"/ld-linux";
    !elf.iter().take(4096).copied().collect::<Vec<_>>().windows(loader.len()).any(|bytes| bytes == loader)
}

fn said(program: &Path, args: &[&str]) -> Result<Vec<u8>> {
    output(Command::new(program).args(args).env("COLUMNS", "100")).map(String::into_bytes)
}

/// Without name and time, so that it is the same every time.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child =
        Command::new("gzip").arg("-9n").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("run gzip")?;
    let mut stdin = child.stdin.take().context("gzip has no stdin")?;
    let done = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes));
        child.wait_with_output()
    });
    let done = done.context("run gzip")?;
    ensure!(done.status.success(), "gzip ended with {}", done.status);
    Ok(done.stdout)
}

/// Every file in it, by name.
fn files(tree: &Path) -> Result<Vec<PathBuf>> {
    let list = output(Command::new("find").args([".", "-type", "f", "-printf", "%P\\n"]).current_dir(tree))?;
    let mut files: Vec<_> = list.lines().map(PathBuf::from).collect();
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    write(to, &fs::read(from).with_context(|| format!("read {}", from.display()))?)
}

/// Modes do not depend on who packs.
fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    let named = || format!("write {}", to.display());
    let mut dir = to.parent();
    fs::create_dir_all(dir.with_context(named)?).with_context(named)?;
    while let Some(path) =
        dir.filter(|path| path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o777 != 0o755))
    {
        // Up to the first that is right, or that is not ours to change.
        if fs::set_permissions(path, Permissions::from_mode(0o755)).is_err() {
            break;
        }
        dir = path.parent();
    }
    fs::write(to, bytes).with_context(named)?;
    fs::set_permissions(to, Permissions::from_mode(0o644)).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_configuration_says_nothing() {
        let check = |config, expect| assert_eq!(commented(config), expect);
        check("# a\n\n[t]\nk = 1\n#: x = 2\n", "# a\n\n#[t]\n#k = 1\n#: x = 2\n");
    }

    #[test]
    fn commands_are_read_from_help() {
        let help =
            "words\n\nUsage: x\n\nCommands:\n  list     Show\n           more\n  help  Print\n\nOptions:\n  -h\n";
        assert_eq!(commands(help), ["list"]);
    }
}
