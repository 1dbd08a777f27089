//! Lines that somebody says, with the moment at which each was heard.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::until::PATIENCE;

/// One line and when it was read.
pub(crate) type Heard = (Instant, String);

/// Listens in a thread, until the other side closes.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Heard>,
    closed: bool,
}

impl Lines {
    /// Starts to listen.
    pub fn from(source: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), news: Condvar::new() });
        let listener = Self(Arc::clone(&shared));
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(source.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                listener.lock().lines.push((Instant::now(), text));
                listener.0.news.notify_all();
                line.clear();
            }
            listener.lock().closed = true;
            listener.0.news.notify_all();
        });
        Self(shared)
    }

    /// Waits for a line that `wanted` accepts, and takes it out. `None` when [`PATIENCE`] is at its end, or when the
    /// other side has closed without saying it.
    pub fn take(&self, wanted: impl Fn(&str) -> bool) -> Option<Heard> {
        self.wait(|state| {
            let at = state.lines.iter().position(|(_, line)| wanted(line))?;
            Some(state.lines.remove(at))
        })
    }

    /// Waits until `look` finds what it looks for in all the lines so far.
    pub fn find<T>(&self, look: impl Fn(&[Heard]) -> Option<T>) -> Option<T> {
        self.wait(|state| look(&state.lines))
    }

    /// Takes out everything heard so far.
    pub(crate) fn drain(&self) -> Vec<Heard> {
        std::mem::take(&mut self.lock().lines)
    }

    /// Forgets everything heard so far.
    pub fn forget(&self) {
        self.lock().lines.clear();
    }

    /// Waits for the other side to close; whether it did.
    pub fn closed(&self) -> bool {
        self.wait(|state| state.closed.then_some(())).is_some()
    }

    /// Everything heard and not taken, for the message of a failure.
    pub fn heard(&self) -> Vec<String> {
        self.lock().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if state.closed {
                return None;
            }
            state = self.0.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
