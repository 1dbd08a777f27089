//! A lockwatch agent that runs while a test acts.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
};

use super::{process::Process, program::lockwatch_command, scene::Scene, until::PATIENCE, watcher::Watcher};

/// A running `lockwatch agent`, ready; it ends when this value does.
pub struct HostAgent {
    watcher: Watcher,
    notices: UnixDatagram,
    place: Place,
}

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
        let notify = scene.path("notify.sock");
        let _ = fs::remove_file(&notify); // of an agent before this one
        let notices = UnixDatagram::bind(&notify).unwrap_or_else(|e| panic!("bind {}: {e}", notify.display()));
        notices.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|e| panic!("limit the wait for notices: {e}"));
        let place =
            Place { config: scene.path("agent.toml"), api_socket: scene.path("agent.sock"), address: free_port() };
        place.configure(config);
        let mut command = lockwatch_command();
        // Its file says where, and a variable would outdo that.
        command.env_remove("LOCKWATCH_API_SOCKET").env("NOTIFY_SOCKET", &notify);
        change(&mut command);
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
