//! `-v` and `-vv`: what the program and its probes say about themselves, on stderr.

use std::io::{self, Write};

use crate::output::words;
use log::{LevelFilter, Log, Metadata, Record};

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
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A message may carry names from the system.
        let message = record.args().to_string();
        let _ = writeln!(
            io::stderr(),
            "lockwatch: {}: {}",
            record.level().as_str().to_lowercase(),
            words::sentence(&message)
        );
    }

    fn flush(&self) {}
}
