//! `-v` and `-vv`: what the program and its probes say about themselves, on stderr.

use std::io::{self, Write};

use crate::output::words;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Shows warnings only (0), what is done (1), or everything, the probes' own words included (2 and more).
pub fn init(verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Trace,
    };
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}

struct Stderr;

impl Log for Stderr {
    /// Our own words and the probes'; what libraries say of their innards helps nobody here.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lockwatch")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // A message may carry names from the system.
        let message = record.args().to_string();
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let _ = writeln!(io::stderr(), "lockwatch: {level}: {}", words::sentence(&message));
    }

    fn flush(&self) {}
}
