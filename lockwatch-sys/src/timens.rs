//! How `/proc` shows times in a time namespace.

use std::sync::OnceLock;

use lockwatch_core::time::StartTime;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_offset_of_a_time_namespace() {
        let check = |text: &str, expect| assert_eq!(boot_offset(text), expect, "{text}");
        check("monotonic           5         0\nboottime           -2 500000000\n", Some(-1_500_000_000));
        check("monotonic  5  0\n", None);
        check("", None);
        let initial = std::fs::read_link("/proc/self/ns/time").is_ok_and(|l| l.as_os_str() == "time:[4026531834]");
        assert!(!initial || start_of(7) == StartTime(7));
    }
}
