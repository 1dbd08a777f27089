//! Who a process number stands for: a number is a name that the kernel gives away again.

use std::sync::Arc;

use crate::{
    observation::Census,
    process::{Death, Life, Process, ProcessId},
    time::{StartTime, Timestamp},
};

/// What a lock tells about the acquirer of which only the number is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace {
    /// Whether the living process of that number is among the lock's holders, or the parent of one that was born after
    /// it: a child has its descriptors from its parent, and both cannot have them from an earlier user of the number.
    pub holds: bool,
    /// When the lock was taken, if that is known.
    pub acquired_at: Option<Timestamp>,
    /// Who had the number when an earlier picture already showed the lock: `Some(None)` is "nobody".
    pub tenant: Option<Option<StartTime>>,
}

impl Census {
    /// Who it is, and whether it lives.
    ///
    /// With a known start the answer is certain as far as the census sees. Without one the living process of that
    /// number is taken for it: fit for waiters and holders, which were seen alive a moment ago; for an acquirer
    /// use [`Census::acquirer`].
    pub fn resolve(&self, id: ProcessId) -> Arc<Process> {
        let living = self.living.get(&id.pid);
        if let Some(same) = living.filter(|p| id.start.is_none() || p.id.start == id.start) {
            return same.clone();
        }
        if let Some(dead) = self.dead.get(&id) {
            return dead.clone();
        }
        Arc::new(Process::unknown(id, self.absent(id, living.map(|other| other.id))))
    }

    /// The acquirer of a lock. Where only its number is known, the number's living user is named only if it holds
    /// the lock; else it may be an innocent who got the number later, and nothing of it is shown.
    pub fn acquirer(&self, id: ProcessId, trace: Trace) -> Arc<Process> {
        let Some(living) = self.living.get(&id.pid).filter(|_| id.start.is_none() && !trace.holds) else {
            return self.namesake(id, trace).unwrap_or_else(|| self.resolve(id));
        };
        let life = if born_later(living, trace) {
            self.absent(id, Some(living.id))
        } else {
            let pid = id.pid;
            Life::Unknown(format!(
                "a process with number {pid} lives but does not hold the lock: it may have passed the lock on, or it \
                 may be another process that got the number later"
            ))
        };
        Arc::new(Process::unknown(id, life))
    }

    /// The dead acquirer whose number came back within a tick, so that a living process has its identity: it is told by
    /// the order of lock, death and birth, where all three are known.
    fn namesake(&self, id: ProcessId, trace: Trace) -> Option<Arc<Process>> {
        let living = self.living.get(&id.pid).filter(|living| living.id == id)?;
        let dead = self.dead.get(&id)?;
        let Life::Dead(death) = &dead.life else { return None };
        let (taken, died, born) = (trace.acquired_at?, death.at?, living.started_at?);
        let life = Life::Dead(Death { number_reused_by: Some(living.id), ..death.clone() });
        (taken <= died && died <= born).then(|| Arc::new(Process { life, ..Process::clone(dead) }))
    }

    /// The life of a process that is not among the living. Another one under its number is proof of its death: a
    /// number is given away only when it is free.
    fn absent(&self, id: ProcessId, number_reused_by: Option<ProcessId>) -> Life {
        match &self.blind_spot {
            Some(why) if number_reused_by.is_none() => Life::Unknown(format!("no pid {} is seen, but {why}", id.pid)),
            _ if number_reused_by.is_some_and(|other| id.start.is_some() && other.start.is_none()) => {
                Life::Unknown(format!("a pid {} lives, but when it started is not known", id.pid))
            }
            _ => Life::Dead(Death { number_reused_by, ..Death::default() }),
        }
    }
}

