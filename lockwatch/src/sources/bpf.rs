//! The kernel, seen through BPF: the only place that names wire types.
//!
//! The truth about which locks exist is the kernel's own list, walked at each look; the kernel-side tables add who
//! took them and when; the ring brings deaths and waits. `/proc/locks` is never read: it stops every other lock user.

mod anchor;
pub mod btf;
mod convert;
pub mod events;
mod fds;
mod health;
mod hidden;
pub mod load;
mod loops;
mod missed;
mod notes;
mod people;
mod picture;
pub mod sizes;
pub mod stats;
mod sweep;
mod tracefs;
pub mod tracing;
mod walk;

use std::{collections, path::Path, time::Instant};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf},
};
use lockwatch_common::{Counters, ProcessKey, ProcessValue, Wire, counter};
use lockwatch_core::{observation::Picture, process::ProcessId, time::StartTime};

use self::{
    anchor::Anchor,
    convert::process_id,
    events::Token,
    fds::{Descriptors, Table},
    health::Pulse,
    hidden::{Found, Search},
    load::{Attached, Purpose},
    notes::Notes,
    sizes::Sizes,
    stats::{Census, Counted, Lost, Ours},
    tracing::Tracer,
    walk::{Walked, Walker},
};
use crate::{
    memory,
    sources::{clock::Clock, confirm::confirm, processes},
};

/// BPF_NOEXIST (include/uapi/linux/bpf.h): only if there is no such key.
const NO_EXIST: u64 = 1;

/// How far a look goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Mappings, messages and rings are searched only for locks that no descriptor keeps.
    Usual,
    /// For those too that somebody else keeps than took them: before an heir is said to have nobody's lock, whoever else
    /// keeps it must have been looked for.
    Thorough,
}

/// The loaded programs.
pub struct Bpf {
    ebpf: Ebpf,
    walker: Walker,
    descriptors: Descriptors,
    search: Search,
    /// How the probes are attached, and what could not be.
    attached: Option<Attached>,
    sizes: Sizes,
    tracer: Option<Tracer>,
    pulse: Pulse,
    /// What we have done to the tables ourselves.
    ours: Ours,
    processes: HashMap<MapData, [u8; size_of::<ProcessKey>()], [u8; size_of::<ProcessValue>()]>,
    notes: Notes,
    watched: HashMap<MapData, [u8; size_of::<ProcessKey>()], u32>,
    /// The exact identity of every process that the last look met: `/proc` gives starts only in ticks.
    met: collections::HashMap<u32, ProcessKey>,
    counters: PerCpuArray<MapData, [u8; size_of::<Counters>()]>,
    /// What had been lost when the tables were swept last.
    swept: Lost,
    /// Whether the probes were not there for a while, so that the tables may have what is gone.
    distrusted: bool,
}

impl Bpf {
    /// Loads for one look: nothing is attached, and nothing remains when it is dropped.
    pub fn for_a_look() -> Result<Self> {
        Self::open(Purpose::Look, None, Sizes::default())
    }

    /// Loads, and attaches the probes: from here on nothing is missed. `only` forces one way of attaching.
    pub fn for_watching(purpose: Purpose, only: Option<load::Way>, sizes: Sizes) -> Result<Self> {
        let bpf = Self::open(purpose, only, sizes)?;
        memory::give_back();
        Ok(bpf)
    }

