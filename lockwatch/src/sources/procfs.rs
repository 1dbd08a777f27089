//! The source that needs no BPF: `/proc/locks` joined with every process's fdinfo.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use lockwatch_core::{
    hash::Map,
    lock::{FileId, Kind, Mode},
    observation::{Census, FileSeen, HolderSeen, LockSeen, Picture, Via, WaitSeen},
    parse::locks::{self, Line},
    process::{Process, ProcessId},
    text::Text,
};

use super::{
    clock::Clock,
    confirm::confirm,
    fds::{self, Hit, Scan},
    files,
    hidden::Messages,
    join::{self, Joined},
    kcmp, peek,
    procdir::ProcDir,
    processes,
};

mod search;
#[cfg(test)]
mod tests;

/// Where to look.
#[derive(Clone, Debug)]
pub struct ProcfsOptions {
    /// Where procfs is mounted: `/proc`.
    pub root: PathBuf,
    /// Where sysfs lists block devices: `/sys/block`.
    pub block: PathBuf,
}

impl Default for ProcfsOptions {
    fn default() -> Self {
        Self { root: PathBuf::from("/proc"), block: PathBuf::from("/sys/block") }
    }
}

/// Takes one look. `/proc/locks` is read once, for reading it holds up every lock operation of the host; file tables
/// are read only if there are locks. If there are some that no file table explains, the other places are searched, and
/// what is found there is believed only after a second reading.
///
/// What is denied or unreadable becomes a warning, and the picture says that it is not exact. Fails only where there
/// is no list of locks at all.
pub fn look(options: &ProcfsOptions) -> anyhow::Result<Picture> {
    let root = &options.root;
    let clock = Clock::read();
    let shown = Text::new(root.as_os_str().as_encoded_bytes());
    let (text, pieces) = read_locks(options).with_context(|| format!("read {shown}/locks"))?;
    let (lines, bad) = locks::parse(&text);
    let mut warnings: Vec<String> = bad.iter().map(|what| format!("{shown}/locks: {what}")).collect();

    let our_numbers = processes::shows_our_numbers(root);
    let blind_spot = processes::blind_spot(root);
    // Where the list hides locks, descriptors may show them all the same.
    let mut scan = match lines.is_empty() && blind_spot.is_none() {
        true => Scan::default(),
        false => fds::scan(root, our_numbers, &clock).with_context(|| format!("list {shown}"))?,
    };
    let mut joined = join_up(&lines, &scan.hits, &scan, None, our_numbers);
    let place = Place { options, our_numbers, clock: &clock };
    let searched = search::explain(&place, &lines, &mut scan, &mut joined);

    let mut census = Census { blind_spot, ..census(options, &lines, &joined.locks, &scan, &clock) };
    let waits = waits(&lines, &census);
    if joined.locks.iter().any(|lock| taken_by_another(lock, &census)) {
        census.births = processes::births(root);
    }
    let mut files = files::look_up(root, &scan.hits, &by_file(&joined.locks, &waits));
    search::name(root, &mut files, &searched.names);
    if our_numbers {
        read_pid_files(&mut files, &joined.locks, &scan.hits, &census);
    }

    let torn = pieces > 1 && (joined.moved || joined.surplus || contradicts_itself(&lines));
    let left_out = joined.without_file + lines.iter().filter(|l| l.level > 0).count() - waits.len();
    let fds_complete =
        scan.denied.is_empty() && joined.alike == 0 && scan.warnings.is_empty() && census.blind_spot.is_none();
    let exact = bad.is_empty() && fds_complete && !torn && left_out == 0 && joined.hidden == 0;
    let denied_at_all: BTreeSet<u32> = scan.denied.iter().chain(&searched.denied).copied().collect();
    warnings.extend(denied(&Vec::from_iter(denied_at_all)));
    warnings.extend(doubts(&scan, &joined, left_out, torn));
    warnings.extend(searched.warnings);
    warnings.extend(census.blind_spot.iter().map(|why| format!("locks and holders may be missing: {why}")));
    let locks = joined.locks;
    let mut picture = Picture {
        taken_at: clock.now(),
        locks,
        waits,
        census,
        files: files.into_iter().map(|(file, seen)| (file, Arc::new(seen))).collect(),
        fds_complete,
        search_complete: searched.complete,
        exact,
        warnings,
    };
    confirm(&mut picture, root);
    Ok(picture)
}

