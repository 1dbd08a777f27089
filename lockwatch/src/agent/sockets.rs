//! Where the agent listens: at the sockets that systemd has made for it (lockwatch.socket), else at its own.
//!
//! With systemd's it needs no right to make anything anywhere, no network of its own, and nobody waits in vain while it
//! starts. They are then as systemd was told; where the configuration says something else, that is said.

use std::{
    fs::DirBuilder,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use lockwatch_config::Agent;
use lockwatch_control::listen::{self, Listener};
use lockwatch_core::text::Text;
use rustix::net::{AddressFamily, getsockname, sockopt::socket_acceptconn};

use super::manager;

/// Sockets that listen.
#[derive(Debug)]
pub struct Sockets {
    /// For Prometheus and browsers.
    pub tcp: Option<TcpListener>,
    /// For lockwatch itself.
    pub unix: Listener,
}

impl Sockets {
    /// Takes over systemd's, or makes them as configured.
    ///
    /// # Errors
    ///
    /// Somebody listens there already, it may not be done, or systemd's are no use.
    pub fn open(config: &Agent) -> Result<Self> {
        let group = |name: &String| {
            listen::group(name)?.with_context(|| format!("there is no group {name} (agent.api_socket_group)"))
        };
        let group = config.api_socket_group.as_ref().map(group).transpose()?;
        let made = manager::sockets().context("take over systemd's sockets")?;
        if made.is_empty() {
            return Self::bind(config.listen, &config.api_socket, group);
        }
        let mut sockets = Self::handed_over(made).context("take over systemd's sockets")?;
        for words in sockets.differences(config, group) {
            log::warn!("{words} (systemctl edit lockwatch.socket)");
        }
        if config.listen.is_none() {
            sockets.tcp = None;
        }
        Ok(sockets)
    }

    /// Makes them. The unix socket is for root and this group (0660), or for root alone (0600). Its directory is made if it
    /// is missing; a socket that a dead agent has left is replaced.
    ///
    /// # Errors
    ///
    /// Somebody listens there already, or it may not be done.
    pub fn bind(tcp: Option<SocketAddr>, unix: &Path, group: Option<u32>) -> Result<Self> {
        let listen = |address| TcpListener::bind(address).with_context(|| format!("listen at http://{address}"));
        let tcp = tcp.map(listen).transpose()?;
        if let Some(parent) = unix.parent() {
            match DirBuilder::new().mode(0o755).create(parent) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("make {}", shown(parent)));
                }
                _ => {}
            }
        }
        let unix = Listener::bind(unix, group).context("open the agent's API socket")?;
        Ok(Self { tcp, unix })
    }

    /// One for this host, and perhaps one on TCP.
    fn handed_over(made: Vec<OwnedFd>) -> Result<Self> {
        let (mut tcp, mut unix) = (None, None);
        for fd in made {
            let another = match getsockname(&fd).context("not a socket")?.address_family() {
                AddressFamily::UNIX => unix.replace(Listener::handed_over(fd)?).is_some(),
                _ if !socket_acceptconn(&fd)? => bail!("nobody listens at it"),
                _ => tcp.replace(TcpListener::from(fd)).is_some(),
            };
            ensure!(!another, "there are more than one unix socket, and one on TCP");
        }
        Ok(Self { tcp, unix: unix.context("there is no unix socket among them")? })
    }

    /// Where the one on TCP is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// What the configuration says of them that is not so.
    fn differences(&self, config: &Agent, group: Option<u32>) -> Vec<String> {
        let mut all = Vec::new();
        let address = self.address();
        if address != config.listen {
            let word = |address: Option<SocketAddr>| address.map_or("none".to_owned(), |address| address.to_string());
            let (wanted, is) = (word(config.listen), word(address));
            all.push(format!("agent.listen is {wanted}, but systemd listens at {is}"));
        }
        let path = self.unix.path();
        if path != config.api_socket {
            let (wanted, is) = (shown(&config.api_socket), shown(path));
            all.push(format!("agent.api_socket is {wanted}, but systemd listens at {is}"));
        }
        let open_to = path.metadata().ok().filter(|meta| meta.mode() & 0o020 != 0).map(|meta| meta.gid());
        if let Some(name) = config.api_socket_group.as_ref().filter(|_| open_to != group) {
            all.push(format!(
                "agent.api_socket_group is {name}, but systemd's socket is not open to it: SocketGroup={name}, SocketMode=0660"
            ));
        }
        all
    }
}

fn shown(path: &Path) -> Text {
    Text::new(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    #[test]
    fn what_systemd_has_made_holds_and_what_is_otherwise_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let unix: OwnedFd = UnixListener::bind(&path).unwrap().into();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let sockets = Sockets::handed_over(vec![tcp.into(), unix]).unwrap();
        assert_eq!((sockets.address(), sockets.unix.path()), (Some(address), &*path));

        let as_made = Agent { listen: Some(address), api_socket: path.clone(), ..Agent::default() };
        let check = |config: Agent, expect: &[String]| {
            let group = config.api_socket_group.as_ref().map(|_| 4711);
            assert_eq!(sockets.differences(&config, group), expect);
        };
        check(as_made.clone(), &[]);
        let none = Agent { listen: None, ..as_made.clone() };
        check(none, &[format!("agent.listen is none, but systemd listens at {address}")]);
        let elsewhere = Agent { api_socket: "/x".into(), ..as_made.clone() };
        check(elsewhere, &[format!("agent.api_socket is /x, but systemd listens at {}", path.display())]);
        let open = Agent { api_socket_group: Some("staff".into()), ..as_made };
        let words = "agent.api_socket_group is staff, but systemd's socket is not open to it: SocketGroup=staff, SocketMode=0660";
        check(open, &[words.into()]);
    }

    #[test]
    fn what_is_no_use_is_refused() {
        let check = |fds: Vec<OwnedFd>, expect: &str| {
            assert_eq!(format!("{:#}", Sockets::handed_over(fds).unwrap_err()), expect);
        };
        let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        check(vec![std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()], "nobody listens at it");
        check(vec![tcp()], "there is no unix socket among them");
        check(vec![tcp(), tcp()], "there are more than one unix socket, and one on TCP");
        check(
            vec![fs::File::open("/dev/null").unwrap().into()],
            "not a socket: Socket operation on non-socket (os error 88)",
        );
    }
}
