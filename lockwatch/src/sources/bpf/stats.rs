//! What the probes have counted since they were attached: the numbers behind the metrics. Reading them asks the kernel
//! for one map value and for the state of the programs; it walks nothing and holds up nobody.

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray};
use lockwatch_common::{BUCKETS, Counters, Wire, counter};

use super::Bpf;

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
    /// Processes of whose death was to be heard, and for which there was no room.
    pub watched: u64,
    /// Runs of a probe that the kernel left out (`recursion_misses` of bpf_prog_info, since 5.12).
    pub missed: u64,
}

impl Lost {
    /// How often a table was full.
    pub fn full(&self) -> u64 {
        let Lost { held, processes, waits, watched, .. } = *self;
        held + processes + waits + watched
    }
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

/// What we have done to the kernel-side tables ourselves, where the probes do not count it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ours {
    /// Notes of locks put in, less those taken out.
    pub held: i64,
    /// The same of processes.
    pub processes: i64,
    /// The same of watched processes.
    pub watched: i64,
    /// Notes that found no room.
    pub held_full: u64,
    /// Watched processes that found none.
    pub watched_full: u64,
}

/// The counters, summed up over all CPUs.
pub(super) struct Counted(Vec<u64>);

impl Counted {
    /// Reads them all at once.
    pub fn read(counters: &PerCpuArray<MapData, [u8; size_of::<Counters>()]>) -> Result<Self> {
        let mut sums = vec![0_u64; counter::SIZE];
        for cpu in counters.get(&0, 0).context("read the counters")?.iter() {
            let Counters(counted) = Counters::read(cpu).context("short counters")?;
            sums.iter_mut().zip(counted).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
        }
        Ok(Self(sums))
    }

    /// One of them.
    pub fn sum(&self, index: u32) -> u64 {
        self.0[index as usize]
    }

    /// How many entries a table has, by what the probes and what we have put in and taken out.
    pub fn entries(&self, index: u32, ours: i64) -> u64 {
        u64::try_from(self.sum(index).cast_signed() + ours).unwrap_or(0)
    }

    fn by_kind(&self, first: u32) -> [u64; 5] {
        std::array::from_fn(|kind| self.0[first as usize + kind])
    }

    fn histograms(&self, first: u32, sums: u32) -> [Histogram; 5] {
        std::array::from_fn(|kind| {
            let at = first as usize + kind * BUCKETS;
            Histogram { buckets: self.0[at..at + BUCKETS].to_vec(), sum_ns: self.0[sums as usize + kind] }
        })
    }

    fn lost(&self, ours: &Ours, missed: u64) -> Lost {
        Lost {
            ring: self.sum(counter::RING_LOST),
            traced: self.sum(counter::TRACE_LOST),
            held: self.sum(counter::HELD_FULL) + ours.held_full,
            processes: self.sum(counter::PROCESSES_FULL),
            waits: self.sum(counter::WAITS_FULL),
            watched: ours.watched_full,
            missed,
        }
    }
}

/// The contract's words for what stands in the ring, in the order of the counters from `TOLD` on.
const EVENTS: [&str; 7] = ["acquired", "refused", "waiting", "granted", "wait_ended", "released", "process_exit"];

impl Bpf {
    /// What the probes have counted since they were attached.
    pub fn stats(&self) -> Result<Stats> {
        let counted = self.counted()?;
        let lost = counted.lost(&self.ours, self.missed());
        let acquired = |kind: usize, mode: usize| counted.sum(counter::ACQUIRED + (2 * kind + mode) as u32);
        let table = |name, index, ours, capacity: u32, full| TableUse {
            name,
            entries: counted.entries(index, ours),
            capacity: capacity.into(),
            full,
        };
        Ok(Stats {
            acquired: std::array::from_fn(|kind| [acquired(kind, 0), acquired(kind, 1)]),
            released: counted.by_kind(counter::RELEASED),
            contended: counted.by_kind(counter::CONTENDED),
            refused: counted.by_kind(counter::REFUSED),
            waits: counted.histograms(counter::WAITED, counter::WAITED_NS),
            holds: counted.histograms(counter::HELD_FOR, counter::HELD_FOR_NS),
            exits_by_code: counted.sum(counter::EXITED),
            exits_by_signal: counted.sum(counter::KILLED),
            events: EVENTS.into_iter().zip((counter::TOLD..).map(|index| counted.sum(index))).collect(),
            lost,
            tables: vec![
                table("held", counter::HELD, self.ours.held, self.sizes.held, lost.held),
                table("processes", counter::PROCESSES, self.ours.processes, self.sizes.processes, lost.processes),
                table("waits", counter::WAITS, 0, self.sizes.waits, lost.waits),
                table("watched", counter::WATCHED, self.ours.watched, self.sizes.watched, lost.watched),
            ],
        })
    }

    /// What has gone missing since the probes were attached.
    pub fn losses(&self) -> Result<Lost> {
        Ok(self.counted()?.lost(&self.ours, self.missed()))
    }

    pub(super) fn counted(&self) -> Result<Counted> {
        Counted::read(&self.counters)
    }
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
