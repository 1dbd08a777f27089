//! One process that does random things, as fast as it can, until it may not.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, IntoRawFd},
    path::Path,
    process,
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::shared::{ACTS, FREE, SLEEPS, SLOTS, Shared, TAKEN, What};
use crate::{
    dice::Dice,
    locker::LIFE_SECONDS,
    sys::{self, RangeKind},
};

/// How many files there are. The last few are only ever read, so that leases can be had.
pub(super) const FILES: u64 = 64;
/// The first of those.
const FIRST_READ_ONLY: u64 = 56;
/// How many descriptors an actor has at most.
const MOST_FDS: usize = 16;
/// Its inbox is out of the way.
const INBOX: i32 = 900;

/// Kinds of locks, as notes have them.
pub(super) const KINDS: [&str; 4] = ["flock", "posix", "ofd", "lease"];

pub(super) struct Actor<'a> {
    shared: &'static Shared,
    dir: &'a Path,
    seed: u64,
    slot: usize,
    serial: u32,
    dice: Dice,
    fds: BTreeMap<i32, u64>,
    maps: Vec<(usize, u64)>,
    inbox: i32,
    opened: u64,
    forks: u64,
}

impl<'a> Actor<'a> {
    /// The first of a family, in a slot that has been taken for it. Returns only with an error.
    pub(super) fn begin(shared: &'static Shared, dir: &'a Path, seed: u64, slot: usize) -> Result<()> {
        let mut actor = Self {
            shared,
            dir,
            seed,
            slot,
            serial: 0,
            dice: Dice::new(seed, 0),
            fds: BTreeMap::new(),
            maps: Vec::new(),
            inbox: -1,
            opened: 0,
            forks: 0,
        };
        actor.be_born(slot, 0)?;
        actor.live()
    }

    /// A new process: a serial, dice and an inbox of its own.
    fn be_born(&mut self, slot: usize, birth: u64) -> Result<()> {
        sys::alarm(LIFE_SECONDS);
        self.slot = slot;
        self.serial = self.shared.serials.fetch_add(1, SeqCst) + 1;
        self.dice = Dice::new(self.seed, self.serial);
        (self.opened, self.forks) = (0, 0);
        let pid = process::id();
        let place = &self.shared.slots[slot];
        place.pid.store(pid, SeqCst);
        place.serial.store(self.serial, SeqCst);
        if self.inbox >= 0 {
            sys::close(self.inbox).context("close the parent's inbox")?;
        }
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::bind(&socket, &self.address(self.serial)?)?;
        self.inbox = sys::dup_above(socket.as_raw_fd(), INBOX).context("move the inbox")?;
        drop(socket);
        self.note(What::Born, birth, pid.into());
        place.state.store(ACTS, SeqCst);
        Ok(())
    }

    fn live(&mut self) -> Result<()> {
        loop {
            let resting = self.shared.resting();
            if self.shared.begun.fetch_add(1, SeqCst) >= self.shared.allowed.load(SeqCst) {
                self.rest(resting);
            } else {
                self.act()?;
            }
        }
    }