/// Where and how this look is taken.
struct Place<'a> {
    options: &'a ProcfsOptions,
    our_numbers: bool,
    clock: &'a Clock,
}

/// Joins lines and hits; those of messages say so.
fn join_up(lines: &[Line], hits: &[Hit], scan: &Scan, messages: Option<&Messages>, our_numbers: bool) -> Joined {
    let holder = |hit: &Hit| {
        let pid = hit.pid;
        let process = scan.processes.get(&pid).map_or(ProcessId { pid, start: None }, |process| process.id);
        let seen = join::by_descriptor(hit, process);
        match messages.and_then(|messages| messages.details.get(&(pid, hit.at))) {
            Some(detail) => HolderSeen { via: Via::Message, fd: None, detail: Some(detail.clone()), ..seen },
            None => seen,
        }
    };
    let compare = |a: &Hit, b: &Hit| match a.line.kind() {
        Kind::Posix => kcmp::tables(a.at.task, b.at.task),
        _ => kcmp::files(a.at, b.at),
    };
    join::join(lines, hits, holder, our_numbers.then_some(compare))
}

/// Whether the list has two locks that exclude each other: then it moved on between two of its pages.
///
/// Each read(2) shows one page, and the kernel finds the next one's beginning by counting (`locks_start` in
/// fs/locks.c, 6.18): a lock that is taken meanwhile makes it repeat one, a lock that is released makes it skip one.
/// Skipped locks show in fdinfo, repeated ones here or as more equal lines than there are descriptions. That needs no
/// second reading, which would hold up everybody once more; what it cannot see is a skipped lock that no descriptor
/// keeps.
fn contradicts_itself(lines: &[Line]) -> bool {
    let exclusive = |line: &&Line| {
        let range = matches!(line.kind(), Kind::Flock | Kind::Posix | Kind::Ofd);
        line.level == 0 && range && line.mode == Some(Mode::Write)
    };
    let mut seen = HashSet::new();
    lines.iter().filter(exclusive).any(|line| line.file.is_some() && !seen.insert((line.kind(), line.file, line.range)))
}

fn read_locks(options: &ProcfsOptions) -> std::io::Result<(Vec<u8>, usize)> {
    let mut text = Vec::with_capacity(1 << 16);
    let pieces = ProcDir::open(&options.root)?.read_into("locks", &mut text)?;
    Ok((text, pieces))
}

/// What a reader must know before trusting the rest.
fn doubts(scan: &Scan, joined: &Joined, left_out: usize, torn: bool) -> Vec<String> {
    let mut doubts = Vec::new();
    if torn {
        doubts.push("locks came and went while the list was being read: some may be missing or shown twice".into());
    }
    if joined.alike > 0 {
        let alike = joined.alike;
        doubts.push(format!(
            "{alike} locks are alike and cannot be told apart without kcmp(2), which needs CAP_SYS_PTRACE and the \
             host's own /proc: their holders stand at one of them"
        ));
    }
    if left_out > 0 {
        doubts.push(format!("{} listed without a file, and left out", count(left_out, "lock or waiter is")));
    }
    if joined.hidden > 0 {
        doubts.push(format!(
            "{} hidden by /proc/locks here, since the process that took it is dead or in another pid namespace: who it \
             was can only be seen on the host",
            count(joined.hidden, "lock is")
        ));
    }
    if joined.without_mode > 0 {
        doubts.push(format!(
            "{} being broken, and the kernel no longer prints the mode: shown as read",
            count(joined.without_mode, "lease is")
        ));
    }
    doubts.extend(scan.warnings.iter().cloned());
    doubts
}

