//! File tables of others, as `/proc/PID/fdinfo` shows them.

use std::{io, path::Path};

use lockwatch_core::{
    clear::Case,
    parse::fdinfo::{self, FdInfo},
};
use lockwatch_sys::procdir::ProcDir;

use super::{grip::Pinned, planned};

/// Which thread of a process has the planned lock in its file table at `fd`: the leader, if it does, for all who share
/// that table; else one that has a table of its own, as one has whose leader has exited.
///
/// The caller checks afterwards that the process lives: then these were its own threads.
pub(super) fn with_the_lock(case: &Case, process: &Pinned, fd: u32) -> io::Result<Option<u32>> {
    let dir = ProcDir::process(Path::new("/proc"), process.pid())?;
    let shows = |table: &str| match dir.read(&format!("{table}/{fd}")) {
        Ok(text) => Ok(planned::is_in(case, &fdinfo::parse(&text))),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    };
    if shows("fdinfo")? {
        return Ok(Some(process.pid()));
    }
    for task in dir.numbers("task")? {
        if task != process.pid() && shows(&format!("task/{task}/fdinfo"))? {
            return Ok(Some(task));
        }
    }
    Ok(None)
}

/// Every descriptor in the leader's table; those that vanish meanwhile are passed over.
pub(super) fn each(pid: u32, mut found: impl FnMut(u32, FdInfo)) -> io::Result<()> {
    let table = ProcDir::process(Path::new("/proc"), pid)?.dir("fdinfo")?;
    for fd in table.numbers(".")? {
        match table.read(&fd.to_string()) {
            Ok(text) => found(fd, fdinfo::parse(&text)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the process, thread or descriptor is no more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
