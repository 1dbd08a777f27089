//! Unix sockets of others, and the descriptors that wait in them.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use lockwatch_core::parse::fdinfo::FdInfo;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::fdinfo;

/// How deep sockets may be queued in sockets (MAX_RECURSION_LEVEL in include/net/af_unix.h is 4 until Linux 6.9; from
/// then on circles are allowed too).
const NESTED: u32 = 5;

/// How many sockets are followed from one.
const SOCKETS: u32 = 64;

/// A duplicate of a process's unix socket (pidfd_getfd(2), Linux 5.6).
///
/// # Errors
///
/// There is no ptrace access, or the descriptor is another file by now: not the socket of this inode, or no unix socket.
pub fn duplicate(process: impl AsFd, fd: u32, inode: Option<u64>) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::Unsupported)?;
    let socket = pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?;
    let same = inode.is_none_or(|inode| rustix::fs::fstat(&socket).is_ok_and(|stat| stat.st_ino == inode));
    if same && option(socket.as_fd(), libc::SO_DOMAIN)? == libc::AF_UNIX {
        Ok(socket)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What a peek into a socket has shown.
#[derive(Debug, Default)]
pub struct Peeked {
    /// Duplicates of the open files that were wanted, with what the kernel says of them.
    pub files: Vec<(OwnedFd, FdInfo)>,
    /// Why they may not be all, said of the socket.
    pub missed: Option<String>,
}

/// Duplicates of the open files that a socket's first message carries, and that of sockets among them, as far as they
/// are wanted. Nothing is taken out.
///
/// Receiving with MSG_PEEK makes the kernel give us duplicates of the descriptors that the first message carries
/// (`unix_peek_fds`, net/unix/af_unix.c). The message stays where it is. What is queued behind it cannot be reached:
/// SO_PEEK_OFF would lead there, but it belongs to the socket, and where its owner uses it even a peek would move it.
/// So it is counted and told.
pub fn peek(socket: &OwnedFd, wanted: impl Fn(&FdInfo) -> bool) -> Peeked {
    let mut files = Vec::new();
    let missed = open_files(socket, &wanted, NESTED, &mut { SOCKETS }, &mut files).err();
    Peeked { files, missed }
}

fn open_files(
    socket: &OwnedFd,
    wanted: &impl Fn(&FdInfo) -> bool,
    depth: u32,
    budget: &mut u32,
    found: &mut Vec<(OwnedFd, FdInfo)>,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot be looked into: {error}");
    let waiting = fdinfo::own(socket).map_err(failed)?.scm_fds.unwrap_or(0);
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
    let peeked = match first_message(socket.as_fd()) {
        // It has been received meanwhile.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        peeked => peeked.map_err(failed)?,
    };
    let missing = waiting.saturating_sub(peeked.len() as u64);
    let mut result = match missing {
        0 => Ok(()),
        n => Err(format!("has {n} more descriptors queued behind its first message, out of reach")),
    };
    for file in peeked {
        let info = fdinfo::own(&file).map_err(failed)?;
        if info.scm_fds.is_some() {
            result = result.and(open_files(&file, wanted, depth - 1, budget, found));
        }
        if wanted(&info) {
            found.push((file, info));
        }
    }
    result
}

/// An option of a socket whose value is a number (socket(7)).
///
/// # Errors
///
/// It is no socket, or has no such option.
pub fn option(socket: BorrowedFd, name: libc::c_int) -> io::Result<libc::c_int> {
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
fn first_message(socket: BorrowedFd) -> io::Result<Vec<OwnedFd>> {
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
mod tests {
    use std::{fs::File, io::IoSlice};

    use rustix::{
        net::{
            AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
            socketpair,
        },
        process::{PidfdFlags, getpid, pidfd_open},
    };

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_peek_takes_nothing_and_passes_over_what_is_not_wanted() {
        let (ours, theirs) = pair();
        let (null, other) = (File::open("/dev/null").unwrap(), pair());
        let (mut space, fds) = ([MaybeUninit::uninit(); 64], [null.as_fd(), other.0.as_fd()]);
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&ours, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        for _ in 0..2 {
            let peeked = peek(&theirs, |info| info.scm_fds.is_none());
            assert_eq!(peeked.files.len(), 1);
            assert_eq!(fdinfo::own(&theirs).unwrap().scm_fds, Some(2));
        }
    }

    #[test]
    fn only_that_socket_is_duplicated() {
        let (socket, _other) = pair();
        let me = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let number = |file: BorrowedFd| file.as_raw_fd().unsigned_abs();
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        assert!(duplicate(&me, number(socket.as_fd()), Some(inode)).is_ok());
        assert!(duplicate(&me, number(socket.as_fd()), Some(inode + 1)).is_err());
        let null = File::open("/dev/null").unwrap();
        assert!(duplicate(&me, number(null.as_fd()), None).is_err());
    }
}
