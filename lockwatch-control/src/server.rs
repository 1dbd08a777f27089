//! One connection, served once: a request, perhaps a confirmation, an answer.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    document::Document,
    front::Front,
    peer::Peer,
    protocol::{Answer, Confirmation, LONGEST_LINE, Request},
    turned_away::{Counter, Rejection},
};

/// How long somebody may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To send a whole request, from the connection on.
    pub request: Duration,
    /// To confirm a plan, from its sending on.
    pub confirm: Duration,
    /// To take what is sent.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { request: seconds(5), confirm: seconds(300), answer: seconds(5) }
    }
}

/// Whoever is connected, and the connection.
#[derive(Debug)]
pub struct Caller {
    peer: Peer,
    line: Line,
}

impl Caller {
    /// Whoever is connected to stdin, as systemd (`Accept=yes`, `StandardInput=socket`) and [`crate::client`] hand over a
    /// connection. Stdin is /dev/null afterwards, so that no child of this process keeps the connection open.
    ///
    /// # Errors
    ///
    /// Stdin is no connected unix socket, or somebody is there who must not be served.
    pub fn on_stdin() -> anyhow::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3).context("duplicate stdin")?;
        let null = OpenOptions::new().read(true).open("/dev/null").context("open /dev/null")?;
        rustix::stdio::dup2_stdin(&null).context("put /dev/null in the place of stdin")?;
        Self::new(socket.into(), Patience::default()).context("stdin is for the control socket alone")
    }

    /// Whoever is at the other end.
    ///
    /// # Errors
    ///
    /// It is no connected unix socket, or somebody is there who must not be served.
    pub fn new(stream: UnixStream, patience: Patience) -> anyhow::Result<Self> {
        let peer = Peer::of(&stream)?;
        stream.set_write_timeout(Some(patience.answer)).context("set a time for answers")?;
        let since = Instant::now();
        Ok(Self { peer, line: Line { stream, patience, since } })
    }

    /// Who it is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Reads the request, has `act` carry it out, and answers with what that returns. What is no request is closed without
    /// an answer, logged and counted, and `act` never hears of it.
    ///
    /// # Errors
    ///
    /// The answer could not be sent; whatever `act` has done is done.
    pub fn serve(
        mut self,
        counter: &mut Counter,
        act: impl FnOnce(&Request, &Peer, &mut dyn Front) -> anyhow::Result<Document>,
    ) -> anyhow::Result<()> {
        let Self { peer, line } = &mut self;
        let acted = line.request().map_err(anyhow::Error::from).and_then(|request| {
            let (given, interactive) = match &request {
                Request::Clear(clear) => (clear.confirm.clone(), clear.interactive && !clear.dry_run),
                Request::Approve(approve) => (Some(approve.code.clone()), false),
            };
            act(&request, peer, &mut SocketFront { line, given, interactive })
        });
        match acted {
            Ok(document) => line.say(&Answer::Done(document)),
            Err(error) => match error.downcast_ref::<Rejection>() {
                Some(rejection) => {
                    log::warn!("turned away {peer}: {rejection}");
                    counter.add(rejection);
                    Ok(())
                }
                None => line.say(&Answer::Error(format!("{error:#}"))),
            },
        }
    }

    /// Says that nothing can be done at all, whatever is asked.
    ///
    /// # Errors
    ///
    /// It could not be said.
    pub fn fail(self, error: &anyhow::Error) -> anyhow::Result<()> {
        self.line.say(&Answer::Error(format!("{error:#}")))
    }
}

/// Asks whoever is connected for the code: the one that came with the request, or one that is typed now.
struct SocketFront<'a> {
    line: &'a mut Line,
    given: Option<String>,
    interactive: bool,
}

impl Front for SocketFront<'_> {
    fn is_there(&self) -> bool {
        self.given.is_some() || self.interactive
    }

    fn confirm(&mut self, plan: &Document) -> anyhow::Result<Option<String>> {
        match self.given.take() {
            Some(code) => Ok(Some(code)),
            None if self.interactive => self.line.confirmation(plan),
            None => Ok(None),
        }
    }
}

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    patience: Patience,
    since: Instant,
}

impl Line {
    fn request(&mut self) -> Result<Request, Rejection> {
        let line = self.read(self.since + self.patience.request)?;
        Request::read(&line).map_err(Rejection::Malformed)
    }

