//! What is known of the locked files, from the descriptors of others. No locked file is ever opened here.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use lockwatch_core::{
    lock::{Device, FileId},
    observation::FileSeen,
    parse::fdinfo,
    text::Text,
};

use super::{
    fds::{self, Hit},
    kcmp::Descriptor,
    mounts::{Mounts, id_of_stat},
    procdir::ProcDir,
};

/// Path and file system of each file. `wanted` has those processes who may have it open: acquirers and waiters.
///
/// The path is that of a holder's descriptor, else that of a descriptor for the same file that one of those has.
pub fn look_up(root: &Path, hits: &[Hit], wanted: &HashMap<FileId, HashSet<u32>>) -> HashMap<FileId, FileSeen> {
    let mut mounts = Namespaces::new(root);
    let mut found: HashMap<FileId, (u32, Descriptor)> = HashMap::new();
    for hit in hits {
        if let Some(file) = hit.line.file {
            found.entry(file).or_insert((hit.pid, hit.at));
        }
    }
    let missing: HashSet<FileId> = wanted.keys().filter(|file| !found.contains_key(file)).copied().collect();
    let people: HashSet<u32> = missing.iter().flat_map(|file| wanted[file].iter().copied()).collect();
    for pid in people {
        for (file, fd) in open_files(root, pid, mounts.of(pid)) {
            if missing.contains(&file) {
                found.entry(file).or_insert((pid, Descriptor { task: pid, fd }));
            }
        }
    }
    wanted
        .keys()
        .map(|file| {
            let at = found.get(file).copied();
            let (path, deleted) = at.and_then(|(pid, at)| path(root, pid, at, *file)).unzip();
            let fs = mounts.fs(file.device, at.map(|(pid, _)| pid));
            (*file, FileSeen { path, deleted: deleted.unwrap_or(false), fs, text: None })
        })
        .collect()
}

/// What is known of one file, through a process that has it open.
pub fn through(root: &Path, pid: u32, file: FileId) -> Option<FileSeen> {
    let mut mounts = Namespaces::new(root);
    let (_, fd) = open_files(root, pid, mounts.of(pid)).into_iter().find(|(open, _)| *open == file)?;
    let (path, deleted) = path(root, pid, Descriptor { task: pid, fd }, file)?;
    Some(FileSeen { path: Some(path), deleted, fs: mounts.fs(file.device, Some(pid)), text: None })
}

/// Which files a process has open, with a descriptor for each. fdinfo has the inode since Linux 5.14, and the mount's
/// id leads to the superblock's device; before, the descriptor's own stat must do.
fn open_files(root: &Path, pid: u32, mounts: &Mounts) -> Vec<(FileId, u32)> {
    let Ok(dir) = ProcDir::process(root, pid) else { return Vec::new() };
    let mut files = Vec::new();
    // What is denied stays without a name.
    let _ = fds::visit(&dir, pid, pid, |fd, info| {
        let exact = info.ino.zip(info.mnt_id.and_then(|id| mounts.device(id)));
        let file = match exact {
            Some((inode, device)) => Some(FileId { device, inode }),
            None => dir.stat(format!("fd/{fd}")).ok().map(|stat| id_of_stat(&stat)),
        };
        files.extend(file.map(|file| (file, fd)));
    });
    files
}

/// Where a descriptor's file is, and whether that name is gone.
///
/// The kernel appends ` (deleted)` to a name that is gone (`d_path`, fs/d_path.c, 6.18). A file may also be called so:
/// it is, if the whole name still leads to it.
fn path(root: &Path, pid: u32, at: Descriptor, file: FileId) -> Option<(Text, bool)> {
    let dir = ProcDir::process(root, pid).ok()?;
    let table = if at.task == pid { String::new() } else { format!("task/{}/", at.task) };
    let link = dir.read_link(&format!("{table}fd/{}", at.fd)).ok()?;
    // The number may have been given to another file since.
    let info = fdinfo::parse(&dir.read(&format!("{table}fdinfo/{}", at.fd)).ok()?);
    if info.ino.is_some_and(|inode| inode != file.inode) {
        return None;
    }
    let Some(name) = link.strip_suffix(b" (deleted)") else { return Some((Text::new(link), false)) };
    let whole = [b"root", &link[..]].concat();
    let still_there = dir.stat(whole).is_ok_and(|stat| stat.st_ino == file.inode);
    Some(if still_there { (Text::new(link), false) } else { (Text::new(name), true) })
}

/// The mounts of each process: containers have their own.
struct Namespaces<'a> {
    root: &'a Path,
    ours: Mounts,
    others: HashMap<u32, Mounts>,
    types: HashMap<Device, Text>,
}

impl<'a> Namespaces<'a> {
    fn new(root: &'a Path) -> Self {
        let ours = Mounts::parse(&std::fs::read(root.join("self/mountinfo")).unwrap_or_default());
        Self { root, ours, others: HashMap::new(), types: HashMap::new() }
    }

    fn of(&mut self, pid: u32) -> &Mounts {
        let path = self.root.join(pid.to_string()).join("mountinfo");
        self.others.entry(pid).or_insert_with(|| Mounts::parse(&std::fs::read(path).unwrap_or_default()))
    }

    fn fs(&mut self, device: Device, pid: Option<u32>) -> Option<Text> {
        let known = self.ours.fs(device).or_else(|| self.types.get(&device)).cloned();
        if known.is_some() {
            return known;
        }
        let fs = self.of(pid?).fs(device).cloned()?;
        self.types.insert(device, fs.clone());
        Some(fs)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd};

    use super::*;

    const REAL: &str = "/proc";

    fn seen(file: &File) -> FileSeen {
        let id = super::super::mounts::file_id(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))).unwrap();
        let wanted = HashMap::from([(id, HashSet::from([std::process::id()]))]);
        look_up(Path::new(REAL), &[], &wanted).remove(&id).unwrap()
    }

    fn check(file: &File, path: &Path, deleted: bool) {
        let seen = seen(file);
        assert_eq!(seen.path, Some(Text::new(path.as_os_str().as_encoded_bytes())));
        assert_eq!(seen.deleted, deleted);
        assert!(seen.fs.is_some());
    }

    #[test]
    fn names_files_present_deleted_and_oddly_called() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("lock\n");
        let file = File::create(&plain).unwrap();
        check(&file, &plain, false);
        std::fs::remove_file(&plain).unwrap();
        check(&file, &plain, true);
        // Somebody made it anew: still the old one's name.
        let anew = File::create(&plain).unwrap();
        check(&file, &plain, true);
        check(&anew, &plain, false);
        let odd = dir.path().join("x (deleted)");
        let file = File::create(&odd).unwrap();
        check(&file, &odd, false);
        std::fs::remove_file(&odd).unwrap();
        check(&file, &odd, true);
    }

    #[test]
    fn a_file_that_nobody_has_open_has_no_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let id = super::super::mounts::file_id(file.path()).unwrap();
        let unknown = FileId { inode: u64::MAX, ..id };
        let seen = look_up(Path::new(REAL), &[], &HashMap::from([(unknown, HashSet::new())]));
        assert_eq!((seen[&unknown].path.clone(), seen[&unknown].fs.is_some()), (None, true));
    }
}
