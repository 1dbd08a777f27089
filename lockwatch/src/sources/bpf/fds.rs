//! Every descriptor of a file that carries locks: the `iter/task_file` program, read to its end.

use std::{collections::HashMap, io::Read};

use anyhow::{Context, Result, bail};
use aya::{Btf, Ebpf, programs::Iter};
use lockwatch_common::{FdRecord, ProcessKey, Wire};
use lockwatch_core::{lock::FileId, text::Text};

use super::picture::exe_file;

/// The iterator, loaded.
pub struct Descriptors {
    _loaded: (),
}

/// The descriptors, by what locks are owned by.
#[derive(Default)]
pub struct Table {
    /// All of them.
    pub fds: Vec<FdRecord>,
    /// By open file description: owners of flock and OFD locks and of leases.
    pub by_file: HashMap<u64, Vec<usize>>,
    /// By file table, inode and device: owners of POSIX locks.
    pub by_table: HashMap<(u64, u64, u32), Vec<usize>>,
    /// A path for each file, by inode and device.
    pub paths: HashMap<(u64, u32), Text>,
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
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).context("read the iterator over descriptors")?;
        Table::parse(&bytes)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Iter> {
    Ok(ebpf.program_mut("fds").context("program fds")?.try_into()?)
}

impl Table {
    fn parse(mut bytes: &[u8]) -> Result<Self> {
        let mut table = Self::default();
        while !bytes.is_empty() {
            let record = FdRecord::read(bytes).context("short descriptor record")?;
            let end = size_of::<FdRecord>() + record.path_len as usize;
            let Some(path) = bytes.get(size_of::<FdRecord>()..end) else { bail!("short path in a descriptor record") };
            let index = table.fds.len();
            table.fds.push(record);
            table.by_file.entry(record.file).or_default().push(index);
            table.by_table.entry((record.files, record.inode, record.device)).or_default().push(index);
            if let Some(exe) = exe_file(record.exe_inode, record.exe_device) {
                table.executables.insert(record.process, exe);
            }
            if !path.is_empty() {
                table.paths.entry((record.inode, record.device)).or_insert_with(|| Text::new(path));
            }
            bytes = &bytes[end..];
        }
        Ok(table)
    }
}
