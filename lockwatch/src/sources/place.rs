//! From what the kernel calls an open file to a path that leads to it, or to none.
//!
//! The kernel names an open file as seen from the reader's root (d_path, fs/d_path.c, 6.18). If the file is in another
//! mount namespace the name begins at that namespace's root, if its mount was detached (umount -l) at that mount's; it
//! may be hidden under a later mount, deleted, or of no file system at all. So no name is believed before it was tried.

use std::{
    collections::HashMap,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use lockwatch_core::{
    lock::{Device, FileId},
    observation::FileSeen,
    text::Text,
};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use super::mounts::{self, Mounts};

/// A name that the kernel gives an open file, and a process that has it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As the kernel gives it.
    pub text: Text,
    /// Whose descriptor it is.
    pub pid: u32,
    /// The inode number of the directory in which this name leads to the file, where the kernel itself says so.
    pub directory: Option<u64>,
}

/// The mounts and roots of processes: containers have their own.
pub struct Places<'a> {
    root: &'a Path,
    ours: Mounts,
    /// By the inode number of the mount namespace, and the root in it: mountinfo shows what is below that.
    others: HashMap<(u64, PathBuf), Mounts>,
    types: HashMap<Device, Text>,
    /// The directory of the last path that was tried from here: many locks stand side by side.
    near: Option<Near>,
}

/// A directory on this machine.
struct Near {
    path: Vec<u8>,
    fd: OwnedFd,
    id: Option<FileId>,
}

impl<'a> Places<'a> {
    /// Seen from here, with procfs at `root`.
    pub fn new(root: &'a Path) -> Self {
        let ours = Mounts::parse(&std::fs::read(root.join("self/mountinfo")).unwrap_or_default());
        Self { root, ours, others: HashMap::new(), types: HashMap::new(), near: None }
    }

    /// The mounts of a process.
    pub fn of(&mut self, pid: u32) -> &Mounts {
        let dir = self.root.join(pid.to_string());
        // Without the number of its namespace it has an entry of its own: no namespace is numbered so low.
        let namespace = rustix::fs::stat(dir.join("ns/mnt")).map_or(u64::from(pid), |stat| stat.st_ino);
        let root = std::fs::read_link(dir.join("root")).unwrap_or_default();
        self.others
            .entry((namespace, root))
            .or_insert_with(|| Mounts::parse(&std::fs::read(dir.join("mountinfo")).unwrap_or_default()))
    }

    /// A name as its process sees it. One that is chrooted has a root in its namespace, and the kernel names both from
    /// the namespace's own.
    fn inner(&self, name: &Name) -> Text {
        let root = std::fs::read_link(self.root.join(format!("{}/root", name.pid))).unwrap_or_default();
        let inner = name.text.as_bytes().strip_prefix(root.as_os_str().as_bytes());
        inner.filter(|path| path.starts_with(b"/")).map_or_else(|| name.text.clone(), Text::new)
    }

    /// The type of a file system, which this process may know better than we.
    pub fn fs(&mut self, device: Device, pid: Option<u32>) -> Option<Text> {
        let known = self.ours.fs(device).or_else(|| self.types.get(&device)).cloned();
        if known.is_some() {
            return known;
        }
        let fs = self.of(pid?).fs(device).cloned()?;
        self.types.insert(device, fs.clone());
        Some(fs)
    }

    /// All that is known of where a file is. A path that leads to it from here comes first, then one that does so for a
    /// process which has it open, then those that did before they were deleted.
    pub fn settle(&mut self, file: FileId, names: &[Name]) -> FileSeen {
        let fs = self.fs(file.device, names.first().map(|name| name.pid));
        let seen = FileSeen { fs, ..FileSeen::default() };
        if let Some(name) = names.iter().find(|name| self.leads_here(name, file)) {
            return FileSeen { path: Some(name.text.clone()), ..seen };
        }
        for name in names {
            let (root, inner) = (self.root.join(format!("{}/root", name.pid)), self.inner(name));
            if leads(Some(&root), inner.as_bytes(), file, self.of(name.pid)) {
                return FileSeen { path: Some(inner), path_of: Some(name.pid), ..seen };
            }
        }
        let gone = |text: &Text| text.as_bytes().strip_suffix(DELETED).map(Text::new);
        let was_on =
            |mounts: &Mounts, path: &Text| mounts.way(path.as_bytes()).is_some_and(|way| way.device == file.device);
        for name in names {
            if let Some(path) = gone(&name.text).filter(|path| was_on(&self.ours, path)) {
                return FileSeen { path: Some(path), deleted: true, ..seen };
            }
            let inner = gone(&self.inner(name));
            if let Some(path) = inner.filter(|path| was_on(self.of(name.pid), path)) {
                return FileSeen { path: Some(path), deleted: true, path_of: Some(name.pid), ..seen };
            }
        }
        FileSeen { label: names.iter().find_map(label), ..seen }
    }
}

