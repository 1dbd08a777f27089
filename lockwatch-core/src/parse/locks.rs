//! `/proc/locks`, and the `lock:` lines of fdinfo that have the same grammar.

use std::fmt;

use crate::{
    lock::{Device, FileId, Kind, Mode, Range},
    text::Text,
};

/// Reads `/proc/locks`. A line that cannot be read costs a warning, never the rest of the file.
///
/// The grammar is that of `locks_show` and `lock_get_status` in fs/locks.c, Linux 6.18; 5.10 differs by printing only
/// the first level of waiters, and by `MANDATORY`. A granted lock is followed by those who wait for it, under its own
/// number; each `->` that is indented further waits behind the one above it. A sample from 6.18:
///
/// ```text
/// 1: LEASE  BREAKING  UNLCK 9154 fe:00:10084381 0 EOF
/// 1: -> LEASE  BREAKER   WRITE 9197 <none>:0 0 EOF
/// 2: OFDLCK ADVISORY  READ -1 fe:00:10084380 0 EOF
/// 3: POSIX  ADVISORY  WRITE 9154 fe:00:10084379 10 109
/// 3: -> POSIX  ADVISORY  READ 9199 fe:00:10084379 0 EOF
/// 3:  -> POSIX  ADVISORY  WRITE 9198 fe:00:10084379 0 EOF
/// 4: FLOCK  ADVISORY  WRITE 9154 fe:00:10084378 0 EOF
/// ```
pub fn parse(bytes: &[u8]) -> (Vec<Line>, Vec<String>) {
    let mut lines: Vec<Line> = Vec::new();
    let mut warnings = Vec::new();
    // The granted lock to which the waiters that follow belong.
    let mut granted: Option<usize> = None;
    for (n, raw) in bytes.split(|b| *b == b'\n').enumerate() {
        if raw.is_empty() {
            continue;
        }
        match parse_line(raw) {
            Ok(mut line) => {
                if line.level == 0 {
                    granted = Some(lines.len());
                } else {
                    // A waiter whose lock's own line was unreadable must not be laid at its neighbour's door.
                    line.granted = granted.filter(|g| lines[*g].number == line.number);
                }
                lines.push(line);
            }
            Err(what) => {
                let shown = Text::new(&raw[..raw.len().min(120)]);
                warnings.push(format!("line {} cannot be read ({what}): {shown}", n + 1));
            }
        }
    }
    (lines, warnings)
}

/// One line: a granted lock, or somebody who waits for one. `Display` prints it as the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The granted lock's place in the kernel's list, from 1; waiters repeat it.
    pub number: u64,
    /// 0 for a granted lock, 1 for its waiters, 2 for those who wait behind a waiter.
    pub level: u32,
    /// For a waiter: where its granted lock stands in the list that [`parse`] returned, if it was readable.
    pub granted: Option<usize>,
    /// First column.
    pub class: Class,
    /// Second column.
    pub state: State,
    /// Held or asked for. `None` is `UNLCK`: a lease on its way out, whose mode the kernel no longer prints.
    pub mode: Option<Mode>,
    /// Who took it or asks for it: -1 for OFD locks, 0 for one outside of the reader's pid namespace, other negative
    /// numbers for owners on remote machines (`locks_translate_pid`).
    pub pid: i32,
    /// The file. Whoever breaks a lease has none.
    pub file: Option<FileId>,
    /// Which bytes; the whole file for flock and leases.
    pub range: Range,
}

impl Line {
    /// The kind of lock.
    pub fn kind(&self) -> Kind {
        self.class.kind()
    }
}

/// The word in the first column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// flock(2).
    Flock,
    /// fcntl(2) F_SETLK.
    Posix,
    /// fcntl(2) F_OFD_SETLK.
    Ofd,
    /// A POSIX lock that is only a test (`FL_ACCESS`).
    Access,
    /// fcntl(2) F_SETLEASE, and pNFS layouts.
    Lease,
    /// A delegation of nfsd.
    Delegation,
}

impl Class {
    const WORDS: [(Class, &str); 6] = [
        (Class::Flock, "FLOCK"),
        (Class::Posix, "POSIX"),
        (Class::Ofd, "OFDLCK"),
        (Class::Access, "ACCESS"),
        (Class::Lease, "LEASE"),
        (Class::Delegation, "DELEG"),
    ];

    fn kind(self) -> Kind {
        match self {
            Class::Flock => Kind::Flock,
            Class::Posix | Class::Access => Kind::Posix,
            Class::Ofd => Kind::Ofd,
            Class::Lease => Kind::Lease,
            Class::Delegation => Kind::Delegation,
        }
    }
}

/// The word in the second column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// What all but leases are.
    Advisory,
    /// A mandatory lock (before Linux 5.15).
    Mandatory,
    /// A POSIX lock without a file.
    NoInode,
    /// A lease in force.
    Active,
    /// A lease that its holder has been asked to give up.
    Breaking,
    /// The request that breaks a lease.
    Breaker,
}

