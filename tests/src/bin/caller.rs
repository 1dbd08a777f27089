//! `caller SOCKET`: whoever connects to a unix socket. What comes on its stdin it sends as it is, and what it hears it
//! prints; when stdin ends it says that it has nothing more to say, and listens on.
//!
//! It prints `connected` first. Ends after two minutes in any case.

use std::{
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use anyhow::{Context, Result};
use lockwatch_tests::{locker::LIFE_SECONDS, sys};

fn main() -> Result<()> {
    sys::alarm(LIFE_SECONDS);
    let path = std::env::args_os().nth(1).context("usage: caller SOCKET")?;
    let stream = UnixStream::connect(&path).context("connect")?;
    let mut out = io::stdout();
    writeln!(out, "connected")?;
    out.flush()?;
    let mut speaker = stream.try_clone()?;
    thread::spawn(move || {
        // Whoever hangs up on us has said so by that.
        let _ = io::copy(&mut io::stdin().lock(), &mut speaker);
        let _ = speaker.shutdown(Shutdown::Write);
    });
    // What was sent and not read resets the connection.
    let _ = io::copy(&mut &stream, &mut out);
    Ok(())
}
