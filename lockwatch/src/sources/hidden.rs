//! What keeps a lock alive although no file table shows it, found without BPF: one file for each place to look.
//!
//! A message proves itself: what it carries can be asked for its lock. Mappings, io_urings and loop devices name only
//! the file, which may have been opened twice; whether one of them keeps the lock follows by elimination, if every
//! place was seen and nothing else was found.

pub mod loops;

mod maps;
mod messages;
mod queues;
mod rings;

use std::{collections::HashSet, io, path::Path};

use lockwatch_core::{
    lock::FileId,
    observation::{HolderSeen, Via},
    process::ProcessId,
    text::Text,
};

pub use self::messages::Messages;
use super::{
    fds::{self, Queue},
    place::Name,
    procdir::ProcDir,
    processes::is_gone,
};

/// Where to look, and for which files.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Where procfs is mounted.
    pub root: &'a Path,
    /// `/sys/block`.
    pub block: &'a Path,
    /// Whether its process numbers are ours, so that system calls may be given them.
    pub our_numbers: bool,
    /// The files whose locks nobody is known to hold.
    pub wanted: &'a HashSet<FileId>,
}

/// A wanted file in one of the places.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    file: FileId,
    /// As the kernel prints it there: ` (deleted)` behind a name that is gone.
    name: Text,
    /// For a human.
    detail: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Who may keep a lock on which file; the processes without their start.
    pub candidates: Vec<(FileId, HolderSeen)>,
    /// The names of those files.
    pub names: Vec<(FileId, Name)>,
    /// The processes that would not let us look.
    pub denied: Vec<u32>,
    /// Whatever else could not be seen, one sentence each. If there is anything in here or in `denied`, a holder may be
    /// missing.
    pub gaps: Vec<String>,
}

impl Search<'_> {
    /// Looks into every process's memory and rings, and at the loop devices.
    pub fn candidates(&self) -> Found {
        let mut found = Found::default();
        match ProcDir::open(self.root).and_then(|root| root.numbers(".")) {
            Ok(pids) => pids.into_iter().for_each(|pid| self.process(pid, &mut found)),
            Err(error) => found.gaps.push(format!("the processes cannot be listed: {error}")),
        }
        self.loops(&mut found);
        found
    }

    /// Looks into unix sockets for descriptors on their way.
    pub fn messages(&self, queues: &[Queue]) -> Messages {
        match self.our_numbers {
            true => messages::search(queues, self.wanted),
            false => Messages::unreachable(),
        }
    }

    fn process(&self, pid: u32, found: &mut Found) {
        let looked = ProcDir::process(self.root, pid).and_then(|dir| {
            let look = self.look_into(&dir, pid);
            // What cannot have anything has nothing to hide.
            if look.as_ref().is_err_and(|error| !is_gone(error)) && !fds::may_have_fds(&dir) {
                Ok(())
            } else {
                look.map(|seen| found.add(pid, seen))
            }
        });
        if looked.is_err_and(|error| !is_gone(&error)) {
            found.denied.push(pid);
        }
    }

    fn look_into(&self, dir: &ProcDir, pid: u32) -> io::Result<(maps::Mapped, rings::Rings)> {
        let mut rings = rings::of(self.root, dir, pid, self.our_numbers)?;
        rings.files.retain(|seen| self.wanted.contains(&seen.file));
        Ok((maps::of(dir, pid, self.wanted)?, rings))
    }

    fn loops(&self, found: &mut Found) {
        let loops = match loops::list(self.block) {
            Ok(loops) => loops,
            Err(error) => return found.gaps.push(format!("the loop devices cannot be listed: {error}")),
        };
        for device in loops {
            match device.file {
                Some(file) if self.wanted.contains(&file) => {
                    found.candidates.push((file, device.holder()));
                    found.names.push((file, Name { text: device.backing, pid: std::process::id(), directory: None }));
                }
                Some(_) => {}
                None => found.gaps.push(format!(
                    "which file is behind loop device {} cannot be told by its name: {}",
                    device.name, device.backing
                )),
            }
        }
    }
}

impl Found {
    fn add(&mut self, pid: u32, (mapped, rings): (maps::Mapped, rings::Rings)) {
        let process = Some(ProcessId { pid, start: None });
        let mapped_files = mapped.files.into_iter().map(|seen| (Via::Mapping, seen));
        for (via, seen) in mapped_files.chain(rings.files.into_iter().map(|seen| (Via::IoUring, seen))) {
            let detail = Some(seen.detail);
            let holder = HolderSeen { process, via, fd: None, cloexec: None, opened: None, detail };
            self.candidates.push((seen.file, holder));
            self.names.push((seen.file, Name { text: seen.name, pid, directory: None }));
        }
        self.gaps.extend(rings.gaps);
        if mapped.rings.difference(&rings.inodes).next().is_some() {
            self.gaps.push(format!("pid {pid} has an io_uring without a descriptor, whose files cannot be listed"));
        }
    }
}