    fn open(purpose: Purpose, only: Option<load::Way>, sizes: Sizes) -> Result<Self> {
        if let Some(blind_spot) = processes::blind_spot(Path::new("/proc")) {
            bail!("{blind_spot}: the kernel's process numbers mean nothing here");
        }
        if !processes::shows_our_numbers(Path::new("/proc")) {
            // It visits the tasks of the running task's pid namespace (kernel/bpf/task_iter.c init_seq_pidns, 6.18).
            bail!(
                "lockwatch runs in a pid namespace of its own, beyond which the iterator over descriptors sees nothing"
            );
        }
        if lockwatch_sys::timens::ahead_ns() % StartTime::TICK_NS.cast_signed() != 0 {
            bail!("lockwatch runs in a time namespace in which process starts cannot be compared with the kernel's");
        }
        let bytes = btf::of_kernel()?;
        let types = btf::Btf::parse(&bytes)?;
        let anchor = Anchor::new()?;
        let beat = anchor.beat()?;
        let (mut ebpf, missing) = load::open(purpose, &sizes, beat, &types)?;
        let btf = types.for_aya()?;
        let walker = Walker::load(&mut ebpf, anchor)?;
        let descriptors = Descriptors::load(&mut ebpf, &btf)?;
        let attached = match purpose {
            Purpose::Look => None,
            Purpose::Watch | Purpose::Trace | Purpose::Agent => Some(load::attach(&mut ebpf, &btf, purpose, only)?),
        };
        let tracer =
            (purpose == Purpose::Agent).then(|| Tracer::new(&mut ebpf, sizes.traced_per_second)).transpose()?;
        // An agent soon gives up the right to load, so it has its search ready before it is needed.
        let mut search = Search::new(&missing, matches!(purpose, Purpose::Look | Purpose::Agent).then_some(btf));
        if purpose == Purpose::Agent {
            search.prepare(&mut ebpf);
        }
        let mut map = |name: &'static str| ebpf.take_map(name).with_context(|| format!("map {name}"));
        Ok(Self {
            walker,
            descriptors,
            search,
            attached,
            sizes,
            tracer,
            pulse: Pulse::default(),
            ours: Ours::default(),
            processes: HashMap::try_from(map("PROCESSES")?)?,
            notes: Notes::new(map("HELD")?, map("SLOTS")?, load::slots(purpose, &sizes))?,
            watched: HashMap::try_from(map("WATCHED")?)?,
            met: collections::HashMap::new(),
            counters: PerCpuArray::try_from(map("COUNTERS")?)?,
            swept: Lost::default(),
            distrusted: false,
            ebpf,
        })
    }

    /// How the probes are attached, and which are missing.
    pub fn attached(&self) -> Option<(&'static str, &[String])> {
        self.attached.as_ref().map(|attached| (attached.way.name(), attached.without.as_slice()))
    }

