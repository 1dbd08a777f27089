//! Where commands come from and answers go: two descriptors out of the way of the numbers that tests use.

use std::{io, os::fd::RawFd};

use anyhow::{Context, Result};

use crate::sys;

/// Descriptors of the locker's own start here, so that a test may have fd 0, 9 or 100 for its lock.
const PRIVATE: RawFd = 900;

/// Reads lines, writes lines. Both descriptors have O_CLOEXEC: whoever the locker becomes or starts does not get
/// them, and the other side sees the channel close.
#[derive(Debug)]
pub(super) struct Channel {
    input: RawFd,
    output: RawFd,
    unread: Vec<u8>,
}

/// The writing side alone, for threads that wait. A line is one write(2), so lines never mix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers(RawFd);

impl Channel {
    /// Moves the channel away from `input` and `output`.
    pub(super) fn from_fds(input: RawFd, output: RawFd) -> Result<Self> {
        let input = sys::dup_above(input, PRIVATE).context("duplicate the input")?;
        let output = sys::dup_above(output, PRIVATE).context("duplicate the output")?;
        Ok(Self { input, output, unread: Vec::new() })
    }

    /// The next line, without its end; `None` when the other side has closed.
    pub(super) fn line(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            let mut buffer = [0; 4096];
            match sys::read(self.input, &mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("read the next command"),
            }
        }
    }

    /// The writing side.
    pub(super) fn answers(&self) -> Answers {
        Answers(self.output)
    }

    /// Closes both descriptors.
    pub(super) fn close(self) -> Result<()> {
        sys::close(self.input).context("close the input")?;
        sys::close(self.output).context("close the output")
    }
}

impl Answers {
    /// Says one line. Nobody listens any more: then there is nobody to tell that either.
    pub(super) fn say(self, line: &str) {
        let _ = sys::write(self.0, format!("{line}\n").as_bytes());
    }
}
