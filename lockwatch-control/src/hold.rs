//! Holding others still while a lock is cleared, and letting them go on whatever happens.
//!
//! Somebody who tries for the lock again and again would have it the moment it is free. So a unit, a control group or a
//! process may be frozen meanwhile: by the freezer of version 2, else by that of version 1, else by SIGSTOP to each
//! process; one process alone always by SIGSTOP, because its control group has neighbours in it.
//!
//! **Who thaws.** [`Held::thaw`], or dropping it. If this process ends, by SIGKILL too, or `limit` has passed, a
//! guardian does it: a process of its own that is there before anybody is frozen, and that is told of each target before
//! that one is. If the guardian is killed, a thread of this process thaws at once. So a session needs no handler for
//! Ctrl-C. Only an end of both in the same moment leaves somebody frozen: a systemd service that holds others still
//! must have `KillMode=process`, or systemd kills the guardian with it.
//!
//! **Who is not frozen.** Whom [`Spare`] names; if a unit or group has one of them in it, nothing is frozen at all. What
//! was frozen or stopped already stays so in the end.
//!
//! **What those who are held still notice.** Nothing, from the freezers, but: a request for a lock that waits leaves the
//! queue when its process is frozen, in any way, and joins it at the end afterwards (the wait is interrupted and begun
//! again, [V] on 6.18; `fs/locks.c` flock_lock_inode_wait), and the calls that signal(7) lists under "Interruption of
//! system calls … by stop signals" fail with EINTR. SIGSTOP also shows: a parent sees it (WUNTRACED in wait(2)), and an
//! interactive shell takes it for a suspended job.
//!
//! **Capabilities.** CAP_KILL for SIGSTOP and SIGCONT, CAP_SYS_PTRACE where /proc is mounted with hidepid. The files of
//! control groups belong to root, so uid 0 needs no other; one that was delegated to a user is not ours to write, and its
//! processes get SIGSTOP.
//!
//! **System calls after the confinement**, for its filter: in this process openat, read, pread64, write, close, newfstatat,
//! statx, getdents64, lseek, pidfd_open, pidfd_send_signal (0, SIGSTOP, SIGCONT, SIGKILL), poll or ppoll, socketpair,
//! sendmsg, recvfrom, recvmsg, shutdown, fcntl, dup, rt_sigprocmask, clone (fork and a thread; clone3 may be answered ENOSYS), waitid,
//! clock_nanosleep, futex, mmap, mprotect, munmap, madvise, sigaltstack, rseq, set_robust_list, sched_getaffinity,
//! gettid, getpid, exit; in the guardian also setsid, dup2, close_range, prctl (PR_SET_NAME), exit_group.

mod guardian;
mod hierarchy;
mod process;
mod spare;
mod target;

