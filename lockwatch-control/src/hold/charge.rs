//! What is to be held still: found, judged, frozen and looked after.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use anyhow::{Context, bail, ensure};
use lockwatch_core::clear::Hold;

use super::{
    hierarchy::{self, Group, Hierarchy},
    keep::Keep,
    process,
    spare::Spare,
    target::Target,
};

/// What was asked for, and what came of it.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) hold: Hold,
    /// The group as each hierarchy has it, the one that is frozen first. None for a single process.
    groups: Vec<Group>,
    /// By its own freezer, if it has one.
    pub(super) freezer: bool,
    targets: Vec<Arc<Target>>,
    pub(super) members: BTreeSet<u32>,
}

impl Charge {
    /// What is to be frozen, if it may be. Changes nothing.
    pub(super) fn new(hold: &Hold, hierarchies: &[Hierarchy], spare: &Spare) -> anyhow::Result<Self> {
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

    pub(super) fn freeze(&mut self, keep: &Keep, spare: &Spare, until: Instant) -> anyhow::Result<()> {
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
        let sleeps = |pid: &u32| matches!(process::stat(&pid.to_string()), Ok(Some(stat)) if stat.state == b'D');
        let members = match self.group() {
            Some(group) => group.members()?,
            None => self.members.clone(),
        };
        Ok(match members.into_iter().find(sleeps) {
            Some(pid) => format!("{} sleeps in the kernel, and did not stand still", process::name(pid)),
            None => "its processes did not stand still".into(),
        })
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
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
    if process::stat(&pid.to_string())?.is_some_and(|stat| stat.is_kernel_thread()) {
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
