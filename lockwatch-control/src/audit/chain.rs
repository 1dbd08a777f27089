//! Whether the lines of a log are those that were written, all of them, in their order.

use std::{collections::HashMap, fmt};

use super::line::ZEROS;

/// A line as the chain sees it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Its hash.
    pub(super) hash: String,
    /// The hash that it carries, if it tells one.
    pub(super) previous: Option<String>,
    /// Whether it is a record.
    pub(super) readable: bool,
}

/// Where a log is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    /// The line at which it shows, from 1.
    pub line: usize,
    /// What it looks like.
    pub damage: Damage,
}

/// What a break in the chain looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The first line follows another.
    NoBeginning,
    /// A later line follows none.
    Restart,
    /// It follows a line that stands elsewhere.
    Moved {
        /// Which.
        after: usize,
    },
    /// It follows a line that is not there.
    Gap,
    /// Neither does it follow the line before, nor the next one it.
    Stranger,
    /// It is no record.
    Unreadable,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line;
        let (before, next) = (line.saturating_sub(1), line + 1);
        match self.damage {
            Damage::NoBeginning => {
                write!(f, "line {line} is not the first: lines before it were taken away, or it was altered")
            }
            Damage::Restart => write!(
                f,
                "line {line} begins a chain of its own: two logs were put together, or lines before it taken out"
            ),
            Damage::Moved { after } => {
                write!(f, "line {line} belongs right after line {after}: lines were moved, doubled or put in")
            }
            Damage::Gap => write!(
                f,
                "line {line} does not follow line {before}: line {before} was altered, or lines between them were taken out"
            ),
            Damage::Stranger => write!(
                f,
                "line {line} was altered or put in: it does not follow line {before}, and line {next} does not follow it"
            ),
            Damage::Unreadable => write!(f, "line {line} is no record: it was altered"),
        }
    }
}

/// Finds where a chain is broken, and what else is to be said of its lines. `torn` says that the last has no newline.
pub(super) fn judge(links: &[Link], torn: bool) -> (Vec<Break>, Vec<String>) {
    let lines: HashMap<&str, usize> = links.iter().map(|link| &*link.hash).zip(1..).collect();
    let (mut breaks, mut notes) = (Vec::new(), Vec::new());
    let mut before = ZEROS;
    for (i, link) in links.iter().enumerate() {
        let (line, next) = (i + 1, links.get(i + 1));
        match link.previous.as_deref() {
            Some(previous) if previous != before => {
                let damage = match lines.get(previous) {
                    _ if previous == ZEROS => Damage::Restart,
                    Some(after) => Damage::Moved { after: *after },
                    None if line == 1 => Damage::NoBeginning,
                    None => Damage::Gap,
                };
                add(&mut breaks, Break { line, damage });
            }
            _ => {}
        }
        match next {
            None if torn => notes.push(format!(
                "the last line, {line}, has no end: power was lost, its end was cut off, or it is being written just now"
            )),
            _ if link.readable => {}
            Some(next) if next.previous.as_ref() == Some(&link.hash) => notes.push(format!(
                "line {line} cannot be read, but the chain goes on behind it: power was lost while it was written, or a \
                 later lockwatch wrote it"
            )),
            // What it carries is told by the next line's break.
            Some(_) if link.previous.is_some() => {}
            _ => add(&mut breaks, Break { line, damage: Damage::Unreadable }),
        }
        before = &link.hash;
    }
    (breaks, notes)
}

/// One altered line breaks the chain on both sides, and is told once.
fn add(breaks: &mut Vec<Break>, new: Break) {
    match breaks.last_mut().filter(|last| last.line + 1 == new.line && new.damage == Damage::Gap) {
        Some(last) if last.damage == Damage::Unreadable => {}
        Some(last) if matches!(last.damage, Damage::Gap | Damage::NoBeginning | Damage::Restart) => {
            last.damage = Damage::Stranger;
        }
        _ => breaks.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is told by the letter of its hash, and carries another's; `.` is the beginning, `?` cannot be read.
    fn check(lines: &str, expect: &[&str]) {
        let links: Vec<Link> = lines
            .split(' ')
            .map(|line| {
                let (previous, hash) = line.split_at(1);
                let word = |letter: &str| if letter == "." { ZEROS.to_owned() } else { letter.to_owned() };
                let previous = (previous != "?").then(|| word(previous));
                Link { hash: word(hash), readable: previous.is_some(), previous }
            })
            .collect();
        let (breaks, notes) = judge(&links, false);
        let told: Vec<String> = breaks.iter().map(ToString::to_string).chain(notes).collect();
        assert_eq!(told.len(), expect.len(), "{lines}: {told:?}");
        for (told, expect) in told.iter().zip(expect) {
            assert!(told.starts_with(expect), "{lines}: {told}");
        }
    }

    #[test]
    fn says_where_and_what() {
        check(".a ab bc cd", &[]);
        check(".x ab bc cd", &["line 2 does not follow line 1: line 1 was altered, or lines between"]);
        check(".a ax bc cd", &["line 3 does not follow line 2"]);
        check(".a xb bc cd", &["line 2 does not follow line 1"]);
        check(".a xy bc cd", &["line 2 was altered or put in: it does not follow line 1, and line 3"]);
        check("xy ab bc cd", &["line 1 was altered or put in"]);
        check(".a bc cd", &["line 2 does not follow line 1: line 1 was altered, or lines between them were taken out"]);
        check("ab bc cd", &["line 1 is not the first"]);
        check(
            ".a bc ab cd",
            &[
                "line 2 belongs right after line 3",
                "line 3 belongs right after line 1",
                "line 4 belongs right after line 2",
            ],
        );
        check(".a ab ab bc", &["line 3 belongs right after line 1"]);
        check(".a ab .c cd", &["line 3 begins a chain of its own"]);
        check(".a ?b bc cd", &["line 2 cannot be read, but the chain goes on"]);
        check(".a ?x bc cd", &["line 2 is no record: it was altered"]);
        check(".a ab ?c", &["line 3 is no record"]);
        check(".a ab ?x yd de", &["line 3 is no record"]);
    }

    #[test]
    fn a_torn_end_is_no_break() {
        let line = |previous: Option<&str>, hash: &str| Link {
            hash: hash.to_owned(),
            previous: previous.map(str::to_owned),
            readable: false,
        };
        for end in [line(None, "b"), line(Some("a"), "b")] {
            let (breaks, notes) = judge(&[Link { readable: true, ..line(Some(ZEROS), "a") }, end], true);
            assert!(breaks.is_empty() && notes[0].starts_with("the last line, 2, has no end"), "{breaks:?} {notes:?}");
        }
    }
}
