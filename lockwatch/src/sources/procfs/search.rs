//! The locks that no file table explains: who keeps them, and whether that is proven.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use lockwatch_core::{
    lock::{FileId, Kind},
    observation::{FileSeen, HolderSeen, LockSeen, Via},
    parse::locks::{self, Line},
};

use super::{Place, join_up, read_locks};
use crate::sources::{
    fds::{self, Hit, Queue, Scan},
    hidden::{Found, Search},
    join::{Joined, Key},
    place::{Name, Places},
    processes,
};

/// What the search says besides the holders.
#[derive(Debug, Default)]
pub(super) struct Searched {
    /// Whether every place was seen and what was found is proven.
    pub complete: bool,
    /// The names of files that no descriptor shows.
    pub names: Vec<(FileId, Name)>,
    /// The processes that would not let us look.
    pub denied: Vec<u32>,
    /// What else stands in the way, for a human.
    pub warnings: Vec<String>,
}

/// Searches the other places for the holders of those locks that have none, and adds them. Nothing is read if every
/// lock has one. POSIX locks live in file tables alone, so no other place can explain them.
///
/// A message is proof in itself. Anything else that has the file is a holder by elimination only, and that takes all of
/// this: every place could be seen; the taker is known, and was dead before the file tables were read a second time;
/// they still show no holder then, nor do messages that have come since; and after all that `/proc/locks`, read a second
/// time, still has the lock. A living process may take and release the lock at any moment, so that each reading shows
/// something else; the dead do not. Where one of these fails, the candidates are listed and the search is not complete.
pub(super) fn explain(place: &Place, lines: &[Line], scan: &mut Scan, joined: &mut Joined) -> Searched {
    let wanted: HashSet<FileId> = joined.locks.iter().filter(unexplained).map(|lock| lock.file).collect();
    if wanted.is_empty() {
        return Searched { complete: true, ..Searched::default() };
    }
    let (root, block) = (&place.options.root, &place.options.block);
    let search = Search { root, block, our_numbers: place.our_numbers, wanted: &wanted };

    let mut messages = search.messages(&scan.queues);
    let Found { candidates, mut names, denied, mut gaps } = search.candidates();
    gaps.append(&mut messages.gaps);
    names.append(&mut messages.names);
    let finders = candidates.iter().filter_map(|(_, holder)| holder.process).map(|process| process.pid);
    let pids: HashSet<u32> = finders.chain(messages.hits.iter().map(|hit| hit.pid)).collect();
    for pid in pids {
        if let Some(process) = processes::process(root, pid, place.clock) {
            scan.processes.entry(pid).or_insert(process);
        }
    }
    if !messages.hits.is_empty() {
        let hits = [&scan.hits[..], &messages.hits].concat();
        *joined = join_up(lines, &hits, scan, Some(&messages), place.our_numbers);
    }
    // The duplicates keep their files open: not for longer than they are needed.
    drop(messages);
    eliminate(joined, &candidates, scan);

    let in_doubt: Vec<&LockSeen> = joined.locks.iter().filter(|lock| !by_descriptors(lock)).collect();
    if !in_doubt.is_empty() {
        gaps.extend(confirm(place, &search, lines, scan, &in_doubt).err());
    }
    let complete = denied.is_empty() && gaps.is_empty();
    Searched { complete, names, denied, warnings: tell(gaps) }
}

/// Gives names to files that no descriptor showed.
pub(super) fn name(root: &Path, files: &mut HashMap<FileId, FileSeen>, names: &[(FileId, Name)]) {
    let mut places = Places::new(root);
    for (file, seen) in files.iter_mut().filter(|(_, seen)| seen.path.is_none() && seen.label.is_none()) {
        let of_this: Vec<Name> =
            names.iter().filter(|(named, _)| named == file).map(|(_, name)| name.clone()).collect();
        if !of_this.is_empty() {
            *seen = places.settle(*file, &of_this);
        }
    }
}

fn unexplained(lock: &&LockSeen) -> bool {
    lock.holders.is_empty() && lock.kind != Kind::Posix
}

