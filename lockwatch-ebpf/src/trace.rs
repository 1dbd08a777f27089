//! Which lock operations go to the ring while somebody traces. Waits, grants after waits, deaths and the ends of ghosts
//! always do; these here are the flood, and must not drown them.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE},
    helpers::bpf_get_current_cgroup_id,
};
use lockwatch_common::{BudgetValue, RECORD_THROTTLE, ThrottleRecord, counter};

use crate::{
    kernel::{atomic_add, may_throttle, now, traced_per_second},
    maps::{BUDGETS, EVENTS, NO_EXIST},
    tally::Tally,
};

/// The budget that is shared by all groups for which the table has no room.
const OTHERS: u64 = 0;

/// Whether the running process may have one more operation told.
#[inline(always)]
pub fn admits(tally: Tally) -> bool {
    // A quarter of the ring is kept for what must not be lost.
    if EVENTS.query(BPF_RB_AVAIL_DATA as u64) > EVENTS.query(BPF_RB_RING_SIZE as u64) / 4 * 3 {
        tally.count(counter::TRACE_LOST);
        return false;
    }
    if !may_throttle() {
        return true;
    }
    // SAFETY: a helper without arguments.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let at_ns = now();
    let second = at_ns / 1_000_000_000;
    let (cgroup, Some(budget)) = budget_of(cgroup) else { return true };
    // SAFETY: a live value of a preallocated map. Other CPUs write it too: sums are added to atomically, and about
    // which second it is a moment's disagreement only gives somebody a few events more or less.
    unsafe {
        if (*budget).second != second {
            (*budget).second = second;
            (*budget).used = 0;
        }
        atomic_add(&raw mut (*budget).used, 1);
        if (*budget).used as u64 <= traced_per_second() {
            return true;
        }
        if (*budget).over != second {
            let goes_on = (*budget).over + 1 == second;
            (*budget).over = second;
            if !goes_on {
                tell(tally, cgroup, at_ns);
            }
        }
        atomic_add(&raw mut (*budget).left_out, 1);
    }
    false
}

/// The budget that a group spends, and whose it is.
#[inline(always)]
fn budget_of(cgroup: u64) -> (u64, Option<*mut BudgetValue>) {
    if let Some(budget) = BUDGETS.get_ptr_mut(cgroup) {
        return (cgroup, Some(budget));
    }
    let fresh = BudgetValue { second: 0, used: 0, over: 0, left_out: 0 };
    let _ = BUDGETS.insert(cgroup, fresh, NO_EXIST); // no room, or another CPU was quicker
    match BUDGETS.get_ptr_mut(cgroup) {
        Some(budget) => (cgroup, Some(budget)),
        None => (OTHERS, BUDGETS.get_ptr_mut(OTHERS)), // user space has put it there
    }
}

#[inline(always)]
fn tell(tally: Tally, cgroup: u64, at_ns: u64) {
    let Some(mut entry) = EVENTS.reserve::<ThrottleRecord>(0) else {
        tally.count(counter::RING_LOST);
        return;
    };
    entry.write(ThrottleRecord { record: RECORD_THROTTLE, pad: 0, at_ns, cgroup });
    entry.submit(0);
}