    /// The ring of news. Once.
    pub fn take_news(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(self.ebpf.take_map("EVENTS").context("map EVENTS")?)?)
    }

    /// The probes' own diagnostics, for the `log` crate. Once.
    pub fn take_diagnostics(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        aya_log::EbpfLogger::init(&mut self.ebpf).context("read the probes' diagnostics")
    }

    /// Everything that is, now.
    pub fn look(&mut self, depth: Depth) -> Result<Picture> {
        let mut picture = self.look_once(depth)?;
        if picture::is_outdated(&picture) {
            // What such a process left, and to whom, happened since the descriptors were visited.
            picture = self.look_once(depth)?;
        }
        confirm(&mut picture, Path::new("/proc"));
        Ok(picture)
    }

    fn look_once(&mut self, depth: Depth) -> Result<Picture> {
        let began = Clock::read().boot_ns();
        let watch = Instant::now();
        let (walked, fds, found) = self.survey(depth)?;
        log::info!("surveyed {} locks and requests, {:.1?}", walked.records.len(), watch.elapsed());
        if self.attached.is_some() {
            self.sweep(&walked, began)?;
            let waiting = walked.records.iter().filter(|record| record.depth > 0).map(|record| record.process);
            let met = fds.all().iter().map(|fd| fd.process).chain(waiting);
            self.met = met.filter(|key| key.start_ns != 0).map(|key| (key.pid, key)).collect();
            self.note_unseen(&walked)?;
        }
        let known = |process: &ProcessKey| self.known(process);
        let picture = picture::assemble(walked, &fds, &found, &known, &Clock::read(), Path::new("/proc"));
        log::info!("met {} living processes, {:.1?}", picture.census.living.len(), watch.elapsed());
        Ok(picture)
    }

    /// The locks, the descriptors of their files, and whatever keeps those that no descriptor does.
    fn survey(&mut self, depth: Depth) -> Result<(Walked, Table, Found)> {
        let (mut walked, mut fds) = self.walk()?;
        if picture::is_torn(&walked, &fds) {
            // Released in between, most likely: what is still without a holder after a second look is hidden.
            (walked, fds) = self.walk()?;
        } else if depth == Depth::Usual {
            return Ok((walked, fds, Found::default())); // every lock has a descriptor, so none is hidden
        }
        let mut found = self.search(&mut walked, &fds, depth)?;
        if !picture::hidden(&walked, &fds, Depth::Usual).keys().all(|file| found.explains(*file)) {
            // What is received while we look is met neither as a message nor as a descriptor.
            (walked, fds) = self.walk()?;
            found = self.search(&mut walked, &fds, depth)?;
        }
        Ok((walked, fds, found))
    }

    /// In this order: a lock that is taken in between is not looked for, one that goes is missed at once.
    fn walk(&mut self) -> Result<(Walked, Table)> {
        let watch = Instant::now();
        let walked = self.walker.run(&mut self.ebpf)?;
        log::info!("walked {} locks and requests, {:.1?}", walked.records.len(), watch.elapsed());
        let fds = self.descriptors.run(&mut self.ebpf)?;
        log::info!("visited {} descriptors of their files, {:.1?}", fds.all().len(), watch.elapsed());
        Ok((walked, fds))
    }

    /// Searches everywhere else for the open files that no descriptor shows, or that are in doubt, and leaves out locks that were released
    /// meanwhile. Free of cost if there are none.
    fn search(&mut self, walked: &mut Walked, fds: &Table, depth: Depth) -> Result<Found> {
        let files = picture::hidden(walked, fds, depth);
        if files.is_empty() {
            return Ok(Found::default());
        }
        let watch = Instant::now();
        let counters = &self.counters;
        let cut = || Ok(Counted::read(counters)?.sum(counter::SEARCH_CUT));
        let found = self.search.run(&mut self.ebpf, self.walker.ring(), &files, cut);
        walked.drop_released(|record| files.contains_key(&record.file), &self.walker.run(&mut self.ebpf)?);
        log::info!("searched for {} open files without a descriptor, {:.1?}", files.len(), watch.elapsed());
        Ok(found)
    }

    /// Where this kernel does not let us search for locks that no descriptor keeps; empty if everywhere.
    pub fn obstacles(&mut self) -> Vec<String> {
        self.search.obstacles(&mut self.ebpf)
    }

    fn known(&self, process: &ProcessKey) -> Option<ProcessValue> {
        if self.attached.is_none() || process.start_ns == 0 {
            return None;
        }
        ProcessValue::read(&self.processes.get(&bytes_of(process), 0).ok()?)
    }

    /// Whether locks of a dead process are still noted as held.
    pub fn survived(&self, process: &Token) -> bool {
        self.known(&process.0).is_some_and(|value| value.held > 0)
    }

    /// Asks to hear of the deaths of processes that the last look met, whatever they hold. Returns those that were
    /// already on their way out, of whom nothing more will be heard. Where the table is full, the rest goes unwatched.
    pub fn watch(&mut self, pids: impl IntoIterator<Item = u32>) -> Result<Vec<ProcessId>> {
        let mut late = Vec::new();
        for key in pids.into_iter().filter_map(|pid| self.met.get(&pid).copied()) {
            match self.watched.insert(bytes_of(&key), 1, NO_EXIST) {
                Ok(()) if processes::is_exiting(process_id(&key)) => {
                    // Its exit may have been before: then no probe takes it out. If it was not, it has already.
                    self.ours.watched += i64::from(self.watched.remove(&bytes_of(&key)).is_err());
                    late.push(process_id(&key));
                }
                Ok(()) => self.ours.watched += 1,
                Err(MapError::SyscallError(error)) => match error.io_error.raw_os_error() {
                    Some(libc::EEXIST) => {}
                    Some(libc::E2BIG) => {
                        log::debug!("too many processes to watch: the deaths of some will not be heard");
                        self.ours.watched_full += 1;
                    }
                    _ => return Err(error).context("ask to hear of a process's death"),
                },
                Err(error) => return Err(error).context("ask to hear of a process's death"),
            }
        }
        Ok(late)
    }

    /// Counts the locks that are, and those who wait: one walk, no descriptors, nothing of `/proc`.
    pub fn census(&mut self) -> Result<Census> {
        Ok(self.walker.run(&mut self.ebpf)?.census())
    }
}

/// The wire form of a key or a value, as the maps take it.
fn bytes_of<T: Wire, const N: usize>(value: &T) -> [u8; N] {
    const { assert!(N == size_of::<T>()) };
    let mut bytes = [0; N];
    bytes.copy_from_slice(value.bytes());
    bytes
}

#[cfg(test)]
mod tests;