/// Whether a lock's holders are those of file tables, or it has none.
fn by_descriptors(lock: &LockSeen) -> bool {
    lock.holders.iter().all(|holder| holder.via == Via::Fd)
}

/// Adds those who may be the holder of a lock that nothing explains.
fn eliminate(joined: &mut Joined, candidates: &[(FileId, HolderSeen)], scan: &Scan) {
    for lock in joined.locks.iter_mut().filter(|lock| unexplained(&&**lock)) {
        let of_this = candidates.iter().filter(|(file, _)| *file == lock.file);
        lock.holders = of_this
            .filter_map(|(_, holder)| {
                let process = match holder.process {
                    // Gone since: then it holds nothing.
                    Some(id) => Some(scan.processes.get(&id.pid)?.id),
                    None => None,
                };
                Some(HolderSeen { process, ..holder.clone() })
            })
            .collect();
        lock.holders.sort();
    }
}

/// Looks a second time; the error says why what was found is not proven.
fn confirm(place: &Place, search: &Search, lines: &[Line], scan: &Scan, in_doubt: &[&LockSeen]) -> Result<(), String> {
    let root = &place.options.root;
    for lock in in_doubt.iter().filter(|lock| !lock.holders.iter().any(|holder| holder.via == Via::Message)) {
        let Some(taker) = lock.acquirer else {
            return Err("a lock is kept by something other than a descriptor, and who took it is not known".into());
        };
        let maps_it_itself = lock.holders.iter().any(|holder| holder.process.is_some_and(|p| p.pid == taker.pid));
        if !maps_it_itself && processes::process(root, taker.pid, place.clock).is_some() {
            let pid = taker.pid;
            return Err(format!(
                "pid {pid} lives and took a lock that no descriptor keeps: it may have it now and again"
            ));
        }
    }

    let moved = || Err("locks came and went while their holders were searched for: look again".to_owned());
    let Ok(second) = fds::scan(root, place.our_numbers, place.clock) else { return moved() };
    let doubtful: HashSet<FileId> = in_doubt.iter().map(|lock| lock.file).collect();
    let of_these = |hit: &&Hit| hit.line.kind() != Kind::Posix && hit.line.file.is_some_and(|f| doubtful.contains(&f));
    let known: HashSet<_> = scan.hits.iter().filter(of_these).map(|hit| (hit.at, Key::of(&hit.line))).collect();
    if second.hits.iter().filter(of_these).any(|hit| !known.contains(&(hit.at, Key::of(&hit.line)))) {
        return moved();
    }
    let seen: HashSet<Queue> = scan.queues.iter().copied().collect();
    let new: Vec<Queue> = second.queues.into_iter().filter(|queue| !seen.contains(queue)).collect();
    let messages = search.messages(&new);
    if !messages.hits.is_empty() || !messages.gaps.is_empty() {
        return moved();
    }

    let Ok((text, _)) = read_locks(place.options) else { return moved() };
    let (again, _) = locks::parse(&text);
    let (before, after) = (by_key(lines, &doubtful), by_key(&again, &doubtful));
    if before.iter().any(|(key, count)| after.get(key).is_none_or(|now| now < count)) {
        return moved();
    }
    Ok(())
}

/// How often each line stands in a list.
fn by_key(lines: &[Line], files: &HashSet<FileId>) -> HashMap<Key, usize> {
    let mut counts = HashMap::new();
    for line in lines.iter().filter(|line| line.level == 0 && line.file.is_some_and(|file| files.contains(&file))) {
        *counts.entry(Key::of(line)).or_default() += 1;
    }
    counts
}

/// The first few say it.
fn tell(mut gaps: Vec<String>) -> Vec<String> {
    const TOLD: usize = 3;
    let more = gaps.len().saturating_sub(TOLD);
    gaps.truncate(TOLD);
    let mut told: Vec<String> = gaps.iter().map(|gap| format!("a holder may be missing: {gap}")).collect();
    told.extend((more > 0).then(|| format!("a holder may be missing: {more} more reasons like these")));
    told
}
