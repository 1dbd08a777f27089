//! A control socket for hosts without systemd: a process for each connection, as systemd's `Accept=yes` would have it.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, PermissionsExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use lockwatch_config::trusted;
use lockwatch_core::text::Text;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FlockOperation, Mode, fchmod, flock},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, sockopt::socket_acceptconn},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{peer::uid_of, protocol::Answer, server};

/// How many may be served at once, and how many of one user who is not root: nobody can keep all the others out.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// All together.
    pub all: usize,
    /// Of one user.
    pub each: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { all: 16, each: 4 }
    }
}

/// A socket; if we have made it, it is taken away when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    is_ours: bool,
}

/// A connection that is being served.
struct Served {
    child: Child,
    pidfd: OwnedFd,
    uid: u32,
}

impl Listener {
    /// Listens at this path, for root and the members of this group (0660), or for root alone (0600). The directory must
    /// be root's, and nobody else may write to it. A socket on which nobody listens any more is replaced.
    ///
    /// # Errors
    ///
    /// The directory is not as it must be, what is there is no socket, or somebody listens on it.
    pub fn bind(path: &Path, group: Option<u32>) -> anyhow::Result<Self> {
        let shown = Text::new(path.as_os_str().as_bytes());
        let parent = path.parent().with_context(|| format!("{shown} is in no directory"))?;
        let parent = trusted::directory(parent)?.with_context(|| format!("there is no directory for {shown}"))?;
        // Of two that start at once, one would take away what the other has just put down.
        flock(&parent, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("somebody else is making a socket beside {shown}"))?;
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("look at {shown}")),
            Ok(meta) if !meta.file_type().is_socket() => bail!("{shown} is there, and is no socket"),
            Ok(_) => {
                ensure!(UnixStream::connect(path).is_err(), "somebody listens at {shown} already");
                fs::remove_file(path).with_context(|| format!("take away the old {shown}"))?;
            }
        }
        let socket = listen(path).with_context(|| format!("listen at {shown}"))?;
        let listener = Self { socket, path: path.to_owned(), is_ours: true };
        if group.is_some() {
            chown(path, None, group).with_context(|| format!("give {shown} its group"))?;
            let mode = Permissions::from_mode(0o660);
            fs::set_permissions(path, mode).with_context(|| format!("open {shown} for its group"))?;
        }
        Ok(listener)
    }

    /// One that somebody else has made, and takes away: a service manager.
    ///
    /// # Errors
    ///
    /// It is no unix socket with a path at which somebody listens.
    pub fn handed_over(socket: OwnedFd) -> anyhow::Result<Self> {
        ensure!(socket_acceptconn(&socket).context("not a socket")?, "nobody listens at it");
        let socket = UnixListener::from(socket);
        let address = socket.local_addr().context("it is no unix socket")?;
        let path = address.as_pathname().context("it is no unix socket with a path")?.to_owned();
        Ok(Self { socket, path, is_ours: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket, for somebody who accepts in a way of his own.
    ///
    /// # Errors
    ///
    /// There is no room for another descriptor.
    pub fn socket(&self) -> std::io::Result<UnixListener> {
        self.socket.try_clone()
    }

    /// Accepts, and has `command` make a process of each connection, which becomes its stdin, until it cannot any more.
    /// When there is no room left, those who connect wait in the queue.
    ///
    /// # Errors
    ///
    /// The socket fails.
    pub fn run(&self, room: Room, mut command: impl FnMut() -> Command) -> anyhow::Result<()> {
        let mut served: Vec<Served> = Vec::new();
        loop {
            let listens = if served.len() < room.all { PollFlags::IN } else { PollFlags::empty() };
            let mut ready = vec![PollFd::new(&self.socket, listens)];
            ready.extend(served.iter().map(|one| PollFd::new(&one.pidfd, PollFlags::IN)));
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("wait at the control socket"),
            }
            let is_called = ready[0].revents().contains(PollFlags::IN);
            served.retain_mut(|one| matches!(one.child.try_wait(), Ok(None)));
            if !is_called {
                continue;
            }
            match self.socket.accept() {
                Ok((stream, _)) => served.extend(serve(stream, room, &served, command())),
                Err(error) => {
                    log::warn!("accept a connection: {error}");
                    // Whoever connected may have gone, or this host is short of something, which does not pass at once.
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Its mode is 0600 from the beginning: a bound socket has that of the descriptor, less the umask (net/unix/af_unix.c
/// `unix_bind_bsd`, 6.18).
fn listen(path: &Path) -> rustix::io::Result<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket.into())
}

fn serve(stream: UnixStream, room: Room, served: &[Served], mut command: Command) -> Option<Served> {
    let mut start = || -> anyhow::Result<Served> {
        let uid = uid_of(&stream).context("ask who has connected")?;
        let many = served.iter().filter(|one| one.uid == uid).count();
        ensure!(uid == 0 || many < room.each, "uid {uid} is being served {many} times already");
        let stdin = stream.try_clone().context("duplicate a connection")?;
        let child = command.stdin(OwnedFd::from(stdin)).spawn().context("start a process for a connection")?;
        // It has not been waited for, so the number is its own.
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("open a pidfd of that process")?;
        Ok(Served { child, pidfd, uid })
    };
    let started = start();
    if let Err(error) = &started {
        log::warn!("turned away: {error:#}");
        // Nothing was sent yet, so there is room for it; and if not, that is that.
        let _ = stream.set_nonblocking(true);
        let _ = server::say(&stream, &Answer::Error(format!("{error:#}")));
    }
    started.ok()
}

/// The number of a group by its name, or as it is typed. Only `/etc/group` is asked: glibc would load whatever modules
/// nsswitch.conf names into a process that is root.
///
/// # Errors
///
/// `/etc/group` cannot be read.
pub fn group(name: &str) -> anyhow::Result<Option<u32>> {
    number(name, "/etc/group")
}

/// The number of a user, in the same way from `/etc/passwd`.
///
/// # Errors
///
/// `/etc/passwd` cannot be read.
pub fn user(name: &str) -> anyhow::Result<Option<u32>> {
    number(name, "/etc/passwd")
}

fn number(name: &str, file: &str) -> anyhow::Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    match fs::read_to_string(file) {
        Ok(names) => Ok(find(&names, name)),
        // In an image with nothing but a program nobody has a name.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {file}")),
    }
}

/// group(5): `name:password:GID:members`, and passwd(5): `name:password:UID:…`.
fn find(names: &str, name: &str) -> Option<u32> {
    names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        fields.nth(1).filter(|_| is_it)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nlockwatch:x:990:ann,bob\nbad\nworse:x:y:\nlockwatch2:x:991:";
        let check = |name: &str, expect| assert_eq!(find(groups, name), expect, "{name}");
        check("lockwatch", Some(990));
        check("root", Some(0));
        check("lock", None);
        check("bad", None);
        check("worse", None);
        assert_eq!(group("17").unwrap(), Some(17));
        assert_eq!(user("root").unwrap(), Some(0));
    }

    #[test]
    fn only_a_socket_without_a_listener_is_replaced() {
        if !rustix::process::geteuid().is_root() {
            println!("LEFT OUT: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let check = |expect: &str| {
            let error = Listener::bind(&path, None).unwrap_err().to_string();
            assert_eq!(error, format!("{} {expect}", path.display()));
        };
        let mode = |group| {
            let listener = Listener::bind(&path, group).unwrap();
            let meta = path.symlink_metadata().unwrap();
            drop(listener);
            (meta.mode() & 0o777, meta.gid())
        };
        assert_eq!(mode(None), (0o600, 0));
        assert_eq!(mode(Some(65534)), (0o660, 65534));
        assert!(!path.exists(), "a listener takes its socket away");
        fs::write(&path, "").unwrap();
        check("is there, and is no socket");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        check("is there, and is no socket");
        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let first = Listener::bind(&path, None).unwrap();
        let error = Listener::bind(&path, None).unwrap_err().to_string();
        assert_eq!(error, format!("somebody listens at {} already", path.display()));
        drop(first);
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(Listener::bind(&path, None).unwrap_err().to_string().contains("others than root can write to"));
    }

    #[test]
    fn what_was_handed_over_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = Listener::handed_over(UnixListener::bind(&path).unwrap().into()).unwrap();
        assert_eq!(listener.path(), path);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        let check = |fd: OwnedFd, expect: &str| {
            assert_eq!(Listener::handed_over(fd).unwrap_err().to_string(), expect);
        };
        check(fs::File::open("/dev/null").unwrap().into(), "not a socket");
        check(UnixStream::pair().unwrap().0.into(), "nobody listens at it");
        check(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(), "it is no unix socket");
    }
}
