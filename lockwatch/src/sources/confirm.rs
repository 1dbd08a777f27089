//! Whether those who seem to have outlived an acquirer have done so.
//!
//! Descriptors are visited first, and who lives is asked later. Who has waited for its child, as `flock FILE COMMAND`
//! does, ends right after it: the child's descriptor was seen, the parent is gone when it is asked for, and a lock that
//! was in good hands looks like a ghost. So what makes it one is asked once more, after the acquirer was seen dead.

use std::{collections::HashMap, path::Path};

use lockwatch_core::observation::{Census, HolderSeen, LockSeen, Picture, Via};

use super::{
    procdir::ProcDir,
    processes::{Stat, living_threads},
};

/// Takes the holders out that are gone by now, of locks whose acquirer is gone too. A lock that has lost all of them
/// was released, most likely; of one that has not, nobody says more than that its holder was not seen.
pub(super) fn confirm(picture: &mut Picture, proc_root: &Path) {
    let mut lives = HashMap::new();
    let (locks, census) = (&mut picture.locks, &picture.census);
    for lock in locks.iter_mut().filter(|lock| !is_alive(lock, census)) {
        lock.holders.retain(|holder| holds_still(holder, proc_root, &mut lives));
    }
}

/// Whether the acquirer, if there is one to speak of, was among the living.
pub(super) fn is_alive(lock: &LockSeen, census: &Census) -> bool {
    lock.acquirer.is_none_or(|acquirer| {
        let living = census.living.get(&acquirer.pid);
        living.is_some_and(|living| acquirer.start.is_none_or(|start| living.id.start == Some(start)))
    })
}

fn holds_still(holder: &HolderSeen, proc_root: &Path, lives: &mut HashMap<u32, bool>) -> bool {
    let Some(process) = holder.process else { return true };
    let Ok(dir) = ProcDir::process(proc_root, process.pid) else { return false };
    let alive = *lives.entry(process.pid).or_insert_with(|| {
        let stat = dir.read("stat").ok().and_then(|stat| Stat::parse(&stat));
        let stat = stat.filter(|stat| process.start.is_none_or(|start| start == stat.start));
        stat.is_some_and(|stat| !stat.is_ending() || living_threads(&dir, process.pid).next().is_some())
    });
    match (alive, holder.via, holder.fd) {
        // Another user's descriptors may not be read, and a leader that is gone shows none: only what is proven counts.
        (true, Via::Fd, Some(fd)) => match dir.read_link(&format!("fd/{fd}")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                dir.numbers("fd").is_ok_and(|fds| fds.is_empty())
            }
            _ => true,
        },
        _ => alive,
    }
}

#[cfg(test)]
mod tests {
    use lockwatch_core::process::ProcessId;

    use super::*;

    #[test]
    fn only_what_is_there_holds_still() {
        let pid = std::process::id();
        let check = |pid: u32, start: Option<u64>, fd: u32, expect: bool| {
            let process = ProcessId { pid, start: start.map(lockwatch_core::time::StartTime::from_boot_ns) };
            let holder = HolderSeen {
                process: Some(process),
                via: Via::Fd,
                fd: Some(fd),
                cloexec: None,
                opened: None,
                detail: None,
            };
            assert_eq!(holds_still(&holder, Path::new("/proc"), &mut HashMap::new()), expect, "{holder:?}");
        };
        check(pid, None, 2, true);
        check(pid, None, 100_000, false);
        check(pid, Some(1), 2, false);
        // Beyond every pid_max.
        check(1 << 23, None, 2, false);
    }
}
