//! The first process of the namespace: everybody's parent, and the judge of how they end.

use std::{
    fs,
    os::fd::{AsRawFd, IntoRawFd, OwnedFd},
    path::PathBuf,
    process,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::{
    Race,
    clearer::Clearer,
    holder::Holder,
    props::{self, TARGET, TARGETS},
    shared::{self, HOLDERS, Shared},
};
use crate::{dice::Dice, sys};

/// Processes that have nothing to do with any plan.
const BYSTANDERS: usize = 3;

/// A ghost is made at least so often.
const PATIENCE: Duration = Duration::from_millis(2);

pub(super) struct Nest {
    race: Race,
    shared: &'static Shared,
    memory: i32,
    dice: Dice,
    /// Children by number; those of holders are not among them.
    holders: [Option<i32>; HOLDERS],
    bystanders: Vec<i32>,
    taker: Option<i32>,
    taken: Instant,
    /// Whose number is free.
    dead: Option<i32>,
}

impl Nest {
    /// Sets up what is raced for.
    pub(super) fn build(race: Race, places: &[PathBuf; 2]) -> Result<Self> {
        let memory: OwnedFd = memfd_create("race", MemfdFlags::empty()).context("make a memfd")?;
        ftruncate(&memory, size_of::<Shared>() as u64).context("size the memfd")?;
        let shared = Shared::map(memory.as_raw_fd()).context("map the memfd")?;
        // Per pid namespace since Linux 6.14; before, only what `ns_last_pid` does brings numbers back.
        let _ = fs::write("/proc/sys/kernel/pid_max", "400");
        props::open(places)?;
        let nest = Self {
            race,
            shared,
            memory: memory.into_raw_fd(),
            dice: Dice::new(race.seed, 0),
            holders: [None; HOLDERS],
            bystanders: Vec::new(),
            taker: None,
            taken: Instant::now(),
            dead: None,
        };
        let Some(first) = sys::fork().context("fork")? else {
            leave(props::take_decoys().and_then(|()| nest.take_targets()));
        };
        ensure!(sys::wait_for(first)?.success(), "the decoys could not be locked");
        Ok(nest)
    }

    /// Until the clearer has ended. Its exit code.
    pub(super) fn run(mut self) -> Result<i32> {
        // Before anybody moves.
        let targets = props::learn()?;
        ensure!(props::missing().is_empty(), "not every decoy is locked");
        let Some(clearer) = sys::fork().context("fork")? else {
            let code = match Clearer::new(self.race, self.shared, targets).run() {
                Ok(tally) => tally.print(&self.race),
                Err(error) => {
                    eprintln!("race: {error:#}");
                    1
                }
            };
            sys::exit(code);
        };
        loop {
            while let Some((pid, signal)) = sys::ended_child().context("wait for children")? {
                self.shared.end(pid.unsigned_abs(), signal as u8);
                let status = sys::wait_for(pid)?;
                if pid == clearer {
                    return Ok(status.code().unwrap_or(1));
                }
                self.bury(pid);
            }
            match self.shared.is_over() {
                true if alone_with(clearer) => self.shared.quiet.store(1, SeqCst),
                true => {}
                false => self.breed()?,
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn bury(&mut self, pid: i32) {
        self.dead = Some(pid);
        self.bystanders.retain(|bystander| *bystander != pid);
        self.taker = self.taker.filter(|taker| *taker != pid);
        if let Some(slot) = self.holders.iter().position(|holder| *holder == Some(pid)) {
            self.holders[slot] = None;
            self.shared.holders[slot].pid.store(0, SeqCst);
            self.shared.holders[slot].queued.store(0, SeqCst);
            // What it had taken is a ghost from now on.
            (slot..TARGETS).step_by(HOLDERS).for_each(|target| self.shared.taken[target].store(0, SeqCst));
        }
    }

    /// Sees to it that everybody is there.
    fn breed(&mut self) -> Result<()> {
        let seed = self.dice.below(1 << 40);
        if let Some(slot) = self.holders.iter().position(Option::is_none) {
            match self.fork()? {
                Some(pid) => self.holders[slot] = Some(pid),
                None => leave(Holder::new(self.shared, self.memory, slot, seed, self.race.calm).begin()),
            }
        }
        if self.taker.is_none() && (self.shared.free.load(SeqCst) > 2 || self.taken.elapsed() > PATIENCE) {
            self.taken = Instant::now();
            self.shared.free.store(0, SeqCst);
            match self.fork()? {
                Some(pid) => self.taker = Some(pid),
                None => leave(self.take_targets()),
            }
        }
        if self.bystanders.len() < BYSTANDERS && !self.race.calm {
            let life = Duration::from_micros(1000 + seed % 20_000);
            match self.fork()? {
                Some(pid) => self.bystanders.push(pid),
                None => {
                    std::thread::sleep(life);
                    leave(Ok(()));
                }
            }
        }
        Ok(())
    }

    /// A child, with the number of whoever has died last if that can be had.
    fn fork(&mut self) -> Result<Option<i32>> {
        let wanted = self.dead.take();
        if let Some(pid) = wanted {
            let _ = fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string());
        }
        let child = sys::fork().context("fork")?;
        match child {
            Some(_) if child == wanted => self.shared.note(shared::REUSE),
            Some(_) => {}
            None => drop(self.shared.be_born()),
        }
        Ok(child)
    }

    /// Locks every target that is free.
    fn take_targets(&self) -> Result<()> {
        for (number, target) in (0..).zip(0..TARGETS) {
            let _ = props::take(TARGET + number, props::lock_of(target));
        }
        self.shared.taker.store(process::id(), SeqCst);
        self.shared.takers.fetch_add(1, SeqCst);
        Ok(())
    }
}

fn leave(done: Result<()>) -> ! {
    if let Err(error) = &done {
        eprintln!("race: {error:#}");
    }
    sys::exit(i32::from(done.is_err()))
}

/// Whether only this process and that child are left.
fn alone_with(child: i32) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != 1 && *pid != child).count() == 0
}
