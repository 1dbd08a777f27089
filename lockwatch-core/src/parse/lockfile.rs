//! What the text of a lock file claims: the process that wrote it, and perhaps the machine.

use crate::text::Text;

/// Whom a lock file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The process's number, on its machine and in its pid namespace.
    pub pid: u32,
    /// The machine, where the file names one.
    pub host: Option<Text>,
}

impl Claim {
    fn new(pid: u32, host: Option<&[u8]>) -> Self {
        Self { pid, host: host.map(Text::new) }
    }

    /// Whether it names this machine. `None` where a number alone stands for it, which may be one of ours.
    pub fn is_ours(&self, hostname: &Text) -> Option<bool> {
        let Some(host) = &self.host else { return Some(true) };
        let (theirs, ours) = (host.as_bytes(), hostname.as_bytes());
        let label = |name: &[u8]| name.split(|b| *b == b'.').next().unwrap_or_default().to_ascii_lowercase();
        let is_number = |name: &[u8]| name.iter().all(|b| b.is_ascii_digit() || b".:".contains(b));
        match theirs {
            b"localhost" => Some(true),
            theirs if theirs.starts_with(b"127.") && is_number(theirs) => Some(true),
            theirs if theirs.eq_ignore_ascii_case(ours) => Some(true),
            theirs if is_number(theirs) || theirs.contains(&b':') => None,
            // One of both may have its domain.
            theirs if !(theirs.contains(&b'.') && ours.contains(&b'.')) => Some(label(theirs) == label(ours)),
            _ => Some(false),
        }
    }
}

/// Whether a file is called as lock files are: `app.pid`, `index.lock`, `.X0-lock`, `LCK..ttyS0`, `.#notes`.
pub fn is_lock_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    [&b".pid"[..], b"lock", b".lck"].iter().any(|end| lower.ends_with(end))
        || [&b"lck.."[..], b".#"].iter().any(|start| lower.starts_with(start))
}

/// Reads the text of a file called `name`; `None` where it names nobody.
///
/// A text that is one decimal number is a pid file, whatever its name: `1234`, or padded to ten columns as in
/// `LCK..ttyS0` (FHS 3.0, 5.9) and `.X0-lock`. Where the name says that it is a lock, more may follow: lines, as in
/// PostgreSQL's `postmaster.pid`; a machine, as in git's `gc.pid`; the program and its user, as minicom writes them.
pub fn text(name: &[u8], text: &[u8]) -> Option<Claim> {
    let text = text.trim_ascii_end();
    let (line, more) = match text.iter().position(|b| *b == b'\n') {
        Some(end) => (&text[..end], true),
        None => (text, false),
    };
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let pid = number(words.next()?)?;
    let (second, third) = (words.next(), words.next());
    match (second, third) {
        (None, _) if !more || is_lock_name(name) => Some(Claim::new(pid, None)),
        (Some(_), _) if name.starts_with(b"LCK..") => Some(Claim::new(pid, None)),
        (Some(host), None) if is_lock_name(name) && is_host(host) => Some(Claim::new(pid, Some(host))),
        _ => None,
    }
}

/// Reads the target of a symbolic link that leads nowhere and is called `name`: making a link is atomic even on old
/// NFS. Emacs writes `user@host.1234:boot`, Firefox `127.0.0.1:+1234`, Mercurial `host:1234` or `host/namespace:1234`,
/// Chromium `host-1234`.
pub fn link(name: &[u8], target: &[u8]) -> Option<Claim> {
    let split = |text: &'_ [u8], by: u8| text.iter().rposition(|b| *b == by);
    let claim = |host: &[u8], pid: &[u8]| is_host(host).then(|| Some(Claim::new(number(pid)?, Some(host))))?;
    if let Some(at) = split(target, b'@') {
        let rest = target[at + 1..].split(|b| *b == b':').next()?;
        let dot = split(rest, b'.')?;
        return claim(&rest[..dot], &rest[dot + 1..]);
    }
    if let Some(at) = split(target, b':') {
        let (host, pid) = (&target[..at], &target[at + 1..]);
        let mut parts = host.splitn(2, |b| *b == b'/');
        let (host, namespace) = (parts.next()?, parts.next().unwrap_or_default());
        let plain = namespace.iter().all(u8::is_ascii_hexdigit);
        return plain.then(|| claim(host, pid.strip_prefix(b"+").unwrap_or(pid)))?;
    }
    let at = split(target, b'-').filter(|_| is_lock_name(name))?;
    claim(&target[..at], &target[at + 1..])
}

/// A number that a process can have: PID_MAX_LIMIT is 2^22 (include/linux/threads.h).
fn number(word: &[u8]) -> Option<u32> {
    let plain = !word.is_empty() && word.len() <= 10 && word.iter().all(u8::is_ascii_digit);
    let pid = str::from_utf8(word).ok().filter(|_| plain)?.parse().ok()?;
    (1..=1 << 22).contains(&pid).then_some(pid)
}

