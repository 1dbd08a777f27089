//! `/proc/PID/fdinfo/FD`: one open file descriptor.

use super::locks::{self, Line};
use crate::text::Text;

/// Reads an fdinfo file. What is missing stays `None`, and what cannot be read is left out with a warning.
///
/// The head is printed by `seq_show` in fs/proc/fd.c (Linux 6.18; `ino` since 5.14), the locks by `show_fd_locks` in
/// fs/locks.c: those whose owner is this open file description, and the POSIX locks that this file table took through
/// it. `scm_fds` comes from a unix socket's own part (`unix_show_fdinfo`, net/unix/af_unix.c), `UserFiles` from an
/// io_uring's (`io_uring_show_fdinfo`, io_uring/fdinfo.c). A sample from 6.18:
///
/// ```text
/// pos:    0
/// flags:  02100002
/// mnt_id: 27
/// ino:    10084379
/// lock:   1: POSIX  ADVISORY  WRITE 9154 fe:00:10084379 10 109
/// ```
pub fn parse(bytes: &[u8]) -> FdInfo {
    let mut info = FdInfo::default();
    let mut registered = false;
    for raw in bytes.split(|b| *b == b'\n') {
        let Some(colon) = raw.iter().position(|b| *b == b':') else { continue };
        let (key, value) = (&raw[..colon], raw[colon + 1..].trim_ascii());
        let slot = registered && key.trim_ascii().iter().all(u8::is_ascii_digit);
        if let Some(ring) = info.ring.as_mut().filter(|_| slot) {
            ring.files.extend((value != b"<none>").then(|| unescape(value)));
            continue;
        }
        registered = key == b"UserFiles";
        match key {
            b"UserFiles" => info.ring = number(value).map(|slots| Ring { slots, files: Vec::new() }),
            b"pos" => info.pos = number(value),
            b"flags" => info.flags = str::from_utf8(value).ok().and_then(|v| u32::from_str_radix(v, 8).ok()),
            b"mnt_id" => info.mnt_id = number(value),
            b"ino" => info.ino = number(value),
            b"scm_fds" => info.scm_fds = number(value),
            b"lock" => match locks::parse_line(value) {
                Ok(line) => info.locks.push(line),
                Err(what) => {
                    let shown = Text::new(&value[..value.len().min(120)]);
                    info.warnings.push(format!("lock line cannot be read ({what}): {shown}"));
                }
            },
            _ => {}
        }
    }
    info
}

/// What fdinfo says of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// The file offset.
    pub pos: Option<i64>,
    /// The flags of open(2), with O_CLOEXEC standing for the descriptor's own FD_CLOEXEC.
    pub flags: Option<u32>,
    /// The mount, as `/proc/PID/mountinfo` numbers it.
    pub mnt_id: Option<u64>,
    /// The inode, as the kernel numbers it.
    pub ino: Option<u64>,
    /// How many descriptors wait in a unix socket's receive queue.
    pub scm_fds: Option<u64>,
    /// What is registered with an io_uring. `None` for every other file, and for a ring whose lock was taken just then.
    pub ring: Option<Ring>,
    /// The locks that this descriptor keeps alive.
    pub locks: Vec<Line>,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// The files registered with an io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// How many slots there are for files, used or not.
    pub slots: u64,
    /// The names of those there are: paths, or words such as `pipe:[7]`; older kernels print the last part alone.
    pub files: Vec<Vec<u8>>,
}

/// How a file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// O_RDONLY.
    Read,
    /// O_WRONLY.
    Write,
    /// O_RDWR.
    ReadWrite,
    /// O_PATH: neither.
    Path,
}

impl FdInfo {
    /// O_CLOEXEC and O_PATH, include/uapi/asm-generic/fcntl.h: x86, ARM, RISC-V, POWER and s390 agree.
    const CLOEXEC: u32 = 0o2_000_000;
    const PATH: u32 = 0o10_000_000;

    /// Whether execve(2) closes it.
    pub fn cloexec(&self) -> Option<bool> {
        self.flags.map(|flags| flags & Self::CLOEXEC != 0)
    }