/// The one sentence about all processes that are closed to us.
fn denied(pids: &[u32]) -> Option<String> {
    let (first, rest) = pids.split_at(pids.len().min(3));
    let first: Vec<String> = first.iter().map(u32::to_string).collect();
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    let fix = match rustix::process::geteuid().is_root() {
        true => "lockwatch needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and a security module may still refuse",
        false => "run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    };
    (!pids.is_empty()).then(|| {
        let processes = count(pids.len(), "process");
        format!("{processes} may hold locks but could not be looked into (pid {}{more}): {fix}", first.join(", "))
    })
}

/// `1 process`, `2 processes`; `1 lease is`, `2 leases are`.
fn count(n: usize, one: &str) -> String {
    match (n, one.strip_suffix(" is")) {
        (1, _) => format!("1 {one}"),
        (_, Some(noun)) => format!("{n} {}s are", noun.replace(" or", "s or")),
        (_, None) => format!("{n} {one}es"),
    }
}

/// Those alive among all who are named.
fn census(options: &ProcfsOptions, lines: &[Line], locks: &[LockSeen], scan: &Scan, clock: &Clock) -> Census {
    let mut living: Map<u32, Arc<Process>> = Map::default();
    let holders = locks.iter().flat_map(|lock| &lock.holders).filter_map(|holder| Some(holder.process?.pid));
    for pid in holders {
        if let Some(process) = scan.processes.get(&pid) {
            living.entry(pid).or_insert_with(|| Arc::new(process.clone()));
        }
    }
    let named: HashSet<u32> = lines.iter().filter_map(join::process_of).collect();
    for pid in named {
        if !living.contains_key(&pid)
            && let Some(process) = processes::process(&options.root, pid, clock)
        {
            living.insert(pid, Arc::new(process));
        }
    }
    Census { living, ..Census::default() }
}

/// Every blocked request whose file is known. Who breaks a lease has no file on its line: it is the lease's.
fn waits(lines: &[Line], census: &Census) -> Vec<WaitSeen> {
    let wait = |line: &Line| {
        let process = join::process_of(line).map(|pid| {
            // A request is blocked as long as its thread is, so the process of that number is the one.
            let start = census.living.get(&pid).and_then(|process| process.id.start);
            ProcessId { pid, start }
        });
        let file = line.file.or_else(|| lines[line.granted?].file)?;
        Some(WaitSeen { file, kind: line.kind(), mode: line.mode?, range: line.range, process, since: None })
    };
    lines.iter().filter(|line| line.level > 0).filter_map(wait).collect()
}

/// Whether the acquirer is gone or has nothing to do with the lock any more: then ages will be compared.
fn taken_by_another(lock: &LockSeen, census: &Census) -> bool {
    lock.acquirer.is_some_and(|acquirer| {
        let holds = lock.holders.iter().any(|h| h.process.is_some_and(|p| p.pid == acquirer.pid));
        !holds || !census.living.contains_key(&acquirer.pid)
    })
}

/// Every file, with those who may have it open.
fn by_file(locks: &[LockSeen], waits: &[WaitSeen]) -> HashMap<FileId, HashSet<u32>> {
    let mut files: HashMap<FileId, HashSet<u32>> = HashMap::new();
    let acquirers = locks.iter().map(|lock| (lock.file, lock.acquirer));
    for (file, process) in acquirers.chain(waits.iter().map(|wait| (wait.file, wait.process))) {
        files.entry(file).or_default().extend(process.map(|process| process.pid));
    }
    files
}

/// Reads the text of those files whose lock was taken by somebody who is dead: it may name the heir.
fn read_pid_files(files: &mut HashMap<FileId, FileSeen>, locks: &[LockSeen], hits: &[Hit], census: &Census) {
    let dead = |lock: &&LockSeen| lock.acquirer.is_some_and(|acquirer| !census.living.contains_key(&acquirer.pid));
    let wanted: HashSet<FileId> = locks.iter().filter(dead).map(|lock| lock.file).collect();
    for hit in hits {
        let Some(file) = hit.line.file.filter(|file| wanted.contains(file)) else { continue };
        // pidfd_open takes a process, that is a leader with a file table.
        if let Some(seen) = files.get_mut(&file).filter(|seen| seen.text.is_none() && hit.at.task == hit.pid) {
            seen.text = peek::first_bytes(hit.pid, hit.at.fd, file, seen.fs.as_ref());
        }
    }
}
