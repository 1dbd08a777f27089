//! From what the walk and the iterator have met to a picture.

use std::{path::Path, sync::Arc};

use lockwatch_common::{FdRecord, ProcessKey, WalkRecord, fl, kind};
use lockwatch_core::{
    hash::Map,
    lock::{Breaking, FileId, Kind, Mode, OwnerKey, Range},
    observation::{Census, FileSeen, HolderSeen, LockSeen, Picture, Via, WaitSeen},
    process::{Process, ProcessId},
    time::StartTime,
};

use super::{
    Depth,
    convert::{file_id, kind_of, mode_of, process_id},
    fds::Table,
    hidden::{Found, Wanted},
    loops,
    people::{Known, People},
    walk::Walked,
};
use crate::sources::{clock::Clock, confirm::is_alive, peek, place::Places, processes};

/// Whether a lock stands there that nobody seems to hold: it may have been released between walk and iteration.
pub fn is_torn(walked: &Walked, fds: &Table) -> bool {
    walked.locks().any(|record| fds.holders_of(record).next().is_none())
}

/// Whether a lock's acquirer, which had a descriptor when those were visited, had died when processes were read.
pub fn is_outdated(picture: &Picture) -> bool {
    let is_taker = |lock: &LockSeen, holder: &HolderSeen| {
        let pids = holder.process.zip(lock.acquirer).map(|(holder, taker)| (holder.pid, taker.pid));
        pids.is_some_and(|(holder, taker)| holder == taker)
    };
    let gone = |lock: &&LockSeen| !is_alive(lock, &picture.census);
    picture.locks.iter().filter(gone).any(|lock| lock.holders.iter().any(|holder| is_taker(lock, holder)))
}

/// The open files that have a lock and no descriptor, and if asked those of which neither the taker has one nor
/// whoever opened the file. A POSIX lock is none of theirs: it belongs to a file table, and goes when that table closes
/// the file, whatever else keeps the file open (fs/locks.c locks_remove_posix, 6.18).
pub fn hidden(walked: &Walked, fds: &Table, depth: Depth) -> Wanted {
    let is_hidden = |record: &&WalkRecord| {
        let settles = |fd: &FdRecord| depth == Depth::Usual || fd.process.pid == record.pid || fd.opened != 0;
        record.lock.kind != kind::POSIX && !fds.holders_of(record).any(settles)
    };
    walked.locks().filter(is_hidden).map(|record| (record.file, record.lock.inode)).collect()
}

/// Joins them all with what `/proc` says of the processes.
pub fn assemble(walked: Walked, fds: &Table, found: &Found, known: &Known, clock: &Clock, proc_root: &Path) -> Picture {
    let mut people = People::new(known);
    let mut locks = Vec::with_capacity(walked.locks().count());
    let mut waits = Vec::new();
    let mut files: Map<FileId, Arc<FileSeen>> = Map::default();
    let mut places = Places::new(proc_root);
    for record in &walked.records {
        let file = file_id(&record.lock);
        files.entry(file).or_insert_with(|| {
            let mut names = fds.names_of((record.lock.inode, record.lock.device));
            if let Some(name) = found.name_of(record.file) {
                names.to_mut().push(name);
            }
            Arc::new(places.settle(file, &names))
        });
        if record.depth == 0 {
            locks.push(lock(record, fds, found, clock, &mut people));
        } else {
            waits.push(wait(record, clock, &mut people));
        }
    }
    let mut census = people.census(fds, found, clock, proc_root);
    name_sharers(&mut locks, &census);
    let mut warnings = walked.gaps;
    let exact = warnings.is_empty();
    let search_complete = loops::explain(&mut locks, &found.gaps, &mut warnings);
    add_texts(&locks, &mut files, &census);
    if locks.iter().any(|lock| !lock.watched && !is_alive(lock, &census)) {
        census.births = processes::births(proc_root);
    }
    Picture { taken_at: clock.now(), locks, waits, census, files, fds_complete: true, search_complete, exact, warnings }
}

