//! The adversary: a process that is never found as it was a moment ago.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{self, Command},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::{
    props::{self, FIRST, How, NEIGHBOUR, PLANNED, TARGET, TARGETS, TWIN},
    shared::{self, HOLDERS, Shared},
};
use crate::{dice::Dice, sys};

/// Both ends of its inbox.
const OUTBOX: i32 = 20;
const INBOX: i32 = 21;

pub(super) struct Holder {
    shared: &'static Shared,
    memory: i32,
    slot: usize,
    seed: u64,
    dice: Dice,
    calm: bool,
    /// Targets that this process has taken itself.
    own: [bool; TARGETS],
}

/// What a holder that has become another program goes on with: its arguments.
///
/// # Errors
///
/// They are none.
pub fn again(args: &[String]) -> Result<()> {
    let number = |n: usize| -> Result<u64> { Ok(args.get(n).context("an argument is missing")?.parse()?) };
    let memory = i32::try_from(number(0)?)?;
    let shared = Shared::map(memory).context("map the shared memory")?;
    let slot = usize::try_from(number(1)?)?;
    Holder::new(shared, memory, slot, number(2)?, false).live()
}

impl Holder {
    pub(super) fn new(shared: &'static Shared, memory: i32, slot: usize, seed: u64, calm: bool) -> Self {
        let serial = shared.serial(process::id());
        Self { shared, memory, slot, seed, dice: Dice::new(seed, serial), calm, own: [false; TARGETS] }
    }

