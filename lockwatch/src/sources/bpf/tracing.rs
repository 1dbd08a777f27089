//! An agent's trace: switched on while somebody listens, and never more of it than a control group is allowed.

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use lockwatch_common::{BudgetValue, Switch, ThrottleRecord, Wire};
use lockwatch_core::{process::Origin, time::Timestamp};

use super::{
    Bpf, bytes_of,
    load::{self, Hook},
};
use crate::sources::{cgroup, clock::Clock};

/// After how many seconds of quiet a control group's budget is forgotten.
const QUIET: u64 = 10;

/// The group of those that have no budget of their own.
const OTHERS: u64 = 0;

/// Of a control group that does too much, only so many operations a second are told.
#[derive(Clone, Debug)]
pub struct Throttled {
    /// When it began, or when it was over.
    pub at: Timestamp,
    /// The kernel's number of the group; 0 for groups beyond the number that is kept apart.
    pub cgroup: u64,
    /// What the group is.
    pub origin: Origin,
    /// None when it begins; when it is over, how many operations were left out.
    pub left_out: Option<u64>,
}

impl Throttled {
    /// From the record of a beginning.
    pub(super) fn began(record: &ThrottleRecord, clock: &Clock) -> Self {
        Self {
            at: clock.at_boot_ns(record.at_ns),
            cgroup: record.cgroup,
            origin: cgroup::origin(record.cgroup),
            left_out: None,
        }
    }
}

/// What switches the trace, and what each control group has had of it.
pub struct Tracer {
    switch: Array<MapData, [u8; size_of::<Switch>()]>,
    budgets: HashMap<MapData, u64, [u8; size_of::<BudgetValue>()]>,
    per_second: u32,
}

impl Tracer {
    /// From an agent's maps; it is off.
    pub(super) fn new(ebpf: &mut Ebpf, per_second: u32) -> Result<Self> {
        let mut map = |name: &'static str| ebpf.take_map(name).with_context(|| format!("map {name}"));
        let (switch, budgets) = (Array::try_from(map(".bss")?)?, HashMap::try_from(map("BUDGETS")?)?);
        Ok(Self { switch, budgets, per_second: per_second.max(1) })
    }

    fn turn(&mut self, on: bool) -> Result<()> {
        let switch = Switch { trace_per_second: if on { u64::from(self.per_second) } else { 0 } };
        self.switch.set(0, bytes_of(&switch), 0).context("switch the trace")
    }

    /// The budget of all groups that find no room for one of their own.
    fn give_others(&mut self) -> Result<()> {
        let fresh = BudgetValue { second: 0, used: 0, over: 0, left_out: 0 };
        self.budgets.insert(OTHERS, bytes_of(&fresh), 0).context("give control groups a budget")
    }

    /// Takes out the budgets that `is_over` accepts, by group.
    fn take(&mut self, is_over: impl Fn(&BudgetValue) -> bool) -> Result<Vec<(u64, BudgetValue)>> {
        let all: Vec<_> = self.budgets.iter().collect::<Result<_, _>>().context("read the budgets of the trace")?;
        let budgets = all.into_iter().filter_map(|(group, value)| Some((group, BudgetValue::read(&value)?)));
        let over: Vec<_> = budgets.filter(|(_, budget)| is_over(budget)).collect();
        for (group, _) in &over {
            if *group == OTHERS {
                self.give_others()?;
            } else {
                let _ = self.budgets.remove(group); // only we take any out
            }
        }
        Ok(over)
    }
}

/// Whether a group has kept within its limit for a whole second, or has been quiet for long.
fn is_over(budget: &BudgetValue, second: u64) -> bool {
    if budget.left_out > 0 { budget.over + 1 < second } else { budget.second + QUIET < second }
}

impl Bpf {
    /// Has every lock operation told, or no longer. For an agent; others have what they were loaded for.
    pub fn set_tracing(&mut self, on: bool) -> Result<()> {
        let (Some(tracer), Some(attached)) = (&mut self.tracer, &mut self.attached) else { return Ok(()) };
        if !on {
            tracer.turn(false)?;
            let on_demand = &attached.on_demand;
            attached.hooks.retain(|hook| !on_demand.iter().any(|probe| std::ptr::eq(*probe, hook.probe)));
            return Ok(());
        }
        load::note_remote(&mut self.ebpf)?;
        for probe in &attached.on_demand {
            if !attached.hooks.iter().any(|hook| std::ptr::eq(*probe, hook.probe)) {
                attached.hooks.push(Hook::new(&mut self.ebpf, probe, attached.way)?);
            }
        }
        tracer.give_others()?;
        tracer.turn(true)
    }

    /// The control groups of which everything is told again, or that are quiet. Once a second while somebody traces,
    /// and once after.
    pub fn unthrottled(&mut self) -> Result<Vec<Throttled>> {
        let Some(tracer) = &mut self.tracer else { return Ok(Vec::new()) };
        let clock = Clock::read();
        let second = clock.boot_ns() / 1_000_000_000;
        let over = tracer.take(|budget| is_over(budget, second))?.into_iter().filter(|(_, budget)| budget.left_out > 0);
        let ended = |(group, budget): (u64, BudgetValue)| Throttled {
            at: clock.now(),
            cgroup: group,
            origin: cgroup::origin(group),
            left_out: u64::try_from(budget.left_out).ok(),
        };
        Ok(over.map(ended).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_throttled_until_a_whole_second_was_within_its_limit() {
        let check = |second, over, left_out, now, expect| {
            let budget = BudgetValue { second, used: 1, over, left_out };
            assert_eq!(is_over(&budget, now), expect, "{budget:?} at {now}");
        };
        check(100, 100, 5, 100, false);
        check(100, 100, 5, 101, false);
        check(101, 100, 5, 102, true);
        // Never over it: forgotten after a while.
        check(100, 0, 0, 102, false);
        check(100, 0, 0, 111, true);
    }
}
