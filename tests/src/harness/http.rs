//! Requests of HTTP/1.0, to which the answer ends with the connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

use super::until::PATIENCE;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status; 0 if there was none.
    pub status: u16,
    /// All before the body, in lower case.
    pub head: String,
    /// The rest.
    pub body: String,
}

/// `METHOD /path`, over TCP.
///
/// # Panics
///
/// When nobody listens, or it takes too long.
pub fn ask_tcp(address: SocketAddr, request: &str, headers: &[&str]) -> Answer {
    let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("connect to {address}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|e| panic!("limit a wait: {e}"));
    ask(stream, request, headers)
}

/// The same over a unix socket.
///
/// # Panics
///
/// As [`ask_tcp`].
pub fn ask_unix(socket: &Path, request: &str, headers: &[&str]) -> Answer {
    ask(connect_unix(socket), request, headers)
}

/// A connection to a unix socket.
///
/// # Panics
///
/// When nobody listens.
pub fn connect_unix(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("connect to {}: {e}", socket.display()));
    stream.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|e| panic!("limit a wait: {e}"));
    stream
}

fn ask(mut stream: impl Read + Write, request: &str, headers: &[&str]) -> Answer {
    let headers: String = headers.iter().flat_map(|header| [*header, "\r\n"]).collect();
    // Who is refused in mid-request may see that before the answer is through.
    let _ = stream.write_all(format!("{request} HTTP/1.0\r\n{headers}\r\n").as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