    /// Shows a plan and reads what is said to it.
    fn confirmation(&mut self, plan: &Document) -> anyhow::Result<Option<String>> {
        match self.peek() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) => return Err(Rejection::Gone.into()),
            Ok(_) => return Err(Rejection::Extra.into()),
            Err(error) => return Err(error).context("read from the control socket"),
        }
        self.say(&Answer::Plan(plan.clone()))?;
        match self.read(Instant::now() + self.patience.confirm) {
            // Somebody was asked, and has gone to think about it.
            Err(Rejection::Slow) => Ok(None),
            line => Ok(Confirmation::read(&line?).map_err(Rejection::Malformed)?.confirm),
        }
    }

    fn peek(&self) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        let (_, length) = recv(&self.stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        Ok(length)
    }

    /// One line, and nothing after it.
    fn read(&mut self, deadline: Instant) -> Result<Vec<u8>, Rejection> {
        let mut line = Vec::new();
        loop {
            if !self.is_readable_by(deadline) {
                return Err(Rejection::Slow);
            }
            let mut part = [0_u8; LONGEST_LINE];
            let length = match self.stream.read(&mut part[line.len()..]) {
                Ok(0) if line.is_empty() => return Err(Rejection::Gone),
                Ok(0) => return Err(Rejection::Malformed("half a line".into())),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Rejection::Gone),
            };
            let from = line.len();
            line.extend_from_slice(&part[from..from + length]);
            match line.iter().position(|b| *b == b'\n') {
                Some(end) if end + 1 < line.len() => return Err(Rejection::Extra),
                Some(end) => {
                    line.truncate(end);
                    return Ok(line);
                }
                None if line.len() >= LONGEST_LINE => return Err(Rejection::Oversized),
                None => {}
            }
        }
    }

    fn is_readable_by(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else { return false };
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn say(&self, answer: &Answer) -> anyhow::Result<()> {
        say(&self.stream, answer).context("answer on the control socket")
    }
}

