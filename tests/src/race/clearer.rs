//! Plans and clears, as fast as it can, and keeps the books.

use std::{
    collections::HashMap,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lockwatch_control::hands::{Acted, Failure, Grip, carry_out};
use lockwatch_core::{
    clear::{Case, Keeper, Method, Plan, Policy, Wish},
    observation::Via,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    Race,
    props::{self, FIRST, PLANNED},
    shared::{HOLDERS, Shared},
    tally::Tally,
};
use crate::{ProcLock, case_of, dice::Dice, person, until};

/// How many clears there are between two looks at all decoys. None of them ever comes back.
const BETWEEN: u64 = 16;

/// How many clears there are between two signs of life.
const NEWS: u64 = 10_000;

pub(super) struct Clearer {
    race: Race,
    shared: &'static Shared,
    dice: Dice,
    targets: Vec<ProcLock>,
    tally: Tally,
    /// Serial numbers of those who were signalled as planned, with the signal.
    signalled: HashMap<u32, u8>,
}

/// A holder and one of its descriptors, or its message.
struct Aim {
    pid: u32,
    process: OwnedFd,
    method: Method,
    /// `None` for the message.
    fd: Option<i32>,
    slot: usize,
}

impl Clearer {
    /// `targets`: the lock of each.
    pub(super) fn new(race: Race, shared: &'static Shared, targets: Vec<ProcLock>) -> Self {
        let dice = Dice::new(race.seed, u32::MAX);
        Self { race, shared, dice, targets, tally: Tally::default(), signalled: HashMap::new() }
    }

    pub(super) fn run(mut self) -> Result<Tally> {
        let start = Instant::now();
        while self.tally.tried < self.race.clears {
            if !self.clear() {
                continue;
            }
            if self.tally.tried.is_multiple_of(NEWS) {
                println!(
                    "race: {} of {} clears after {:.0} s",
                    self.tally.tried,
                    self.race.clears,
                    start.elapsed().as_secs_f64()
                );
            }
            if self.tally.tried.is_multiple_of(BETWEEN) {
                self.tally.lost = props::missing();
                ensure!(self.tally.lost.is_empty(), "unlocked by mistake: {}", self.tally.lost.join(", "));
            }
        }
        self.tally.took = start.elapsed();
        self.shared.over.store(1, SeqCst);
        until("everybody has ended", || (self.shared.quiet.load(SeqCst) != 0).then_some(()));
        self.tally.lost = props::missing();
        for (serial, signal) in self.shared.signalled() {
            if self.signalled.get(&serial) != Some(&signal) {
                self.tally.wrong_signals += 1;
            }
        }
        let load = |n: &std::sync::atomic::AtomicU64| n.load(SeqCst);
        self.tally.deeds = self.shared.deeds.each_ref().map(load);
        self.tally.stolen = self.shared.stolen.each_ref().map(load);
        self.tally.takers = self.shared.takers.load(SeqCst);
        Ok(self.tally)
    }

    /// One clear, if there is something to clear where it looks; whether there was.
    fn clear(&mut self) -> bool {
        let done = self.aim().and_then(|aim| Some((self.look(&aim)?, aim)));
        let Some((case, aim)) = done else {
            self.tally.nothing += 1;
            std::thread::yield_now();
            return false;
        };
        let start = Instant::now();
        let grip = Grip::take(&case);
        let gripped = start.elapsed();
        // As the session does: look again once everybody is pinned. And only now it is certain who that is: the process
        // that this descriptor has pinned since before the first look.
        let again = self.look(&aim).filter(|again| again.agrees_with(&case));
        let serial = self.shared.serial(aim.pid);
        let (Ok(grip), Some(case), true) = (grip, again, serial != 0 && lives(&aim.process)) else {
            self.tally.moved += 1;
            return false;
        };
        let wish = Wish { method: Some(aim.method), grace: Duration::from_secs(2), ..Wish::default() };
        let plan = Plan::of(case, wish, &Policy::default());
        self.shared.aim.store(aim.slot as u32 + 1, SeqCst);
        let start = Instant::now();
        let done = carry_out(&plan, &grip);
        let took = gripped + start.elapsed();
        self.shared.aim.store(0, SeqCst);
        self.tally.tried += 1;
        let signal = match aim.method {
            Method::Terminate => libc::SIGTERM as u8,
            _ => libc::SIGKILL as u8,
        };
        if aim.method != Method::Release && !matches!(done, Err(Failure::Changed(_))) {
            self.signalled.insert(serial, signal);
        }
        self.count(&aim, done, took);
        true
    }

    fn count(&mut self, aim: &Aim, done: Result<Acted, Failure>, took: Duration) {
        match done {
            Ok(acted) => {
                if let Some(held) = acted.duplicate_held {
                    self.shared.free.fetch_add(1, SeqCst);
                    self.tally.latencies.push(took);
                    self.tally.held.push(held);
                }
                let way = match (aim.method, aim.fd) {
                    (Method::Release, Some(_)) => "released",
                    (Method::Release, None) => "released in a message",
                    (Method::Terminate, _) => "terminated",
                    _ => "killed",
                };
                *self.tally.done.entry(way).or_default() += 1;
                self.tally.not_gone += u64::from(!acted.gone);
            }
            Err(failure) => {
                let kind = if matches!(failure, Failure::Changed(_)) { "changed" } else { "failed" };
                let words: String = failure.to_string().chars().filter(|c| !c.is_ascii_digit()).collect();
                *self.tally.reasons.entry((kind, words)).or_default() += 1;
            }
        }
    }

    fn aim(&mut self) -> Option<Aim> {
        let slot = self.dice.below(HOLDERS as u64) as usize;
        let method = match self.dice.below(100) {
            0..4 if !self.race.calm => Method::Terminate,
            4..7 if !self.race.calm => Method::Kill,
            _ => Method::Release,
        };
        let by_message = method == Method::Release && self.dice.below(10) == 0;
        let fd = FIRST + self.dice.below(PLANNED.unsigned_abs().into()) as i32;
        let pid = self.shared.holders[slot].pid.load(SeqCst);
        let process = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
        Some(Aim { pid, process, method, fd: (!by_message).then_some(fd), slot })
    }

    /// What a look would show: whether a target is locked there, by somebody who is dead.
    fn look(&self, aim: &Aim) -> Option<Case> {
        let who = person(aim.pid)?;
        let pid = aim.pid.to_string();
        let (at, fd) = match aim.fd {
            Some(fd) => (pid.as_str(), fd),
            None => {
                let queued = self.shared.holders[aim.slot].queued.load(SeqCst).checked_sub(1)?;
                ("self", i32::try_from(queued).ok()?)
            }
        };
        let ghosts = props::locks(at, fd)?.into_iter().filter(|lock| lock.pid.is_none());
        let is_target = |lock: &ProcLock| self.targets.iter().position(|target| target == lock);
        let (lock, target) =
            ghosts.filter_map(|lock| Some((is_target(&lock)?, lock))).map(|(n, lock)| (lock, n)).next()?;
        // BPF sees who took an OFD lock. This is what it would see.
        if self.shared.taken[target].load(SeqCst) != 0 {
            return None;
        }
        let (via, fd) = match aim.fd {
            Some(fd) => (Via::Fd, Some(fd.unsigned_abs())),
            None => (Via::Message, None),
        };
        let keeper = Keeper { who: Some(who), via, fd, detail: None };
        Some(case_of(&lock, self.shared.taker.load(SeqCst), vec![keeper]))
    }
}

fn lives(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}
