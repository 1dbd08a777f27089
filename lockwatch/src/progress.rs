//! One line on stderr while a scan takes long; it is gone when the scan is.

use std::{
    io::{self, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Shows that work goes on until it is dropped. It says nothing in the first second.
pub struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// Starts the clock; does nothing unless somebody would see it.
    pub fn start(visible: bool, what: &'static str) -> Self {
        if !visible {
            return Self(None);
        }
        let (stop, stopped) = mpsc::channel();
        let begun = Instant::now();
        let line = move || {
            let mut shown = false;
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                shown = true;
                let _ = write!(io::stderr(), "\r\x1b[Klockwatch: {what}, {} s so far", begun.elapsed().as_secs());
            }
            if shown {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        // Without a thread there is no progress line, and nothing else is lost.
        Self(thread::Builder::new().name("progress".into()).spawn(line).ok().map(|handle| (stop, handle)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, handle)) = self.0.take() {
            drop(stop);
            let _ = handle.join();
        }
    }
}
