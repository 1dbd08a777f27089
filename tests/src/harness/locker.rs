//! A locker in a test's hand.

use std::{
    fs::File,
    io::Write,
    os::unix::{ffi::OsStrExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::socket_peercred,
};

use super::{
    lines::Lines,
    proc_locks::proc_locks_of,
    process::Process,
    scene::Scene,
    until::{PATIENCE, until},
};
use crate::locker::words::encode;

/// A running locker; it ends when this value does. `lockwatch_tests::locker` has its commands.
pub struct Locker {
    process: Process,
    /// `None` once nothing more is to be said.
    commands: Option<Box<dyn Write + Send>>,
    answers: Lines,
}

/// A loop device that somebody has attached; it detaches itself when nobody has it open any more.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loop0`.
    pub name: PathBuf,
    _open: File,
}

/// A request that has been made and not been answered by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub u32);

impl Locker {
    /// Starts one.
    pub(super) fn start(path: &Path) -> Self {
        let mut child = Command::new(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", path.display()));
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("the locker has no pipes")
        };
        Self::greet(Process::of_child(child), Box::new(stdin), Lines::from(stdout))
    }

    fn greet(process: Process, commands: Box<dyn Write + Send>, answers: Lines) -> Self {
        let greeted = answers.take(|line| line.starts_with("locker "));
        assert!(greeted.is_some(), "pid {} does not greet, but says {:?}", process.pid(), answers.heard());
        Self { process, commands: Some(commands), answers }
    }

    /// Gives a command and returns the answer behind `ok`, or the error behind `err`.
    pub fn ask(&mut self, command: &str) -> Result<String, String> {
        if let Some(commands) = &mut self.commands {
            writeln!(commands, "{command}").unwrap_or_else(|e| panic!("{command:?} to pid {}: {e}", self.pid()));
        }
        let answer = self.answers.take(|line| line.starts_with("ok") || line.starts_with("err "));
        let Some((_, answer)) = answer else {
            panic!("pid {} does not answer {command:?}, said {:?}", self.pid(), self.answers.heard())
        };
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None => Err(answer.trim_start_matches("err ").to_owned()),
        }
    }

    /// Gives a command that must succeed.
    pub fn tell(&mut self, command: &str) -> String {
        self.ask(command).unwrap_or_else(|e| panic!("pid {}: {command}: {e}", self.pid()))
    }

    /// Gives a command whose answer is a number.
    pub fn number<T: std::str::FromStr>(&mut self, command: &str) -> T {
        let answer = self.tell(command);
        answer.parse().unwrap_or_else(|_| panic!("{command}: {answer:?} is no number"))
    }

    /// Opens a file; `how` is the rest of the command (`ro cloexec as 9`). The descriptor's number.
    pub fn open(&mut self, path: &Path, how: &str) -> i32 {
        self.number(&format!("open {} {how}", encode(path.as_os_str().as_bytes())))
    }

    /// Asks for a lock (`flock 3 ex`) of `path` in a thread of the locker, and returns when the kernel shows one more
    /// waiter on that file.
    pub fn wait_for(&mut self, path: &Path, request: &str) -> Wait {
        self.request(path, &format!("{request} wait"))
    }

    /// Like [`Locker::wait_for`], but in the main thread, which is deaf until the wait ends.
    pub fn block_on(&mut self, path: &Path, request: &str) -> Wait {
        self.request(path, &format!("{request} block"))
    }

    /// Asks for a lock (`flock 3 ex`) that somebody else has, in the main thread, which is deaf until the wait ends:
    /// for one that may have ended before anybody could see it.
    pub fn block_briefly(&mut self, request: &str) -> Wait {
        self.begin(&format!("{request} block"))
    }

    fn request(&mut self, path: &Path, command: &str) -> Wait {
        let waiters = || proc_locks_of(path).iter().filter(|lock| lock.waits).count();
        let before = waiters();
        let wait = self.begin(command);
        until(&format!("{command:?} waits"), || (waiters() > before).then_some(()));
        wait
    }

    fn begin(&mut self, command: &str) -> Wait {
        let answer = self.tell(command);
        let number = answer.strip_prefix("waiting ").and_then(|n| n.parse().ok());
        Wait(number.unwrap_or_else(|| panic!("{command}: {answer:?} is no wait")))
    }

    /// Waits until the kernel has granted it.
    pub fn granted(&self, wait: Wait) {
        self.hear(&format!("granted {}", wait.0));
    }

    /// Waits until the wait has ended with this error.
    pub fn ended(&self, wait: Wait, error: &str) {
        self.hear(&format!("ended {} {error}", wait.0));
    }

    fn hear(&self, expect: &str) {
        let heard = self.answers.take(|line| line == expect);
        assert!(heard.is_some(), "pid {} never said {expect:?}, but {:?}", self.pid(), self.answers.heard());
    }

    /// Forks it. The child is a locker of its own and outlives its parent.
    pub fn fork(&mut self, scene: &Scene) -> Locker {
        self.child(scene, "fork")
    }

    /// Forks it so that both share one table of descriptors.
    pub fn clone_files(&mut self, scene: &Scene) -> Locker {
        self.child(scene, "clone-files")
    }

    fn child(&mut self, scene: &Scene, how: &str) -> Locker {
        let socket = scene.socket();
        let listener = UnixListener::bind(&socket).unwrap_or_else(|e| panic!("bind {}: {e}", socket.display()));
        self.tell(&format!("{how} {}", encode(socket.as_os_str().as_bytes())));
        let timeout = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let called = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&timeout));
        assert!(matches!(called, Ok(1)), "the child of pid {} does not call", self.pid());
        let stream = listener.accept().and_then(|(stream, _)| Ok((stream.try_clone()?, stream)));
        let (commands, answers) = stream.unwrap_or_else(|e| panic!("accept a child of pid {}: {e}", self.pid()));
        // Its number here: the one it knows itself by is another in another pid namespace.
        let peer = socket_peercred(&commands).unwrap_or_else(|e| panic!("ask who calls: {e}"));
        let child = Process::of_pid(peer.pid.as_raw_nonzero().get().cast_unsigned());
        Self::greet(child, Box::new(commands), Lines::from(answers))
    }

    /// Attaches a descriptor to a loop device, which stays until the value is gone and the locker too.
    pub fn attach_loop(&mut self, fd: i32) -> LoopDevice {
        let name = PathBuf::from(self.tell(&format!("loop {fd}")));
        let open = File::open(&name).unwrap_or_else(|e| panic!("open {}: {e}", name.display()));
        LoopDevice { name, _open: open }
    }

    /// Starts a program that inherits the locker's descriptors.
    pub fn spawn(&mut self, words: &str) -> Process {
        Process::of_pid(self.number(&format!("spawn {words}")))
    }

    /// Becomes another program, and returns when it has.
    pub fn exec(mut self, words: &str) -> Process {
        self.tell(&format!("exec {words}"));
        assert!(self.answers.closed(), "pid {} is no other program yet", self.pid());
        assert!(self.process.lives(), "pid {} died instead of becoming {words:?}", self.pid());
        self.process
    }

    /// Exits with this code, and waits for its end.
    pub fn exit(mut self, code: i32) -> u32 {
        self.tell(&format!("exit {code}"));
        self.process.wait();
        self.pid()
    }

    /// Kills it with SIGKILL and waits for its end. Its number, which the kernel may give away from now on.
    pub fn kill(mut self) -> u32 {
        self.process.kill();
        self.pid()
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
