//! Does what the lines say.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process,
    sync::mpsc,
};

use anyhow::{Context, Result, bail};

use super::{
    channel::Channel,
    command::Command,
    hidden,
    lock::{Patience, error_name},
    sockets,
};
use crate::sys;

/// How long a locker lives at most, whatever becomes of its test: long enough for every test, short enough that
/// nothing forgotten stays.
pub const LIFE_SECONDS: u32 = 120;

/// The whole program: commands from standard input until it ends.
pub fn main() -> Result<()> {
    sys::alarm(LIFE_SECONDS);
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        sys::obey(signal).context("obey a terminal's signals")?;
    }
    sys::interrupt_on(libc::SIGUSR1, false).context("handle SIGUSR1")?;
    // The kernel asks the holder of a lease with it to give the lease up.
    sys::interrupt_on(libc::SIGIO, false).context("handle SIGIO")?;
    let channel = Channel::from_fds(0, 1)?;
    // Whatever a test opens starts at fd 3, and programs that it spawns do not hold the test's pipes.
    let null = sys::open(b"/dev/null", libc::O_RDWR | libc::O_CLOEXEC).context("open /dev/null")?;
    for number in [0, 1] {
        sys::dup_as(null, number, false).context("replace the standard descriptors")?;
    }
    sys::close(null)?;
    Driver::new(channel).run()
}

struct Driver {
    channel: Channel,
    /// The thread of each wait, by the wait's number.
    waits: HashMap<u32, i32>,
    next_wait: u32,
}

/// What follows a command.
enum Next {
    Answer(String),
    /// The answer is already on its way.
    Answered,
    LeaderExits,
}

/// What becomes of the descriptors in a child.
#[derive(Clone, Copy)]
enum Files {
    Copied,
    Shared,
}

impl Driver {
    fn new(channel: Channel) -> Self {
        channel.answers().say(&format!("locker {}", process::id()));
        Self { channel, waits: HashMap::new(), next_wait: 1 }
    }

    fn run(mut self) -> Result<()> {
        while let Some(line) = self.channel.line()? {
            match Command::parse(&line).and_then(|command| self.obey(command)) {
                Ok(Next::Answer(rest)) => self.channel.answers().say(format!("ok {rest}").trim_end()),
                Ok(Next::Answered) => {}
                Ok(Next::LeaderExits) => self.go_on_in_another_thread(),
                Err(e) => self.channel.answers().say(&match e.downcast_ref::<io::Error>() {
                    Some(e) => format!("err {}", error_name(e)),
                    None => format!("err {e:#}"),
                }),
            }
        }
        // exit(3) would leave a blocked thread's lock to chance; this ends all threads at once.
        sys::exit(0)
    }

    fn obey(&mut self, command: Command) -> Result<Next> {
        let answer = match command {
            Command::Open { path, flags, number } => numbered(sys::open(&path, flags)?, number, flags)?.to_string(),
            Command::Dup { fd, number } => match number {
                Some(number) => sys::dup_as(fd, number, false)?,
                None => sys::dup(fd)?,
            }
            .to_string(),
            Command::Close(fd) => done(sys::close(fd)?),
            Command::Lock { fd, request, patience: Patience::None } => done(request.perform(fd, false)?),
            Command::Lock { fd, request, patience } => {
                return self.perform(move || request.perform(fd, true), patience == Patience::InThread);
            }
            Command::Interrupt(wait) => {
                let tid = self.waits.get(&wait).with_context(|| format!("no wait has number {wait}"))?;
                done(sys::kill_thread(*tid, libc::SIGUSR1)?)
            }
            Command::Fork(socket) => return self.fork(&socket, Files::Copied),
            Command::CloneFiles(socket) => return self.fork(&socket, Files::Shared),
            Command::Spawn(words) => program(&words)?.spawn()?.id().to_string(),
            Command::Exec(words) => {
                let mut program = program(&words)?;
                self.channel.answers().say("ok");
                bail!(program.exec());
            }
            Command::Wait(pid) => {
                let status = sys::wait_for(pid)?;
                match status.signal() {
                    Some(signal) => format!("signal {signal}"),
                    None => format!("code {}", status.code().unwrap_or_default()),
                }
            }
            Command::NewPids => done(sys::new_pids()?),
            Command::Bind { path, kind } => sockets::bind(&path, kind)?.to_string(),
            Command::Accept(fd) => sockets::accept(fd)?.to_string(),
            Command::SocketPair(kind) => {
                let (one, other) = sockets::pair(kind)?;
                format!("{one} {other}")
            }
            Command::SendFd { fd, to, kind } => done(sockets::send_to(fd, &to, kind)?),
            Command::SendOver { fd, socket } => done(sockets::send_over(fd, socket)?),
            Command::RecvFd { fd, number } => numbered(sockets::receive(fd)?, number, 0)?.to_string(),
            Command::Map(fd) => sys::map(fd)?.to_string(),
            Command::Unmap(address) => done(sys::unmap(address)?),
            Command::Ring(fd) => hidden::ring(fd)?.to_string(),
            Command::Loop(fd) => hidden::attach_loop(fd)?,
            Command::Timer { ms, restart } => {
                sys::interrupt_on(libc::SIGUSR2, restart)?;
                done(sys::timer(libc::SIGUSR2, ms)?)
            }
            Command::Setsid => done(sys::setsid()?),
            Command::Comm(name) => done(sys::set_comm(&name)?),
            Command::Pid => process::id().to_string(),
            Command::PidFile(fd) => {
                sys::empty(fd)?;
                done(sys::write(fd, format!("{}\n", process::id()).as_bytes())?)
            }
            Command::Write { fd, text } => done(sys::write(fd, &text)?),
            Command::LeaderExit => return Ok(Next::LeaderExits),
            Command::Raise(signal) => {
                self.channel.answers().say("ok");
                sys::kill(process::id().cast_signed(), signal)?;
                return Ok(Next::Answered);
            }
            Command::Ignore(signal) => done(sys::ignore(signal)?),
            Command::Exit(code) => {
                self.channel.answers().say("ok");
                sys::exit(code)
            }
            Command::Alarm(milliseconds, on_alarm) => done(sys::alarm_in(milliseconds, on_alarm)?),
            Command::Break { path, flags } => {
                let open = move || sys::open(&path, flags | libc::O_CLOEXEC).and_then(sys::close);
                return self.perform(open, true);
            }
            Command::Crash(directory) => {
                self.channel.answers().say("ok");
                done(sys::crash(&directory)?)
            }
            Command::Eat => {
                self.channel.answers().say("ok");
                sys::eat_memory()
            }
        };
        Ok(Next::Answer(answer))
    }

