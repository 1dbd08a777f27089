//! Whether this kernel counts the descriptors that wait in unix sockets.

use std::{
    fs::File,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    sync::atomic::{AtomicU32, Ordering},
};

use lockwatch_core::parse::fdinfo;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Whether fdinfo shows all of them: those in a connection that nobody has accepted yet, too.
///
/// A unix socket's own count has been there since Linux 5.8, that of a listener since 6.3. So we send ourselves one over
/// a connection that we do not accept, and look.
pub fn are_counted() -> bool {
    count_of_a_listener().is_ok_and(|count| count == Some(1))
}

fn count_of_a_listener() -> io::Result<Option<u64>> {
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let name = format!("lockwatch {} {}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed));
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let client = UnixStream::connect_addr(&address)?;
    let null = File::open("/dev/null")?;
    let (mut space, fds) = ([MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))], [null.as_fd()]);
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&client, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    let info = std::fs::read(format!("/proc/thread-self/fdinfo/{}", listener.as_raw_fd()))?;
    Ok(fdinfo::parse(&info).scm_fds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_itself_works() {
        // Whatever this kernel answers, the connection and the message are possible.
        assert!(count_of_a_listener().unwrap().is_none_or(|count| count <= 1));
    }
}