fn is_host(name: &[u8]) -> bool {
    let known = |b: &u8| b.is_ascii_alphanumeric() || b"-._:".contains(b);
    !name.is_empty() && name.len() <= 253 && name.iter().all(known) && name[0] != b'-'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(pid: u32, host: Option<&str>) -> Claim {
        Claim { pid, host: host.map(Text::from) }
    }

    #[test]
    fn texts_of_real_lock_files() {
        let check = |name: &str, bytes: &[u8], expect: Option<Claim>| {
            assert_eq!(text(name.as_bytes(), bytes), expect, "{name}: {}", Text::new(bytes));
        };
        let pid = |pid| Some(claim(pid, None));
        check("sshd.pid", b"1234\n", pid(1234));
        check("crond.pid", b"1234", pid(1234));
        check("anything", b"1234\n", pid(1234));
        check("LCK..ttyS0", b"      1234\n", pid(1234));
        check("LCK..ttyUSB0", b"      1234 minicom root\n", pid(1234));
        check(".X0-lock", b"       777\n", pid(777));
        check("zc.lock", b" 1234\n", pid(1234));
        check("postmaster.pid", b"1234\n/var/lib/pg\n1795317127\n5432\n/run\nlocalhost\n", pid(1234));
        check("gc.pid", b"1234 build-7.example.org", Some(claim(1234, Some("build-7.example.org"))));
        check("x.pid", b"4194304\n", pid(1 << 22));
        // Not what it may look like.
        check("x.pid", b"4194305\n", None);
        check("x.pid", b"0\n", None);
        check("x.pid", b"-5\n", None);
        check("x.pid", b"+5\n", None);
        check("x.pid", b"12a\n", None);
        check("x.pid", b"1234567890123\n", None);
        check("x.pid", b"", None);
        check("x.pid", b"\n1234\n", None);
        check("x.pid", b"\x00\x00\x04\xd2", None);
        check("index.lock", b"DIRC\0\0\0\x02\0\0", None);
        check("state.lock", b"{\"ID\":\"1234\"}", None);
        check("numbers", b"1234\n5678\n", None);
        check("table", b"1234 host\n", None);
        check("x.lock", b"1234 a b c\n", None);
        check("x.lock", b"1234 a/b\n", None);
    }

    #[test]
    fn links_of_real_programs() {
        let check = |name: &str, target: &str, expect: Option<(u32, &str)>| {
            let expect = expect.map(|(pid, host)| claim(pid, Some(host)));
            assert_eq!(link(name.as_bytes(), target.as_bytes()), expect, "{target}");
        };
        check("lock", "127.0.0.1:+1234", Some((1234, "127.0.0.1")));
        check("lock", "192.168.1.5:1234", Some((1234, "192.168.1.5")));
        check(".#notes.txt", "ann@desk.example.org.1234:1795317127", Some((1234, "desk.example.org")));
        check(".#notes.txt", "ann@desk.1234", Some((1234, "desk")));
        check("SingletonLock", "desk-1234", Some((1234, "desk")));
        check("SingletonLock", "my-desk-1234", Some((1234, "my-desk")));
        check("wlock", "desk:1234", Some((1234, "desk")));
        check("wlock", "desk/f0000b02:1234", Some((1234, "desk")));
        check("libfoo.so", "libfoo-12", None);
        check("x.lock", "/var/run/app:12", None);
        check("x.lock", "desk/dir:12", None);
        check("x.lock", "ann@desk", None);
        check("x.lock", "../other", None);
        check("x.lock", "desk-0", None);
        check("x.lock", "", None);
    }

    #[test]
    fn machines_are_compared_with_care() {
        let check = |host: Option<&str>, ours: &str, expect| {
            assert_eq!(claim(1, host).is_ours(&ours.into()), expect, "{host:?} on {ours}");
        };
        check(None, "desk", Some(true));
        check(Some("desk"), "desk", Some(true));
        check(Some("Desk"), "desk.example.org", Some(true));
        check(Some("desk.example.org"), "desk", Some(true));
        check(Some("desk.example.com"), "desk.example.org", Some(false));
        check(Some("other"), "desk", Some(false));
        check(Some("127.0.0.1"), "desk", Some(true));
        check(Some("localhost"), "desk", Some(true));
        check(Some("192.168.1.5"), "desk", None);
        check(Some("fe80::1"), "desk", None);
    }

    proptest! {
        #[test]
        fn never_panics(name in prop::collection::vec(any::<u8>(), 0..20), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            text(&name, &bytes);
            link(&name, &bytes);
        }
    }
}