/// Whether the number's living user was born when the lock already existed, and so cannot have taken it.
fn born_later(living: &Process, trace: Trace) -> bool {
    // Starts are known to a tick, and put on the wall clock they move when that clock is set: demand some room.
    const ROOM_NS: u64 = 1_000_000_000;
    let after_the_lock = |(born, taken): (Timestamp, Timestamp)| born.0 > taken.0.saturating_add(ROOM_NS);
    let newcomer = match (trace.tenant, living.id.start) {
        (Some(None), _) => true,
        (Some(Some(then)), Some(now)) => then != now,
        _ => false,
    };
    newcomer || living.started_at.zip(trace.acquired_at).is_some_and(after_the_lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hash::Map, text::Text};

    const SECOND: u64 = 1_000_000_000;

    fn id(pid: u32, start: impl Into<Option<u64>>) -> ProcessId {
        ProcessId { pid, start: start.into().map(StartTime) }
    }

    /// Pid 10, started at tick 500, on the wall clock at 50 s, lives; pid 11, started at tick 600, was seen dying.
    fn census() -> Census {
        let mut alive = Process::unknown(id(10, 500), Life::Alive);
        alive.comm = Some(Text::from("alive"));
        alive.started_at = Some(Timestamp(50 * SECOND));
        let death = Death { at: Some(Timestamp(70 * SECOND)), ..Death::default() };
        let dead = Process::unknown(id(11, 600), Life::Dead(death));
        Census {
            living: Map::from_iter([(10, Arc::new(alive))]),
            dead: Map::from_iter([(dead.id, Arc::new(dead))]),
            ..Census::default()
        }
    }

    fn reused(by: ProcessId) -> Life {
        Life::Dead(Death { number_reused_by: Some(by), ..Death::default() })
    }

    #[test]
    fn a_known_start_is_an_identity() {
        let check = |id: ProcessId, expect: Life| assert_eq!(census().resolve(id).life, expect, "{id:?}");
        check(id(10, 500), Life::Alive);
        check(id(10, 400), reused(id(10, 500)));
        check(id(11, 600), Life::Dead(Death { at: Some(Timestamp(70 * SECOND)), ..Death::default() }));
        check(id(12, 1), Life::Dead(Death::default()));
    }

    #[test]
    fn two_starts_of_which_one_is_unknown_cannot_be_told_apart() {
        let living = Map::from_iter([(10, Arc::new(Process::unknown(id(10, None), Life::Alive)))]);
        let census = Census { living, ..Census::default() };
        assert_eq!(census.resolve(id(10, 500)).life.name(), "unknown");
    }

    #[test]
    fn where_the_view_is_limited_absence_proves_nothing() {
        let census = Census { blind_spot: Some("this is a pid namespace of its own".into()), ..census() };
        let check = |id: ProcessId, expect: &str| assert_eq!(census.resolve(id).life.name(), expect, "{id:?}");
        check(id(12, 1), "unknown");
        check(id(12, None), "unknown");
        check(id(10, 400), "dead");
        check(id(11, 600), "dead");
        check(id(10, 500), "alive");
    }

    #[test]
    fn a_number_alone_names_only_who_holds_the_lock() {
        let at = |s: u64| Some(Timestamp(s * SECOND));
        let trace = Trace::default();
        let check = |pid: u32, trace: Trace, expect: &str, named: bool| {
            let found = census().acquirer(id(pid, None), trace);
            assert_eq!((found.life.name(), found.comm.is_some()), (expect, named), "{pid} {trace:?}");
        };
        check(10, Trace { holds: true, ..trace }, "alive", true);
        check(10, trace, "unknown", false);
        check(10, Trace { acquired_at: at(60), ..trace }, "unknown", false);
        check(10, Trace { acquired_at: at(40), ..trace }, "dead", false);
        check(10, Trace { tenant: Some(Some(StartTime(500))), ..trace }, "unknown", false);
        check(10, Trace { tenant: Some(Some(StartTime(499))), ..trace }, "dead", false);
        check(10, Trace { tenant: Some(None), ..trace }, "dead", false);
        check(12, trace, "dead", false);
        assert_eq!(census().acquirer(id(10, None), Trace { tenant: Some(None), ..trace }).life, reused(id(10, 500)));
    }

    #[test]
    fn a_number_that_comes_back_within_a_tick_is_told_by_the_order_of_things() {
        let at = |s: u64| Some(Timestamp(s * SECOND));
        let check = |died: u64, born: u64, taken: Option<Timestamp>, expect: &str| {
            let process = |life| Process { started_at: at(born), ..Process::unknown(id(10, 500), life) };
            let death = Death { at: at(died), ..Death::default() };
            let living = Map::from_iter([(10, Arc::new(process(Life::Alive)))]);
            let dead = Map::from_iter([(id(10, 500), Arc::new(process(Life::Dead(death))))]);
            let census = Census { living, dead, ..Census::default() };
            let found = census.acquirer(id(10, 500), Trace { acquired_at: taken, ..Trace::default() });
            assert_eq!(found.life.name(), expect, "died {died}, born {born}, taken {taken:?}");
        };
        check(51, 52, at(50), "dead");
        check(51, 51, at(50), "dead");
        check(51, 52, at(53), "alive");
        check(51, 52, None, "alive");
        // One that is dying still stands in /proc.
        check(51, 49, at(50), "alive");
    }
}
