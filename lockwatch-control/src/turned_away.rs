//! How many were turned away at the control socket, and why.
//!
//! Each request has a process of its own, so the count is a file: one letter for each, appended, which the kernel does
//! for many at once without a lock, and a confined process may do too. They are not put on record: whoever may connect
//! could fill the record's disk with them, and then nothing could be cleared any more.
//!
//! The file is beside the socket, which is in a directory of root's. Whoever came by a pair of sockets is root, and is not
//! counted.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use anyhow::Context;
use lockwatch_config::trusted;
use rustix::fs::{Mode, OFlags, openat};

use crate::peer::Way;

/// The file's name.
pub const NAME: &str = "turned-away";

/// The count goes no further than this.
const MOST: u64 = 1 << 20;

/// Why a connection is closed without an answer, and nothing done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// What came is no request, or no confirmation: in words of ours.
    Malformed(String),
    /// The line is longer than a line may be.
    Oversized,
    /// The line was not there in time.
    Slow,
    /// More came than was asked for; a confirmation of a plan that was not shown yet, for example.
    Extra,
    /// Whoever asked has gone.
    Gone,
}

/// Counts. Where it cannot, it is silent: nobody is served any worse for it.
#[derive(Debug)]
pub struct Counter(Option<File>);

/// How many were turned away since the host was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What came was no request.
    pub malformed: u64,
    /// It was too long.
    pub oversized: u64,
    /// It took too long.
    pub slow: u64,
    /// It was followed by more.
    pub extra: u64,
    /// Whether there may have been more: the file is full.
    pub full: bool,
}

impl Counter {
    /// Counts those who come this way. To be called before the confinement.
    pub fn of(way: &Way) -> Self {
        match way {
            Way::Socket(socket) => Self::at(&socket.with_file_name(NAME)),
            Way::Pair => Self(None),
        }
    }

    /// Counts in this file, which is made if nobody but root can write to its directory.
    pub(crate) fn at(path: &Path) -> Self {
        let open = || -> anyhow::Result<File> {
            let parent = path.parent().and_then(|parent| trusted::directory(parent).transpose());
            let parent = parent.context("there is no directory for it")??;
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name = path.file_name().context("it has no name")?;
            Ok(openat(&parent, name, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o644))?.into())
        };
        Self(open().inspect_err(|error| log::debug!("nobody is counted at {}: {error:#}", path.display())).ok())
    }

    /// Counts one. Whoever connects and leaves without a word is none.
    pub(crate) fn add(&mut self, rejection: &Rejection) {
        let letter = match rejection {
            Rejection::Malformed(_) => b"m",
            Rejection::Oversized => b"o",
            Rejection::Slow => b"s",
            Rejection::Extra => b"x",
            Rejection::Gone => return,
        };
        let Some(file) = &mut self.0 else { return };
        if file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() < MOST) {
            let _ = file.write_all(letter);
        }
    }
}

impl Counts {
    /// Reads the count; nobody was ever counted where there is no file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("read {}", path.display());
        let mut letters = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(MOST + 1).read_to_end(&mut letters).with_context(context)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).with_context(context),
        };
        let of = |letter: u8| letters.iter().filter(|b| **b == letter).count() as u64;
        let full = letters.len() as u64 >= MOST;
        Ok(Self { malformed: of(b'm'), oversized: of(b'o'), slow: of(b's'), extra: of(b'x'), full })
    }
}