impl State {
    const WORDS: [(State, &str); 6] = [
        (State::Advisory, "ADVISORY"),
        (State::Mandatory, "MANDATORY"),
        (State::NoInode, "*NOINODE*"),
        (State::Active, "ACTIVE"),
        (State::Breaking, "BREAKING"),
        (State::Breaker, "BREAKER"),
    ];
}

const MODES: [(Option<Mode>, &str); 3] = [(Some(Mode::Write), "WRITE"), (Some(Mode::Read), "READ"), (None, "UNLCK")];

/// Reads one line, without its line feed. Errors say which column was wrong.
pub(super) fn parse_line(raw: &[u8]) -> Result<Line, &'static str> {
    let raw = str::from_utf8(raw).map_err(|_| "not text")?;
    let (number, rest) = raw.split_once(": ").ok_or("no lock number")?;
    let number = number.parse().map_err(|_| "lock number")?;
    // One blank more for each level: `%*s` with the level and "-> " in lock_get_status.
    let level = match rest.trim_start_matches(' ') {
        arrow if arrow.starts_with("->") => {
            u32::try_from(rest.len() - arrow.len()).ok().and_then(|blanks| blanks.checked_add(1)).ok_or("nesting")?
        }
        _ => 0,
    };
    let rest = if level > 0 { &rest[level as usize + 1..] } else { rest };

    let mut words = rest.split_ascii_whitespace();
    let mut next = |what| words.next().ok_or(what);
    let class = by_word(&Class::WORDS, next("no lock type")?).ok_or("lock type")?;
    let state = by_word(&State::WORDS, next("no lock state")?).ok_or("lock state")?;
    let mode = by_word(&MODES, next("no mode")?).ok_or("mode")?;
    let pid = next("no pid")?.parse().map_err(|_| "pid")?;
    let file = file(next("no file")?)?;
    let start = next("no range")?.parse().map_err(|_| "start of the range")?;
    let end = match next("no end of the range")? {
        "EOF" => Range::OFFSET_MAX,
        end => end.parse().map_err(|_| "end of the range")?,
    };
    if end < start {
        return Err("range that ends before it starts");
    }
    match words.next() {
        Some(_) => Err("too many columns"),
        None => {
            let range = Range::from_kernel(start, end);
            Ok(Line { number, level, granted: None, class, state, mode, pid, file, range })
        }
    }
}

/// `fe:00:10084378`, with the device in hexadecimal and the inode in decimal, or `<none>:0`.
fn file(word: &str) -> Result<Option<FileId>, &'static str> {
    if word.starts_with("<none>:") {
        return Ok(None);
    }
    let mut parts = word.splitn(3, ':');
    let mut hex = || parts.next().and_then(|p| u32::from_str_radix(p, 16).ok()).ok_or("device");
    let device = Device { major: hex()?, minor: hex()? };
    let inode = parts.next().and_then(|p| p.parse().ok()).ok_or("inode")?;
    Ok(Some(FileId { device, inode }))
}

fn by_word<T: Copy>(table: &[(T, &str)], word: &str) -> Option<T> {
    table.iter().find(|(_, w)| *w == word).map(|(value, _)| *value)
}

