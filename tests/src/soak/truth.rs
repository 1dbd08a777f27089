//! The kernel's word on the locks of a soak, and lockwatch's in the same terms.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::Value;

use super::{actor::FILES, model::Model};
use crate::{ProcLock, Scene, proc_locks};

/// One lock as everybody can see it. OFD locks have no pid: `/proc` does not tell.
pub(super) type Row = (u64, String, String, u64, Option<u64>, Option<u32>);

/// The files whose locks the actors take.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    by_inode: HashMap<u64, u64>,
}

/// Locks, how many of each; and the descriptors of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) locks: BTreeMap<Row, usize>,
    pub(super) holders: BTreeSet<(Row, u32, i32)>,
}

impl Files {
    /// New ones, which nobody has locked.
    pub(super) fn new(scene: &Scene) -> Result<Self> {
        let paths: Vec<_> = (0..FILES).map(|file| scene.file(file.to_string())).collect();
        let by_inode = (0..).zip(&paths).map(|(i, path)| Ok((fs::metadata(path)?.ino(), i))).collect::<Result<_>>()?;
        Ok(Self { paths, by_inode })
    }

    /// Where they are.
    pub(super) fn paths(&self) -> Vec<&Path> {
        self.paths.iter().map(PathBuf::as_path).collect()
    }

    fn row(&self, lock: &ProcLock) -> Option<Row> {
        let file = *self.by_inode.get(&lock.inode)?;
        let pid = lock.pid.filter(|_| lock.kind != "ofd");
        Some((file, lock.kind.clone(), lock.mode.clone(), lock.start, lock.end, pid))
    }

    /// The same row of a lock that lockwatch shows.
    pub(super) fn row_of(&self, lock: &Value) -> Option<Row> {
        let file = *self.by_inode.get(&lock["file"]["inode"].as_u64()?)?;
        let kind = lock["kind"].as_str()?.to_owned();
        let pid = number(&lock["acquirer"]["pid"]).filter(|_| kind != "ofd");
        let (start, end) = (lock["range"]["start"].as_u64()?, lock["range"]["end"].as_u64());
        Some((file, kind, lock["mode"].as_str()?.to_owned(), start, end, pid))
    }
}

impl Truth {
    /// Reads `/proc/locks`, and the fdinfo of every actor.
    pub(super) fn read(files: &Files, model: &Model) -> Self {
        let mut truth = Self::default();
        for lock in proc_locks().iter().filter(|lock| !lock.waits) {
            if let Some(row) = files.row(lock) {
                *truth.locks.entry(row).or_default() += 1;
            }
        }
        for (_, actor) in model.living() {
            for fd in actor.fds.keys() {
                let info = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", actor.pid)).unwrap_or_default();
                let lines = info.lines().filter_map(|line| ProcLock::parse(line.strip_prefix("lock:")?, None));
                truth.holders.extend(lines.filter_map(|lock| Some((files.row(&lock)?, actor.pid, *fd))));
            }
        }
        truth
    }
}

/// A number of a document, such as a pid.
pub(super) fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}
