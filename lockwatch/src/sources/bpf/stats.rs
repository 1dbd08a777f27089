//! What the probes have counted since they were attached: the numbers behind the metrics. Reading them asks the kernel
//! for one map value and for the state of the programs; it walks nothing and holds up nobody.

#![allow(dead_code, reason = "the metrics, which read all of it, are being built")]

use lockwatch_common::stats::BUCKETS;

/// Sums over all CPUs since the probes were attached. Arrays are in the order of [`Kind::ALL`], modes are read (0) and
/// write (1).
///
/// [`Kind::ALL`]: lockwatch_core::lock::Kind::ALL
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Locks granted, at once or after a wait, by kind and mode.
    pub acquired: [[u64; 2]; 5],
    /// Locks given up by their owner, or that ended with it.
    pub released: [u64; 5],
    /// Requests that had to wait.
    pub contended: [u64; 5],
    /// Requests that were refused.
    pub refused: [u64; 5],
    /// How long requests waited, whether they got their lock or not. Only for [`Purpose::Agent`].
    ///
    /// [`Purpose::Agent`]: super::load::Purpose::Agent
    pub waits: [Histogram; 5],
    /// How long locks were held. Only for an agent, and only of locks whose taking was seen.
    pub holds: [Histogram; 5],
    /// Deaths of processes that were seen taking a lock: those that exited.
    pub exits_by_code: u64,
    /// Those that a signal killed.
    pub exits_by_signal: u64,
    /// Records that the probes have put into the ring, by the contract's word for the event.
    pub events: Vec<(&'static str, u64)>,
    /// What was not seen, or not noted.
    pub lost: Lost,
    /// How full the kernel-side tables are.
    pub tables: Vec<TableUse>,
}

/// How often something took how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// How many within each of [`bounds_ns`] and above the bound before it, and at the end how many above the last.
    /// Not cumulative.
    pub buckets: Vec<u64>,
    /// The sum of all, in nanoseconds.
    pub sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], sum_ns: 0 }
    }
}

/// Where the buckets of a [`Histogram`] end, both inclusive: powers of four from about a microsecond (2^10 ns) to
/// about an hour (2^42 ns).
pub fn bounds_ns() -> &'static [u64] {
    &BOUNDS
}

static BOUNDS: [u64; BUCKETS - 1] = {
    let mut bounds = [0; BUCKETS - 1];
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] = 1 << (10 + 2 * i);
        i += 1;
    }
    bounds
};

/// What went by unseen, by where it went missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Records of waits, deaths and ghosts' ends that found the ring full.
    pub ring: u64,
    /// Records of traced operations that were left out so that those keep room. They cost a trace its completeness, and
    /// the state nothing.
    pub traced: u64,
    /// Locks that found no room in the table of held locks.
    pub held: u64,
    /// Processes that found no room in theirs.
    pub processes: u64,
    /// Waits that found no room in theirs.
    pub waits: u64,
    /// Runs of a probe that the kernel left out (`recursion_misses` of bpf_prog_info, since 5.12).
    pub missed: u64,
}

/// One of the kernel-side tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// Its name: held, waits, processes, watched.
    pub name: &'static str,
    /// How many entries it has.
    pub entries: u64,
    /// How many it has room for.
    pub capacity: u64,
    /// How often somebody found it full.
    pub full: u64,
}

/// How many locks there are, and who waits: one walk over the kernel's list, nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Granted locks, by kind and mode.
    pub locks: [[u64; 2]; 5],
    /// Waiting requests, by kind.
    pub waiters: [u64; 5],
    /// Whether the walk met everything.
    pub exact: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_from_a_microsecond_to_an_hour() {
        let bounds = bounds_ns();
        assert_eq!((bounds.len() + 1, bounds[0], bounds[16]), (Histogram::default().buckets.len(), 1 << 10, 1 << 42));
        assert!(bounds.windows(2).all(|pair| pair[1] == 4 * pair[0]));
    }
}
