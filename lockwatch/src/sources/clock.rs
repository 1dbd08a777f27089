//! From the kernel's time since boot to the wall clock.

use lockwatch_core::time::{StartTime, Timestamp};
use lockwatch_sys::timens::ahead_ns;
use rustix::time::{ClockId, clock_gettime};

/// One reading of both clocks. Everything that is converted with the same `Clock` keeps its order and distances,
/// whatever somebody does to the wall clock meanwhile.
///
/// How far the clocks are apart is taken to the millisecond: two readings differ by what it takes to read, and the start
/// of a process should be told the same by the agent and by a look without it.
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
        let apart = read(ClockId::Realtime).saturating_sub(boot_ns);
        Self { wall_ns: boot_ns + (apart + MILLISECOND / 2) / MILLISECOND * MILLISECOND, boot_ns }
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

const MILLISECOND: u64 = 1_000_000;

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
    fn a_start_keeps_its_ticks() {
        let clock = Clock { wall_ns: 1_000_000_000_000, boot_ns: 50_000_000_000 };
        assert_eq!(clock.at_start(StartTime(100)), Timestamp(951_000_000_000));
        assert_eq!(clock.at_boot_ns(0), Timestamp(950_000_000_000));
    }
}
