//! What keeps an open file alive without a descriptor: mappings, messages in flight, io_uring (DESIGN section 3.3).
//! Dear, so it is done only when a lock has no other holder, or before an heir is accused ([`super::Depth`]); until then
//! not even its programs are loaded.

mod names;
mod stages;
mod words;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{ErrorKind, Read},
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Btf, Ebpf,
    maps::{Array, HashMap as BpfMap, MapData, RingBuf},
    programs::{Iter, ProgramError},
};
use lockwatch_common::{KeeperRecord, ProcessKey, Wire, keeper};
use lockwatch_core::{
    lock::FileId,
    observation::{HolderSeen, Via},
    text::Text,
};

use self::stages::Stages;
pub use self::stages::is_optional;
use super::{
    btf,
    convert::{exe_file, process_id},
};
use crate::sources::place::Name;

/// How many open files are searched at once: the size of the programs' `WANTED`.
const MOST_WANTED: usize = 1 << 12;

/// How long the mappings of the host may take. A process whose memory map is locked, by a page fault on a file system
/// that hangs, holds up everybody who reads it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The search, ready or not yet needed.
pub struct Search {
    stages: Stages,
    /// The kernel's types, until the programs are loaded.
    types: Option<Btf>,
    wanted: Option<BpfMap<MapData, u64, u64>>,
    named: Option<Array<MapData, u64>>,
    /// Why a program could not be loaded; empty if it was.
    fds: Option<String>,
    mappings: Option<String>,
    /// The reader of mappings that ran out of time.
    late: Option<Receiver<Result<()>>>,
}

/// Open files by address, with their inode numbers.
pub type Wanted = HashMap<u64, u64>;

/// What a search has found.
#[derive(Default)]
pub struct Found {
    /// By open file: one of a process for each means.
    keepers: HashMap<u64, Vec<Kept>>,
    /// Each process's executable, as in the table of descriptors.
    pub executables: HashMap<ProcessKey, FileId>,
    /// The path of each open file, as the kernel would print it.
    pub names: HashMap<u64, Text>,
    /// Why it may not be all, one sentence each.
    pub gaps: Vec<String>,
}

/// One process that keeps a file in one way.
struct Kept {
    record: KeeperRecord,
    /// How many more mappings, messages or slots of it do the same.
    more: usize,
}

impl Search {
    /// Nothing is loaded. `missing` are the fields that this kernel's BTF lacks; `types` that BTF, if it is at hand and
    /// its memory need not be saved.
    pub fn new(missing: &[&str], types: Option<Btf>) -> Self {
        Self { stages: Stages::of(missing), types, wanted: None, named: None, fds: None, mappings: None, late: None }
    }

    /// Loads the programs, once. A program that this kernel refuses costs its stages, and is told at each search.
    fn load(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        if self.wanted.is_some() {
            return Ok(());
        }
        let btf = match self.types.take() {
            Some(types) => types,
            None => btf::Btf::parse(&btf::of_kernel()?)?.for_aya()?,
        };
        let mut load = |name: &str, target: &str| {
            let loaded = program(ebpf, name).and_then(|program| Ok(program.load(target, &btf)?));
            loaded.err().map_or(String::new(), |error| format!("iter/{target}: {}", in_short(&error)))
        };
        self.fds = Some(load("hidden_fds", "task_file"));
        self.mappings = Some(load("hidden_mappings", "task_vma"));
        self.wanted = Some(BpfMap::try_from(ebpf.take_map("WANTED").context("map WANTED")?)?);
        Ok(())
    }

    /// Loads all that a search may take, for one who soon gives up the right to. What cannot be loaded is told by each
    /// search.
    pub fn prepare(&mut self, ebpf: &mut Ebpf) {
        for error in [self.load(ebpf).err(), names::load(&mut self.named, ebpf).err()].into_iter().flatten() {
            log::info!("{error:#}");
        }
    }

    /// Why a search on this kernel cannot be complete; empty if it can.
    pub fn obstacles(&mut self, ebpf: &mut Ebpf) -> Vec<String> {
        if let Err(error) = self.load(ebpf) {
            return vec![format!("{error:#}")];
        }
        let of = |stage: &str, field: Option<&String>, program: &Option<String>| {
            let why = program.as_ref().filter(|why| !why.is_empty()).or(field)?;
            Some(format!("{stage} ({why})"))
        };
        [
            of("memory mappings", self.stages.mappings.as_ref(), &self.mappings),
            of("messages in unix sockets", self.stages.messages.as_ref(), &self.fds),
            of("io_uring", self.stages.rings.as_ref(), &self.fds),
        ]
        .into_iter()
        .flatten()
        .map(|what| format!("not searched: {what}"))
        .collect()
    }

