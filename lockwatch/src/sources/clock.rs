//! From the kernel's time since boot to the wall clock.

use std::sync::OnceLock;

use lockwatch_core::time::{StartTime, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// One reading of both clocks. Everything that is converted with the same `Clock` keeps its order and distances,
/// whatever somebody does to the wall clock meanwhile.
///
/// BOOTTIME, not MONOTONIC: it goes on during suspend, and it is what process starts are counted in
/// (`task_struct.start_boottime`, fs/proc/array.c `do_task_stat`, Linux 6.18).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall_ns: u64,
    boot_ns: u64,
}

impl Clock {
    /// Reads both clocks.
    pub fn read() -> Self {
        let boot_ns = read(ClockId::Boottime).saturating_add_signed(ahead_ns().saturating_neg());
        Self { wall_ns: read(ClockId::Realtime), boot_ns }
    }

    /// The moment of the reading.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.wall_ns)
    }

    /// The same moment in nanoseconds since boot.
    pub fn boot_ns(&self) -> u64 {
        self.boot_ns
    }

    /// The wall's time of a moment in nanoseconds since boot.
    pub fn at_boot_ns(&self, ns: u64) -> Timestamp {
        Timestamp((self.wall_ns + ns).saturating_sub(self.boot_ns))
    }

    /// The wall's time of a process's start, to a tick.
    pub fn at_start(&self, start: StartTime) -> Timestamp {
        self.at_boot_ns(start.boot_ns())
    }
}

/// How far our boot clock is ahead of the kernel's own: not at all, but in a time namespace (time_namespaces(7), Linux
/// 5.6). There `/proc/PID/stat` is ahead as well, for every process (fs/proc/array.c do_task_stat, 6.18), and what BPF
/// reads is not.
pub fn ahead_ns() -> i64 {
    static AHEAD: OnceLock<i64> = OnceLock::new();
    *AHEAD.get_or_init(|| {
        // The file shows the namespace that children get; after an unshare(2) alone that is not ours.
        let namespace = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
        let ours = namespace("time").is_some() && namespace("time") == namespace("time_for_children");
        let text = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        if ours { boot_offset(&text).unwrap_or(0) } else { 0 }
    })
}

/// The start of a process as `/proc/PID/stat` shows it to us, in the kernel's own time. An offset that is not of whole
/// ticks leaves a tick in doubt.
pub fn start_of(shown: u64) -> StartTime {
    let ahead = ahead_ns().div_euclid(StartTime::TICK_NS.cast_signed());
    StartTime(shown.saturating_add_signed(ahead.saturating_neg()))
}

/// `boottime SECONDS NANOSECONDS`.
fn boot_offset(text: &str) -> Option<i64> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("boottime"))?.split_ascii_whitespace();
    let (seconds, ns): (i64, i64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(ns)
}

fn read(id: ClockId) -> u64 {
    let t = clock_gettime(id);
    // Neither clock is before its epoch.
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn boot_time_and_wall_time_meet_now() {
        let clock = Clock::read();
        assert_eq!(clock.at_boot_ns(clock.boot_ns), clock.now());
        assert_eq!(clock.now().since(clock.at_boot_ns(clock.boot_ns - 5)).as_nanos(), 5);
        let std = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(std.abs_diff(clock.now().0 / 1_000_000_000) <= 2);
    }

    #[test]
    fn reads_the_offset_of_a_time_namespace() {
        let check = |text: &str, expect| assert_eq!(boot_offset(text), expect, "{text}");
        check("monotonic           5         0\nboottime           -2 500000000\n", Some(-1_500_000_000));
        check("monotonic  5  0\n", None);
        check("", None);
        let initial = std::fs::read_link("/proc/self/ns/time").is_ok_and(|l| l.as_os_str() == "time:[4026531834]");
        assert!(!initial || start_of(7) == StartTime(7));
    }

    #[test]
    fn a_start_keeps_its_ticks() {
        let clock = Clock { wall_ns: 1_000_000_000_000, boot_ns: 50_000_000_000 };
        assert_eq!(clock.at_start(StartTime(100)), Timestamp(951_000_000_000));
        assert_eq!(clock.at_boot_ns(0), Timestamp(950_000_000_000));
    }
}
