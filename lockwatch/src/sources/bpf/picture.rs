//! From what the walk and the iterator have met to a picture.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::Arc,
};

use lockwatch_common::{ANCESTORS, FdRecord, ProcessKey, ProcessValue, WalkRecord, fl, process_flag};
use lockwatch_core::{
    lock::{Breaking, FileId, Mode, OwnerKey, Range},
    observation::{Census, FileSeen, HolderSeen, LockSeen, Picture, Via, WaitSeen},
    process::{Death, Exit, Life, Origin, Process, ProcessId},
    text::Text,
    time::StartTime,
};

use super::{
    convert::{exe_file, file_id, kind_of, mode_of, process_id},
    fds::Table,
    walk::Walked,
};
use crate::sources::{clock::Clock, mounts::Mounts, peek, processes};

const SIGKILL: u8 = 9;

/// What the kernel-side table of processes says of one.
pub type Known<'a> = dyn Fn(&ProcessKey) -> Option<ProcessValue> + 'a;

/// Whether a lock stands there that nobody seems to hold: it may have been released between walk and iteration.
pub fn is_torn(walked: &Walked, fds: &Table) -> bool {
    walked.locks().any(|record| fds.holders_of(record).next().is_none())
}

/// Joins both with what `/proc` says of the processes.
pub fn assemble(walked: Walked, fds: &Table, known: &Known, clock: &Clock, proc_root: &Path) -> Picture {
    let mut people = People { fds, known, clock, proc_root, census: Census::default(), absent: HashSet::new() };
    let mut locks = Vec::new();
    let mut waits = Vec::new();
    let mut files = HashMap::new();
    let mounts = Mounts::read();
    for record in &walked.records {
        let file = file_id(&record.lock);
        files.entry(file).or_insert_with(|| {
            let path = fds.paths.get(&(record.lock.inode, record.lock.device));
            let (path, deleted) = split_deleted(path, record.lock.inode);
            FileSeen { path, deleted, fs: mounts.fs(file.device).cloned(), text: None }
        });
        if record.depth == 0 {
            locks.push(lock(record, &mut people));
        } else {
            waits.push(wait(record, &mut people));
        }
    }
    add_texts(&locks, &mut files, &people.census);
    let mut census = people.census;
    census.blind_spot = processes::blind_spot(proc_root);
    if locks.iter().any(|lock| !lock.watched && !lives(lock, &census)) {
        census.births = processes::births(proc_root);
    }
    Picture {
        taken_at: clock.now(),
        locks,
        waits,
        census,
        files,
        fds_complete: true,
        search_complete: false,
        exact: walked.gaps.is_empty(),
        warnings: walked.gaps,
    }
}

/// The processes that the records name.
struct People<'a> {
    fds: &'a Table,
    known: &'a Known<'a>,
    clock: &'a Clock,
    proc_root: &'a Path,
    census: Census,
    absent: HashSet<u32>,
}

impl People<'_> {
    /// Notes whoever has this number now, and, if the kernel's table knows it, whoever died with this identity.
    fn meet(&mut self, process: &ProcessKey) {
        let note = (self.known)(process);
        if let Some(value) = note.filter(|value| value.died_ns != 0) {
            let id = process_id(process);
            self.census.dead.entry(id).or_insert_with(|| Arc::new(dead_process(process, &value, self.clock)));
        }
        if process.pid == 0 || self.census.living.contains_key(&process.pid) || self.absent.contains(&process.pid) {
            return;
        }
        match processes::process(self.proc_root, process.pid, self.clock) {
            Some(mut living) => {
                living.execed = note.map(|value| value.flags & process_flag::EXECED != 0);
                if let Some(exe) = self.fds.executables.get(process) {
                    living.exe_file = Some(*exe);
                } else if let Some(value) = note {
                    living.exe_file = exe_file(value.exe_inode, value.exe_device).or(living.exe_file);
                }
                self.census.living.insert(process.pid, Arc::new(living));
            }
            None => {
                self.absent.insert(process.pid);
            }
        }
    }
}