use std::{
    collections::BTreeSet,
    fmt,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use lockwatch_core::clear::Hold;

pub use self::spare::Spare;
use self::{
    guardian::{Guardian, Quiet},
    hierarchy::{Group, Hierarchy, Kind},
    target::{Target, Way},
};

/// How long somebody may take to be still, at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those who are held still, until this value is dropped.
#[derive(Debug)]
pub struct Held {
    charges: Vec<Charge>,
    /// `None` if nobody was to be held still.
    keep: Option<(Arc<Keep>, JoinHandle<()>)>,
    limit: Duration,
}

/// What was asked for, and what came of it.
#[derive(Debug)]
struct Charge {
    hold: Hold,
    /// The group as each hierarchy has it, the one that is frozen first. None for a single process.
    groups: Vec<Group>,
    /// By its own freezer, if it has one.
    freezer: bool,
    targets: Vec<Arc<Target>>,
    members: BTreeSet<u32>,
}

/// What this process and its guardian both know.
#[derive(Debug)]
struct Keep {
    guardian: Guardian,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What we have frozen and not thawed.
    ours: Vec<Arc<Target>>,
    /// The guardian has ended: nothing more may be frozen.
    over: bool,
}

impl Held {
    /// Freezes all of them, and returns when they are still; within `limit` from now they go on. Nobody is frozen if one
    /// of them cannot be.
    ///
    /// The process may have threads, but none that forks and expects the guardian not to be among its children.
    ///
    /// # Errors
    ///
    /// Why somebody cannot be held still. Everybody goes on.
    pub fn freeze(holds: &[Hold], limit: Duration, spare: &Spare) -> anyhow::Result<Self> {
        if holds.is_empty() {
            return Ok(Self { charges: Vec::new(), keep: None, limit });
        }
        ensure!(!limit.is_zero(), "nobody can be held still for no time at all");
        let hierarchies = hierarchy::mounted()?;
        let mut charges = holds
            .iter()
            .map(|hold| Charge::new(hold, &hierarchies, spare).with_context(|| refused(hold)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        // A frozen process does not obey SIGSTOP, but a stopped one can be frozen.
        charges.sort_by_key(|charge| charge.freezer);
        let keep = {
            let quiet = Quiet::new()?;
            let keep = Arc::new(Keep { guardian: Guardian::start(limit, &quiet)?, state: Mutex::default() });
            let watched = Arc::clone(&keep);
            // Without a signal: those of this process are for those who have handlers for them.
            let watch = std::thread::Builder::new().spawn(move || watched.watch());
            match watch {
                Ok(watch) => (keep, watch),
                Err(error) => {
                    keep.guardian.dismiss(true);
                    return Err(error).context("start a thread");
                }
            }
        };
        let mut held = Self { charges, keep: Some(keep), limit };
        // From here on an error drops `held`, and so thaws.
        let until = Instant::now() + PATIENCE.min(limit / 2);
        if let Some((keep, _)) = &held.keep {
            for charge in &mut held.charges {
                charge.freeze(keep, spare, until).with_context(|| refused(&charge.hold))?;
            }
        }
        held.check()?;
        Ok(held)
    }

    /// Whether everybody is still: to be asked before acting on it.
    ///
    /// # Errors
    ///
    /// Who goes on, or that everybody does.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some((keep, _)) = &self.keep else { return Ok(()) };
        ensure!(
            Instant::now() < keep.guardian.deadline,
            "everybody goes on: {} s have passed, the most that was allowed",
            self.limit.as_secs_f32()
        );
        ensure!(!keep.lock().over, "everybody goes on: the guardian was killed");
        self.charges.iter().try_for_each(Charge::check)
    }

    /// The numbers of those who are held still. A request of theirs that waited for a lock has left the queue.
    pub fn members(&self) -> BTreeSet<u32> {
        self.charges.iter().flat_map(|charge| charge.members.iter().copied()).collect()
    }

    /// Readable as soon as everybody goes on although nobody has called [`Held::thaw`]; for poll(2). `None` if nobody is
    /// held.
    pub fn over(&self) -> Option<BorrowedFd<'_>> {
        self.keep.as_ref().map(|(keep, _)| keep.guardian.as_fd())
    }

    /// Lets everybody go on, but for those who were frozen already.
    ///
    /// # Errors
    ///
    /// Somebody may not go on, and why. The guardian has tried, too.
    pub fn thaw(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some((keep, watch)) = self.keep.take() else { return Ok(()) };
        let thawed = keep.lock().thaw();
        keep.guardian.dismiss(thawed.is_ok());
        // It ends with the guardian.
        let _ = watch.join();
        thawed
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// One sentence for each, as `cron.service: 3 processes held still by its freezer`.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Charge { hold, freezer, members, .. }) in self.charges.iter().enumerate() {
            let comma = if n == 0 { "" } else { "; " };
            let by = if *freezer { "its freezer" } else { "SIGSTOP" };
            match (hold, members.len()) {
                (Hold::Process(_), _) => write!(f, "{comma}{hold}: held still by {by}")?,
                (_, 1) => write!(f, "{comma}{hold}: 1 process held still by {by}")?,
                (_, n) => write!(f, "{comma}{hold}: {n} processes held still by {by}")?,
            }
        }
        Ok(())
    }
}

