//! `/proc/locks` and `/proc/PID/fd`, read as plainly as possible: the judge of lockwatch's own reading.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::until::until;

/// One line of `/proc/locks` (proc_locks(5); fs/locks.c lock_get_status, 6.18).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcLock {
    /// `flock`, `posix`, `ofd`, `lease`, `delegation`, or the kernel's word if it is another.
    pub kind: String,
    /// `read`, `write`, or the kernel's word.
    pub mode: String,
    /// The acquirer's number; `None` for -1 (OFD locks) and 0 (of another pid namespace).
    pub pid: Option<u32>,
    /// The device.
    pub major: u32,
    /// The device.
    pub minor: u32,
    /// The inode.
    pub inode: u64,
    /// First byte.
    pub start: u64,
    /// Last byte; `None` for EOF.
    pub end: Option<u64>,
    /// Whether it is a request in the queue (`->`) and not a lock.
    pub waits: bool,
}

impl ProcLock {
    /// Reads `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`.
    /// Who breaks a lease has no file on its line: it is that of the lease, the last line's without an arrow.
    pub(crate) fn parse(line: &str, granted: Option<&ProcLock>) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1).peekable();
        let waits = words.next_if_eq(&"->").is_some();
        let kind = match words.next()? {
            "OFDLCK" => "ofd".to_owned(),
            "DELEG" => "delegation".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        let mode = words.nth(1)?.to_ascii_lowercase();
        let pid: i64 = words.next()?.parse().ok()?;
        let file = words.next()?;
        let (major, minor, inode) = match granted.filter(|_| file == "<none>:0") {
            Some(lease) => (lease.major, lease.minor, lease.inode),
            None => {
                let mut file = file.split(':');
                let device = [file.next()?, file.next()?].map(|number| u32::from_str_radix(number, 16).ok());
                (device[0]?, device[1]?, file.next()?.parse().ok()?)
            }
        };
        let start = words.next()?.parse().ok()?;
        let end = words.next()?.parse().ok();
        Some(Self {
            kind,
            mode,
            pid: u32::try_from(pid).ok().filter(|pid| *pid != 0),
            major,
            minor,
            inode,
            start,
            end,
            waits,
        })
    }
}

/// Every lock and every request of the host, in the kernel's order.
///
/// # Panics
///
/// When the file cannot be read, or has a line that this parser does not know.
pub fn proc_locks() -> Vec<ProcLock> {
    let text = fs::read_to_string("/proc/locks").unwrap_or_else(|e| panic!("read /proc/locks: {e}"));
    let mut locks: Vec<ProcLock> = Vec::new();
    for line in text.lines() {
        let granted = locks.iter().rfind(|lock| !lock.waits);
        locks.push(ProcLock::parse(line, granted).unwrap_or_else(|| panic!("strange line: {line}")));
    }
    locks
}

/// Those of one file. (By inode number alone: devices differ between `stat` and `/proc/locks` on some file systems.)
///
/// The kernel shows the list page by page and finds each page's first lock by counting (fs/locks.c locks_start, 6.18):
/// a lock that somebody takes in between pushes one of the last page into the next, where it stands again, and a lock
/// that goes hides another. So the answer is what two readings in a row agree on.
pub fn proc_locks_of(path: &Path) -> Vec<ProcLock> {
    let inode = inode(path);
    let read = || proc_locks().into_iter().filter(|lock| lock.inode == inode).collect::<Vec<_>>();
    let mut last = read();
    until("two readings of /proc/locks agree", || {
        let before = std::mem::replace(&mut last, read());
        (before == last).then_some(before)
    })
}

/// Waits until no lock of the file is left, for what the kernel does in its own time; another lockwatch on this host may
/// be looking at it just now, through a duplicate.
pub fn becomes_free(path: &Path) {
    until("the lock is gone", || proc_locks_of(path).is_empty().then_some(()));
}

/// The processes that have the file open, with the command name of each, by number.
pub fn holders(path: &Path) -> Vec<(u32, String)> {
    let wanted = fs::metadata(path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
    let same = |fd: PathBuf| fs::metadata(fd).is_ok_and(|m| (m.dev(), m.ino()) == (wanted.dev(), wanted.ino()));
    let mut found: Vec<_> = entries(Path::new("/proc"))
        .filter_map(|dir| {
            let pid = dir.file_name()?.to_str()?.parse().ok()?;
            entries(&dir.join("fd")).any(same).then_some(())?;
            Some((pid, fs::read_to_string(dir.join("comm")).ok()?.trim_end().to_owned()))
        })
        .collect();
    found.sort();
    found
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display())).ino()
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let check = |line: &str, kind: &str, mode: &str, pid, end, waits| {
            let granted = ProcLock::parse("3: LEASE  BREAKING  READ 1 fe:00:5678 0 EOF", None).unwrap();
            let lock = ProcLock::parse(line, Some(&granted)).unwrap();
            assert_eq!(
                (lock.kind.as_str(), lock.mode.as_str(), lock.pid, lock.end, lock.waits),
                (kind, mode, pid, end, waits)
            );
            assert_eq!((lock.major, lock.minor, lock.inode), (0xfe, 0, 5678));
        };
        check("1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF", "flock", "write", Some(1234), None, false);
        check("2: OFDLCK ADVISORY  READ -1 fe:00:5678 3 9", "ofd", "read", None, Some(9), false);
        check("2:     -> POSIX  ADVISORY  WRITE 7 fe:00:5678 0 EOF", "posix", "write", Some(7), None, true);
        check("3: LEASE  ACTIVE    READ 1234 fe:00:5678 0 EOF", "lease", "read", Some(1234), None, false);
        check("3: -> LEASE  BREAKER   WRITE 9197 <none>:0 0 EOF", "lease", "write", Some(9197), None, true);
        check("3: LEASE  BREAKING  UNLCK 1234 fe:00:5678 0 EOF", "lease", "unlck", Some(1234), None, false);
    }
}
