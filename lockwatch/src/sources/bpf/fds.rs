//! Every descriptor of a file that carries locks: the `iter/task_file` program, read to its end.

use std::{
    borrow::Cow,
    collections::hash_map::Entry,
    io::{ErrorKind, Read},
    iter, slice,
};

use anyhow::{Context, Result, bail};
use aya::{Btf, Ebpf, programs::Iter};
use foldhash::HashMap;
use lockwatch_common::{FdRecord, ProcessKey, WalkRecord, Wire, kind};
use lockwatch_core::{lock::FileId, text::Text};

use super::convert::exe_file;
use crate::sources::place::Name;

/// How many further names of one file are kept.
const MOST_NAMES: usize = 3;

/// The iterator, loaded.
pub struct Descriptors {
    _loaded: (),
}

/// An open file description alone (flock and OFD locks, leases), or a file table with inode and device (POSIX locks).
type Owner = (u64, u64, u32);

/// The descriptors, by what locks are owned by.
#[derive(Default)]
pub struct Table {
    /// All of them.
    fds: Vec<FdRecord>,
    /// The last descriptor of each that may own locks.
    last: HashMap<Owner, usize>,
    /// For each descriptor the one before of the same description, and of the same table and file: a map of lists would
    /// allocate for each of them.
    before: Vec<[Option<usize>; 2]>,
    /// A name for each file, by inode and device.
    pub names: HashMap<(u64, u32), Name>,
    /// More names of the same files: of other links, of other mount namespaces.
    pub other_names: HashMap<(u64, u32), Vec<Name>>,
    /// Each process's executable, as the kernel identifies it: `/proc/PID/exe` has another device on btrfs and overlayfs.
    pub executables: HashMap<ProcessKey, FileId>,
}

impl Descriptors {
    /// Loads the program. Needs `iter/task_file` (5.8) and `bpf_d_path` in it (5.10).
    pub fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<Self> {
        program(ebpf)?.load("task_file", btf).context("load the iterator over descriptors")?;
        Ok(Self { _loaded: () })
    }

    /// Visits every descriptor of the host.
    pub fn run(&mut self, ebpf: &mut Ebpf) -> Result<Table> {
        let program = program(ebpf)?;
        let link = program.attach().context("attach the iterator over descriptors")?;
        let mut file = program.take_link(link)?.into_file().context("open the iterator over descriptors")?;
        // Room enough from the start: each read(2) runs the iterator, and the first ones would be of 32 bytes.
        let mut bytes = Vec::with_capacity(1 << 16);
        // After a million descriptors of other files it asks to be read on (kernel/bpf/bpf_iter.c bpf_seq_read, 6.18).
        while let Err(error) = file.read_to_end(&mut bytes) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error).context("read the iterator over descriptors");
            }
        }
        Table::parse(&bytes)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Iter> {
    Ok(ebpf.program_mut("fds").context("program fds")?.try_into()?)
}

/// Of which locks a descriptor may be a holder.
fn owners(fd: &FdRecord) -> [Owner; 2] {
    [(fd.file, 0, 0), (fd.files, fd.inode, fd.device)]
}

impl Table {
    fn parse(mut bytes: &[u8]) -> Result<Self> {
        let mut table = Self::default();
        while !bytes.is_empty() {
            let record = FdRecord::read(bytes).context("short descriptor record")?;
            let end = size_of::<FdRecord>() + record.path_len as usize;
            let Some(path) = bytes.get(size_of::<FdRecord>()..end) else { bail!("short path in a descriptor record") };
            // A process's descriptors come one after another.
            if table.fds.last().is_none_or(|before| before.process != record.process)
                && let Some(exe) = exe_file(record.exe_inode, record.exe_device)
            {
                table.executables.insert(record.process, exe);
            }
            let index = table.fds.len();
            table.fds.push(record);
            table.before.push(owners(&record).map(|owner| table.last.insert(owner, index)));
            if !path.is_empty() {
                table.note(&record, path);
            }
            bytes = &bytes[end..];
        }
        Ok(table)
    }

    fn note(&mut self, record: &FdRecord, path: &[u8]) {
        let (file, pid) = ((record.inode, record.device), record.process.pid);
        let directory = (record.directory != 0).then_some(record.directory);
        let name = || Name { text: Text::new(path), pid, directory };
        match self.names.entry(file) {
            Entry::Vacant(entry) => drop(entry.insert(name())),
            Entry::Occupied(first) if first.get().text.as_bytes() != path => {
                let others = self.other_names.entry(file).or_default();
                if others.len() < MOST_NAMES && others.iter().all(|other| other.text.as_bytes() != path) {
                    others.push(name());
                }
            }
            Entry::Occupied(_) => {}
        }
    }

    /// What the kernel calls a file, by inode and device.
    pub fn names_of(&self, file: (u64, u32)) -> Cow<'_, [Name]> {
        let Some(first) = self.names.get(&file) else { return Cow::default() };
        match self.other_names.get(&file) {
            None => Cow::Borrowed(slice::from_ref(first)),
            Some(others) => [slice::from_ref(first), others].concat().into(),
        }
    }

    /// Every descriptor.
    pub fn all(&self) -> &[FdRecord] {
        &self.fds
    }

    /// Who keeps a lock alive: the descriptors of its description itself, or for POSIX those in the owning table that
    /// lead to its file. Of a description that was closed since the walk, another file's may have the address.
    pub fn holders_of<'a>(&'a self, lock: &'a WalkRecord) -> impl Iterator<Item = &'a FdRecord> + Clone {
        let (owner, which) = match lock.lock.kind {
            kind::POSIX => ((lock.lock.owner, lock.lock.inode, lock.lock.device), 1),
            _ => ((lock.file, 0, 0), 0),
        };
        let found = iter::successors(self.last.get(&owner).copied(), move |index| self.before[*index][which]);
        let of_its_file = |fd: &&FdRecord| (fd.inode, fd.device) == (lock.lock.inode, lock.lock.device);
        found.map(|index| &self.fds[index]).filter(of_its_file)
    }
}
