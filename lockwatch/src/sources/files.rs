//! What is known of the locked files, from the descriptors of others. No locked file is ever opened here.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use lockwatch_core::{lock::FileId, observation::FileSeen, text::Text};

use super::{
    fds::{self, Hit},
    kcmp::Descriptor,
    mounts::{Mounts, id_of_stat},
    place::{Name, Places},
    procdir::ProcDir,
};

/// How many names of one file are tried: those of several containers may differ.
const MOST_NAMES: usize = 4;

/// Path and file system of each file. `wanted` has those processes who may have it open: acquirers and waiters.
///
/// The names are those of the holders' descriptors, else of a descriptor for the same file that one of those has.
pub fn look_up(root: &Path, hits: &[Hit], wanted: &HashMap<FileId, HashSet<u32>>) -> HashMap<FileId, FileSeen> {
    let mut places = Places::new(root);
    let mut found: HashMap<FileId, Vec<Name>> = HashMap::new();
    for hit in hits {
        if let Some(file) = hit.line.file {
            note(root, hit.pid, hit.at, found.entry(file).or_default());
        }
    }
    let missing: HashSet<FileId> =
        wanted.keys().filter(|file| found.get(file).is_none_or(Vec::is_empty)).copied().collect();
    let people: HashSet<u32> = missing.iter().flat_map(|file| wanted[file].iter().copied()).collect();
    for pid in people {
        for (file, fd) in open_files(root, pid, places.of(pid)) {
            if missing.contains(&file) {
                note(root, pid, Descriptor { task: pid, fd }, found.entry(file).or_default());
            }
        }
    }
    let names = |file| found.get(file).map_or(&[][..], Vec::as_slice);
    wanted.keys().map(|file| (*file, places.settle(*file, names(file)))).collect()
}

/// What is known of one file, through a process that has it open.
pub fn through(root: &Path, pid: u32, file: FileId) -> Option<FileSeen> {
    let mut places = Places::new(root);
    let (_, fd) = open_files(root, pid, places.of(pid)).into_iter().find(|(open, _)| *open == file)?;
    let mut names = Vec::new();
    note(root, pid, Descriptor { task: pid, fd }, &mut names);
    Some(places.settle(file, &names))
}

/// Adds what the kernel calls a descriptor's file, if that is new.
fn note(root: &Path, pid: u32, at: Descriptor, names: &mut Vec<Name>) {
    if names.len() == MOST_NAMES {
        return;
    }
    let table = if at.task == pid { String::new() } else { format!("task/{}/", at.task) };
    let link = ProcDir::process(root, pid).and_then(|dir| dir.read_link(&format!("{table}fd/{}", at.fd)));
    let text = link.ok().map(Text::new).filter(|text| names.iter().all(|name| name.text != *text));
    names.extend(text.map(|text| Name { text, pid, directory: None }));
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
