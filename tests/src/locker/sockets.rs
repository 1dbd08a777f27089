//! Descriptors in messages (SCM_RIGHTS, unix(7)).

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, IntoRawFd},
};

use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// A socket with a name; one that is connected to listens.
pub(super) fn bind(path: &[u8], kind: SocketType) -> Result<i32> {
    let socket = rustix::net::socket(AddressFamily::UNIX, kind, None).map_err(io)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).map_err(io)?).map_err(io)?;
    if kind != SocketType::DGRAM {
        rustix::net::listen(&socket, 8).map_err(io)?;
    }
    Ok(socket.into_raw_fd())
}

/// The next connection.
pub(super) fn accept(listener: i32) -> Result<i32> {
    Ok(rustix::net::accept(borrow(listener)).map_err(io)?.into_raw_fd())
}

/// Two sockets that talk to each other.
pub(super) fn pair(kind: SocketType) -> Result<(i32, i32)> {
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::empty(), None).map_err(io)?;
    Ok((one.into_raw_fd(), other.into_raw_fd()))
}

/// Sends `fd` through a new socket, which is closed afterwards: the message stays in the receiver's queue.
pub(super) fn send_to(fd: i32, path: &[u8], kind: SocketType) -> Result<()> {
    let socket = rustix::net::socket(AddressFamily::UNIX, kind, None).map_err(io)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).map_err(io)?).map_err(io)?;
    send(fd, socket.as_fd())
}

/// Sends `fd` through an open socket.
pub(super) fn send_over(fd: i32, socket: i32) -> Result<()> {
    send(fd, borrow(socket))
}

fn send(fd: i32, socket: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [borrow(fd)];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"fd")], &mut ancillary, SendFlags::empty()).map_err(io)?;
    Ok(())
}

/// The descriptor of the next message.
pub(super) fn receive(socket: i32) -> Result<i32> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 2];
    rustix::net::recvmsg(borrow(socket), &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::empty())
        .map_err(io)?;
    let mut fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.by_ref().flatten().next().map(IntoRawFd::into_raw_fd).context("no descriptor was in the message")
}

fn borrow<'a>(fd: i32) -> BorrowedFd<'a> {
    // SAFETY: the locker's descriptors are closed only by a command, and one command runs at a time; if the test has
    // named one that is not open, the kernel says EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// So that the locker's answer has the error's name.
fn io(error: rustix::io::Errno) -> std::io::Error {
    error.into()
}
