//! What `/proc` says of a process that is to be held still.

use std::{fs, io};

use lockwatch_sys::stat::Stat;

/// The stat of a process, or of one of its threads (`PID/task/TID`); `None` once it is gone.
pub(super) fn stat(of: &str) -> io::Result<Option<Stat>> {
    Ok(there(fs::read(format!("/proc/{of}/stat")))?.as_deref().and_then(Stat::parse))
}

/// `pid 4711 (locksmith)`.
pub(super) fn name(pid: u32) -> String {
    match stat(&pid.to_string()) {
        Ok(Some(stat)) => format!("pid {pid} ({})", stat.comm),
        _ => format!("pid {pid}"),
    }
}

/// The numbers of a process's parent, its parent's parent and so on. Short where somebody on the way is gone.
pub(super) fn ancestors(pid: u32) -> io::Result<Vec<u32>> {
    let mut chain = Vec::new();
    let mut at = pid;
    while let Some(stat) = stat(&at.to_string())? {
        // A number that comes up again was given away while we looked.
        if stat.parent == 0 || stat.parent == pid || chain.contains(&stat.parent) {
            break;
        }
        chain.push(stat.parent);
        at = stat.parent;
    }
    Ok(chain)
}

/// Whether all threads of a process are stopped; those that have ended do not matter. A process without any is not.
pub(super) fn is_stopped(pid: u32) -> io::Result<bool> {
    let mut any = false;
    for tid in threads(pid)? {
        match stat(&format!("{pid}/task/{tid}"))?.map(|stat| stat.state) {
            Some(b'T') => any = true,
            None | Some(b'Z' | b'X' | b'x') => {}
            Some(_) => return Ok(false),
        }
    }
    Ok(any)
}

/// Who traces a process or one of its threads.
pub(super) fn tracer(pid: u32) -> io::Result<Option<u32>> {
    for tid in threads(pid)? {
        let status = there(fs::read(format!("/proc/{pid}/task/{tid}/status")))?.unwrap_or_default();
        let lines = status.split(|b| *b == b'\n');
        let tracer = lines.filter_map(|line| line.strip_prefix(b"TracerPid:")).find_map(|n| str::from_utf8(n).ok());
        if let Some(tracer) = tracer.and_then(|n| n.trim().parse().ok()).filter(|tracer| *tracer != 0) {
            return Ok(Some(tracer));
        }
    }
    Ok(None)
}

fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let entries = there(fs::read_dir(format!("/proc/{pid}/task")))?.into_iter().flatten().flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// `None` for a process that is gone.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_run_and_descend_from_our_parent() {
        let us = std::process::id();
        assert!(!is_stopped(us).unwrap());
        assert_eq!(tracer(us).unwrap(), None);
        let chain = ancestors(us).unwrap();
        assert_eq!(chain.first(), Some(&std::os::unix::process::parent_id()));
        assert_eq!(ancestors(u32::MAX).unwrap(), [0; 0]);
        assert!(!is_stopped(u32::MAX).unwrap());
        assert!(name(us).starts_with(&format!("pid {us} (")));
    }
}
