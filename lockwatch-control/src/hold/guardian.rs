//! The process that thaws everybody if lockwatch does not.
//!
//! It is a plain fork, not an exec: the confined process may not exec, and a fork brings along the capabilities and the
//! filter that thawing needs. So it must live by the rules of a signal handler, because another thread of the parent may
//! have been anywhere in malloc: its memory is allocated before the fork, and from then on it makes system calls only.
//!
//! It has a session of its own, so that neither Ctrl-C nor the end of a terminal reaches it; it blocks every signal; and
//! it keeps no descriptor of its parent's but the two it needs: no pipe that a caller reads to its end, no lock.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, fcntl_dupfd_cloexec},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid},
};

use super::target::{Target, Way, thaw};

/// How many targets it can remember.
const ROOM: usize = 4096;

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Said by the guardian: it is there, or it has taken note.
const NOTED: u8 = b'+';

/// Said to the guardian: everybody was thawed, so that nothing is left to do.
const FAREWELL: u8 = b'.';

/// The guardian, from its parent's side.
#[derive(Debug)]
pub(super) struct Guardian {
    pidfd: OwnedFd,
    socket: OwnedFd,
    /// When it thaws everybody.
    pub(super) deadline: Instant,
}

impl Guardian {
    /// Starts one, and waits until it is ready. It must not run a signal handler of its parent's, so it is born with
    /// every signal blocked.
    pub(super) fn start(limit: Duration, _quiet: &Quiet) -> anyhow::Result<Self> {
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context("make a socket pair")?;
        let parent = pidfd_open(getpid(), PidfdFlags::empty()).context("open a pidfd of this process")?;
        let null = File::options().read(true).write(true).open("/dev/null").context("open /dev/null")?;
        let deadline = Instant::now().checked_add(limit).context("the limit is too long")?;
        let mut charge = Charge {
            // Not in the places of the standard streams, which it gives up.
            socket: fcntl_dupfd_cloexec(&its, 3).context("duplicate a socket")?,
            parent: fcntl_dupfd_cloexec(&parent, 3).context("duplicate a pidfd")?,
            null: null.into(),
            deadline,
            known: Vec::with_capacity(ROOM),
        };
        // SAFETY: the child calls `guard` at once, which never returns and keeps to system calls, as the head of this
        // file says.
        let pid = match unsafe { libc::fork() } {
            0 => guard(&mut charge),
            pid => Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0),
        };
        let pid = pid.ok_or_else(std::io::Error::last_os_error).context("fork the guardian")?;
        // The number is its own until it was waited for, and only `dismiss` does that.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("open a pidfd of the guardian")?;
        drop((charge, its));
        let guardian = Self { pidfd, socket: ours, deadline };
        match guardian.answer() {
            Ok(()) => Ok(guardian),
            Err(error) => {
                guardian.dismiss(false);
                Err(error.context("start the guardian"))
            }
        }
    }

    /// Tells it what is going to be frozen, and waits until it has taken note.
    pub(super) fn tell(&self, target: &Target) -> anyhow::Result<()> {
        let fds = [target.fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        ensure!(attached.push(SendAncillaryMessage::ScmRights(&fds)), "a message has no room");
        let word = [target.way() as u8];
        sendmsg(&self.socket, &[IoSlice::new(&word)], &mut attached, SendFlags::NOSIGNAL)
            .context("tell the guardian")?;
        self.answer()
    }

    fn answer(&self) -> anyhow::Result<()> {
        let mut word = [0];
        ensure!(readable(self.socket.as_fd(), Instant::now() + ANSWER)?, "the guardian does not answer");
        match recv(&self.socket, &mut word, RecvFlags::DONTWAIT) {
            Ok((1, _)) if word == [NOTED] => Ok(()),
            Ok(_) | Err(Errno::CONNRESET) => bail!("the guardian has ended"),
            Err(error) => Err(error).context("hear the guardian"),
        }
    }

    /// Its pidfd: readable once it has ended, and so holds nobody's thaw in its hands any more.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until it has ended.
    pub(super) fn wait(&self) {
        while !matches!(poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], None), Ok(n) if n > 0) {}
    }

    /// Lets it go. Unless everybody was thawed already, it thaws them now.
    pub(super) fn dismiss(&self, all_thawed: bool) {
        if all_thawed {
            let none = &mut SendAncillaryBuffer::default();
            let _ = sendmsg(&self.socket, &[IoSlice::new(&[FAREWELL])], none, SendFlags::NOSIGNAL);
        } else {
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
        if !matches!(readable(self.pidfd.as_fd(), Instant::now() + ANSWER), Ok(true)) {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        // An error means that somebody else has waited for it.
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// What the guardian has from the beginning.
struct Charge {
    socket: OwnedFd,
    parent: OwnedFd,
    null: OwnedFd,
    deadline: Instant,
    known: Vec<(Way, OwnedFd)>,
}

/// The guardian's life. As `extern "C"`, a panic in it ends it instead of unwinding into its parent's code.
extern "C" fn guard(charge: &mut Charge) -> ! {
    if settle_down(charge).is_none() {
        // SAFETY: as below.
        unsafe { libc::_exit(1) }
    }
    say(&charge.socket);
    if listen(charge) {
        for (way, fd) in charge.known.iter().rev() {
            let _ = thaw(*way, fd.as_fd());
        }
    }
    // SAFETY: ends the process, without any of Rust's or C's farewells.
    unsafe { libc::_exit(0) }
}

/// Leaves the parent's session, and gives up its descriptors: one of them may be a duplicate that keeps a lock alive.
fn settle_down(charge: &Charge) -> Option<()> {
    let _ = rustix::thread::set_name(c"lockwatch-thaw");
    rustix::process::setsid().ok()?;
    for standard in 0..3 {
        // SAFETY: takes numbers only, and nothing in this process uses its standard streams.
        let done = unsafe { libc::dup2(charge.null.as_raw_fd(), standard) };
        (done == standard).then_some(())?;
    }
    let (a, b) = (charge.socket.as_raw_fd(), charge.parent.as_raw_fd());
    let gaps = [(3, a.min(b) - 1), (a.min(b) + 1, a.max(b) - 1), (a.max(b) + 1, RawFd::MAX)];
    for (first, last) in gaps.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: takes numbers only, and nothing in this process uses what it closes. Linux 5.9.
        let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        (done == 0).then_some(())?;
    }
    Some(())
}

/// Takes note of what it is told until there is a reason to thaw everybody, or none is left.
fn listen(charge: &mut Charge) -> bool {
    loop {
        let left = charge.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let left = timespec(left);
        let mut fds = [PollFd::new(&charge.socket, PollFlags::IN), PollFd::new(&charge.parent, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return true,
        }
        // A pidfd becomes readable when the process has ended, SIGKILL included.
        if !fds[1].revents().is_empty() {
            return true;
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        match hear(&charge.socket) {
            Some((FAREWELL, None)) => return false,
            Some((word, Some(fd))) => match Way::of(word) {
                // Never beyond what was allocated.
                Some(way) if charge.known.len() < charge.known.capacity() => {
                    charge.known.push((way, fd));
                    say(&charge.socket);
                }
                _ => return true,
            },
            _ => return true,
        }
    }
}

fn hear(socket: &OwnedFd) -> Option<(u8, Option<OwnedFd>)> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut word)], &mut attached, RecvFlags::CMSG_CLOEXEC).ok()?;
    let fd = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (got.bytes == 1).then_some((word[0], fd))
}

fn say(socket: &OwnedFd) {
    let none = &mut SendAncillaryBuffer::default();
    let _ = sendmsg(socket, &[IoSlice::new(&[NOTED])], none, SendFlags::NOSIGNAL);
}

/// Whether it becomes readable, or hangs up, in time.
fn readable(fd: BorrowedFd<'_>, until: Instant) -> rustix::io::Result<bool> {
    loop {
        let left = timespec(until.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            ready => return ready.map(|n| n > 0),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

/// Every signal blocked for this thread, until it is dropped.
pub(super) struct Quiet(libc::sigset_t);

impl Quiet {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sigfillset fills what it is given, and pthread_sigmask reads the one set and fills the other.
        let done = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
        };
        ensure!(done == 0, "block signals: {}", std::io::Error::from_raw_os_error(done));
        // SAFETY: filled by the call, which has succeeded.
        Ok(Self(unsafe { before.assume_init() }))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: reads the set, and may be told not to return another.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}