fn lock(record: &WalkRecord, fds: &Table, found: &Found, clock: &Clock, people: &mut People) -> LockSeen {
    let watched = record.process.start_ns != 0;
    let acquirer = acquirer(record);
    let ancestors = if watched { people.ancestors(&record.process) } else { Vec::new() };
    let taker = acquirer.and_then(|_| people.meet(&ProcessKey { pid: record.pid, ..record.process }));
    let is_dead = taker.is_some_and(|taker| taker.died_ns != 0);
    let descriptors = fds.holders_of(record);
    // Most locks have one holder: room for four, a vector's first growth, would be mostly air.
    let mut holders = Vec::with_capacity(descriptors.clone().count());
    for fd in descriptors {
        people.meet(&fd.process);
        if is_dead {
            people.note_table(&fd.process, fd.files);
        }
        holders.push(HolderSeen {
            process: Some(process_id(&fd.process)),
            via: Via::Fd,
            fd: Some(fd.fd),
            cloexec: Some(fd.cloexec != 0),
            opened: Some(fd.opened != 0),
            detail: None,
        });
    }
    if record.lock.kind != kind::POSIX {
        for (process, holder) in found.holders_of(record.file) {
            people.meet(&process);
            holders.push(holder);
        }
    }
    holders.sort();
    LockSeen {
        file: file_id(&record.lock),
        kind: kind_of(record.lock.kind),
        mode: mode_of(record.ty),
        range: Range::from_kernel(record.start, record.end),
        owner: OwnerKey(record.lock.owner),
        acquirer,
        acquired_at: (record.at_ns != 0).then(|| clock.at_boot_ns(record.at_ns)),
        ancestors,
        watched,
        holders,
        breaking: breaking(record, clock),
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

fn wait(record: &WalkRecord, clock: &Clock, people: &mut People) -> WaitSeen {
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
        since: (record.at_ns != 0).then(|| clock.at_boot_ns(record.at_ns)),
    }
}

/// `flc_pid`: 0 and negative numbers stand for remote owners.
fn acquirer(record: &WalkRecord) -> Option<ProcessId> {
    let local = record.pid != 0 && record.pid <= i32::MAX as u32;
    let start = (record.process.start_ns != 0).then(|| StartTime::from_boot_ns(record.process.start_ns));
    local.then_some(ProcessId { pid: record.pid, start })
}

/// Says of which holders a dead acquirer's file table still is; the owner of a POSIX lock is that table.
fn name_sharers(locks: &mut [LockSeen], census: &Census) {
    for lock in locks.iter_mut().filter(|lock| !is_alive(lock, census)) {
        let gone = lock.acquirer.map(|id| census.resolve(id));
        for holder in lock.holders.iter_mut().filter(|holder| holder.via == Via::Fd) {
            let heir = holder.process.and_then(|id| census.living.get(&id.pid));
            let shares = |heir: &Process| gone.as_ref().is_some_and(|gone| heir.shares_files_of(gone));
            if lock.kind == Kind::Posix || heir.is_some_and(|heir| shares(heir)) {
                holder.detail = Some("shares its file table with the dead acquirer".to_owned());
            }
        }
    }
}

/// The text of files whose lock has outlived its acquirer: a pid file names its owner.
fn add_texts(locks: &[LockSeen], files: &mut Map<FileId, Arc<FileSeen>>, census: &Census) {
    for lock in locks.iter().filter(|lock| !is_alive(lock, census)) {
        let Some(seen) = files.get_mut(&lock.file).filter(|seen| seen.text.is_none()) else { continue };
        let fs = seen.fs.clone();
        let text = |holder: &HolderSeen| peek::first_bytes(holder.process?.pid, holder.fd?, lock.file, fs.as_ref());
        Arc::make_mut(seen).text = lock.holders.iter().find_map(text);
    }
}
