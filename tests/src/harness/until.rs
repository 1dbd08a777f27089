//! Waiting for a state of the world, with a deadline.

use std::time::{Duration, Instant};

/// How long a test waits for what must come: far longer than it takes, so that a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until `look` finds something.
///
/// # Panics
///
/// When [`PATIENCE`] is at its end; `what` says for what it waited.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
