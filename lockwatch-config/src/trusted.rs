//! Files and directories that only root can have put where they are.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use lockwatch_core::text::Text;
use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat},
    io::Errno,
};
use std::os::unix::ffi::OsStrExt;

/// A configuration is not longer than this.
const LONGEST: u64 = 1 << 20;

/// The text of a file; `None` if it, or a directory above it, is not there.
///
/// The file and every directory above it must be root's, and nobody else may write to them, but for sticky directories
/// further up, such as `/tmp`: what root has put there stays. Symbolic links are refused, since whoever may change what they
/// lead through changes the text.
///
/// # Errors
///
/// Somebody else could have written it, or it cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let name = path.file_name().with_context(|| format!("{} names no file", shown(path)))?;
    let Some(parent) = directory(path.parent().unwrap_or(Path::new("/")))? else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Some(fd) = open(&parent, name, flags, path)? else { return Ok(None) };
    let stat = fstat(&fd).with_context(|| format!("look at {}", shown(path)))?;
    ensure!(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile, "{} is no regular file", shown(path));
    belongs_to_root(path, &stat, false)?;
    let mut text = String::new();
    let read = File::from(fd).take(LONGEST + 1).read_to_string(&mut text);
    let length = read.with_context(|| format!("read {}", shown(path)))?;
    ensure!(length as u64 <= LONGEST, "{} is longer than {LONGEST} bytes", shown(path));
    Ok(Some(text))
}

/// The paths of what is in a directory, in the order of their bytes; none if it is not there.
///
/// # Errors
///
/// As [`read`].
pub fn list(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Some(fd) = directory(path)? else { return Ok(Vec::new()) };
    let entries: Result<Vec<_>, _> = Dir::read_from(fd).and_then(Iterator::collect);
    let entries = entries.with_context(|| format!("list {}", shown(path)))?;
    let mut names: Vec<_> = entries.iter().map(|entry| entry.file_name().to_bytes()).collect();
    names.retain(|name| !name.starts_with(b"."));
    names.sort_unstable();
    Ok(names.into_iter().map(|name| path.join(OsStr::from_bytes(name))).collect())
}

/// A directory; `None` if it is not there. `*at` calls on it go where the path led when it was checked.
///
/// # Errors
///
/// As [`read`].
pub fn directory(path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    ensure!(path.is_absolute(), "{} is no absolute path", shown(path));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut walked = PathBuf::new();
    let mut here: Option<OwnedFd> = None;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let name = match component {
            Component::RootDir => OsStr::new("/"),
            Component::Normal(name) => name,
            _ => bail!("{} leads upwards", shown(path)),
        };
        walked.push(name);
        let opened = match &here {
            None => Some(openat(CWD, "/", flags, Mode::empty()).context("open /")?),
            Some(parent) => open(parent, name, flags, &walked)?,
        };
        let Some(fd) = opened else { return Ok(None) };
        let stat = fstat(&fd).with_context(|| format!("look at {}", shown(&walked)))?;
        belongs_to_root(&walked, &stat, components.peek().is_some())?;
        here = Some(fd);
    }
    Ok(here)
}

/// A directory, made with this mode if it alone is missing.
///
/// # Errors
///
/// As [`read`], or it cannot be made.
pub fn make(path: &Path, mode: u32) -> anyhow::Result<OwnedFd> {
    if let Some(found) = directory(path)? {
        return Ok(found);
    }
    let context = || format!("make {}", shown(path));
    let name = path.file_name().with_context(context)?;
    let parent = directory(path.parent().unwrap_or(Path::new("/")))?;
    let parent = parent.with_context(|| format!("there is no directory for {}", shown(path)))?;
    let made = mkdirat(&parent, name, Mode::RWXU);
    let dir = directory(path)?.with_context(context)?;
    match made {
        // Whatever the umask is.
        Ok(()) => fchmod(&dir, Mode::from_raw_mode(mode)).with_context(context)?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error).with_context(context),
    }
    Ok(dir)
}

fn open(parent: &OwnedFd, name: &OsStr, flags: OFlags, path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    match openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        // O_DIRECTORY makes it ENOTDIR, open(2).
        Err(Errno::LOOP | Errno::NOTDIR) => bail!("{} is a symbolic link, or no directory", shown(path)),
        Err(error) => Err(error).with_context(|| format!("open {}", shown(path))),
    }
}

fn belongs_to_root(path: &Path, stat: &Stat, sticky_will_do: bool) -> anyhow::Result<()> {
    ensure!(stat.st_uid == 0, "{} belongs to uid {}, not to root", shown(path), stat.st_uid);
    let mode = Mode::from_raw_mode(stat.st_mode);
    let safe = !mode.intersects(Mode::WGRP | Mode::WOTH) || sticky_will_do && mode.contains(Mode::SVTX);
    ensure!(safe, "others than root can write to {} (chmod go-w {})", shown(path), shown(path));
    Ok(())
}

fn shown(path: &Path) -> Text {
    Text::new(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, chown, symlink},
    };

    use super::*;

    #[test]
    fn only_what_is_roots_is_read() {
        if !rustix::process::geteuid().is_root() {
            println!("LEFT OUT: needs root");
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        let file = |name: &str, mode, uid| {
            let path = root.join(name);
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(uid), None).unwrap();
        };
        let dir = |name: &str, mode, uid| {
            fs::create_dir(root.join(name)).unwrap();
            file(&format!("{name}/inner"), 0o644, 0);
            fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
            chown(root.join(name), Some(uid), None).unwrap();
        };
        file("good", 0o644, 0);
        file("group", 0o664, 0);
        file("foreign", 0o644, 65534);
        dir("fine", 0o755, 0);
        dir("sticky", 0o1777, 0);
        dir("sticky/fine", 0o755, 0);
        dir("open", 0o777, 0);
        dir("theirs", 0o755, 65534);
        symlink(root.join("good"), root.join("link")).unwrap();
        symlink(root.join("fine"), root.join("shortcut")).unwrap();
        rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::RUSR).unwrap();
        let check = |name: &str, expect: Result<Option<&str>, &str>| {
            let got = read(&root.join(name)).map_err(|error| format!("{error:#}"));
            match (&got, expect) {
                (Ok(text), Ok(expect)) => assert_eq!(text.as_deref(), expect, "{name}"),
                (Err(error), Err(words)) => assert!(error.contains(words), "{name}: {error}"),
                _ => panic!("{name}: {got:?}"),
            }
        };
        check("good", Ok(Some("good")));
        check("missing", Ok(None));
        check("missing/inner", Ok(None));
        check("fine/inner", Ok(Some("fine/inner")));
        check("sticky/inner", Err("/sticky (chmod go-w"));
        check("sticky/fine/inner", Ok(Some("sticky/fine/inner")));
        check("group", Err("others than root can write to"));
        check("foreign", Err("belongs to uid 65534, not to root"));
        check("open/inner", Err("/open (chmod go-w"));
        check("theirs/inner", Err("/theirs belongs to uid 65534"));
        check("link", Err("/link is a symbolic link"));
        check("shortcut/inner", Err("/shortcut is a symbolic link"));
        check("fine/../good", Err("leads upwards"));
        check("fine", Err("is no regular file"));
        check("pipe", Err("is no regular file"));
        assert_eq!(list(&root.join("fine")).unwrap(), [root.join("fine/inner")]);
        assert_eq!(list(&root.join("missing")).unwrap(), [""; 0].map(PathBuf::from));
        assert!(list(&root.join("open")).is_err());
    }
}