fn word_of<'a, T: PartialEq>(table: &[(T, &'a str)], value: T) -> &'a str {
    table.iter().find(|(v, _)| *v == value).map_or("?", |(_, word)| word)
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.number)?;
        if self.level > 0 {
            write!(f, "{:>1$} ", "->", self.level as usize + 1)?;
        }
        let (class, state) = (word_of(&Class::WORDS, self.class), word_of(&State::WORDS, self.state));
        write!(f, "{class:<6} {state:<8}  {} {} ", word_of(&MODES, self.mode), self.pid)?;
        match self.file {
            Some(file) => write!(f, "{file} ")?,
            None => write!(f, "<none>:0 ")?,
        }
        match self.range.end {
            Some(end) => write!(f, "{} {end}", self.range.start),
            None => write!(f, "{} EOF", self.range.start),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::*;

    const SAMPLE: &str = "\
1: LEASE  BREAKING  UNLCK 9154 fe:00:10084381 0 EOF
1: -> LEASE  BREAKER   WRITE 9197 <none>:0 0 EOF
2: OFDLCK ADVISORY  READ -1 fe:00:10084380 0 EOF
3: POSIX  ADVISORY  WRITE 9154 103:0a:10084379 10 109
3: -> POSIX  ADVISORY  READ 9199 103:0a:10084379 0 EOF
3:  -> POSIX  ADVISORY  WRITE 9198 103:0a:10084379 0 EOF
4: FLOCK  ADVISORY  WRITE 9154 fe:00:10084378 0 EOF
5: DELEG  ACTIVE    READ 812 fe:00:10084370 0 EOF
6: ACCESS ADVISORY  READ 813 fe:00:10084370 5 5
7: LEASE  ACTIVE    WRITE 814 fe:00:10084371 0 EOF
";

    #[test]
    fn reads_the_sample_and_prints_it_as_the_kernel_did() {
        let (lines, warnings) = parse(SAMPLE.as_bytes());
        assert_eq!(warnings, [""; 0]);
        assert_eq!(lines.iter().map(|l| format!("{l}\n")).collect::<String>(), SAMPLE);
        let file = |inode| Some(FileId { device: Device { major: 0xfe, minor: 0 }, inode });
        assert_eq!((lines[0].mode, lines[0].kind(), lines[0].file), (None, Kind::Lease, file(10084381)));
        assert_eq!((lines[1].file, lines[1].granted, lines[1].level), (None, Some(0), 1));
        assert_eq!((lines[2].pid, lines[2].range), (-1, Range::WHOLE));
        assert_eq!(lines[3].file.map(|f| f.device), Some(Device { major: 259, minor: 10 }));
        assert_eq!(lines[3].range, Range { start: 10, end: Some(109) });
        assert_eq!((lines[5].level, lines[5].granted, lines[5].pid), (2, Some(3), 9198));
        assert_eq!(lines[8].kind(), Kind::Posix);
    }

    #[test]
    fn one_bad_line_costs_one_warning() {
        let text =
            b"1: FLOCK  ADVISORY  WRITE 7 fe:00:1 0 EOF\n\xff\x1b[2Jjunk\n\n2: POSIX  ADVISORY  READ -5 00:1f:9 3 3";
        let (lines, warnings) = parse(text);
        assert_eq!(lines.iter().map(|l| l.pid).collect::<Vec<_>>(), [7, -5]);
        assert_eq!(warnings, ["line 2 cannot be read (not text): \\xff\\x1b[2Jjunk"]);
    }

    #[test]
    fn a_waiter_never_gets_a_neighbours_lock() {
        let text =
            b"1: FLOCK  ADVISORY  WRITE 7 fe:00:1 0 EOF\n2: WHAT\n2: -> FLOCK  ADVISORY  WRITE 8 fe:00:2 0 EOF\n";
        let (lines, warnings) = parse(text);
        assert_eq!((lines[1].level, lines[1].granted), (1, None));
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn names_the_column_that_is_wrong() {
        let check = |line: &str, expect: &str| assert_eq!(parse_line(line.as_bytes()), Err(expect), "{line}");
        check("junk", "no lock number");
        check("x: FLOCK", "lock number");
        check("1: ", "no lock type");
        check("1: -> ", "no lock type");
        check("1: UNKNOWN UNKNOWN  READ 1 fe:00:1 0 EOF", "lock type");
        check("1: FLOCK  MSNFS     READ 1 fe:00:1 0 EOF", "lock state");
        check("1: FLOCK  ADVISORY  RW 1 fe:00:1 0 EOF", "mode");
        check("1: FLOCK  ADVISORY  READ 99999999999 fe:00:1 0 EOF", "pid");
        check("1: FLOCK  ADVISORY  READ 1 fe:1 0 EOF", "inode");
        check("1: FLOCK  ADVISORY  READ 1 zz:00:1 0 EOF", "device");
        check("1: POSIX  ADVISORY  READ 1 fe:00:1 0", "no end of the range");
        check("1: POSIX  ADVISORY  READ 1 fe:00:1 9 8", "range that ends before it starts");
        check("1: POSIX  ADVISORY  READ 1 fe:00:1 9 9 x", "too many columns");
    }

    /// Any line the kernel could print.
    pub(in crate::parse) fn any_line(level: impl Strategy<Value = u32>) -> impl Strategy<Value = Line> {
        let file = (any::<u32>(), any::<u32>(), any::<u64>())
            .prop_map(|(major, minor, inode)| FileId { device: Device { major, minor }, inode });
        let range = (0..i64::MAX as u64, 0..i64::MAX as u64)
            .prop_map(|(a, b)| Range { start: a.min(b), end: (a % 3 > 0).then_some(a.max(b)) });
        let class = select(Class::WORDS.map(|w| w.0).to_vec());
        let state = select(State::WORDS.map(|w| w.0).to_vec());
        let mode = select(MODES.map(|w| w.0).to_vec());
        (any::<u64>(), level, class, state, mode, any::<i32>(), option::of(file), range).prop_map(
            |(number, level, class, state, mode, pid, file, range)| Line {
                number,
                level,
                granted: None,
                class,
                state,
                mode,
                pid,
                file,
                range,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(line in any_line(0..200u32)) {
            prop_assert_eq!(parse_line(line.to_string().as_bytes()), Ok(line));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
        }

        /// Bytes near to the truth reach further into the parser than plain noise does.
        #[test]
        fn never_panics_on_a_damaged_sample(at in 0..SAMPLE.len(), byte: u8, cut in 0..SAMPLE.len()) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            bytes[at] = byte;
            bytes.truncate(cut);
            let (lines, _) = parse(&bytes);
            for line in &lines {
                prop_assert!(line.granted.is_none_or(|g| lines[g].level == 0 && lines[g].number == line.number));
            }
        }
    }
}
