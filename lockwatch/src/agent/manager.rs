//! The service manager, if there is one: ready, reloading, alive (sd_notify(3)), and the sockets that it has made for us
//! (sd_listen_fds(3)).

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use sd_notify::NotifyState::{self, MonotonicUsec, Ready, Reloading, Status, Stopping, Watchdog};

/// The sockets that the manager has made. To be called once.
///
/// # Errors
///
/// What it says of them makes no sense.
pub fn sockets() -> io::Result<Vec<OwnedFd>> {
    // SAFETY: the manager has opened them for this process, whose number it has said, and nobody else here knows of them.
    Ok(sd_notify::listen_fds()?.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

/// The first picture is complete, or a reload done; these are the words for `systemctl status`.
pub fn ready(words: &str) {
    tell(&[Ready, Status(words)]);
}

/// The configuration is being read. The manager wants to know since when (`Type=notify-reload`, systemd 253).
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(MonotonicUsec(now)) => tell(&[Reloading, MonotonicUsec(now)]),
        _ => tell(&[Reloading]),
    }
}

/// The end has begun.
pub fn stopping() {
    tell(&[Stopping]);
}

/// The engine turns. Without a manager that wants to know, nothing is sent.
pub fn alive() {
    tell(&[Watchdog]);
}

/// The same, with words for `systemctl status`.
pub fn alive_and(words: &str) {
    tell(&[Watchdog, Status(words)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("tell the service manager: {error}");
    }
}
