//! Lengths of time as people write them: `500ms`, `90s`, `1m30s`.

use std::time::Duration;

/// Longer than anything that lockwatch waits for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A whole number and a unit (`ms`, `s`, `m`, `h`), or several of them; at most a day.
///
/// # Errors
///
/// It is none: in words.
pub fn parse(words: &str) -> Result<Duration, String> {
    let wrong = || format!("{words:?} is no length of time; write it like 500ms, 90s or 1m30s");
    let mut rest = words.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let milliseconds: u64 = match &rest[..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        rest = &rest[unit..];
        let part = number.checked_mul(milliseconds).map(Duration::from_millis);
        sum = part.and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
    }
    if sum > LONGEST { Err(format!("{words:?} is more than a day")) } else { Ok(sum) }
}

/// As [`parse`] reads it: the largest units first.
pub fn write(time: Duration) -> String {
    let mut rest = time.as_millis();
    let mut words = String::new();
    for (unit, milliseconds) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= milliseconds {
            words += &format!("{}{unit}", rest / milliseconds);
            rest %= milliseconds;
        }
    }
    if words.is_empty() { "0s".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_they_are_read() {
        for words in ["0s", "500ms", "1s", "1m", "1m30s", "1h1ms", "24h"] {
            assert_eq!(write(parse(words).unwrap()), words);
        }
        assert_eq!(write(parse("90s").unwrap()), "1m30s");
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        let check = |words: &str, expect: Option<u64>| {
            assert_eq!(parse(words).ok(), expect.map(Duration::from_millis), "{words}");
        };
        check("1s", Some(1000));
        check("500ms", Some(500));
        check("1m30s", Some(90_000));
        check(" 2h ", Some(7_200_000));
        check("0s", Some(0));
        check("24h", Some(86_400_000));
        check("25h", None);
        check("90", None);
        check("", None);
        check("s", None);
        check("-1s", None);
        check("1.5s", None);
        check("1 s", None);
        check("1d", None);
        check("99999999999999999999s", None);
        check("9999999999999999999h", None);
        check("1s2", None);
    }
}
