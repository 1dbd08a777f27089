//! How the program ends.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::output::words;

/// The exit code, as CONTRACT section 1 fixes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `orphans --exit-code`: none; for `check`: OK.
    Done,
    /// Failed; the reason is on stderr.
    Failed,
    /// `check`: somebody should look.
    Warning,
    /// `check`: somebody should look at once.
    Critical,
    /// `check`: it cannot be said.
    Unknown,
    /// `clear`: a guard said no.
    Refused,
    /// `clear`: a confirmation, or a second one, is needed.
    Unconfirmed,
    /// `clear`: everything was done, and the lock is still there.
    StillHeld,
    /// `clear`: the world is not as it was planned for, and nothing was done.
    Changed,
    /// `orphans --exit-code`: there are orphaned locks.
    Orphaned,
    /// `orphans --exit-code`: somebody has been waiting too long for one.
    Hot,
}

impl Exit {
    /// Its number. Those of `check` are what monitoring systems expect of a plug-in.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed | Exit::Warning => 1,
            Exit::Critical => 2,
            Exit::Refused | Exit::Unknown => 3,
            Exit::Unconfirmed => 4,
            Exit::StillHeld => 5,
            Exit::Changed => 6,
            Exit::Orphaned => 10,
            Exit::Hot => 11,
        }
    }
}

/// The code of wrong usage. clap ends the program with it by itself; here it stands for the manual pages.
pub const WRONG_USAGE: u8 = 2;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Tells how a command's result ends the program. A reader that has seen enough (`| head`) is not an error.
pub fn settle(result: anyhow::Result<Exit>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(error) if is_closed_pipe(&error) => Exit::Done,
        Err(error) => {
            // stderr may be closed as well; then nobody wants to know.
            let _ = writeln!(io::stderr(), "lockwatch: {}", words::sentence(&format!("{error:#}")));
            Exit::Failed
        }
    }
}

/// Whether whoever read our output has closed the pipe: there may be nothing to print for hours, and so no error.
pub fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::empty())];
    rustix::event::poll(&mut stdout, Some(&Timespec::default())).is_ok()
        && stdout[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        io.or_else(|| cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind))
    });
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_closed_pipe_is_not_a_failure() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(settle(Err(broken()).context("write the table")), Exit::Done);
        assert_eq!(settle(Err(serde_json::Error::io(broken()).into())), Exit::Done);
        assert_eq!(settle(Err(io::Error::from(io::ErrorKind::StorageFull).into())), Exit::Failed);
        assert_eq!(settle(Ok(Exit::Hot)), Exit::Hot);
    }
}
