//! Places at which a test may have lockwatch killed, to see what is left.

use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// Ends this process by SIGKILL if `LOCKWATCH_FAULT` is this number. Only in builds with debug assertions: a release
/// knows nothing of it.
///
/// | point | what has been done by then |
/// |---|---|
/// | 1 | the first look |
/// | 2 | the holders are pinned |
/// | 3 | the plan is recorded |
/// | 4 | others are held still |
/// | 5 | the plan is confirmed |
/// | 6 | the intent is recorded |
/// | 7 | a duplicate of the descriptor is open |
/// | 8 | unlocked, the duplicate still open |
/// | 9 | acted, nothing verified |
/// | 10 | the outcome is recorded, others still held |
/// | 11 | the guardian knows of somebody who is to be held still, and nothing is done yet |
/// | 12 | that one has been told to be still |
pub fn point(number: u32) {
    if cfg!(debug_assertions) && std::env::var("LOCKWATCH_FAULT").is_ok_and(|fault| fault == number.to_string()) {
        // By pidfd: a confined process may not call kill(2).
        let _ = pidfd_open(getpid(), PidfdFlags::empty()).and_then(|us| pidfd_send_signal(us, Signal::KILL));
    }
}
