//! Unlocking what is on its way through a unix socket.

use std::time::Instant;

use anyhow::Context;
use lockwatch_core::clear::Case;
use lockwatch_sys::{kcmp::Descriptor, socket};

use super::{Acted, Failure, grip::Pinned, namesake::Namesake, planned, release, tables};

/// Releases the lock through a duplicate that a peek into a socket of this process yields. The message stays queued.
pub(super) fn release(case: &Case, receiver: &Pinned) -> Result<Acted, Failure> {
    receiver.is_as_it_was()?;
    let mut queues = Vec::new();
    let seen = tables::each(receiver.pid(), |fd, info| {
        queues.extend(info.scm_fds.filter(|waiting| *waiting > 0).map(|_| (fd, info.ino)));
    });
    receiver.is_alive()?;
    seen.with_context(|| format!("look at the sockets of {}", receiver.name))?;
    let namesake = Namesake::find(case)?;
    let mut missed = Vec::new();
    for (fd, inode) in queues {
        let what = format!("the unix socket at fd {fd} of {}", receiver.name);
        let taken = Instant::now();
        let socket = match socket::duplicate(receiver, fd, inode) {
            Ok(socket) => socket,
            // What is closed, or another file by now, carries no message for us.
            Err(error) if tables::is_gone(&error) || error.raw_os_error() == Some(libc::EBADF) => continue,
            Err(error) => {
                missed.push(format!("{what} cannot be duplicated: {error}"));
                continue;
            }
        };
        let peeked = socket::peek(&socket, |info| planned::is_in(case, info));
        missed.extend(peeked.missed.map(|why| format!("{what} {why}")));
        if let Some((duplicate, _)) = peeked.files.first() {
            release::same_description(&socket, Descriptor { task: receiver.pid(), fd }, &what)?;
            receiver.is_as_it_was()?;
            let what = format!("the descriptor queued in {what}");
            let gone = release::unlock_if_planned(case, &namesake, duplicate, &what)?;
            drop(peeked.files);
            return Ok(release::acted(what, gone, taken.elapsed()));
        }
    }
    match missed.first() {
        None => Failure::changed(format!("no message to {} carries the lock any more", receiver.name)),
        Some(why) => {
            Failure::changed(format!("the message with the lock was not found: {why}; --method terminate is left"))
        }
    }
}
