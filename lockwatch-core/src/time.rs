//! Times: of the wall, and of a process's start.

use std::{fmt, time::Duration};

/// A moment on the wall clock: nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long it is from `earlier` to here; zero if it is not earlier.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// `2026-11-22 03:12:07 UTC`: what a sentence needs. Output formats have finer ones.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

/// When a process started, in clock ticks (1/100 s) since boot: field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
///
/// The kernel's `task_struct.start_boottime` is the same moment in nanoseconds; [`StartTime::from_boot_ns`] makes
/// both comparable. Together with a PID it is a process's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartTime(pub u64);

impl StartTime {
    /// Nanoseconds in a tick: user space always sees 100 ticks a second (USER_HZ, include/asm-generic/param.h).
    pub const TICK_NS: u64 = 10_000_000;

    /// From the kernel's nanoseconds since boot.
    pub fn from_boot_ns(ns: u64) -> Self {
        Self(ns / Self::TICK_NS)
    }

    /// Nanoseconds since boot, at the tick's beginning.
    pub fn boot_ns(self) -> u64 {
        self.0.saturating_mul(Self::TICK_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_as_a_date() {
        let check = |s: u64, expect: &str| assert_eq!(Timestamp(s * 1_000_000_000).to_string(), expect);
        check(0, "1970-01-01 00:00:00 UTC");
        check(951_782_400, "2000-02-29 00:00:00 UTC");
        check(1_795_317_127, "2026-11-22 03:12:07 UTC");
        check(4_102_444_799, "2099-12-31 23:59:59 UTC");
    }
}