impl Charge {
    /// What is to be frozen, if it may be. Changes nothing.
    fn new(hold: &Hold, hierarchies: &[Hierarchy], spare: &Spare) -> anyhow::Result<Self> {
        let (mut groups, mut targets, mut freezer) = (Vec::new(), Vec::new(), false);
        if let Hold::Process(pid) = hold {
            targets.push(Arc::new(process(*pid, spare)?));
        } else {
            groups = hierarchy::find(hold, hierarchies)?;
            // Version 2 may have a group of that name that nobody is in.
            let populated = populated(&groups)?;
            let candidates = if populated.is_empty() { groups.clone() } else { populated.clone() };
            match (candidates.iter().find_map(|group| Some((group, Target::freezer(group)?))), populated.first()) {
                (Some((group, target)), _) => {
                    put_first(&mut groups, group);
                    targets.push(Arc::new(target));
                    freezer = true;
                }
                (None, Some(group)) => put_first(&mut groups, group),
                (None, None) => bail!("no process is in it"),
            }
        }
        let charge = Self { hold: hold.clone(), groups, freezer, targets, members: BTreeSet::new() };
        charge.object(spare)?;
        Ok(charge)
    }

    /// The group that is frozen.
    fn group(&self) -> Option<&Group> {
        self.groups.first()
    }

    /// Whether somebody in it must not be frozen.
    fn object(&self, spare: &Spare) -> anyhow::Result<()> {
        for group in &self.groups {
            for pid in group.members()? {
                if let Some(why) = spare.objection(pid)? {
                    bail!("{} is in it: {why}", process::name(pid));
                }
            }
        }
        Ok(())
    }

    fn freeze(&mut self, keep: &Keep, spare: &Spare, until: Instant) -> anyhow::Result<()> {
        match &self.hold {
            Hold::Process(pid) => self.members = [*pid].into(),
            Hold::Unit(_) | Hold::Cgroup(_) if self.freezer => {}
            Hold::Unit(_) | Hold::Cgroup(_) => return self.stop_each(keep, spare, until),
        }
        for target in &self.targets {
            keep.freeze(target, self.groups.first())?;
            if !target.wait(until)? {
                bail!("{} in time", self.restless()?);
            }
        }
        if let Some(group) = self.group() {
            self.members = group.members()?;
        }
        // Somebody may have come in since it was asked.
        self.object(spare)
    }

    /// SIGSTOP to each process of the group until nobody new is found: a process that is stopped has no more children.
    fn stop_each(&mut self, keep: &Keep, spare: &Spare, until: Instant) -> anyhow::Result<()> {
        let Some(group) = self.group().cloned() else { return Ok(()) };
        loop {
            ensure!(Instant::now() < until, "new processes came faster than they could be stopped");
            self.targets.retain(|target| target.lives());
            let known: BTreeSet<_> = self.targets.iter().map(|target| target.pid()).collect();
            let mut fresh = Vec::new();
            for pid in group.members()?.difference(&known) {
                fresh.extend(Target::process(*pid)?);
            }
            // Who is still listed and lives afterwards had its number all the time: the pidfd is of a member.
            let listed = group.members()?;
            fresh.retain(|target| listed.contains(&target.pid()) && target.lives());
            if fresh.is_empty() && listed.is_subset(&known) {
                self.members = listed;
                return Ok(());
            }
            let fresh: Vec<_> = fresh.into_iter().map(Arc::new).collect();
            for target in &fresh {
                may_be_stopped(target.pid(), spare)?;
                self.targets.push(Arc::clone(target));
                keep.freeze(target, None)?;
            }
            for target in &fresh {
                ensure!(target.wait(until)?, "{} did not stand still in time", process::name(target.pid()));
            }
        }
    }