    fn rest(&self, resting: u32) {
        let state = &self.shared.slots[self.slot].state;
        state.store(resting, SeqCst);
        while self.shared.resting() == resting {
            if self.shared.over.load(SeqCst) != 0 {
                sys::exit(0);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        sys::alarm(LIFE_SECONDS);
        state.store(ACTS, SeqCst);
    }

    /// One operation. What the kernel refuses is not done, which is half of the game; errors are bugs of this file.
    fn act(&mut self) -> Result<()> {
        match self.dice.below(1000) {
            0..80 => self.open(),
            80..120 => self.dup(),
            120..230 => self.close(),
            230..250 => self.send(),
            250..280 => self.receive(),
            280..286 => self.map(),
            286..294 => self.unmap(),
            294..298 => self.fork(),
            298..299 => self.exec(),
            299..302 => self.die(),
            _ => {
                self.lock();
                Ok(())
            }
        }
    }

    fn open(&mut self) -> Result<()> {
        if self.fds.len() >= MOST_FDS {
            return self.close();
        }
        let file = self.dice.below(FILES);
        let cloexec = self.dice.below(4) == 0;
        let access = if file < FIRST_READ_ONLY { libc::O_RDWR } else { libc::O_RDONLY };
        let path = self.dir.join(file.to_string());
        let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        let fd = sys::open(path, access | if cloexec { libc::O_CLOEXEC } else { 0 }).context("open a file")?;
        self.opened += 1;
        self.has(What::Has, fd, u64::from(self.serial) << 32 | self.opened << 8 | file, cloexec);
        Ok(())
    }

    fn dup(&mut self) -> Result<()> {
        let Some((fd, description)) = self.any().filter(|_| self.fds.len() < MOST_FDS) else { return Ok(()) };
        let fd = sys::dup(fd).context("duplicate a descriptor")?;
        self.has(What::Has, fd, description, false);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some((fd, description)) = self.any() else { return Ok(()) };
        self.fds.remove(&fd);
        sys::close(fd).context("close a descriptor")?;
        self.note(What::Closes, fd.unsigned_abs().into(), description);
        Ok(())
    }

    fn lock(&mut self) {
        let Some((fd, description)) = self.any() else { return };
        let read_only = description & 0xff >= FIRST_READ_ONLY;
        let kind = self.dice.below(if read_only { 4 } else { 3 });
        let unlock = self.dice.below(3) == 0;
        let lock = match (unlock, read_only || self.dice.below(2) == 0) {
            (true, _) => libc::F_UNLCK,
            (_, true) => libc::F_RDLCK,
            (_, false) => libc::F_WRLCK,
        };
        let (start, len) = (self.dice.below(100).cast_signed(), self.dice.below(20).cast_signed());
        if !unlock {
            self.note(What::Asks, kind, description);
        }
        let done = match kind {
            0 => sys::flock(
                fd,
                libc::LOCK_NB
                    | match lock {
                        libc::F_UNLCK => libc::LOCK_UN,
                        libc::F_RDLCK => libc::LOCK_SH,
                        _ => libc::LOCK_EX,
                    },
            ),
            1 => sys::range_lock(fd, RangeKind::Posix, lock, start, len, false),
            2 => sys::range_lock(fd, RangeKind::Ofd, lock, start, len, false),
            _ => sys::lease(fd, lock),
        };
        if done.is_ok() && !unlock {
            self.note(What::Takes, kind, description);
        }
    }

    fn map(&mut self) -> Result<()> {
        let Some((fd, description)) = self.any().filter(|_| self.maps.len() < 3) else { return Ok(()) };
        self.maps.push((sys::map(fd).context("map a file")?, description));
        self.note(What::Maps, 0, description);
        Ok(())
    }

    fn unmap(&mut self) -> Result<()> {
        let Some((address, description)) = self.maps.pop() else { return Ok(()) };
        sys::unmap(address).context("unmap a file")?;
        self.note(What::Unmaps, 0, description);
        Ok(())
    }

    /// To anybody, perhaps to itself.
    fn send(&mut self) -> Result<()> {
        let slot = &self.shared.slots[self.dice.below(SLOTS as u64) as usize];
        let (state, serial) = (slot.state.load(SeqCst), slot.serial.load(SeqCst));
        let Some((fd, description)) = self.any().filter(|_| state == ACTS) else { return Ok(()) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        // SAFETY: both are open: they stand in this actor's own table.
        let (fds, inbox) = unsafe { ([BorrowedFd::borrow_raw(fd)], BorrowedFd::borrow_raw(self.inbox)) };
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let word = description.to_ne_bytes();
        let to = self.address(serial)?;
        let sent = rustix::net::sendmsg_addr(inbox, &to, &[IoSlice::new(&word)], &mut ancillary, SendFlags::DONTWAIT);
        // The receiver's queue is full, or the receiver is gone.
        if sent.is_ok() {
            self.note(What::Sends, serial.into(), description);
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        if self.fds.len() >= MOST_FDS {
            return self.close();
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut word = [0; 8];
        // SAFETY: the inbox is open as long as the actor lives.
        let inbox = unsafe { BorrowedFd::borrow_raw(self.inbox) };
        let received =
            rustix::net::recvmsg(inbox, &mut [IoSliceMut::new(&mut word)], &mut ancillary, RecvFlags::DONTWAIT);
        if received.is_err() {
            return Ok(());
        }
        let mut fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fd = fds.by_ref().flatten().next().context("no descriptor was in the message")?.into_raw_fd();
        self.has(What::Receives, fd, u64::from_ne_bytes(word), false);
        Ok(())
    }

    fn fork(&mut self) -> Result<()> {
        let free = |slot: &usize| self.shared.slots[*slot].state.compare_exchange(FREE, TAKEN, SeqCst, SeqCst).is_ok();
        let Some(slot) = (0..SLOTS).find(free) else { return Ok(()) };
        self.forks += 1;
        self.note(What::Forks, self.forks, 0);
        let birth = self.forks << 32 | u64::from(self.serial);
        if sys::fork().context("fork")?.is_none() {
            self.be_born(slot, birth)?;
        }
        Ok(())
    }

    /// Becomes a program that does nothing and keeps what has no O_CLOEXEC. A few of them are enough.
    fn exec(&mut self) -> Result<()> {
        if self.shared.slots.iter().filter(|slot| slot.state.load(SeqCst) == SLEEPS).count() >= SLOTS / 4 {
            return Ok(());
        }
        self.note(What::Execs, 0, 0);
        self.shared.slots[self.slot].state.store(SLEEPS, SeqCst);
        sys::exec_sleep(LIFE_SECONDS)?;
        Ok(())
    }

    /// By a signal, well, or badly. Half of the time if there are few left.
    fn die(&mut self) -> Result<()> {
        let others = self.shared.slots.iter().filter(|slot| slot.state.load(SeqCst) == ACTS).count();
        if others < SLOTS / 4 {
            return Ok(());
        }
        self.note(What::Dies, 0, 0);
        self.shared.slots[self.slot].state.store(FREE, SeqCst);
        match self.dice.below(4) {
            0 => sys::exit(0),
            1 => sys::exit(3),
            _ => sys::kill(process::id().cast_signed(), libc::SIGKILL)?,
        }
        Ok(())
    }

    fn any(&mut self) -> Option<(i32, u64)> {
        let count = self.fds.len() as u64;
        let chosen = if count == 0 { return None } else { self.dice.below(count) };
        self.fds.iter().nth(chosen as usize).map(|(fd, description)| (*fd, *description))
    }

    fn has(&mut self, what: What, fd: i32, description: u64, cloexec: bool) {
        self.fds.insert(fd, description);
        self.note(what, u64::from(cloexec) << 32 | u64::from(fd.unsigned_abs()), description);
    }

    fn note(&self, what: What, a: u64, b: u64) {
        self.shared.note(what, self.serial, a, b);
    }

    fn address(&self, serial: u32) -> io::Result<SocketAddrUnix> {
        let name = format!("{}/{serial}", self.dir.display());
        SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(io::Error::from)
    }
}