impl Places<'_> {
    /// Whether a path leads to this file from here.
    fn leads_here(&mut self, name: &Name, file: FileId) -> bool {
        let path = name.text.as_bytes();
        let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return false };
        let (dir, last) = (&path[..slash.max(1)], &path[slash + 1..]);
        if self.near.as_ref().is_none_or(|near| near.path != dir) {
            self.near = self.approach(dir);
        }
        match &self.near {
            Some(dir) if !last.is_empty() && !self.ours.is_point(path) => {
                // If the path leads to that very directory, it leads on to the file.
                let entry = name.directory.map(|inode| FileId { inode, ..file });
                let tried = || mounts::identity(&dir.fd, last, AtFlags::SYMLINK_NOFOLLOW, &self.ours);
                (entry.is_some() && entry == dir.id) || tried().is_ok_and(|found| found == file)
            }
            _ => leads(None, path, file, &self.ours),
        }
    }

    fn approach(&self, dir: &[u8]) -> Option<Near> {
        if self.ours.way(dir).is_none_or(|way| way.far) {
            return None;
        }
        let fd = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let id = mounts::plain_identity_of(&fd, &self.ours);
        Some(Near { path: dir.to_owned(), fd, id })
    }
}

const DELETED: &[u8] = b" (deleted)";

/// The name of a file that is in no directory: pipes and their like begin without a slash (d_dname), and a memfd is
/// named so on a file system that is mounted nowhere (mm/memfd.c, 6.18).
fn label(name: &Name) -> Option<Text> {
    let text = name.text.as_bytes();
    let memfd = || text.strip_prefix(b"/")?.strip_suffix(DELETED).filter(|name| name.starts_with(b"memfd:"));
    match text.first()? {
        b'/' => memfd().map(Text::new),
        _ => Some(name.text.clone()),
    }
}

/// Whether a path leads to this file: from here, or from another process's root.
fn leads(root: Option<&Path>, path: &[u8], file: FileId, mounts: &Mounts) -> bool {
    let Some(way) = mounts.way(path) else { return false };
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    match root {
        None if !way.far => {
            mounts::identity(CWD, path, AtFlags::SYMLINK_NOFOLLOW, mounts).is_ok_and(|found| found == file)
        }
        None => below(Path::new("/"), path, way.far).map_or(way.device == file.device, |fd| is(fd, file, mounts)),
        // What another process sees may change at its will, so only a look counts.
        Some(root) => below(root, path, way.far).is_some_and(|fd| is(fd, file, mounts)),
    }
}

fn is(fd: OwnedFd, file: FileId, mounts: &Mounts) -> bool {
    mounts::identity_of(fd, mounts).is_ok_and(|found| found == file)
}

/// An O_PATH descriptor of what stands at a path below a root (which opens nothing, see [`mounts::identity`]); no link
/// is followed. A file that is open stands in the kernel's cache of names, so a far one is found without asking its
/// server, or not at all (RESOLVE_CACHED, Linux 5.12).
pub(super) fn below(root: &Path, path: &Path, far: bool) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let relative: PathBuf = path.strip_prefix("/").ok()?.into();
    match openat2(&root, &relative, flags, Mode::empty(), resolve | ResolveFlags::CACHED) {
        Ok(fd) => Some(fd),
        Err(Errno::AGAIN | Errno::INVAL) if !far => openat2(&root, &relative, flags, Mode::empty(), resolve).ok(),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd};

    use super::*;

    #[test]
    fn a_name_is_believed_only_where_it_leads_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = File::create(&path).unwrap();
        let id = mounts::file_id(&path).unwrap();
        let name = |text: &[u8]| Name { text: Text::new(text), pid: std::process::id(), directory: None };
        let mut places = Places::new(Path::new("/proc"));
        let mut check = |names: &[&[u8]], path: Option<&[u8]>, deleted, label: Option<&str>| {
            let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
            let seen = places.settle(id, &names);
            assert_eq!((seen.path, seen.deleted), (path.map(Text::new), deleted), "{names:?}");
            assert_eq!((seen.path_of, seen.label), (None, label.map(Text::from)), "{names:?}");
        };
        let real = path.as_os_str().as_bytes();
        let gone = [real, DELETED].concat();
        check(&[real], Some(real), false, None);
        check(&[b"/etc/passwd", real], Some(real), false, None);
        check(&[&gone, real], Some(real), false, None);
        check(&[&gone], Some(real), true, None);
        check(&[b"/etc/passwd"], None, false, None);
        check(&[b"/proc/lock (deleted)"], None, false, None);
        check(&[], None, false, None);
        check(&[b"pipe:[7]"], None, false, Some("pipe:[7]"));
        check(&[b"/memfd:x y (deleted)"], Some(b"/memfd:x y"), true, None);
        drop(file);
    }

    #[test]
    fn the_kernels_word_on_a_name_counts_in_the_directory_that_it_means() {
        let dir = tempfile::tempdir().unwrap();
        let id = mounts::file_id(dir.path()).unwrap();
        let file = FileId { inode: 7, ..id };
        let text = Text::new(dir.path().join("lock").as_os_str().as_bytes());
        let check = |directory: u64, expect: Option<&Text>| {
            let name = Name { text: text.clone(), pid: std::process::id(), directory: Some(directory) };
            assert_eq!(Places::new(Path::new("/proc")).settle(file, &[name]).path.as_ref(), expect, "{directory}");
        };
        check(id.inode, Some(&text));
        check(id.inode + 1, None);
    }

    #[test]
    fn a_memfd_has_a_label_and_no_path() {
        let memfd = rustix::fs::memfd_create("cache", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let id = mounts::identity_of(&memfd, &Mounts::default()).unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", memfd.as_raw_fd())).unwrap();
        let name = Name { text: Text::new(link.as_os_str().as_bytes()), pid: std::process::id(), directory: None };
        let seen = Places::new(Path::new("/proc")).settle(id, &[name]);
        assert_eq!((seen.path, seen.label), (None, Some("memfd:cache".into())));
    }
}