fn lock(record: &WalkRecord, people: &mut People) -> LockSeen {
    let watched = record.process.start_ns != 0;
    let acquirer = acquirer(record);
    let mut ancestors = Vec::new();
    if watched && let Some(value) = (people.known)(&record.process) {
        ancestors = ancestors_of(&value);
        value.ancestors.iter().take(ancestors.len()).for_each(|ancestor| people.meet(ancestor));
    }
    if acquirer.is_some() {
        people.meet(&ProcessKey { pid: record.pid, ..record.process });
    }
    let found = people.fds.holders_of(record);
    found.clone().for_each(|fd| people.meet(&fd.process));
    let holder = |fd: &FdRecord| HolderSeen {
        process: Some(process_id(&fd.process)),
        via: Via::Fd,
        fd: Some(fd.fd),
        cloexec: Some(fd.cloexec != 0),
        opened: Some(fd.opened != 0),
        detail: None,
    };
    let mut holders: Vec<HolderSeen> = found.map(holder).collect();
    holders.sort();
    LockSeen {
        file: file_id(&record.lock),
        kind: kind_of(record.lock.kind),
        mode: mode_of(record.ty),
        range: Range::from_kernel(record.start, record.end),
        owner: OwnerKey(record.lock.owner),
        acquirer,
        acquired_at: (record.at_ns != 0).then(|| people.clock.at_boot_ns(record.at_ns)),
        ancestors,
        watched,
        holders,
        breaking: breaking(record, people.clock),
    }
}

/// A lease of which the kernel has asked its holder to give it up: fs/locks.c target_leasetype, 6.18.
fn breaking(record: &WalkRecord, clock: &Clock) -> Option<Breaking> {
    let to = match record.flags & (fl::UNLOCK_PENDING | fl::DOWNGRADE_PENDING) {
        0 => return None,
        fl::DOWNGRADE_PENDING => Some(Mode::Read),
        _ => None,
    };
    Some(Breaking { to, deadline: (record.deadline_ns != 0).then(|| clock.at_boot_ns(record.deadline_ns)) })
}

fn wait(record: &WalkRecord, people: &mut People) -> WaitSeen {
    let process = acquirer(record);
    if process.is_some() {
        people.meet(&ProcessKey { pid: record.pid, ..record.process });
    }
    WaitSeen {
        file: file_id(&record.lock),
        kind: kind_of(record.lock.kind),
        mode: mode_of(record.ty),
        range: Range::from_kernel(record.start, record.end),
        process,
        since: (record.at_ns != 0).then(|| people.clock.at_boot_ns(record.at_ns)),
    }
}

/// `flc_pid`: 0 and negative numbers stand for remote owners.
fn acquirer(record: &WalkRecord) -> Option<ProcessId> {
    let local = record.pid != 0 && record.pid <= i32::MAX as u32;
    let start = (record.process.start_ns != 0).then(|| StartTime::from_boot_ns(record.process.start_ns));
    local.then_some(ProcessId { pid: record.pid, start })
}

fn lives(lock: &LockSeen, census: &Census) -> bool {
    lock.acquirer.is_none_or(|acquirer| {
        census
            .living
            .get(&acquirer.pid)
            .is_some_and(|living| acquirer.start.is_none_or(|start| living.id.start == Some(start)))
    })
}

/// The text of files whose lock has outlived its acquirer: a pid file names its owner.
fn add_texts(locks: &[LockSeen], files: &mut HashMap<FileId, FileSeen>, census: &Census) {
    for lock in locks.iter().filter(|lock| !lives(lock, census)) {
        let Some(seen) = files.get_mut(&lock.file).filter(|seen| seen.text.is_none()) else { continue };
        let fs = seen.fs.clone();
        let text = |holder: &HolderSeen| peek::first_bytes(holder.process?.pid, holder.fd?, lock.file, fs.as_ref());
        seen.text = lock.holders.iter().find_map(text);
    }
}