/// Sends an answer.
pub(crate) fn say(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Malformed(why) => write!(f, "the request is malformed: {why}"),
            Rejection::Oversized => write!(f, "the request is longer than {LONGEST_LINE} bytes"),
            Rejection::Slow => write!(f, "nothing whole came in time"),
            Rejection::Extra => write!(f, "more came than was asked for"),
            Rejection::Gone => write!(f, "it has gone"),
        }
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use std::{io::BufRead, net::Shutdown, thread};

    use super::*;
    use crate::{document::Outcome, turned_away::Counts};

    const CLEAR: &str = "{\"clear\":{\"id\":\"f3k9\"}}\n";
    const INTERACTIVE: &str = "{\"clear\":{\"id\":\"f3k9\",\"interactive\":true}}\n";

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("LEFT OUT: needs root");
        }
        root
    }

    /// What a caller sends before it closes its side, or keeps it open.
    enum Then {
        Close,
        Stay,
    }

    fn patience() -> Patience {
        let seconds = Duration::from_secs;
        Patience { request: Duration::from_millis(300), confirm: seconds(20), answer: seconds(20) }
    }

    fn done(id: &str) -> Document {
        Document::new(id, Outcome::Cleared)
    }

    /// Serves one who says this; whether anything was done, what it heard, and who was counted.
    fn served(says: &[u8], then: &Then) -> (bool, String, Counts) {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut acted = false;
        thread::scope(|scope| {
            scope.spawn(|| {
                // Whoever is turned away may be gone before everything is said.
                let _ = theirs.write_all(says);
                if let Then::Close = then {
                    let _ = theirs.shutdown(Shutdown::Write);
                }
            });
            let caller = Caller::new(ours, patience()).unwrap();
            let act = |request: &Request, _: &Peer, front: &mut dyn Front| {
                let id = match request {
                    Request::Clear(clear) => clear.id.clone(),
                    Request::Approve(approve) => {
                        format!("{}+{}", approve.id, front.confirm(&done("x"))?.unwrap_or_default())
                    }
                };
                acted = true;
                Ok(done(&id))
            };
            caller.serve(&mut Counter::at(&count), act).unwrap();
        });
        let mut heard = String::new();
        theirs
            .read_to_string(&mut heard)
            .or_else(|error| match error.kind() {
                // What it said last was not read any more.
                ErrorKind::ConnectionReset => Ok(0),
                _ => Err(error),
            })
            .unwrap();
        (acted, heard, Counts::read(&count).unwrap())
    }

    #[test]
    fn whatever_is_no_request_is_closed_and_counted() {
        if !is_root() {
            return;
        }
        let none = Counts::default();
        let malformed = Counts { malformed: 1, ..none };
        let check = |says: &[u8], then, expect: Counts| {
            let (acted, heard, counts) = served(says, &then);
            assert_eq!((acted, heard.as_str(), counts), (false, "", expect), "{}", says.escape_ascii());
        };
        let spaces = [b' '; LONGEST_LINE];
        check(b"", Then::Close, none);
        check(b"", Then::Stay, Counts { slow: 1, ..none });
        check(CLEAR.trim_end().as_bytes(), Then::Stay, Counts { slow: 1, ..none });
        check(CLEAR.trim_end().as_bytes(), Then::Close, malformed);
        check(b"\n", Then::Stay, malformed);
        check(b"GET / HTTP/1.1\r\n", Then::Stay, malformed);
        check(b"\xff\xfe\x00\n", Then::Stay, malformed);
        check(b"{\"clear\":{\"id\":\"f3k9\",\"uid\":0}}\n", Then::Stay, malformed);
        check(&spaces, Then::Stay, Counts { oversized: 1, ..none });
        check(&spaces.repeat(1000), Then::Stay, Counts { oversized: 1, ..none });
        check(format!("{CLEAR}{{\"confirm\":\"x\"}}\n").as_bytes(), Then::Stay, Counts { extra: 1, ..none });
        check(format!("{CLEAR} ").as_bytes(), Then::Close, Counts { extra: 1, ..none });
    }

    #[test]
    fn a_request_is_answered() {
        if !is_root() {
            return;
        }
        let check = |says: &str, then, id: &str| {
            let (acted, heard, counts) = served(says.as_bytes(), &then);
            let answer: Answer = serde_json::from_str(heard.trim_end()).unwrap();
            assert_eq!((acted, answer, counts), (true, Answer::Done(done(id)), Counts::default()), "{says}");
        };
        check(CLEAR, Then::Stay, "f3k9");
        check(CLEAR, Then::Close, "f3k9");
        check("{\"approve\":{\"id\":\"f3\",\"code\":\"c\"}}\n", Then::Stay, "f3+c");
        let padded = format!("{}{CLEAR}", " ".repeat(LONGEST_LINE - CLEAR.len()));
        check(&padded, Then::Stay, "f3k9");
    }

    /// What asking for the code yields, of somebody who answers the plan with these bytes and then closes its side or not.
    /// With `early` they are there before the plan is.
    fn asked(answer: &str, early: bool, then: &Then) -> Result<Option<String>, String> {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let caller = Caller::new(ours, Patience { confirm: Duration::from_millis(300), ..patience() }).unwrap();
        let speak = || {
            let _ = (&theirs).write_all(answer.as_bytes());
            if let Then::Close = then {
                let _ = theirs.shutdown(Shutdown::Write);
            }
        };
        (&theirs).write_all(INTERACTIVE.as_bytes()).unwrap();
        let mut yielded = None;
        thread::scope(|scope| {
            if !early {
                scope.spawn(|| {
                    let mut line = String::new();
                    io::BufReader::new(&theirs).read_line(&mut line).unwrap();
                    assert!(line.starts_with(r#"{"plan":{"schema":"lockwatch.clear/1","id":"f3k9""#), "{line}");
                    speak();
                });
            }
            let act = |_: &Request, _: &Peer, front: &mut dyn Front| {
                assert!(front.is_there());
                if early {
                    speak();
                }
                let code = front.confirm(&done("f3k9"));
                yielded = Some(code.as_ref().map(Clone::clone).map_err(ToString::to_string));
                code.map(|_| done("f3k9"))
            };
            caller.serve(&mut Counter::at(std::path::Path::new("/nonexistent/count")), act).unwrap();
        });
        yielded.unwrap()
    }

    #[test]
    fn only_who_has_seen_the_plan_confirms_it() {
        if !is_root() {
            return;
        }
        let check = |answer: &str, early, then, expect: Result<Option<&str>, &str>| {
            let expect = expect.map(|code| code.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(asked(answer, early, &then), expect, "{answer}");
        };
        let code = "{\"confirm\":\"07xk-23mt\"}\n";
        check(code, false, Then::Stay, Ok(Some("07xk-23mt")));
        check(code, false, Then::Close, Ok(Some("07xk-23mt")));
        check("{\"confirm\":null}\n", false, Then::Stay, Ok(None));
        check(code, true, Then::Stay, Err("more came than was asked for"));
        check("", true, Then::Close, Err("it has gone"));
        check("", false, Then::Close, Err("it has gone"));
        check("", false, Then::Stay, Ok(None));
        check(&code.repeat(2), false, Then::Stay, Err("more came than was asked for"));
        let error = "the request is malformed: not what is asked for, at column 10";
        check("{\"conform\":\"07xk-23mt\"}\n", false, Then::Stay, Err(error));
        check(&"x".repeat(LONGEST_LINE), false, Then::Stay, Err("the request is longer than 4096 bytes"));
    }
}