    /// Announces the wait before it begins, so that `granted` never overtakes `ok waiting`.
    fn perform(&mut self, request: impl FnOnce() -> io::Result<()> + Send + 'static, in_thread: bool) -> Result<Next> {
        let answers = self.channel.answers();
        let number = self.next_wait;
        self.next_wait += 1;
        let wait = move || match request() {
            Ok(()) => answers.say(&format!("granted {number}")),
            Err(e) => answers.say(&format!("ended {number} {}", error_name(&e))),
        };
        if !in_thread {
            answers.say(&format!("ok waiting {number}"));
            wait();
            return Ok(Next::Answered);
        }
        let (send, tid) = mpsc::channel();
        std::thread::Builder::new().name("wait".into()).spawn(move || {
            answers.say(&format!("ok waiting {number}"));
            let _ = send.send(sys::thread_id());
            wait();
        })?;
        self.waits.insert(number, tid.recv()?);
        Ok(Next::Answered)
    }

    /// The child takes its commands from whoever listens on `socket`.
    fn fork(&mut self, socket: &[u8], files: Files) -> Result<Next> {
        let pid = match files {
            Files::Copied => sys::fork()?,
            Files::Shared => sys::clone_files()?,
        };
        if let Some(pid) = pid {
            return Ok(Next::Answer(pid.to_string()));
        }
        sys::alarm(LIFE_SECONDS);
        match self.leave_parent(socket, files) {
            Ok(()) => Ok(Next::Answered),
            Err(e) => {
                eprintln!("locker: fork: {e:#}");
                sys::exit(1)
            }
        }
    }

    fn leave_parent(&mut self, socket: &[u8], files: Files) -> Result<()> {
        let stream = OwnedFd::from(UnixStream::connect(os(socket)).context("connect to the test")?);
        let channel = Channel::from_fds(stream.as_raw_fd(), stream.as_raw_fd())?;
        let parents = std::mem::replace(self, Self::new(channel)).channel;
        match files {
            // The parent's channel must close when the parent ends, though this child lives on.
            Files::Copied => parents.close(),
            // To close it here would close it there.
            Files::Shared => Ok(()),
        }
    }

    fn go_on_in_another_thread(self) -> ! {
        let another = std::thread::Builder::new().name("driver".into()).spawn(move || {
            let stat = format!("/proc/self/task/{}/stat", process::id());
            // The field after the name in parentheses is the state (proc_pid_stat(5)).
            while !std::fs::read_to_string(&stat)
                .is_ok_and(|s| s.rsplit(')').next().is_some_and(|s| s.starts_with(" Z")))
            {
                std::thread::yield_now();
            }
            self.channel.answers().say("ok");
            if let Err(e) = self.run() {
                eprintln!("locker: {e:#}");
            }
        });
        match another {
            Ok(_) => sys::exit_thread(),
            Err(_) => sys::exit(1),
        }
    }
}

fn done<T>(_: T) -> String {
    String::new()
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Gives `fd` the number that was asked for.
fn numbered(fd: i32, number: Option<i32>, flags: i32) -> Result<i32> {
    match number {
        Some(number) if number != fd => {
            sys::dup_as(fd, number, flags & libc::O_CLOEXEC != 0)?;
            sys::close(fd)?;
            Ok(number)
        }
        _ => Ok(fd),
    }
}

fn program(words: &[Vec<u8>]) -> Result<process::Command> {
    let mut words = words.iter().map(|word| OsString::from_vec(word.clone()));
    let mut command = process::Command::new(words.next().context("a program is missing")?);
    command.args(words);
    Ok(command)
}
