//! Programs: where they are, and one run of lockwatch from start to end.

use std::{
    env,
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::process::Process;
use crate::contract;

/// After this a run has hung: long enough for a hundred thousand locks on a busy machine.
const LONGEST_RUN: Duration = Duration::from_secs(100);

/// What a run of lockwatch left behind.
#[derive(Debug)]
pub struct Run {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: String,
}

impl Run {
    /// Standard output as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|e| panic!("standard output is not UTF-8: {e}"))
    }

    /// Standard output as one JSON document, of a run that succeeded.
    ///
    /// # Panics
    ///
    /// When it failed, or printed something else.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "lockwatch failed: {}", self.stderr);
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }

    /// Standard output as a document of locks, every field of it checked.
    ///
    /// # Panics
    ///
    /// When it failed, or breaks the contract.
    pub fn document(&self) -> Value {
        let document = self.json();
        let differences = contract::differences(&document, contract::LOCKS);
        assert_eq!(differences, [""; 0], "the document breaks the contract: {document:#}");
        document
    }
}

/// Runs lockwatch to its end.
///
/// # Panics
///
/// When it cannot be started.
pub fn lockwatch<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    run(lockwatch_command().args(args))
}

/// The command, before its arguments: a plain environment, no agent.
pub fn lockwatch_command() -> Command {
    plain(lockwatch_path())
}

/// Any command, before its arguments, in the environment that lockwatch is run in: for a program that runs it in turn.
pub fn plain(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("NO_COLOR", "1").env("LOCKWATCH_API_SOCKET", "/nonexistent/lockwatch-tests.sock").stdin(Stdio::null());
    command
}

/// Where the program under test is: `LOCKWATCH_BIN`, else beside the tests, where cargo builds it.
pub fn lockwatch_path() -> PathBuf {
    env::var_os("LOCKWATCH_BIN").map_or_else(|| program("lockwatch"), PathBuf::from)
}

/// Runs a command to its end and keeps what it says.
///
/// # Panics
///
/// When it cannot be started.
pub fn run(command: &mut Command) -> Run {
    let name = command.get_program().to_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {}: {e}", name.display()));
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = Process::of_child(child).wait_within(LONGEST_RUN);
    let text = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Run {
        code: status.and_then(|status| status.code()),
        stdout: text(stdout),
        stderr: String::from_utf8_lossy(&text(stderr)).into_owned(),
    }
}

/// Where a program of this workspace is: beside the running test, and built if it is not there.
///
/// # Panics
///
/// When it cannot be built.
pub fn program(name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let test = env::current_exe().unwrap_or_else(|e| panic!("find the running test: {e}"));
    // Tests are in target/PROFILE/deps, programs in target/PROFILE.
    let dir = test.parent().map(|dir| if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir });
    let dir = dir.unwrap_or(Path::new("."));
    let path = dir.join(name);
    if !path.exists() {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let package = if name == "lockwatch" { "lockwatch" } else { "lockwatch-tests" };
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--package", package, "--bin", name]);
        cargo.arg("--target-dir").arg(dir.parent().unwrap_or(dir));
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().is_ok_and(|status| status.success()), "{cargo:?} failed");
    }
    path
}

fn drain(source: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut source) = source {
            let _ = source.read_to_end(&mut all);
        }
        all
    })
}
