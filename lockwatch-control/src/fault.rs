//! Places at which a test may have lockwatch killed, to see what is left.

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
pub fn point(number: u32) {
    if cfg!(debug_assertions) && std::env::var("LOCKWATCH_FAULT").is_ok_and(|fault| fault == number.to_string()) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