    /// How the file is open.
    pub fn access(&self) -> Option<Access> {
        let flags = self.flags?;
        match flags & 0o3 {
            _ if flags & Self::PATH != 0 => Some(Access::Path),
            0 => Some(Access::Read),
            1 => Some(Access::Write),
            2 => Some(Access::ReadWrite),
            _ => None,
        }
    }
}

/// Turns `\040` back into what it stands for (`mangle_path`, fs/seq_file.c).
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{lock::Kind, parse::locks::tests::any_line};

    #[test]
    fn reads_a_locked_file() {
        let info = parse(
            b"pos:\t-1\nflags:\t02100002\nmnt_id:\t27\nino:\t18446744073709551615\n\
              lock:\t1: FLOCK  ADVISORY  WRITE 9154 fe:00:10084379 0 EOF\n\
              lock:\t2: OFDLCK ADVISORY  READ -1 fe:00:10084379 10 109\n",
        );
        assert_eq!((info.pos, info.mnt_id, info.ino, info.scm_fds), (Some(-1), Some(27), Some(u64::MAX), None));
        assert_eq!((info.cloexec(), info.access()), (Some(true), Some(Access::ReadWrite)));
        assert_eq!(info.locks.iter().map(Line::kind).collect::<Vec<_>>(), [Kind::Flock, Kind::Ofd]);
        assert_eq!(info.warnings, [""; 0]);
    }

    #[test]
    fn reads_a_socket_with_descriptors_in_flight() {
        let info = parse(b"pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t5\nscm_fds: 3\n");
        assert_eq!((info.scm_fds, info.cloexec()), (Some(3), Some(false)));
    }

    #[test]
    fn reads_what_is_registered_with_a_ring() {
        let head = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t2181112\nSqMask:\t0x3\nCQEs:\t1\n    9: user_data:7, res:0\n";
        let tail = "UserBufs:\t1\n    0: 0x7f00/4096\nPollList:\n";
        let check = |files: &str, slots, expect: &[&str]| {
            let ring = parse(format!("{head}{files}{tail}").as_bytes()).ring;
            let files = expect.iter().map(|name| name.as_bytes().to_vec()).collect();
            assert_eq!(ring, Some(Ring { slots, files }));
        };
        // As 6.18 prints it, and as 5.10 does.
        let sparse = "UserFiles:\t5\n    0: /tmp/a\\040b\n    2: /x\\040(deleted)\n    3: pipe:[2181113]\n";
        check(sparse, 5, &["/tmp/a b", "/x (deleted)", "pipe:[2181113]"]);
        check("UserFiles:\t2\n    0: lock\\9\n    1: <none>\n", 2, &["lock\\9"]);
        check("UserFiles:\t0\n", 0, &[]);
        assert_eq!(parse(b"pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t2181112\n").ring, None);
    }

    #[test]
    fn keeps_what_is_readable() {
        let info = parse(b"pos:\nflags:\t9\nlock:\tjunk\x07\nmnt_id:\t4\nino 5\n\xff:\n");
        assert_eq!(info.warnings, ["lock line cannot be read (no lock number): junk\\x07"]);
        assert_eq!(FdInfo { warnings: vec![], ..info }, FdInfo { mnt_id: Some(4), ..FdInfo::default() });
    }

    #[test]
    fn knows_the_access_modes() {
        let check = |flags, expect| assert_eq!(FdInfo { flags: Some(flags), ..FdInfo::default() }.access(), expect);
        check(0o0100000, Some(Access::Read));
        check(0o0100001, Some(Access::Write));
        check(0o10000000, Some(Access::Path));
        check(0o0100003, None);
    }

    proptest! {
        #[test]
        fn locks_are_read_back(lines in prop::collection::vec(any_line(Just(0u32)), 0..5)) {
            let text: String = lines.iter().map(|l| format!("lock:\t{l}\n")).collect();
            prop_assert_eq!(parse(text.as_bytes()).locks, lines);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
        }
    }
}
