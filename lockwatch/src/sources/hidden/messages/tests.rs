//! Looks into sockets of these tests' own process.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
};

use lockwatch_core::parse::locks::Line;
use lockwatch_sys::fdinfo;
use rustix::{
    fs::{FlockOperation, flock},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

use super::*;

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

fn send(socket: &OwnedFd, text: &[u8], fds: &[BorrowedFd]) {
    let mut space = [MaybeUninit::uninit(); 256];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
}

/// What really arrives: the text, and how many descriptors.
fn receive(socket: &OwnedFd) -> (Vec<u8>, Vec<OwnedFd>) {
    let (mut space, mut text) = ([MaybeUninit::uninit(); 256], [0; 64]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let length = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags).unwrap().bytes;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    (text[..length].to_vec(), fds)
}

/// A locked open file, the only one.
fn locked() -> (File, FileId) {
    let file = tempfile::tempfile().unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    let info = fdinfo::own(&file).unwrap();
    let id = info.locks[0].file.unwrap();
    assert_eq!(id.inode, stat.st_ino);
    (file, id)
}

fn queue(socket: &OwnedFd) -> Queue {
    let info = fdinfo::own(socket).unwrap();
    let pid = std::process::id();
    let at = Descriptor { task: pid, fd: socket.as_raw_fd().unsigned_abs() };
    Queue { pid, at, inode: info.ino, waiting: info.scm_fds.unwrap_or(0) }
}

fn look(sockets: &[&OwnedFd], wanted: FileId) -> Messages {
    let queues: Vec<Queue> = sockets.iter().map(|socket| queue(socket)).collect();
    search(&queues, &[wanted].into())
}

fn lines(messages: &Messages) -> Vec<Line> {
    messages.hits.iter().map(|hit| hit.line).collect()
}

#[test]
fn what_is_in_flight_is_found_and_stays_there() {
    for kind in [SocketType::DGRAM, SocketType::STREAM, SocketType::SEQPACKET] {
        let (ours, theirs) = pair(kind);
        let (file, id) = locked();
        let other = tempfile::tempfile().unwrap();
        send(&ours, b"x", &[other.as_fd(), file.as_fd()]);
        drop(file);
        let messages = look(&[&theirs], id);
        assert_eq!(messages.gaps, [""; 0], "{kind:?}");
        assert_eq!(lines(&messages).iter().map(Line::kind).collect::<Vec<_>>(), [Kind::Flock]);
        let me = std::process::id();
        let detail = &messages.details[&(me, messages.hits[0].at)];
        let inode = rustix::fs::fstat(&theirs).unwrap().st_ino;
        let fd = theirs.as_raw_fd();
        let queued = format!("queued in unix socket inode {inode} of pid {me}, 2 descriptors");
        assert_eq!(*detail, format!("{queued}; the socket is its fd {fd}"));
        drop(messages);
        let (text, fds) = receive(&theirs);
        assert_eq!((text, fds.len()), (b"x".to_vec(), 2));
        let again = fdinfo::own(&fds[1]).unwrap();
        assert_eq!(again.locks.len(), 1, "looking has ended the lock");
    }
}

#[test]
fn a_file_in_flight_without_the_lock_is_none() {
    let (ours, theirs) = pair(SocketType::DGRAM);
    let path = tempfile::NamedTempFile::new().unwrap();
    flock(&path, FlockOperation::LockShared).unwrap();
    let id = crate::sources::mounts::file_id(path.path()).unwrap();
    send(&ours, b"x", &[path.reopen().unwrap().as_fd()]);
    let messages = look(&[&theirs], id);
    assert_eq!((messages.hits.len(), messages.gaps), (0, vec![]));
}

#[test]
fn text_before_the_descriptors_is_looked_through_in_a_stream() {
    let (ours, theirs) = pair(SocketType::STREAM);
    let (file, id) = locked();
    (0..20).for_each(|_| send(&ours, &[b'.'; 1000], &[]));
    send(&ours, b"x", &[file.as_fd()]);
    let messages = look(&[&theirs], id);
    assert_eq!((messages.hits.len(), messages.gaps), (1, vec![]));
}

#[test]
fn what_is_out_of_reach_is_told() {
    let check = |kind, before: &[&[BorrowedFd]], expect: &str| {
        let (ours, theirs) = pair(kind);
        let (file, id) = locked();
        before.iter().for_each(|fds| send(&ours, b"before", fds));
        send(&ours, b"x", &[file.as_fd()]);
        let messages = look(&[&theirs], id);
        let socket = format!("the unix socket at fd {} of pid {} ", theirs.as_raw_fd(), std::process::id());
        assert_eq!((messages.hits.len(), messages.gaps), (0, vec![format!("{socket}{expect}")]));
    };
    let null = File::open("/dev/null").unwrap();
    let behind = "has 1 more descriptors queued behind its first message, out of reach";
    check(SocketType::DGRAM, &[&[]], behind);
    check(SocketType::SEQPACKET, &[&[]], behind);
    check(SocketType::STREAM, &[&[null.as_fd()]], behind);
}

#[test]
fn a_socket_whose_owner_peeks_itself_is_left_alone() {
    let (ours, theirs) = pair(SocketType::STREAM);
    let (file, id) = locked();
    send(&ours, b"x", &[file.as_fd()]);
    let zero: libc::c_int = 0;
    // SAFETY: `zero` lives through the call, and its size is given.
    let set = unsafe {
        let value = (&raw const zero).cast();
        libc::setsockopt(theirs.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, value, size_of_val(&zero) as u32)
    };
    assert_eq!(set, 0);
    let messages = look(&[&theirs], id);
    assert!(messages.gaps[0].contains("SO_PEEK_OFF"), "{:?}", messages.gaps);
    assert_eq!(socket::option(theirs.as_fd(), libc::SO_PEEK_OFF).unwrap(), 0);
}

#[test]
fn sockets_in_sockets_are_followed() {
    let (inner, inner_theirs) = pair(SocketType::STREAM);
    let (outer, outer_theirs) = pair(SocketType::DGRAM);
    let (file, id) = locked();
    send(&inner, b"x", &[file.as_fd()]);
    send(&outer, b"y", &[inner_theirs.as_fd()]);
    drop((file, inner_theirs));
    let messages = look(&[&outer_theirs], id);
    assert_eq!((messages.hits.len(), messages.gaps), (1, vec![]));
}

#[test]
fn everybody_who_could_receive_is_named() {
    let (ours, theirs) = pair(SocketType::DGRAM);
    let also = theirs.try_clone().unwrap();
    let (file, id) = locked();
    send(&ours, b"x", &[file.as_fd()]);
    let messages = look(&[&theirs, &also], id);
    assert_eq!((messages.hits.len(), messages.duplicates.len()), (2, 1));
}

#[test]
fn connections_that_nobody_has_accepted_are_told() {
    use std::os::{linux::net::SocketAddrExt, unix::net};
    let name = format!("lockwatch test {}", std::process::id());
    let address = net::SocketAddr::from_abstract_name(name).unwrap();
    let listener: OwnedFd = net::UnixListener::bind_addr(&address).unwrap().into();
    let client: OwnedFd = net::UnixStream::connect_addr(&address).unwrap().into();
    let (file, id) = locked();
    send(&client, b"x", &[file.as_fd()]);
    if queue(&listener).waiting == 0 {
        assert!(!queues::are_counted());
        return;
    }
    let messages = look(&[&listener], id);
    assert!(messages.gaps[0].contains("nobody has accepted"), "{:?}", messages.gaps);
}

#[test]
fn a_descriptor_that_is_another_file_by_now_is_passed_over() {
    let (ours, theirs) = pair(SocketType::DGRAM);
    let (file, id) = locked();
    send(&ours, b"x", &[file.as_fd()]);
    let gone = Queue { inode: Some(1), ..queue(&theirs) };
    let messages = search(&[gone], &[id].into());
    assert_eq!((messages.hits.len(), messages.gaps), (0, vec![]));
}
