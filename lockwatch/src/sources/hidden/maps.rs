//! Memory mappings: each keeps the open file that it was made from, and the locks on it.

use std::{collections::HashSet, io};

use lockwatch_core::{
    lock::FileId,
    parse::maps::{self, Mapping},
    text::Text,
};

use super::Seen;
use crate::sources::{procdir::ProcDir, processes};

/// What one process has in its memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// The wanted files that it maps. A process may have opened the same file twice, and locked one and mapped the
    /// other: these are candidates.
    pub files: Vec<Seen>,
    /// The inodes of the io_urings that it maps: nobody can use a ring without that.
    pub rings: HashSet<u64>,
}

/// Looks through the memory of a process for the files that are wanted. Errors are those of opening its maps; what has
/// none (kernel threads, the dead) maps nothing.
pub fn of(dir: &ProcDir, pid: u32, wanted: &HashSet<FileId>) -> io::Result<Mapped> {
    let mut text = dir.read("maps")?;
    if text.is_empty() {
        // A leader that has exited has no memory any more; its threads share theirs.
        for tid in processes::living_threads(dir, pid) {
            match dir.read(&format!("task/{tid}/maps")) {
                Ok(theirs) if !theirs.is_empty() => {
                    text = theirs;
                    break;
                }
                Err(error) if !processes::is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(among(&text, wanted))
}

fn among(text: &[u8], wanted: &HashSet<FileId>) -> Mapped {
    let mut mapped = Mapped::default();
    let mut found: Vec<(FileId, Mapping, usize)> = Vec::new();
    for mapping in text.split(|b| *b == b'\n').filter_map(maps::parse_line) {
        if mapping.name == b"anon_inode:[io_uring]" {
            mapped.rings.insert(mapping.file.inode);
        }
        if !wanted.contains(&mapping.file) {
            continue;
        }
        match found.iter_mut().find(|(file, ..)| *file == mapping.file) {
            Some((_, _, times)) => *times += 1,
            None => found.push((mapping.file, mapping, 1)),
        }
    }
    mapped.files = found.iter().map(|(file, mapping, times)| seen(*file, mapping, *times)).collect();
    mapped
}

fn seen(file: FileId, mapping: &Mapping, times: usize) -> Seen {
    let more = if times > 1 { format!(", and {} more", times - 1) } else { String::new() };
    let detail = format!("mapped at {} ({}){more}", mapping.addresses, mapping.access);
    Seen { file, name: Text::new(mapping.name), detail }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lockwatch_core::lock::Device;

    use super::*;

    fn file(inode: u64) -> FileId {
        FileId { device: Device { major: 254, minor: 0 }, inode }
    }

    #[test]
    fn finds_the_wanted_among_the_mapped() {
        let text = b"5600-5602 r-xp 00000000 fe:00 5                  /usr/bin/x\n\
                     7f00-7f01 rw-s 00000000 fe:00 7                  /run/lock (deleted)\n\
                     7f01-7f02 r--p 00001000 fe:00 7                  /run/lock (deleted)\n\
                     7f03-7f04 rw-s 00000000 fe:01 7                  /run/lock\n\
                     7f05-7f06 rw-s 00000000 00:10 99                 anon_inode:[io_uring]\n\
                     7ffc-7ffd rw-p 00000000 00:00 0                  [stack]\n";
        let expect = Mapped {
            files: vec![Seen {
                file: file(7),
                name: Text::from("/run/lock (deleted)"),
                detail: "mapped at 7f00-7f01 (rw-s), and 1 more".into(),
            }],
            rings: [99].into(),
        };
        assert_eq!(among(text, &[file(7), file(8)].into()), expect);
    }

    #[test]
    fn a_leader_that_has_exited_is_seen_through_its_threads() {
        let root = tempfile::tempdir().unwrap();
        for (tid, state, maps) in [(8, 'Z', ""), (9, 'S', "7f00-7f01 rw-s 00000000 fe:00 7 /x\n")] {
            let task = root.path().join(format!("8/task/{tid}"));
            std::fs::create_dir_all(&task).unwrap();
            let stat = format!("{tid} (x) {state} 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 80 9 9\n");
            std::fs::write(task.join("stat"), stat).unwrap();
            std::fs::write(task.join("maps"), maps).unwrap();
        }
        std::fs::write(root.path().join("8/maps"), "").unwrap();
        let dir = ProcDir::process(root.path(), 8).unwrap();
        assert_eq!(of(&dir, 8, &[file(7)].into()).unwrap().files.len(), 1);
        assert!(of(&ProcDir::open(root.path()).unwrap(), 9, &HashSet::new()).is_err());
    }

    #[test]
    fn finds_a_real_mapping_by_the_number_that_locks_have() {
        let temporary = tempfile::NamedTempFile::new().unwrap();
        temporary.as_file().set_len(4096).unwrap();
        let id = crate::sources::mounts::file_id(temporary.path()).unwrap();
        let (prot, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
        // SAFETY: a new mapping where the kernel likes it, which nobody reads.
        let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, prot, flags, temporary.as_file(), 0) }.unwrap();
        let me = std::process::id();
        let found = of(&ProcDir::process(Path::new("/proc"), me).unwrap(), me, &[id].into()).unwrap();
        // SAFETY: it was made above, and nothing lives in it.
        unsafe { rustix::mm::munmap(at, 4096) }.unwrap();
        assert_eq!(found.files.len(), 1);
        assert!(found.files[0].detail.starts_with(&format!("mapped at {:x}-", at as usize)), "{found:?}");
    }
}
