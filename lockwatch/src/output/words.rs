//! How lockwatch says things to a human. Everything from the system is escaped here.

use std::{borrow::Cow, time::Duration};

use lockwatch_core::{
    lock::{FileId, Range},
    observation::FileSeen,
    process::{Death, Exit, Life, Process, signal_name},
    report::{LockReport, Verdict},
    text::{Text, is_harmless},
};

/// `HOT orphaned`, `held`.
pub(crate) fn verdict(lock: &LockReport) -> String {
    let word = verdict_word(lock.verdict);
    match (lock.deadlock, lock.hot) {
        (true, _) => format!("DEADLOCK {word}"),
        (_, true) => format!("HOT {word}"),
        _ => word.to_owned(),
    }
}

/// The contract's word, as a human writes it.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::HandedOver => "handed over",
        other => other.name(),
    }
}

/// Its path, or its number where nobody knows the path.
pub(crate) fn file(file: FileId, seen: &FileSeen) -> String {
    let gone = if seen.deleted { " (deleted)" } else { "" };
    match (&seen.path, reach(seen), seen.path_of, &seen.label) {
        (Some(_), Some(here), ..) => here.to_string(),
        (Some(path), None, Some(pid), _) => format!("{path}{gone}, as pid {pid} sees it"),
        (Some(path), ..) => format!("{path}{gone}"),
        (None, .., Some(label)) => label.to_string(),
        (None, ..) => format!("file {file}"),
    }
}

/// A path that leads from here to a file in another mount namespace.
pub(crate) fn reach(seen: &FileSeen) -> Option<Text> {
    let (path, pid) = (seen.path.as_ref()?, seen.path_of.filter(|_| !seen.deleted)?);
    Some(Text::new([format!("/proc/{pid}/root").as_bytes(), path.as_bytes()].concat()))
}

/// A path that can be typed here.
pub(crate) fn path_here(seen: &FileSeen) -> Option<Text> {
    match seen.path_of {
        None => seen.path.clone().filter(|_| !seen.deleted),
        Some(_) => reach(seen),
    }
}

/// `the whole file`, `bytes 100 to 199`.
pub(crate) fn range(range: Range) -> String {
    match (range.start, range.end) {
        (0, None) => "the whole file".to_owned(),
        (start, None) => format!("bytes {start} to the end of the file"),
        (start, Some(end)) if start == end => format!("byte {start}"),
        (start, Some(end)) => format!("bytes {start} to {end}"),
    }
}

/// `4711 locksmith`: for a table's cell. [`Process`]'s own `Display` is for sentences.
pub(crate) fn process(process: &Process) -> String {
    match &process.comm {
        Some(comm) => format!("{} {comm}", process.id.pid),
        None => process.id.pid.to_string(),
    }
}

/// `4711 locksmith, SIGKILL`: a process, and how it ended if it did.
pub(crate) fn fate(who: &Process) -> String {
    match &who.life {
        Life::Alive => process(who),
        Life::Dead(death) => format!("{}, {}", process(who), end(death)),
        Life::Unknown(_) => format!("{}, alive or dead unknown", process(who)),
    }
}

/// `SIGKILL`, `exit 1`, `dead`: how a process ended, in the fewest words.
pub(crate) fn end(death: &Death) -> String {
    match &death.exit {
        Some(Exit::Code(code)) => format!("exit {code}"),
        Some(Exit::Signal { oom: true, .. }) => "OOM kill".to_owned(),
        Some(Exit::Signal { signal, .. }) => signal_name(*signal),
        None => "dead".to_owned(),
    }
}

/// `250 ms`, `42 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`: two units at most.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {unit}"),
        small => format!("{big} {unit} {small} {small_unit}"),
    };
    match seconds {
        0 if duration.as_micros() < 1000 => format!("{} us", duration.as_micros()),
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// A duration in its largest unit: `3 min`.
pub(crate) fn rough(duration: Duration) -> String {
    let text = self::duration(duration);
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A sentence of lockwatch's own making. Names in it are escaped already; should one have slipped through, it is
/// escaped here.
pub(crate) fn sentence(text: &str) -> Cow<'_, str> {
    match text.chars().all(is_harmless) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(
            text.chars().map(|c| if is_harmless(c) { c.to_string() } else { c.escape_default().to_string() }).collect(),
        ),
    }
}

/// A name as one word of a shell; `None` if nobody could type it.
pub(crate) fn shell_word(name: &Text) -> Option<String> {
    let name = str::from_utf8(name.as_bytes()).ok().filter(|name| !name.is_empty() && name.chars().all(is_harmless))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match name.chars().all(plain) && !name.starts_with('-') {
        true => Some(name.to_owned()),
        false => Some(format!("'{}'", name.replace('\'', "'\\''"))),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

/// `1 lock`, `2 locks`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let check = |ms, expect: &str| assert_eq!(duration(Duration::from_millis(ms)), expect);
        check(0, "0 us");
        check(250, "250 ms");
        check(42_999, "42 s");
        check(185_000, "3 min 5 s");
        check(3_600_000, "1 h");
        check(7_800_000, "2 h 10 min");
        check(356_400_000, "4 d 3 h");
    }

    #[test]
    fn only_what_can_be_typed_becomes_a_command() {
        let check = |name: &[u8], expect: Option<&str>| {
            assert_eq!(shell_word(&Text::new(name)).as_deref(), expect);
        };
        check(b"/run/app.lock", Some("/run/app.lock"));
        check(b"/run/a b;rm -rf", Some("'/run/a b;rm -rf'"));
        check(b"it's", Some("'it'\\''s'"));
        check(b"-x", Some("'-x'"));
        check(b"a\nb", None);
        check(b"a\xff", None);
        check(b"", None);
    }

    #[test]
    fn sentences_are_escaped_once() {
        assert_eq!(sentence("pid 1 (a\\nb)"), "pid 1 (a\\nb)");
        assert_eq!(sentence("pid 1 (\u{1b}[m\u{202e})"), "pid 1 (\\u{1b}[m\\u{202e})");
    }
}
