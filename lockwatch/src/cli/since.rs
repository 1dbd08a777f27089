//! A moment in the past, as people type it.

use jiff::{Span, Timestamp as Moment, Zoned, civil::DateTime};
use lockwatch_core::time::Timestamp;

/// A time in UTC, a date or time of this host's zone, or how long ago.
pub(super) fn parse(typed: &str) -> Result<Timestamp, String> {
    before(typed, &Zoned::now())
}

fn before(typed: &str, now: &Zoned) -> Result<Timestamp, String> {
    let local = || typed.parse::<DateTime>().ok()?.to_zoned(now.time_zone().clone()).ok();
    let ago = || now.checked_sub(typed.parse::<Span>().ok()?.abs()).ok();
    let at = typed.parse::<Moment>().ok().or_else(|| Some(local().or_else(ago)?.timestamp()));
    let at = at.and_then(|at| u64::try_from(at.as_nanosecond()).ok());
    at.map(Timestamp).ok_or_else(|| "say 2h, \"3 days\", 2026-11-22, or 2026-11-22T03:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::tz::{TimeZone, offset};

    use super::*;

    #[test]
    fn people_say_it_in_many_ways() {
        let now = "2026-11-22T03:12:07Z".parse::<Moment>().unwrap();
        let now = now.to_zoned(TimeZone::fixed(offset(2)));
        let check = |typed: &str, expect: Option<&str>| {
            let at = before(typed, &now).ok().map(|at| at.to_string());
            assert_eq!(at.as_deref(), expect, "{typed}");
        };
        check("2026-11-22T03:00:00Z", Some("2026-11-22 03:00:00 UTC"));
        check("2026-11-22T03:00:00+01:00", Some("2026-11-22 02:00:00 UTC"));
        check("2026-11-22", Some("2026-11-21 22:00:00 UTC"));
        check("2026-11-22 03:00", Some("2026-11-22 01:00:00 UTC"));
        check("2h", Some("2026-11-22 01:12:07 UTC"));
        check("90min", Some("2026-11-22 01:42:07 UTC"));
        check("1h 30m", Some("2026-11-22 01:42:07 UTC"));
        check("3 days", Some("2026-11-19 03:12:07 UTC"));
        check("3 days ago", Some("2026-11-19 03:12:07 UTC"));
        check("PT1H", Some("2026-11-22 02:12:07 UTC"));
        check("yesterday", None);
        check("1950-01-01", None);
        check("600y", None);
        check("", None);
    }
}