    /// Who does not obey, for the words of an error.
    fn restless(&self) -> anyhow::Result<String> {
        let sleeps = |pid: &u32| matches!(process::Stat::read(&pid.to_string()), Ok(Some(stat)) if stat.state == b'D');
        let members = match self.group() {
            Some(group) => group.members()?,
            None => self.members.clone(),
        };
        Ok(match members.into_iter().find(sleeps) {
            Some(pid) => format!("{} sleeps in the kernel, and did not stand still", process::name(pid)),
            None => "its processes did not stand still".into(),
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        let hold = &self.hold;
        for target in &self.targets {
            ensure!(target.is_still()?, "{hold} goes on: somebody else has let it");
        }
        let Some((frozen, elsewhere)) = self.groups.split_first() else { return Ok(()) };
        let members = frozen.members()?;
        let known = if self.freezer { &members } else { &self.members };
        let mut others = elsewhere.iter().map(Group::members).collect::<anyhow::Result<Vec<_>>>()?;
        others.push(members.clone());
        if let Some(pid) = others.iter().flatten().find(|pid| !known.contains(pid)) {
            bail!("{} of {hold} goes on: it is not in the group that is held still", process::name(*pid));
        }
        Ok(())
    }
}

impl Keep {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the order to be still, once the guardian knows of it; nothing, if somebody else has given it before.
    fn freeze(&self, target: &Arc<Target>, group: Option<&Group>) -> anyhow::Result<()> {
        if target.is_frozen_by_others(group)? {
            return Ok(());
        }
        let mut state = self.lock();
        ensure!(!state.over, "the guardian has ended");
        self.guardian.tell(target)?;
        state.ours.push(Arc::clone(target));
        target.freeze().with_context(|| match target.way() {
            Way::Freezer2 => "write cgroup.freeze".to_owned(),
            Way::Freezer1 => "write freezer.state".to_owned(),
            Way::Signal => format!("send SIGSTOP to pid {}", target.pid()),
        })
    }

    /// Thaws as soon as the guardian has ended, for whatever reason.
    fn watch(&self) {
        self.guardian.wait();
        let mut state = self.lock();
        state.over = true;
        let _ = state.thaw();
    }
}

impl State {
    /// The last that was frozen goes on first, as is proper for what is inside of something else.
    fn thaw(&mut self) -> anyhow::Result<()> {
        let mut problem = Ok(());
        while let Some(target) = self.ours.pop() {
            if let Err(error) = target.thaw() {
                problem = Err(error).context("let everybody go on");
            }
        }
        problem
    }
}

/// What can be used here to hold a unit or a control group still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// In words.
    pub words: String,
    /// Whether it is the best there is: the freezer of version 2, which nobody notices.
    pub best: bool,
}

/// What can be used here. A single process can be stopped everywhere.
///
/// # Errors
///
/// `/proc` cannot tell what is mounted.
pub fn ways() -> anyhow::Result<Ways> {
    Ok(Ways::of(&hierarchy::mounted()?))
}

impl Ways {
    fn of(hierarchies: &[Hierarchy]) -> Self {
        let has = |kind| hierarchies.iter().any(|hierarchy| hierarchy.kind == kind && hierarchy.writable);
        let (words, best) = match (has(Kind::Unified), has(Kind::Freezer)) {
            (true, false) => ("by the freezer of control groups of version 2", true),
            (true, true) => ("by the freezer of control groups, of version 2 and of version 1", true),
            (false, true) => {
                ("by the freezer of control groups of version 1; units only by SIGSTOP to each process", false)
            }
            (false, false) => ("by SIGSTOP to each process only, which their parents notice", false),
        };
        Self { words: words.into(), best }
    }
}

fn refused(hold: &Hold) -> String {
    format!("{hold} cannot be held still")
}

fn process(pid: u32, spare: &Spare) -> anyhow::Result<Target> {
    let target = Target::process(pid)?.context("there is no such process")?;
    may_be_stopped(pid, spare)?;
    ensure!(target.lives(), "it is dead");
    Ok(target)
}

fn may_be_stopped(pid: u32, spare: &Spare) -> anyhow::Result<()> {
    if let Some(why) = spare.objection(pid)? {
        bail!("{}: {why}", process::name(pid));
    }
    if process::Stat::read(&pid.to_string())?.is_some_and(|stat| stat.is_kernel) {
        bail!("{} is a thread of the kernel", process::name(pid));
    }
    match process::tracer(pid)? {
        Some(tracer) => {
            bail!("{} is traced by {}, who gets its signals first", process::name(pid), process::name(tracer))
        }
        None => Ok(()),
    }
}

fn populated(groups: &[Group]) -> anyhow::Result<Vec<Group>> {
    let mut populated = Vec::new();
    for group in groups {
        if !group.members()?.is_empty() {
            populated.push(group.clone());
        }
    }
    Ok(populated)
}

fn put_first(groups: &mut [Group], first: &Group) {
    if let Some(at) = groups.iter().position(|group| group == first) {
        groups[..=at].rotate_right(1);
    }
}