    /// A new process.
    pub(super) fn begin(mut self) -> Result<()> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::empty(), None)?;
        sys::dup_as(one.as_raw_fd(), OUTBOX, false)?;
        sys::dup_as(other.as_raw_fd(), INBOX, false)?;
        drop((one, other));
        for number in 0..PLANNED {
            let target = self.any_target();
            sys::dup_as(TARGET + target, FIRST + number, false)?;
        }
        self.send()?;
        self.shared.holders[self.slot].pid.store(process::id(), SeqCst);
        self.live()
    }

    /// Until everything is over, or it has had enough.
    fn live(mut self) -> Result<()> {
        while !self.shared.is_over() {
            if !self.calm {
                self.act()?;
            }
            let pause = if self.calm { 1000 } else { self.dice.below(400) };
            std::thread::sleep(Duration::from_micros(pause));
        }
        sys::exit(0)
    }

    fn act(&mut self) -> Result<()> {
        if self.shared.aim.load(SeqCst) == self.slot as u32 + 1 && self.dice.below(4) == 0 {
            return self.dodge();
        }
        match self.dice.below(100) {
            0..40 => self.swap(),
            40..52 => self.flicker(),
            52..56 => self.close(),
            56..76 => self.retake(),
            76..86 => self.message(),
            86..95 => Ok(()),
            95..98 => self.fork(),
            98 => self.exec(),
            _ => {
                self.shared.note(shared::EXIT);
                sys::exit(0)
            }
        }
    }

    /// Somebody is about to act upon this very process: another process at its number, or other files at all of its.
    fn dodge(&mut self) -> Result<()> {
        self.shared.note(shared::DODGE);
        if self.dice.below(3) == 0 {
            sys::exit(0)
        }
        let (target, from) = (self.any_target(), [TWIN, NEIGHBOUR][self.dice.below(2) as usize]);
        (FIRST..FIRST + PLANNED).try_for_each(|number| Ok(sys::dup_as(from + target, number, false).map(drop)?))
    }

    /// Something else at a number that plans speak of.
    fn swap(&mut self) -> Result<()> {
        let (what, number) = (self.anything(), self.planned());
        sys::dup_as(what, number, false)?;
        self.shared.note(shared::SWAP);
        Ok(())
    }

    /// A decoy, and back again at once.
    fn flicker(&mut self) -> Result<()> {
        let (target, number) = (self.any_target(), self.planned());
        for what in [TARGET, TWIN, TARGET, NEIGHBOUR, TARGET] {
            sys::dup_as(what + target, number, false)?;
            self.shared.note(shared::SWAP);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let _ = sys::close(self.planned());
        self.shared.note(shared::CLOSE);
        Ok(())
    }

    /// Releases a target that nobody else releases, and perhaps takes it, living as it is.
    fn retake(&mut self) -> Result<()> {
        let share = (TARGETS / HOLDERS) as u64;
        let target = self.slot + HOLDERS * self.dice.below(share) as usize;
        let (fd, how) = (TARGET + i32::try_from(target)?, props::lock_of(target));
        if self.own[target] && !self.has_it_still(fd, how) {
            self.shared.stolen[target % 3].fetch_add(1, SeqCst);
        }
        self.own[target] = false;
        let _ = props::release(fd, how);
        self.shared.note(shared::RELEASE);
        // A release may come right after a clear, and the taker be quicker.
        self.shared.taken[target].store(0, SeqCst);
        if self.dice.below(2) == 0 {
            self.shared.taken[target].store(1, SeqCst);
            self.own[target] = props::take(fd, how).is_ok() && self.has_it_still(fd, how);
            if self.own[target] {
                self.shared.note(shared::TAKE);
            } else {
                self.shared.taken[target].store(0, SeqCst);
            }
        }
        Ok(())
    }

    fn has_it_still(&self, fd: i32, how: How) -> bool {
        let mine = |pid: Option<u32>| matches!(how, How::Ofd { .. }) || pid == Some(process::id());
        let locks = props::locks("self", fd).unwrap_or_default();
        locks.iter().any(|lock| props::is(how, lock) && mine(lock.pid))
    }

    /// Takes its message and sends itself another one.
    fn message(&mut self) -> Result<()> {
        self.shared.holders[self.slot].queued.store(0, SeqCst);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        // SAFETY: it is open as long as this process lives.
        let inbox = unsafe { BorrowedFd::borrow_raw(INBOX) };
        if recvmsg(inbox, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::DONTWAIT).is_ok() {
            let received = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            });
            drop(received.flatten().collect::<Vec<OwnedFd>>());
        }
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        let what = self.anything();
        // SAFETY: both are open as long as this process lives.
        let (fd, outbox) = unsafe { (BorrowedFd::borrow_raw(what), BorrowedFd::borrow_raw(OUTBOX)) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        if sendmsg(outbox, &[IoSlice::new(b"x")], &mut control, SendFlags::DONTWAIT).is_ok() {
            self.shared.holders[self.slot].queued.store(what.unsigned_abs() + 1, SeqCst);
            self.shared.note(shared::MESSAGE);
        }
        Ok(())
    }

    /// A short life with the same descriptors.
    fn fork(&mut self) -> Result<()> {
        self.shared.note(shared::FORK);
        if sys::fork_sibling()?.is_some() {
            return Ok(());
        }
        self.dice = Dice::new(self.seed, self.shared.be_born());
        for _ in 0..self.dice.below(20) {
            self.swap()?;
            std::thread::sleep(Duration::from_micros(self.dice.below(200)));
        }
        sys::exit(0)
    }

    /// The same process, and all of its descriptors, with another image.
    fn exec(&mut self) -> Result<()> {
        self.shared.note(shared::EXEC);
        for target in (0..TARGETS).filter(|target| self.own[*target]) {
            let _ = props::release(TARGET + i32::try_from(target)?, props::lock_of(target));
            self.shared.taken[target].store(0, SeqCst);
        }
        let seed = self.seed.rotate_left(1) ^ self.dice.below(1 << 40);
        let args = [self.memory.to_string(), self.slot.to_string(), (seed >> 1).to_string()];
        Err(Command::new("/proc/self/exe").arg("--holder").args(args).exec()).context("exec")
    }

    fn anything(&mut self) -> i32 {
        let target = self.any_target();
        match self.dice.below(10) {
            0..6 => TARGET + target,
            6..8 => TWIN + target,
            _ => NEIGHBOUR + target,
        }
    }

    fn any_target(&mut self) -> i32 {
        self.dice.below(TARGETS as u64) as i32
    }

    fn planned(&mut self) -> i32 {
        FIRST + self.dice.below(PLANNED.unsigned_abs().into()) as i32
    }
}
