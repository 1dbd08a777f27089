//! The service manager, if there is one: ready, reloading, alive (sd_notify(3)).

use sd_notify::NotifyState::{self, MonotonicUsec, Ready, Reloading, Status, Stopping, Watchdog};

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