    /// Searches the host for what keeps these open files. `cut` counts the places that the programs left early.
    pub fn run(
        &mut self,
        ebpf: &mut Ebpf,
        ring: &mut RingBuf<MapData>,
        files: &Wanted,
        cut: impl Fn() -> Result<u64>,
    ) -> Found {
        let mut found = Found { gaps: self.obstacles(ebpf), ..Found::default() };
        let run = || -> Result<()> {
            let before = cut()?;
            self.try_run(ebpf, ring, files, &mut found)?;
            let places = cut()? - before;
            if places > 0 {
                found.gaps.push(format!("{places} sockets or rings were not looked through to their end"));
            }
            Ok(())
        };
        if let Err(error) = { run }() {
            found.gaps.push(format!("{error:#}"));
        }
        found
    }

    fn try_run(
        &mut self,
        ebpf: &mut Ebpf,
        ring: &mut RingBuf<MapData>,
        files: &Wanted,
        found: &mut Found,
    ) -> Result<()> {
        self.want(files, found)?;
        while ring.next().is_some() {} // what a search before this one has left
        match names::of(&mut self.named, ebpf, ring, files.keys().copied()) {
            Ok(names) => found.names.extend(names),
            Err(error) => log::info!("files without a descriptor stay without a path: {}", in_short(&error)),
        }
        if self.fds.as_ref().is_some_and(String::is_empty) {
            let file = open(ebpf, "hidden_fds").context("search descriptors")?;
            exhaust(file).context("search descriptors")?;
            found.take(ring)?;
            found.leave_out(is_lockwatch);
        }
        if self.mappings.as_ref().is_some_and(String::is_empty) {
            let through = self.through_mappings(ebpf).context("search memory mappings");
            found.take(ring)?;
            through?;
        }
        Ok(())
    }

    fn want(&mut self, files: &Wanted, found: &mut Found) -> Result<()> {
        let wanted = self.wanted.as_mut().context("the programs are not loaded")?;
        for old in wanted.keys().collect::<Result<Vec<_>, _>>().context("read the table of wanted files")? {
            wanted.remove(&old).context("forget a wanted file")?;
        }
        for (file, inode) in files.iter().take(MOST_WANTED) {
            wanted.insert(file, inode, 0).context("note a wanted file")?;
        }
        if files.len() > MOST_WANTED {
            let all = files.len();
            found
                .gaps
                .push(format!("{all} open files have no descriptor; only {MOST_WANTED} of them were searched for"));
        }
        Ok(())
    }

    /// Reads the mappings on a thread of its own, which is left to itself if it gets stuck: it ends with the program.
    fn through_mappings(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        const STUCK: &str = "a process's memory map is locked: see `ps -eo pid,stat,wchan` for processes in state D";
        if let Some(late) = self.late.take()
            && matches!(late.try_recv(), Err(TryRecvError::Empty))
        {
            self.late = Some(late);
            bail!(STUCK);
        }
        let file = open(ebpf, "hidden_mappings")?;
        let (done, wait) = mpsc::channel();
        thread::Builder::new().name("mappings".into()).spawn(move || done.send(exhaust(file)))?;
        match wait.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(_) => {
                self.late = Some(wait);
                Err(anyhow!(STUCK))
            }
        }
    }
}

impl Found {
    /// Takes what the programs have told.
    fn take(&mut self, ring: &mut RingBuf<MapData>) -> Result<()> {
        while let Some(item) = ring.next() {
            self.add(KeeperRecord::read(&item).context("short record of a keeper")?);
        }
        Ok(())
    }

    fn add(&mut self, record: KeeperRecord) {
        if let Some(exe) = exe_file(record.exe_inode, record.exe_device) {
            self.executables.insert(record.process, exe);
        }
        let kept = self.keepers.entry(record.file).or_default();
        let same = |other: &&mut Kept| other.record.process == record.process && via(&other.record) == via(&record);
        match kept.iter_mut().find(same) {
            // A ring is met through its descriptors and its mappings, a queue that changes more than once.
            Some(known) if is_again(&known.record, &record) => {}
            Some(known) => known.more += 1,
            None => kept.push(Kept { record, more: 0 }),
        }
    }

    /// Leaves out processes that look at sockets and rings through duplicates, and are gone in a moment.
    fn leave_out(&mut self, looks: impl Fn(u32) -> bool) {
        let pids = self.keepers.values().flatten().map(|kept| kept.record.process.pid);
        let looking: HashSet<u32> = pids.collect::<HashSet<_>>().into_iter().filter(|pid| looks(*pid)).collect();
        self.keepers.values_mut().for_each(|kept| kept.retain(|kept| !looking.contains(&kept.record.process.pid)));
        self.keepers.retain(|_, kept| !kept.is_empty());
    }

    /// Whether something keeps this open file.
    pub fn explains(&self, file: u64) -> bool {
        self.keepers.contains_key(&file)
    }

    /// What an open file without a descriptor is called, and whose it may be.
    pub fn name_of(&self, file: u64) -> Option<Name> {
        let keeper = self.keepers.get(&file).and_then(|kept| kept.first());
        let pid = keeper.map_or_else(std::process::id, |kept| kept.record.process.pid);
        Some(Name { text: self.names.get(&file)?.clone(), pid, directory: None })
    }

