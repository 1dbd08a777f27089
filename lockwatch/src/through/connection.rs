//! One question to an agent, and its answer as it comes.
//!
//! This is HTTP/1.0, by hand: a line to send and a head to read, which `httparse` does. In HTTP/1.0 an answer is what comes
//! until the end of the connection, so there are no chunks to put together. That an answer is whole is seen in itself: a
//! JSON document that was cut off is none. A client library would need an event loop for every `list`.

use std::{
    fmt,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lockwatch_control::peer::uid_of;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
    process::geteuid,
};

/// How long an agent may take to begin with its answer.
const FIRST_BYTE: Duration = Duration::from_secs(2);
/// How long it may be silent in the middle.
const SILENCE: Duration = Duration::from_secs(5);
/// The most of an answer's head, and of its words where it refuses.
const LARGEST_HEAD: usize = 16 << 10;
const MOST_HEADERS: usize = 32;
const LONGEST_REFUSAL: u64 = 1 << 10;

/// There is no agent.
#[derive(Debug)]
pub struct Absent;

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is none")
    }
}

impl std::error::Error for Absent {}

/// An answer, behind its head.
#[derive(Debug)]
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Asks for a page.
    ///
    /// # Errors
    ///
    /// [`Absent`] where there is no socket. Else: nobody listens, or not for us, or somebody who is neither root nor we
    /// ourselves; it does not answer in time, or has no such page for us.
    pub fn open(socket: &Path, page: &str) -> Result<Self> {
        let mut stream = reach(socket)?;
        let uid = uid_of(&stream).context("ask who listens")?;
        ensure!(uid == 0 || uid == geteuid().as_raw(), "uid {uid} listens there, who is neither root nor you");
        stream.set_read_timeout(Some(FIRST_BYTE)).context("set a deadline")?;
        stream.write_all(format!("GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).context("ask")?;
        let mut answer = BufReader::new(stream);
        answer.fill_buf().map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => anyhow!("it said nothing for {} s", FIRST_BYTE.as_secs()),
            _ => error.into(),
        })?;
        let mut answer = Self(answer);
        answer.be_patient(SILENCE)?;
        let status = answer.head().context("it does not speak HTTP")?;
        if status != 200 {
            let mut words = String::new();
            let _ = (&mut answer.0).take(LONGEST_REFUSAL).read_to_string(&mut words);
            bail!("it says {status}: {}", words.trim());
        }
        Ok(answer)
    }

    /// From now on it may be silent for so long.
    ///
    /// # Errors
    ///
    /// The socket is gone.
    pub fn be_patient(&self, silence: Duration) -> Result<()> {
        self.0.get_ref().set_read_timeout(Some(silence)).context("set a deadline")
    }

    /// What was read already, and where the rest comes from.
    pub fn into_parts(self) -> (Vec<u8>, UnixStream) {
        (self.0.buffer().to_owned(), self.0.into_inner())
    }

    /// Takes the head off, and returns the status.
    fn head(&mut self) -> Result<u16> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let room = LARGEST_HEAD.saturating_sub(head.len()) as u64;
            let read = (&mut self.0).take(room).read_until(b'\n', &mut head)?;
            ensure!(read > 0, "{}", if room == 0 { "its head has no end" } else { "it ended at once" });
        }
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&head)?;
        response.code.context("no status")
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "it fell silent"),
            _ => error,
        })
    }
}

/// A socket whose peer has a full queue does not hold us up either: SO_SNDTIMEO is for connect(2), too (`unix_stream_connect`
/// in net/unix/af_unix.c, 6.18).
fn reach(socket: &Path) -> Result<UnixStream> {
    let address = SocketAddrUnix::new(socket).context("not a path for a socket")?;
    let stream: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&stream, Timeout::Send, Some(FIRST_BYTE)).context("set a deadline")?;
    match connect(&stream, &address) {
        Ok(()) => Ok(stream.into()),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(Absent.into()),
        Err(Errno::CONNREFUSED) => bail!("nobody listens there any more"),
        Err(Errno::ACCESS | Errno::PERM) => bail!("its socket is for root and the members of its group"),
        Err(Errno::AGAIN) => bail!("too many wait for it"),
        Err(error) => Err(error).context("connect"),
    }
}
