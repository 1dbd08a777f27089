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
    /// Done; for `orphans --exit-code`: none.
    Done = 0,
    /// Failed; the reason is on stderr.
    Failed = 1,
    /// `clear`: a guard said no.
    Refused = 3,
    /// `clear`: a confirmation, or a second one, is needed.
    Unconfirmed = 4,
    /// `clear`: everything was done, and the lock is still there.
    StillHeld = 5,
    /// `clear`: the world is not as it was planned for, and nothing was done.
    Changed = 6,
    /// `orphans --exit-code`: there are orphaned locks.
    Orphaned = 10,
    /// `orphans --exit-code`: somebody has been waiting too long for one.
    Hot = 11,
}

/// The code of wrong usage. clap ends the program with it by itself; here it stands for the manual pages.
pub const WRONG_USAGE: u8 = 2;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
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