    /// What keeps this open file, with the key of the process.
    pub fn holders_of(&self, file: u64) -> impl Iterator<Item = (ProcessKey, HolderSeen)> {
        self.keepers.get(&file).into_iter().flatten().map(|kept| {
            let record = &kept.record;
            let holder = HolderSeen {
                process: Some(process_id(&record.process)),
                via: via(record),
                fd: None,
                cloexec: None,
                opened: Some(record.opened != 0),
                detail: Some(words::detail(record, kept.more)),
            };
            (record.process, holder)
        })
    }
}

/// Without the verifier's log.
fn in_short(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ProgramError>() {
        Some(ProgramError::LoadError { io_error, verifier_log }) => {
            log::debug!("{verifier_log}");
            io_error.to_string()
        }
        _ => format!("{error:#}"),
    }
}

fn via(record: &KeeperRecord) -> Via {
    match record.what {
        keeper::MAPPING => Via::Mapping,
        keeper::RING => Via::IoUring,
        _ => Via::Message,
    }
}

/// Whether a process is another lockwatch, which peeks into sockets where BPF does not work.
fn is_lockwatch(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == b"lockwatch\n")
}

/// Whether two records of one process and one means tell of the same thing.
fn is_again(known: &KeeperRecord, other: &KeeperRecord) -> bool {
    match known.what {
        keeper::MAPPING => known.place == other.place,
        keeper::RING => known.index == other.index,
        _ => known.place == other.place && known.index == other.index,
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter> {
    Ok(ebpf.program_mut(name).with_context(|| format!("program {name}"))?.try_into()?)
}

fn open(ebpf: &mut Ebpf, name: &str) -> Result<File> {
    let program = program(ebpf, name)?;
    let link = program.attach().context("attach the iterator")?;
    program.take_link(link)?.into_file().context("open the iterator")
}

/// Runs an iterator that writes nothing to its end. After a million objects without a word it asks to be read on
/// (kernel/bpf/bpf_iter.c bpf_seq_read, 6.18).
fn exhaust(mut file: File) -> Result<()> {
    let mut nothing = [0; 64];
    loop {
        match file.read(&mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("read the iterator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pid: u32, what: u32, place: u64, index: u32, fd: u32) -> KeeperRecord {
        KeeperRecord {
            process: ProcessKey { start_ns: 1, pid, pad: 0 },
            file: 7,
            place,
            end: 0,
            vm_flags: 0,
            exe_inode: 0,
            exe_device: 0,
            what,
            fd,
            index,
            count: 1,
            opened: 0,
        }
    }

    #[test]
    fn each_process_holds_once_by_each_means() {
        let check = |records: &[KeeperRecord], expect: &[(u32, Via, usize)]| {
            let mut found = Found::default();
            records.iter().for_each(|r| found.add(*r));
            let kept = found.keepers.get(&7).map_or(&[][..], Vec::as_slice);
            let seen: Vec<_> = kept.iter().map(|k| (k.record.process.pid, via(&k.record), k.more)).collect();
            assert_eq!(seen, expect, "{records:?}");
            assert_eq!(found.explains(7), !expect.is_empty());
        };
        use keeper::{EMBRYO, MAPPING, MESSAGE, RING};
        check(&[], &[]);
        check(&[record(1, MAPPING, 16, 0, 0), record(1, MAPPING, 32, 0, 0)], &[(1, Via::Mapping, 1)]);
        check(
            &[record(1, MAPPING, 16, 0, 0), record(2, MAPPING, 16, 0, 0)],
            &[(1, Via::Mapping, 0), (2, Via::Mapping, 0)],
        );
        // Two descriptors of one socket; two messages in it; one in a connection beside one that is accepted.
        check(&[record(1, MESSAGE, 5, 0, 3), record(1, MESSAGE, 5, 0, 4)], &[(1, Via::Message, 0)]);
        check(&[record(1, MESSAGE, 5, 0, 3), record(1, MESSAGE, 5, 1, 3)], &[(1, Via::Message, 1)]);
        check(&[record(1, MESSAGE, 5, 0, 3), record(1, EMBRYO, 6, 0, 4)], &[(1, Via::Message, 1)]);
        // A ring by its descriptor and by its mapping; a ring and a mapping of the file itself.
        check(&[record(1, RING, 0, 3, 7), record(1, RING, 4096, 3, u32::MAX)], &[(1, Via::IoUring, 0)]);
        check(
            &[record(1, RING, 0, 3, 7), record(1, MAPPING, 4096, 0, u32::MAX)],
            &[(1, Via::IoUring, 0), (1, Via::Mapping, 0)],
        );
    }

    #[test]
    fn who_only_looks_is_no_holder() {
        let check = |pids: &[u32], expect: &[u32]| {
            let mut found = Found::default();
            pids.iter().for_each(|pid| found.add(record(*pid, keeper::MESSAGE, 5, 0, 3)));
            found.leave_out(|pid| pid == 9);
            let left: Vec<u32> = found.holders_of(7).map(|(process, _)| process.pid).collect();
            assert_eq!(left, expect, "{pids:?}");
            assert_eq!(found.explains(7), !expect.is_empty());
        };
        check(&[1, 9], &[1]);
        check(&[9], &[]);
        check(&[1, 2], &[1, 2]);
    }
}
