//! A lockwatch agent that runs while a test acts.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    process::Process,
    program::{lockwatch_command, lockwatch_path, plain},
    scene::Scene,
    until::PATIENCE,
    watcher::Watcher,
};

/// A running `lockwatch agent`, ready; it ends when this value does.
pub struct HostAgent {
    watcher: Watcher,
    notices: UnixDatagram,
    place: Place,
}

/// Puts the sockets, which come as stdin and stderr, where systemd puts them (sd_listen_fds(3)), and becomes what follows.
const LIKE_SYSTEMD: &str = r#"
exec 3<&0 4<&2 </dev/null 2>"$LOG"
export LISTEN_FDS=2 LISTEN_PID=$$
exec unshare --mount --net sh -c 'mount -o remount,bind,ro / && exec "$@"' sh "$@"
"#;

/// What is its own.
struct Place {
    config: PathBuf,
    api_socket: PathBuf,
    address: SocketAddr,
}

impl Place {
    fn configure(&self, config: &str) {
        let Self { address, api_socket, .. } = self;
        let text = format!("[agent]\nlisten = '{address}'\napi_socket = '{}'\n{config}\n", api_socket.display());
        fs::write(&self.config, text).unwrap_or_else(|e| panic!("write {}: {e}", self.config.display()));
    }
}

impl HostAgent {
    /// Starts one whose configuration, socket and port are its own. `config` is TOML that goes into its file after
    /// `[agent]` with `listen` and `api_socket`.
    pub fn start(scene: &Scene, config: &str) -> Self {
        Self::start_with(scene, config, |_| {})
    }

    /// The same, with the command changed before it starts.
    ///
    /// # Panics
    ///
    /// When it does not get ready.
    pub fn start_with(scene: &Scene, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let place =
            Place { config: scene.path("agent.toml"), api_socket: scene.path("agent.sock"), address: free_port() };
        let mut command = lockwatch_command();
        change(&mut command);
        Self::begin(scene, config, place, command)
    }

    /// One as systemd starts it: its sockets are made by somebody else, it has no network, and nothing on the root file
    /// system can be written. `rights` is the call before the program, `tracer` one before all. What the agent says on
    /// stderr is in `agent.log`.
    ///
    /// # Panics
    ///
    /// When it does not get ready.
    pub fn start_as_service(scene: &Scene, config: &str, tracer: &[&str], rights: &[String]) -> Self {
        let api_socket = scene.path("agent.sock");
        let unix = UnixListener::bind(&api_socket).unwrap_or_else(|e| panic!("bind {}: {e}", api_socket.display()));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("find a free port: {e}"));
        let address = tcp.local_addr().unwrap_or_else(|e| panic!("ask for the port: {e}"));
        let mut words = tracer.to_vec();
        words.extend(["sh", "-c", LIKE_SYSTEMD, "sh"]);
        let mut command = plain(words[0]);
        command.args(&words[1..]).args(rights).arg(lockwatch_path());
        command.env("LOG", scene.path("agent.log"));
        command.stdin(Stdio::from(OwnedFd::from(unix))).stderr(Stdio::from(OwnedFd::from(tcp)));
        Self::begin(scene, config, Place { config: scene.path("agent.toml"), api_socket, address }, command)
    }

    fn begin(scene: &Scene, config: &str, place: Place, mut command: Command) -> Self {
        let notify = scene.path("notify.sock");
        let _ = fs::remove_file(&notify); // of an agent before this one
        let notices = UnixDatagram::bind(&notify).unwrap_or_else(|e| panic!("bind {}: {e}", notify.display()));
        notices.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|e| panic!("limit the wait for notices: {e}"));
        // Like systemd's, which looks who has written.
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o666))
            .unwrap_or_else(|e| panic!("open {}: {e}", notify.display()));
        place.configure(config);
        // Its file says where, and a variable would outdo that.
        command.env_remove("LOCKWATCH_API_SOCKET").env("NOTIFY_SOCKET", &notify);
        command.args(["agent", "--log", "json", "--config"]).arg(&place.config);
        let agent = Self { watcher: Watcher::of(command), notices, place };
        agent.notice("READY=1");
        agent
    }

    /// Writes its file anew; it reads it at SIGHUP.
    pub fn configure(&self, config: &str) {
        self.place.configure(config);
    }

    /// What it prints, and its process.
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.watcher.process_mut()
    }

    /// Where it answers commands.
    pub fn api_socket(&self) -> &Path {
        &self.place.api_socket
    }

    /// Where it answers HTTP.
    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// Forgets all notices so far: an agent waits for a service manager that does not listen.
    pub fn forget_notices(&self) {
        let _ = self.notices.set_nonblocking(true);
        while self.notices.recv(&mut [0; 1]).is_ok() {}
        let _ = self.notices.set_nonblocking(false);
    }

    /// Waits for a notice to the service manager that has this in it, and returns it; forgets those before.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn notice(&self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.notices.recv(&mut buffer).unwrap_or_else(|e| {
                panic!("no notice {wanted}: {e}; it said:\n{:?}", self.watcher.events());
            });
            let said = String::from_utf8_lossy(&buffer[..length]);
            if said.contains(wanted) {
                return said.into_owned();
            }
        }
    }
}

/// A port of the loopback that was free a moment ago.
///
/// # Panics
///
/// When there is none.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("find a free port: {e}"));
    listener.local_addr().unwrap_or_else(|e| panic!("ask for the port: {e}"))
}
