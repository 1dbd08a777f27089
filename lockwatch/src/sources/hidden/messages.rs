//! Descriptors in flight: queued in a unix socket, they keep their open files and the locks on them.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use lockwatch_core::{
    lock::{FileId, Kind},
    parse::locks::Line,
    text::Text,
};
use lockwatch_sys::socket;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::queues;
use crate::sources::{
    fds::{Hit, Queue},
    kcmp::Descriptor,
    place::Name,
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
/// A peek yields duplicates ([`socket::peek`]), and fdinfo of a duplicate says whether this very open file has the lock.
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
        // POSIX locks are not an open file's.
        let of_the_file = |line: &Line| line.kind() != Kind::Posix;
        let is_wanted = |line: &Line| of_the_file(line) && line.file.is_some_and(|file| wanted.contains(&file));
        let peeked = socket::peek(&socket, |info| info.locks.iter().any(is_wanted));
        peeked.missed.iter().for_each(|why| self.gap(queue, why));
        for (duplicate, info) in peeked.files {
            let at = Descriptor { task: std::process::id(), fd: duplicate.as_raw_fd().unsigned_abs() };
            let link = std::fs::read_link(format!("/proc/thread-self/fd/{}", duplicate.as_raw_fd()));
            let name = link.ok().map(|link| Name {
                text: Text::new(link.as_os_str().as_encoded_bytes()),
                pid: queue.pid,
                directory: None,
            });
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

/// A duplicate of a process's socket. Fails without ptrace access, and once the descriptor is another file.
fn duplicate(queue: &Queue) -> io::Result<OwnedFd> {
    // pidfd_open takes a process, that is a leader with a file table.
    let number = i32::try_from(queue.pid).ok().filter(|_| queue.at.task == queue.pid);
    let pid = number.and_then(Pid::from_raw).ok_or(io::ErrorKind::Unsupported)?;
    socket::duplicate(pidfd_open(pid, PidfdFlags::empty())?, queue.at.fd, queue.inode)
}

#[cfg(test)]
mod tests;
