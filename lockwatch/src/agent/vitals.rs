//! How this process itself is, for `process_*` of the metrics. It is read once a second, never for a scrape.

use std::fs;

use anyhow::{Context, Result};
use procfs::process::{LimitValue, Process};

use super::numbers::ProcessNumbers;

/// Reads it.
///
/// # Errors
///
/// `/proc/self` cannot be read.
pub fn read() -> Result<ProcessNumbers> {
    let process = Process::myself().context("read /proc/self")?;
    let stat = process.stat().context("read /proc/self/stat")?;
    let limits = process.limits().context("read /proc/self/limits")?;
    let ticks = stat.utime + stat.stime;
    let boot = procfs::boot_time_secs().context("read when the host was booted")?;
    Ok(ProcessNumbers {
        cpu_seconds: ticks as f64 / procfs::ticks_per_second() as f64,
        // One of them is that of the directory.
        open_fds: fs::read_dir("/proc/self/fd").context("read /proc/self/fd")?.count().saturating_sub(1) as u64,
        max_fds: match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => most,
            LimitValue::Unlimited => u64::MAX,
        },
        virtual_bytes: stat.vsize,
        resident_bytes: stat.rss * procfs::page_size(),
        started: boot as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_this_process() {
        let before = read().unwrap();
        let more = fs::File::open("/proc/self/stat").unwrap();
        let after = read().unwrap();
        // Other tests open and close files meanwhile: only what cannot differ is compared.
        assert!(after.open_fds >= 3 && after.open_fds < after.max_fds, "{after:?}");
        assert!(after.resident_bytes > 1 << 20 && after.virtual_bytes > after.resident_bytes, "{after:?}");
        assert!(after.started > 1.6e9 && after.started == before.started, "{after:?}");
        assert!(after.cpu_seconds >= before.cpu_seconds);
        drop(more);
    }
}
