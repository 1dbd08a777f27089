//! Who is at the other end of a connected socket: what the kernel says, never what was sent.

use std::{
    fmt, fs, io,
    mem::size_of,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::PathBuf,
};

use anyhow::{Context, bail, ensure};
use lockwatch_core::text::Text;
use lockwatch_sys::stat::Stat;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SocketAddrUnix, getpeername, getsockname},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::audit::Actor;

/// A process on this host that has connected, or made the pair of sockets of which we have one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user when it connected: SO_PEERCRED, unix(7). This is all that decides what it may do.
    pub uid: u32,
    /// Its number.
    pub pid: u32,
    /// Its command name, if it still was that process when it was read. Everybody chooses its own.
    pub comm: Option<String>,
    /// Its controlling terminal, without `/dev/`.
    pub tty: Option<String>,
    /// By what it came.
    pub way: Way,
    /// Numbers of this process, of the peer, and of the ancestors of both: who must not be signalled by what it asks for.
    pub ourselves: Vec<u32>,
}

/// How a peer came to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a pair of sockets: it has started this process, or whoever did.
    Pair,
    /// By the control socket.
    Socket(PathBuf),
}

impl Peer {
    /// Asks the kernel.
    ///
    /// The name and the terminal are for the record. They are read between two proofs that the number is still the
    /// peer's: the pidfd that the socket itself has kept since it was connected (SO_PEERPIDFD, Linux 6.5), and that this
    /// still lives afterwards. On older kernels the pidfd is opened here, and a peer that is gone by then may have left
    /// its number to another: a process of another user is not believed.
    ///
    /// # Errors
    ///
    /// It is no connected unix socket, or somebody who must not be served: one who is not root and came by a socket that
    /// is open to everybody. Membership in the socket's group is not looked up again: the kernel asked for the right to
    /// write to the socket when the peer connected (net/unix/af_unix.c `unix_find_bsd`, 6.18), with the same credentials
    /// that SO_PEERCRED tells; `/proc/PID/status` would tell those of another moment.
    pub fn of(socket: impl AsFd) -> anyhow::Result<Self> {
        let socket = socket.as_fd();
        let own = getsockname(socket).context("not a socket")?;
        let own = SocketAddrUnix::try_from(own).ok().context("not a unix socket")?;
        getpeername(socket).context("not a connected socket")?;
        let libc::ucred { pid, uid, .. } = credentials(socket).context("ask who is at the other end")?;
        let number = Pid::from_raw(pid).context("whoever is at the other end is outside of this pid namespace")?;
        let way = match own.path() {
            Some(path) => Way::Socket(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()))),
            None => Way::Pair,
        };
        admit(uid, &way)?;
        let pidfd = pidfd_of(socket).or_else(|| pidfd_open(number, PidfdFlags::empty()).ok());
        let pid = pid.unsigned_abs();
        let seen = pidfd.and_then(|pidfd| seen(pid, uid).filter(|_| lives(&pidfd)));
        let mut ourselves = ancestors(std::process::id());
        // A number that may be another's by now is not signalled either: that costs nothing.
        ourselves.extend(ancestors(pid));
        let tty = seen.as_ref().and_then(|stat| terminal(stat.tty.try_into().ok()?));
        Ok(Self { uid, pid, comm: seen.map(|stat| stat.comm.to_string()), tty, way, ourselves })
    }

    /// As the record names it.
    pub fn actor(&self) -> Actor {
        Actor { uid: self.uid, pid: self.pid, comm: self.comm.clone(), tty: self.tty.clone() }
    }

    /// Whether it is root, and this process is its own: then it decides where the record is, too.
    pub fn is_own_root(&self) -> bool {
        self.uid == 0 && self.way == Way::Pair
    }
}

/// `pid 4711 (bash) of uid 1000`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.comm {
            Some(comm) => write!(f, "pid {} ({comm}) of uid {}", self.pid, self.uid),
            None => write!(f, "pid {} of uid {}", self.pid, self.uid),
        }
    }
}

/// Root may always. Others come by a socket that the host's owner has opened for a group; if it is open to everybody,
/// somebody has made a mistake.
fn admit(uid: u32, way: &Way) -> anyhow::Result<()> {
    match way {
        _ if uid == 0 => Ok(()),
        Way::Pair => bail!("uid {uid} is not root, and did not come by the control socket"),
        Way::Socket(path) => {
            let shown = Text::new(path.as_os_str().as_bytes());
            let meta = fs::symlink_metadata(path).with_context(|| format!("look at {shown}"))?;
            ensure!(meta.mode() & 0o002 == 0, "{shown} is open to everybody (chmod o-rwx {shown})");
            Ok(())
        }
    }
}

