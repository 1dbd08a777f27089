//! A control socket of a test's own, and those who come to it.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use serde_json::Value;

use super::{
    lines::Lines,
    process::Process,
    program::{Run, lockwatch_command, plain, program, run},
    scene::Scene,
    until::{PATIENCE, until},
};

/// The group whose members may connect: a number that nobody has.
const GROUP: u32 = 61_234;

/// Somebody, by number of user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User(u32, u32);

impl User {
    /// root.
    pub const ROOT: User = User(0, 0);
    /// Members of the group.
    pub const ANN: User = User(61_001, GROUP);
    /// Another one.
    pub const BOB: User = User(61_002, GROUP);
    /// The agent's user.
    pub const AGENT: User = User(61_990, GROUP);
    /// Not a member.
    pub const EVE: User = User(61_003, 61_003);

    /// The number of the user.
    pub fn uid(self) -> u32 {
        self.0
    }

    /// The number of its group.
    pub fn gid(self) -> u32 {
        self.1
    }
}

/// `lockwatch control --listen`, as long as this lives.
#[derive(Debug)]
pub struct Door {
    process: Process,
    said: Lines,
    dir: PathBuf,
    lockwatch: PathBuf,
    caller: PathBuf,
}

/// Somebody who is connected.
#[derive(Debug)]
pub struct Caller {
    process: Process,
    stdin: Option<ChildStdin>,
    heard: Lines,
}

impl Door {
    /// Listens in a directory of the scene's, with this in the part `[control]` of its configuration.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn open(scene: &Scene, control: &str) -> Self {
        let dir = scene.path("door");
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("make {}: {e}", dir.display()));
        mode(&dir, 0o755);
        let config = dir.join("config.toml");
        let (log, pending) = (dir.join("log/audit.jsonl"), dir.join("pending"));
        let text = format!("[control]\naudit_log = {log:?}\npending = {pending:?}\n{control}\n");
        fs::write(&config, text).unwrap_or_else(|e| panic!("write {}: {e}", config.display()));
        mode(&config, 0o644);
        let mut child = lockwatch_command()
            .args(["control", "--group", &GROUP.to_string(), "--listen"])
            .arg(dir.join("socket"))
            .arg("--config")
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start lockwatch control: {e}"));
        let stderr = child.stderr.take().unwrap_or_else(|| panic!("lockwatch control has no stderr"));
        let (process, said) = (Process::of_child(child), Lines::from(stderr));
        let caller = scene.copy(&program("caller"));
        let door = Self { process, said, dir, lockwatch: scene.lockwatch(), caller };
        until("control listens", || {
            assert!(door.process.lives(), "control has ended: {:?}", door.said.heard());
            fs::metadata(door.socket()).ok().filter(|meta| meta.mode() & 0o777 == 0o660)
        });
        door
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// What control has said on stderr, once `wanted` finds it there.
    pub fn says(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.said.take(wanted).is_some()
    }

    /// Runs lockwatch as this user, with `--json`, at this socket.
    pub fn lockwatch(&self, user: User, args: &[&str]) -> Run {
        let mut command = plain(&self.lockwatch);
        command.args(args).arg("--json").arg("--control-socket").arg(self.socket());
        run(be(&mut command, user))
    }

    /// Connects as this user.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn call(&self, user: User) -> Caller {
        let caller = self.try_call(user);
        assert!(caller.hears(|line| line == "connected"), "{user:?} cannot connect");
        caller
    }

    /// Tries to connect as this user; who may not ends without a word.
    ///
    /// # Panics
    ///
    /// When nobody can try.
    pub fn try_call(&self, user: User) -> Caller {
        let mut command = plain(&self.caller);
        command.arg(self.socket()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = be(&mut command, user).spawn().unwrap_or_else(|e| panic!("start a caller: {e}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap_or_else(|| panic!("a caller has no stdout"));
        Caller { process: Process::of_child(child), stdin, heard: Lines::from(stdout) }
    }

    /// The processes that serve a connection now.
    pub fn serving(&self) -> Vec<u32> {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// What is on record.
    ///
    /// # Panics
    ///
    /// When it is no record.
    pub fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.join("log/audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
    }

    /// How many were turned away, a letter for each.
    pub fn turned_away(&self) -> String {
        fs::read_to_string(self.dir.join("turned-away")).unwrap_or_default()
    }
}

impl Caller {
    /// Sends bytes; who is not listened to any more may not be able to.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush());
        }
    }

    /// Says that nothing more will be said.
    pub fn be_silent(&mut self) {
        self.stdin = None;
    }

    /// Waits for a line that `wanted` accepts; whether it came before the other side hung up.
    pub fn hears(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.heard.take(wanted).is_some()
    }

    /// Waits for the next line, which is JSON; as long as control waits for a look, on a busy machine.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn answer(&self) -> Value {
        let line = (0..5).find_map(|_| self.heard.take(|_| true));
        let (_, line) = line.unwrap_or_else(|| panic!("no answer came"));
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}"))
    }

    /// Waits until the other side has hung up, and returns what it said that nobody has taken.
    pub fn hung_up(mut self) -> Vec<String> {
        self.process.wait_within(5 * PATIENCE);
        self.heard.take(|_| false);
        self.heard.heard()
    }
}

/// Without any further group: the standard library clears them.
fn be(command: &mut Command, User(uid, gid): User) -> &mut Command {
    command.uid(uid).gid(gid)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("set the mode of {}: {e}", path.display()));
}