/// The kernel marks the path of an unlinked file (fs/d_path.c, 6.18). A file may also be called so: it is, if the
/// whole name still leads to it.
fn split_deleted(path: Option<&Text>, inode: u64) -> (Option<Text>, bool) {
    let Some(path) = path else { return (None, false) };
    match path.as_bytes().strip_suffix(b" (deleted)") {
        Some(bare) if !leads_to(path, inode) => (Some(Text::new(bare)), true),
        _ => (Some(path.clone()), false),
    }
}

fn leads_to(path: &Text, inode: u64) -> bool {
    std::fs::symlink_metadata(OsStr::from_bytes(path.as_bytes())).is_ok_and(|stat| stat.ino() == inode)
}

fn ancestors_of(value: &ProcessValue) -> Vec<ProcessId> {
    let mut ancestors = Vec::with_capacity(ANCESTORS);
    ancestors.extend(value.ancestors.iter().take_while(|ancestor| ancestor.pid != 0).map(process_id));
    ancestors
}

/// A process that died while we watched.
pub fn dead_process(process: &ProcessKey, value: &ProcessValue, clock: &Clock) -> Process {
    let id = process_id(process);
    let death = Death {
        at: Some(clock.at_boot_ns(value.died_ns)),
        exit: Some(exit_of(process, value)),
        number_reused_by: None,
    };
    Process {
        started_at: Some(clock.at_boot_ns(process.start_ns)),
        comm: Some(Text::from_nul_terminated(&value.comm)),
        exe_file: exe_file(value.exe_inode, value.exe_device),
        uid: Some(value.uid),
        parent: value.ancestors.first().map(|parent| parent.pid).filter(|pid| *pid != 0),
        execed: Some(value.flags & process_flag::EXECED != 0),
        ..Process::unknown(id, Life::Dead(death))
    }
}

/// As wait(2) encodes it: signal in the low seven bits, a core in the eighth, the exit code above.
fn exit_of(process: &ProcessKey, value: &ProcessValue) -> Exit {
    let signal = (value.exit_code & 0x7f) as u8;
    if signal == 0 {
        return Exit::Code((value.exit_code >> 8) as u8);
    }
    let own = value.killer_pid == process.pid;
    let sent = value.killer_signal == u32::from(signal);
    let origin = sent.then(|| Origin::of(signal, value.killer_code, own));
    let by_process = origin == Some(Origin::Process);
    let sender = by_process.then(|| (value.killer_pid, Text::from_nul_terminated(&value.killer_comm)));
    // The OOM killer also marks those who are dying already, so that they may (mm/oom_kill.c out_of_memory, 6.18).
    let oom =
        value.flags & process_flag::OOM != 0 && signal == SIGKILL && matches!(origin, None | Some(Origin::Kernel));
    Exit::Signal { signal, core_dumped: value.exit_code & 0x80 != 0, sender, oom, origin }
}

#[cfg(test)]
mod tests {
    use lockwatch_common::Wire;

    use super::*;

    #[test]
    fn the_oom_killer_is_blamed_only_for_its_own() {
        let process = ProcessKey { start_ns: 1, pid: 7, pad: 0 };
        let zeroes = [0; size_of::<ProcessValue>()];
        let check = |flags, killer_pid, killer_signal, killer_code, expect: (bool, Option<Origin>)| {
            let value = ProcessValue {
                exit_code: 9,
                flags,
                killer_pid,
                killer_signal,
                killer_code,
                ..ProcessValue::read(&zeroes).unwrap()
            };
            let Exit::Signal { oom, origin, sender, .. } = exit_of(&process, &value) else { panic!("no signal") };
            assert_eq!((oom, origin), expect);
            assert_eq!(sender.is_some(), origin == Some(Origin::Process));
        };
        const KERNEL: i32 = 0x80;
        check(process_flag::OOM, 9, 9, KERNEL, (true, Some(Origin::Kernel)));
        check(process_flag::OOM, 0, 0, 0, (true, None));
        check(process_flag::OOM, 9, 9, 0, (false, Some(Origin::Process)));
        check(0, 9, 9, KERNEL, (false, Some(Origin::Kernel)));
        check(0, 9, 15, 0, (false, None));
        check(0, 7, 9, 0, (false, Some(Origin::Itself)));
    }
}
