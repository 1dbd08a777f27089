//! Descriptors in flight: queued in a unix socket, they keep their open files and the locks on them.

use std::{
    collections::{HashMap, HashSet},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use lockwatch_core::{
    lock::{FileId, Kind},
    parse::{
        fdinfo::{self, FdInfo},
        locks::Line,
    },
    text::Text,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::queues;
use crate::sources::{
    fds::{Hit, Queue},
    kcmp::Descriptor,
    place::Name,
    procdir::ProcDir,
    processes::is_gone,
};

/// What was found in flight.
#[derive(Debug, Default)]
pub struct Messages {
    /// Each wanted lock with who could receive its open file. `at` is a duplicate of ours, open as long as this lives.
    pub hits: Vec<Hit>,
    /// In words for a human, by receiver and duplicate.
    pub details: HashMap<(u32, Descriptor), String>,
    /// The files' names, as `/proc/PID/fd` has them.
    pub names: Vec<(FileId, Name)>,
    /// What could not be seen, one sentence each.
    pub gaps: Vec<String>,
    /// Whatever is closed drops the POSIX locks of *our* process on it: there are none.
    duplicates: Vec<OwnedFd>,
}

/// Looks into every queue for open files that keep a wanted lock, and takes nothing out.
///
/// Receiving with MSG_PEEK makes the kernel give us duplicates of the descriptors that the first message carries
/// (`unix_peek_fds`, net/unix/af_unix.c), and fdinfo of a duplicate says whether this very open file has the lock. The
/// message stays where it is. What is queued behind it cannot be reached: SO_PEEK_OFF would lead there, but it belongs
/// to the socket, and where its owner uses it even a peek would move it. So it is counted and told.
pub fn search(queues: &[Queue], wanted: &HashSet<FileId>) -> Messages {
    let mut messages = Messages::default();
    if !queues::are_counted() {
        messages.gaps.push("this kernel does not tell which unix sockets have descriptors waiting in them".into());
    }
    // One socket may be open in several places: everybody who has it could receive.
    let mut sockets: Vec<(Queue, Vec<Queue>)> = Vec::new();
    for queue in queues {
        match sockets.iter_mut().find(|(first, _)| first.inode.is_some() && first.inode == queue.inode) {
            Some((_, receivers)) => receivers.push(*queue),
            None => sockets.push((*queue, vec![*queue])),
        }
    }
    for (_, receivers) in sockets {
        messages.look_into(&receivers, wanted);
    }
    messages
}

impl Messages {
    /// Under a `/proc` whose process numbers are not ours, no socket can be reached.
    pub fn unreachable() -> Self {
        let why = "descriptors on their way through unix sockets can be seen only from the pid namespace of this /proc";
        Self { gaps: vec![why.into()], ..Self::default() }
    }

    fn look_into(&mut self, receivers: &[Queue], wanted: &HashSet<FileId>) {
        // The first through whom it can be reached: others may be closed to us, or gone.
        let mut refused = None;
        let reached = receivers.iter().find_map(|queue| match duplicate(queue) {
            Ok(socket) => Some((socket, queue)),
            Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EBADF) => None,
            Err(error) => {
                refused = Some(format!("cannot be looked into: {error}"));
                None
            }
        });
        let Some((socket, queue)) = reached else {
            refused.iter().for_each(|why| self.gap(&receivers[0], why));
            return;
        };
        let mut found = Vec::new();
        if let Err(why) = open_files(&socket, wanted, NESTED, &mut { SOCKETS }, &mut found) {
            self.gap(queue, &why);
        }
        for (duplicate, info) in found {
            let at = Descriptor { task: std::process::id(), fd: duplicate.as_raw_fd().unsigned_abs() };
            let link = std::fs::read_link(format!("/proc/thread-self/fd/{}", duplicate.as_raw_fd()));
            let name =
                link.ok().map(|link| Name { text: Text::new(link.as_os_str().as_encoded_bytes()), pid: queue.pid });
            self.names.extend(info.locks.first().and_then(|line| line.file).zip(name));
            for receiver in receivers {
                let locks = info.locks.iter().filter(|line| line.file.is_some_and(|file| wanted.contains(&file)));
                let hit = |line| Hit { pid: receiver.pid, at, cloexec: None, access: info.access(), line };
                self.hits.extend(locks.copied().map(hit));
                self.details.insert((receiver.pid, at), words(receiver));
            }
            self.duplicates.push(duplicate);
        }
    }

    fn gap(&mut self, queue: &Queue, why: &str) {
        self.gaps.push(format!("the unix socket at fd {} of pid {} {why}", queue.at.fd, queue.pid));
    }
}

fn words(queue: &Queue) -> String {
    let inode = queue.inode.map(|inode| format!(" inode {inode}")).unwrap_or_default();
    let Queue { pid, at, waiting, .. } = queue;
    let many = if *waiting == 1 { "" } else { "s" };
    format!("queued in unix socket{inode} of pid {pid}, {waiting} descriptor{many}; the socket is its fd {}", at.fd)
}

/// How deep sockets may be queued in sockets (MAX_RECURSION_LEVEL in include/net/af_unix.h is 4 until Linux 6.9; from
/// then on circles are allowed too).
const NESTED: u32 = 5;

/// How many sockets are followed from one.
const SOCKETS: u32 = 64;

/// A duplicate of a process's socket. Fails without ptrace access, and once the descriptor is another file.
fn duplicate(queue: &Queue) -> io::Result<OwnedFd> {
    // pidfd_open takes a process, that is a leader with a file table.
    let number = |n: u32| i32::try_from(n).ok();
    let pid = number(queue.pid).filter(|_| queue.at.task == queue.pid).and_then(Pid::from_raw);
    let (pid, fd) = pid.zip(number(queue.at.fd)).ok_or(io::ErrorKind::Unsupported)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let socket = pidfd_getfd(&process, fd, PidfdGetfdFlags::empty())?;
    let same = queue.inode.is_none_or(|inode| rustix::fs::fstat(&socket).is_ok_and(|stat| stat.st_ino == inode));
    if same && option(socket.as_fd(), libc::SO_DOMAIN)? == libc::AF_UNIX {
        Ok(socket)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The open files in a socket's first message, and in that of sockets among them, that have a wanted lock. The error
/// says why they may not be all.
fn open_files(
    socket: &OwnedFd,
    wanted: &HashSet<FileId>,
    depth: u32,
    budget: &mut u32,
    found: &mut Vec<(OwnedFd, FdInfo)>,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot be looked into: {error}");
    let waiting = our_fdinfo(socket).map_err(failed)?.scm_fds.unwrap_or(0);
    if waiting == 0 {
        return Ok(());
    }
    if option(socket.as_fd(), libc::SO_ACCEPTCONN).map_err(failed)? != 0 {
        return Err("has descriptors in connections that nobody has accepted yet".into());
    }
    if option(socket.as_fd(), libc::SO_PEEK_OFF).map_err(failed)? >= 0 {
        return Err("is being peeked into by its owner (SO_PEEK_OFF), and was left alone".into());
    }
    if depth == 0 || *budget == 0 {
        return Err("has sockets queued in sockets, too many to follow".into());
    }
    *budget -= 1;
    let peeked = peek(socket.as_fd()).map_err(failed)?;
    let missing = waiting.saturating_sub(peeked.len() as u64);
    let mut result = match missing {
        0 => Ok(()),
        n => Err(format!("has {n} more descriptors queued behind its first message, out of reach")),
    };
    for file in peeked {
        let info = our_fdinfo(&file).map_err(failed)?;
        if info.scm_fds.is_some() {
            result = result.and(open_files(&file, wanted, depth - 1, budget, found));
        }
        // POSIX locks are not an open file's.
        let of_the_file = |line: &Line| line.kind() != Kind::Posix;
        if info.locks.iter().any(|line| of_the_file(line) && line.file.is_some_and(|file| wanted.contains(&file))) {
            found.push((file, info));
        }
    }
    result
}

fn our_fdinfo(file: &OwnedFd) -> io::Result<FdInfo> {
    let table = ProcDir::open(Path::new("/proc/thread-self/fdinfo"))?;
    Ok(fdinfo::parse(&table.read(&file.as_raw_fd().to_string())?))
}

fn option(socket: BorrowedFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` and `length` live through the call, and `length` says how large `value` is.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Duplicates of the descriptors that come with a socket's first message, without receiving it. A stream is looked
/// through up to the first bytes that carry any, or 256 KiB.
fn peek(socket: BorrowedFd) -> io::Result<Vec<OwnedFd>> {
    const LOOK_THROUGH: usize = 256 << 10;
    // Larger than SCM_MAX_FD (253) descriptors, credentials and a security context are; as cmsghdr wants it aligned.
    let mut control = [0u64; 1024];
    let mut data: Vec<MaybeUninit<u8>> = Vec::with_capacity(LOOK_THROUGH);
    let mut vector = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: LOOK_THROUGH };
    // SAFETY: msghdr is plain numbers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` points to buffers that live through the call, with their lengths.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(received(&message))
}

/// Takes ownership of every descriptor that came with a message. SO_PASSPIDFD (Linux 6.5) brings one more: it is closed.
fn received(message: &libc::msghdr) -> Vec<OwnedFd> {
    const SCM_PIDFD: libc::c_int = 4; // include/linux/socket.h
    let mut files = Vec::new();
    // SAFETY: the kernel has filled the control buffer and its length, and the buffer is aligned for cmsghdr.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return headers that lie within the buffer.
        let (level, kind, length) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        // SAFETY: takes a number only.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let length: usize = length as _; // socklen_t with musl
        let count = length.saturating_sub(head) / size_of::<libc::c_int>();
        if level == libc::SOL_SOCKET && (kind == libc::SCM_RIGHTS || kind == SCM_PIDFD) {
            for n in 0..count {
                // SAFETY: the data behind the header is `count` descriptors, perhaps not aligned.
                let fd = unsafe { libc::CMSG_DATA(header).cast::<libc::c_int>().add(n).read_unaligned() };
                if fd >= 0 {
                    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
                    let file = unsafe { OwnedFd::from_raw_fd(fd) };
                    files.extend((kind == libc::SCM_RIGHTS).then_some(file));
                }
            }
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    files
}

#[cfg(test)]
mod tests;
