//! What files are called, for operations that are told one by one: looked up through the process that asked, and
//! remembered for as long as the name leads to the file.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use lockwatch_core::{lock::FileId, observation::FileSeen};
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::{files, place};

/// How many are remembered.
const MOST: usize = 1 << 14;

/// Names of files, by their identity.
#[derive(Debug)]
pub struct Names {
    proc_root: PathBuf,
    known: HashMap<FileId, Known>,
}

#[derive(Debug)]
struct Known {
    seen: Arc<FileSeen>,
    stat: Stat,
}

/// Device and inode as stat(2) has them, which may be others than those of a lock (btrfs, overlayfs).
type Stat = (u32, u32, u64);

impl Names {
    /// Asks the procfs there.
    pub fn new(proc_root: &Path) -> Self {
        Self { proc_root: proc_root.to_owned(), known: HashMap::new() }
    }

    /// What is known of a file that a process has, or had a moment ago.
    pub fn of(&mut self, pid: u32, file: FileId) -> Arc<FileSeen> {
        // The number of a file that is gone is soon another's.
        if let Some(known) = self.known.get(&file)
            && stat_of(&known.seen) == Some(known.stat)
        {
            return Arc::clone(&known.seen);
        }
        let seen = files::through(&self.proc_root, pid, file).map(Arc::new).unwrap_or_default();
        self.known.remove(&file);
        self.learn(file, &seen);
        seen
    }

    /// What a look has found: whoever has the file may be gone when it is asked for.
    pub fn learn(&mut self, file: FileId, seen: &Arc<FileSeen>) {
        if self.known.contains_key(&file) {
            return;
        }
        if let Some(stat) = stat_of(seen) {
            if self.known.len() >= MOST {
                self.known.clear();
            }
            self.known.insert(file, Known { seen: Arc::clone(seen), stat });
        }
    }
}

/// What the name leads to; nothing if it leads there from elsewhere only, or if that is not in the kernel's cache: no file
/// server is asked.
fn stat_of(seen: &FileSeen) -> Option<Stat> {
    let path = seen.path.as_ref().filter(|_| !seen.deleted && seen.path_of.is_none())?;
    let file = place::below(Path::new("/"), Path::new(OsStr::from_bytes(path.as_bytes())), true)?;
    let stat = statx(file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use lockwatch_core::text::Text;

    use super::{super::mounts, *};

    #[test]
    fn a_name_is_believed_while_it_leads_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let text = |path: &Path| Some(Text::new(path.as_os_str().as_bytes()));
        let mut names = Names::new(Path::new("/proc"));
        let file = File::create(&first).unwrap();
        let id = mounts::file_id(&first).unwrap();
        let me = std::process::id();
        assert_eq!(names.of(me, id).path, text(&first));
        // Nobody has pid 0, so it is remembered.
        assert_eq!(names.of(0, id).path, text(&first));
        fs::rename(&first, &second).unwrap();
        assert_eq!(names.of(0, id).path, None, "that name leads nowhere");
        assert_eq!(names.of(me, id).path, text(&second));
        // Another file stands there now.
        File::create(&first).unwrap();
        fs::rename(&first, &second).unwrap();
        assert_eq!(names.of(0, id).path, None);
        let gone = names.of(me, id);
        assert_eq!((gone.path.clone(), gone.deleted), (text(&second), true));
        drop(file);
        assert_eq!(names.of(me, id).path, None, "who was deleted is not remembered");
    }

    #[test]
    fn what_a_look_has_found_is_remembered() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let id = mounts::file_id(file.path()).unwrap();
        let seen = Names::new(Path::new("/proc")).of(std::process::id(), id);
        let mut names = Names::new(Path::new("/proc"));
        names.learn(id, &seen);
        assert_eq!(names.of(0, id), seen);
    }
}
