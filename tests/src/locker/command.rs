//! What one line asks for.

use std::ffi::c_int;

use anyhow::{Context, Result, bail};
use rustix::net::SocketType;

use super::{
    lock::{Patience, Request},
    words::decode,
};
use crate::sys::{OnAlarm, RangeKind};

/// One command; the module `locker` says what each does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Open { path: Vec<u8>, flags: c_int, number: Option<i32> },
    Dup { fd: i32, number: Option<i32> },
    Close(i32),
    Lock { fd: i32, request: Request, patience: Patience },
    Interrupt(u32),
    Fork(Vec<u8>),
    Spawn(Vec<Vec<u8>>),
    Exec(Vec<Vec<u8>>),
    Wait(i32),
    CloneFiles(Vec<u8>),
    NewPids,
    Bind { path: Vec<u8>, kind: SocketType },
    Accept(i32),
    SocketPair(SocketType),
    SendFd { fd: i32, to: Vec<u8>, kind: SocketType },
    SendOver { fd: i32, socket: i32 },
    RecvFd { fd: i32, number: Option<i32> },
    Map(i32),
    Unmap(usize),
    Ring(i32),
    Loop(i32),
    Timer { ms: u32, restart: bool },
    Setsid,
    Comm(Vec<u8>),
    Pid,
    PidFile(i32),
    Write { fd: i32, text: Vec<u8> },
    LeaderExit,
    Raise(c_int),
    Ignore(c_int),
    Exit(i32),
    Alarm(u32, OnAlarm),
    Crash(Vec<u8>),
    Eat,
    Break { path: Vec<u8>, flags: c_int },
}

impl Command {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let mut words = Words(line.split_ascii_whitespace());
        let command = match words.word("a command")? {
            "open" => {
                let path = words.bytes("a path")?;
                let (mut flags, mut number) = (libc::O_RDWR, None);
                while let Some(word) = words.0.next() {
                    match word {
                        "ro" => flags = flags & !libc::O_ACCMODE | libc::O_RDONLY,
                        "rw" => flags = flags & !libc::O_ACCMODE | libc::O_RDWR,
                        "wo" => flags = flags & !libc::O_ACCMODE | libc::O_WRONLY,
                        "cloexec" => flags |= libc::O_CLOEXEC,
                        "as" => number = Some(words.number("a descriptor")?),
                        other => bail!("open: unknown word: {other}"),
                    }
                }
                Command::Open { path, flags, number }
            }
            "dup" => Command::Dup { fd: words.number("a descriptor")?, number: words.as_number()? },
            "close" => Command::Close(words.number("a descriptor")?),
            "flock" => {
                let fd = words.number("a descriptor")?;
                let operation = match words.word("sh or ex")? {
                    "sh" => libc::LOCK_SH,
                    "ex" => libc::LOCK_EX,
                    other => bail!("flock: sh or ex, not {other}"),
                };
                Command::Lock { fd, request: Request::Flock(operation), patience: words.patience()? }
            }
            "posix" => words.range(RangeKind::Posix, true)?,
            "ofd" => words.range(RangeKind::Ofd, true)?,
            "lease" => {
                let fd = words.number("a descriptor")?;
                Command::Lock { fd, request: Request::Lease(words.lock()?), patience: Patience::None }
            }
            "unflock" => words.unlock(Request::Flock(libc::LOCK_UN))?,
            "unlease" => words.unlock(Request::Lease(libc::F_UNLCK))?,
            "posixun" => words.range(RangeKind::Posix, false)?,
            "ofdun" => words.range(RangeKind::Ofd, false)?,
            "interrupt" => Command::Interrupt(words.number("a wait's number")?),
            "fork" => Command::Fork(words.bytes("a socket's path")?),
            "spawn" => Command::Spawn(words.program()?),
            "exec" => Command::Exec(words.program()?),
            "wait" => Command::Wait(words.number("a pid")?),
            "clone-files" => Command::CloneFiles(words.bytes("a socket's path")?),
            "new-pids" => Command::NewPids,
            "bind" => Command::Bind { path: words.bytes("a socket's path")?, kind: words.socket_type()? },
            "accept" => Command::Accept(words.number("a descriptor")?),
            "socketpair" => Command::SocketPair(words.socket_type()?),
            "sendfd" => {
                let fd = words.number("a descriptor")?;
                match words.word("a socket's path")? {
                    "over" => Command::SendOver { fd, socket: words.number("a descriptor")? },
                    path => Command::SendFd { fd, to: decoded(path)?, kind: words.socket_type()? },
                }
            }
            "recvfd" => Command::RecvFd { fd: words.number("a descriptor")?, number: words.as_number()? },
            "mmap" => Command::Map(words.number("a descriptor")?),
            "munmap" => Command::Unmap(words.number("an address")?),
            "uring" => Command::Ring(words.number("a descriptor")?),
            "loop" => Command::Loop(words.number("a descriptor")?),
            "timer" => {
                let ms = words.number("a number of milliseconds")?;
                let restart = match words.0.next() {
                    None => false,
                    Some("restart") => true,
                    Some(other) => bail!("restart, not {other}"),
                };
                Command::Timer { ms, restart }
            }
            "setsid" => Command::Setsid,
            "comm" => Command::Comm(words.bytes("a name")?),
            "pid" => Command::Pid,
            "pidfile" => Command::PidFile(words.number("a descriptor")?),
            "write" => Command::Write { fd: words.number("a descriptor")?, text: words.bytes("a text")? },
            "leader-exit" => Command::LeaderExit,
            "raise" => Command::Raise(words.number("a signal")?),
            "ignore" => Command::Ignore(words.number("a signal")?),
            "exit" => Command::Exit(words.number("a code")?),
            "alarm" => Command::Alarm(words.number("milliseconds")?, words.on_alarm()?),
            "crash" => Command::Crash(words.bytes("a directory")?),
            "eat" => Command::Eat,
            "break" => {
                let path = words.bytes("a path")?;
                let flags = if words.lock()? == libc::F_WRLCK { libc::O_RDWR } else { libc::O_RDONLY };
                match words.patience()? {
                    Patience::InThread => Command::Break { path, flags },
                    _ => bail!("break: wait"),
                }
            }
            other => bail!("unknown command: {other}"),
        };
        match words.0.next() {
            None => Ok(command),
            Some(rest) => bail!("superfluous word: {rest}"),
        }
    }
}

struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self, what: &str) -> Result<&'a str> {
        self.0.next().with_context(|| format!("{what} is missing"))
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        let word = self.word(what)?;
        word.parse().ok().with_context(|| format!("{word} is not {what}"))
    }

    fn bytes(&mut self, what: &str) -> Result<Vec<u8>> {
        decoded(self.word(what)?)
    }

    fn program(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut all = vec![self.bytes("a program")?];
        for word in self.0.by_ref() {
            all.push(decoded(word)?);
        }
        Ok(all)
    }

    fn as_number(&mut self) -> Result<Option<i32>> {
        match self.0.next() {
            None => Ok(None),
            Some("as") => self.number("a descriptor").map(Some),
            Some(other) => bail!("unknown word: {other}"),
        }
    }

    fn lock(&mut self) -> Result<c_int> {
        match self.word("r or w")? {
            "r" => Ok(libc::F_RDLCK),
            "w" => Ok(libc::F_WRLCK),
            other => bail!("r or w, not {other}"),
        }
    }

    fn socket_type(&mut self) -> Result<SocketType> {
        match self.0.next() {
            None | Some("dgram") => Ok(SocketType::DGRAM),
            Some("stream") => Ok(SocketType::STREAM),
            Some("seqpacket") => Ok(SocketType::SEQPACKET),
            Some(other) => bail!("dgram, stream or seqpacket, not {other}"),
        }
    }

    fn patience(&mut self) -> Result<Patience> {
        match self.0.next() {
            None | Some("nb") => Ok(Patience::None),
            Some("wait") => Ok(Patience::InThread),
            Some("block") => Ok(Patience::Here),
            Some(other) => bail!("nb, wait or block, not {other}"),
        }
    }

    fn on_alarm(&mut self) -> Result<OnAlarm> {
        match self.word("die, interrupt or restart")? {
            "die" => Ok(OnAlarm::Die),
            "interrupt" => Ok(OnAlarm::Interrupt),
            "restart" => Ok(OnAlarm::Restart),
            other => bail!("die, interrupt or restart, not {other}"),
        }
    }

    fn unlock(&mut self, request: Request) -> Result<Command> {
        Ok(Command::Lock { fd: self.number("a descriptor")?, request, patience: Patience::None })
    }

    fn range(&mut self, kind: RangeKind, locks: bool) -> Result<Command> {
        let fd = self.number("a descriptor")?;
        let lock = if locks { self.lock()? } else { libc::F_UNLCK };
        let (start, len) = (self.number("a start")?, self.number("a length")?);
        let patience = if locks { self.patience()? } else { Patience::None };
        Ok(Command::Lock { fd, request: Request::Range(kind, lock, start, len), patience })
    }
}

fn decoded(word: &str) -> Result<Vec<u8>> {
    decode(word).with_context(|| format!("{word} is not percent-encoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_commands() {
        let check = |line: &str, expect: Command| assert_eq!(Command::parse(line).unwrap(), expect, "{line}");
        check(
            "open /a%20b ro cloexec as 0",
            Command::Open { path: b"/a b".into(), flags: libc::O_RDONLY | libc::O_CLOEXEC, number: Some(0) },
        );
        check(
            "flock 3 ex wait",
            Command::Lock { fd: 3, request: Request::Flock(libc::LOCK_EX), patience: Patience::InThread },
        );
        check(
            "posix 3 r 10 0",
            Command::Lock {
                fd: 3,
                request: Request::Range(RangeKind::Posix, libc::F_RDLCK, 10, 0),
                patience: Patience::None,
            },
        );
        check(
            "ofdun 4 5 6",
            Command::Lock {
                fd: 4,
                request: Request::Range(RangeKind::Ofd, libc::F_UNLCK, 5, 6),
                patience: Patience::None,
            },
        );
        check("spawn sleep 60", Command::Spawn(vec![b"sleep".into(), b"60".into()]));
        check("sendfd 3 over 9", Command::SendOver { fd: 3, socket: 9 });
        check("sendfd 3 /s stream", Command::SendFd { fd: 3, to: b"/s".into(), kind: SocketType::STREAM });
        check("timer 50 restart", Command::Timer { ms: 50, restart: true });
        check("dup 3 as 9", Command::Dup { fd: 3, number: Some(9) });
    }

    #[test]
    fn errors_name_the_word() {
        let check = |line: &str, expect: &str| assert_eq!(Command::parse(line).unwrap_err().to_string(), expect);
        check("", "a command is missing");
        check("dance", "unknown command: dance");
        check("flock x ex", "x is not a descriptor");
        check("flock 3 ex soon", "nb, wait or block, not soon");
        check("close 3 4", "superfluous word: 4");
    }
}