/// The peer's pidfd, if the kernel has it.
fn pidfd_of(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    let fd = option(socket, libc::SO_PEERPIDFD, -1).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has made this descriptor for us, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The effective user of whoever has connected, or listens.
pub fn uid_of(socket: impl AsFd) -> io::Result<u32> {
    credentials(socket.as_fd()).map(|credentials| credentials.uid)
}

/// Not by rustix, whose `Pid` cannot be 0: the number of a process that is outside of this pid namespace.
fn credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    option(socket, libc::SO_PEERCRED, libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX })
}

/// What any bits are a value of.
trait Plain: Copy {}
impl Plain for libc::c_int {}
impl Plain for libc::ucred {}

/// getsockopt(2).
fn option<T: Plain>(socket: BorrowedFd<'_>, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    let (place, size) = ((&raw mut value).cast(), &raw mut length);
    // SAFETY: `value` and `length` live through the call, `length` is the size of `value`, which any bits may be.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, place, size) };
    match done {
        0 if length as usize == size_of::<T>() => Ok(value),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn lives(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
}

/// What `/proc` says of a process, if it is this user's. The directory is its effective user's, or root's if its memory
/// must not be dumped (proc(5)).
fn seen(pid: u32, uid: u32) -> Option<Stat> {
    let owner = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    stat(pid).filter(|_| owner == uid || owner == 0)
}

fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// A process and its ancestors, as far as they can be seen.
fn ancestors(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| stat(*pid).map(|stat| stat.parent).filter(|parent| *parent > 0);
    // Numbers that are given away while this reads could lead in a circle.
    std::iter::successors(Some(pid), parent).take(256).collect()
}

/// A terminal's usual name, from the number in `/proc/PID/stat` (`new_encode_dev`, include/linux/kdev_t.h, 6.18; majors
/// in Documentation/admin-guide/devices.txt).
fn terminal(number: u32) -> Option<String> {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match (major, minor) {
        (0, _) => None,
        (136..=143, _) => Some(format!("pts/{}", (major - 136) << 8 | minor)),
        (4, 0..64) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        (5, 1) => Some("console".to_owned()),
        _ => Some(format!("{major}:{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn terminals_have_names() {
        let check = |number, expect: Option<&str>| assert_eq!(terminal(number).as_deref(), expect, "{number:#x}");
        check(0, None);
        check(136 << 8 | 3, Some("pts/3"));
        check(136 << 8 | 0x2c | 1 << 20, Some("pts/300"));
        check(4 << 8 | 1, Some("tty1"));
        check(4 << 8 | 65, Some("ttyS1"));
        check(5 << 8 | 1, Some("console"));
        check(204 << 8 | 64, Some("204:64"));
    }

    #[test]
    fn a_pair_has_its_maker_at_both_ends() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one);
        if !rustix::process::geteuid().is_root() {
            return assert!(peer.unwrap_err().to_string().contains("is not root"));
        }
        let peer = peer.unwrap();
        assert_eq!((peer.uid, peer.pid, &peer.way), (0, std::process::id(), &Way::Pair));
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(peer.comm.as_deref(), Some(comm.trim_end()));
        assert!(peer.is_own_root());
        assert!(peer.ourselves.contains(&std::process::id()) && peer.ourselves.contains(&1), "{:?}", peer.ourselves);
    }

    #[test]
    fn what_is_no_connected_unix_socket_is_nobody() {
        let check = |fd: &dyn AsFd, expect: &str| {
            let error = Peer::of(fd.as_fd()).unwrap_err().to_string();
            assert_eq!(error, expect);
        };
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        check(&fs::File::open("/dev/null").unwrap(), "not a socket");
        check(&listener, "not a connected socket");
        let network = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
        check(&network.unwrap(), "not a unix socket");
    }

    /// A process of another user connects, tells lies in its name, and is gone.
    #[test]
    fn the_kernel_tells_who_has_connected() {
        if !rustix::process::geteuid().is_root() {
            println!("LEFT OUT: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let mut child = Command::new("cat");
        let target = path.clone();
        mode(0o777);
        // SAFETY: connect(2) and prctl(2) only, in a child that has one thread.
        unsafe {
            child.pre_exec(move || {
                let stream = UnixStream::connect(&target)?;
                // Kept open over the exec.
                rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::empty())?;
                std::mem::forget(stream);
                Ok(())
            })
        };
        let mut child = child.uid(65534).gid(65534).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (socket, _) = listener.accept().unwrap();
        let error = Peer::of(&socket).unwrap_err().to_string();
        assert_eq!(error, format!("{} is open to everybody (chmod o-rwx {})", path.display(), path.display()));
        mode(0o770);
        let peer = Peer::of(&socket).unwrap();
        assert_eq!((peer.uid, peer.pid, &peer.way), (65534, child.id(), &Way::Socket(path.clone())));
        assert_eq!(peer.comm.as_deref(), Some("cat"));
        assert!(!peer.is_own_root() && peer.ourselves.contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        let gone = Peer::of(&socket).unwrap();
        assert_eq!((gone.uid, gone.comm, gone.tty), (65534, None, None));
        assert!(gone.way == Way::Socket(path));
    }
}
