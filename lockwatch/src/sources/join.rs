//! Which descriptors keep which lock: the lines of `/proc/locks` against those of fdinfo.

use std::{cmp::Ordering, collections::HashMap, io};

use lockwatch_core::{
    lock::{Breaking, FileId, Kind, Mode, OwnerKey, Range},
    observation::{HolderSeen, LockSeen, Via},
    parse::{
        fdinfo::Access,
        locks::{Line, State},
    },
    process::ProcessId,
};

use super::fds::Hit;

/// Joins the granted locks with their holders. `holder` says what a hit is; `compare` tells the owners of two hits apart,
/// and is `None` where the kernel cannot be asked.
///
/// The kernel prints a lock in the same words in both places, so most need no more. Locks that are equal in everything
/// that is printed (shared locks of one process, OFD locks of any) are told apart by their open file descriptions. Which
/// description then goes with which line makes no difference: there is nothing in which the lines differ.
pub fn join(
    lines: &[Line],
    hits: &[Hit],
    holder: impl Fn(&Hit) -> HolderSeen,
    compare: Option<impl Fn(&Hit, &Hit) -> io::Result<Ordering>>,
) -> Joined {
    let mut joined = Joined::default();
    let mut granted: Vec<(&Line, FileId)> =
        lines.iter().filter(|l| l.level == 0).filter_map(|line| Some((line, line.file?))).collect();
    joined.without_file = lines.iter().filter(|l| l.level == 0).count() - granted.len();

    let mut groups: HashMap<Key, (Vec<usize>, Vec<Hit>)> = HashMap::new();
    for (at, (line, _)) in granted.iter().enumerate() {
        groups.entry(Key::of(line)).or_default().0.push(at);
    }
    let mut unlisted: HashMap<Key, Vec<&Hit>> = HashMap::new();
    for hit in hits {
        match groups.get_mut(&Key::of(&hit.line)) {
            Some((_, group)) => group.push(*hit),
            None => unlisted.entry(Key::of(&hit.line)).or_default().push(hit),
        }
    }
    for (key, hits) in unlisted {
        let Some(file) = hits[0].line.file.filter(|_| key.pid == 0) else {
            joined.moved = true;
            continue;
        };
        let line = &hits[0].line;
        let hits: Vec<Hit> = hits.into_iter().copied().collect();
        let alike = compare.as_ref().and_then(|compare| super::kcmp::classes(hits.clone(), compare).ok());
        let locks = alike.map_or(1, |classes| classes.len());
        joined.hidden += locks;
        let from = granted.len();
        granted.extend(std::iter::repeat_n((line, file), locks));
        groups.insert(key, ((from..granted.len()).collect(), hits));
    }

    let mut holders: Vec<Vec<Hit>> = vec![Vec::new(); granted.len()];
    let mut owners = Owners::new(granted.len());
    for (locks, hits) in groups.into_values() {
        if locks.len() == 1 {
            owners.tie(locks[0], &hits);
            holders[locks[0]] = hits;
            continue;
        }
        let Some(Ok(mut classes)) = compare.as_ref().map(|compare| super::kcmp::classes(hits.clone(), compare)) else {
            joined.alike += locks.len();
            holders[locks[0]] = hits;
            continue;
        };
        classes.sort_by_key(|class| class.iter().map(|hit| (hit.pid, hit.at)).min());
        joined.moved |= classes.len() > locks.len();
        joined.surplus |= !classes.is_empty() && classes.len() < locks.len();
        for (lock, class) in locks.into_iter().zip(classes) {
            owners.tie(lock, &class);
            holders[lock] = class;
        }
    }

    for (at, ((line, file), hits)) in granted.into_iter().zip(holders).enumerate() {
        let mode = mode(line, &hits).unwrap_or_else(|| {
            joined.without_mode += 1;
            Mode::Read
        });
        let mut holders: Vec<HolderSeen> = hits.iter().map(&holder).collect();
        holders.sort();
        holders.dedup();
        joined.locks.push(LockSeen {
            file,
            kind: line.kind(),
            mode,
            range: line.range,
            owner: OwnerKey(owners.of(at) as u64),
            acquirer: process_of(line).map(|pid| ProcessId { pid, start: None }),
            acquired_at: None,
            ancestors: Vec::new(),
            watched: false,
            holders,
            breaking: (line.state == State::Breaking).then_some(Breaking { to: line.mode, deadline: None }),
        });
    }
    joined
}

/// The result of [`join`].
#[derive(Debug, Default)]
pub struct Joined {
    /// Every granted lock, in the order of `/proc/locks`.
    pub locks: Vec<LockSeen>,
    /// How many locks could not be told apart from others, so that their holders stand at one of them.
    pub alike: usize,
    /// Whether a descriptor had a lock that was not in the list: it came or went between the two looks.
    pub moved: bool,
    /// Whether a line stood in the list more often than descriptions have it: one was printed twice, or something else
    /// than a descriptor keeps the other.
    pub surplus: bool,
    /// How many locks only descriptors show: `/proc/locks` of a pid namespace leaves out those whose acquirer has no
    /// number in it (fs/locks.c locks_show, 6.18), because it is outside or dead.
    pub hidden: usize,
    /// How many locks were printed without their file, and are left out.
    pub without_file: usize,
    /// How many leases on their way out have lost their mode; they stand as read leases.
    pub without_mode: usize,
}

/// The process that a line names: `None` for OFD locks, other pid namespaces and other machines.
pub fn process_of(line: &Line) -> Option<u32> {
    u32::try_from(line.pid).ok().filter(|pid| *pid != 0)
}

/// A lease being broken prints what it will become (`target_leasetype` in fs/locks.c, 6.18): one that becomes a read
/// lease was a write lease. One that goes away altogether may have been either, unless its file is open for writing,
/// which a read lease forbids (fcntl(2)).
fn mode(line: &Line, holders: &[Hit]) -> Option<Mode> {
    if line.state != State::Breaking {
        return line.mode;
    }
    let writable = |hit: &Hit| matches!(hit.access, Some(Access::Write | Access::ReadWrite));
    (line.mode == Some(Mode::Read) || holders.iter().any(writable)).then_some(Mode::Write)
}

/// The process of a hit as a holder, by its descriptor.
pub fn by_descriptor(hit: &Hit, process: ProcessId) -> HolderSeen {
    let (process, fd) = (Some(process), Some(hit.at.fd));
    HolderSeen { process, via: Via::Fd, fd, cloexec: hit.cloexec, opened: None, detail: None }
}

/// Everything that is printed of a lock in both places, but a lease's mode: that may change between the two looks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    kind: Kind,
    mode: Option<Mode>,
    file: Option<FileId>,
    range: Range,
    pid: i32,
}

impl Key {
    /// That of a line of `/proc/locks` or of fdinfo.
    pub fn of(line: &Line) -> Self {
        let kind = line.kind();
        let mode = line.mode.filter(|_| kind != Kind::Lease);
        Self { kind, mode, file: line.file, range: line.range, pid: line.pid }
    }
}

/// Ties locks together that have one owner: those that one file table (POSIX) or one descriptor (all others) shows.
struct Owners {
    parent: Vec<usize>,
    first: HashMap<(bool, u32, u32), usize>,
}

impl Owners {
    fn new(locks: usize) -> Self {
        Self { parent: (0..locks).collect(), first: HashMap::new() }
    }

    fn tie(&mut self, lock: usize, hits: &[Hit]) {
        for hit in hits {
            let posix = hit.line.kind() == Kind::Posix;
            let token = (posix, hit.at.task, if posix { 0 } else { hit.at.fd });
            let first = *self.first.entry(token).or_insert(lock);
            let (a, b) = (self.of(first), self.of(lock));
            self.parent[a.max(b)] = a.min(b);
        }
    }

    fn of(&mut self, mut lock: usize) -> usize {
        while self.parent[lock] != lock {
            self.parent[lock] = self.parent[self.parent[lock]];
            lock = self.parent[lock];
        }
        lock
    }
}

#[cfg(test)]
mod tests {
    use lockwatch_core::parse::locks;

    use super::{super::kcmp::Descriptor, *};

    const FLOCK: &str = "FLOCK  ADVISORY  READ 7 fe:00:1 0 EOF";
    const OFD: &str = "OFDLCK ADVISORY  READ -1 fe:00:1 0 9";

    fn lines(text: &[&str]) -> Vec<Line> {
        let text: Vec<String> = text.iter().enumerate().map(|(n, line)| format!("{}: {line}", n + 1)).collect();
        let (lines, warnings) = locks::parse(text.join("\n").as_bytes());
        assert_eq!(warnings, [""; 0]);
        lines
    }

    fn hit(pid: u32, fd: u32, line: &str) -> Hit {
        let at = Descriptor { task: pid, fd };
        Hit { pid, at, cloexec: Some(false), access: Some(Access::Read), line: lines(&[line])[0] }
    }

    fn holder(hit: &Hit) -> HolderSeen {
        by_descriptor(hit, ProcessId { pid: hit.pid, start: None })
    }

    /// Descriptors of one hundred are one description.
    fn hundreds(a: &Hit, b: &Hit) -> io::Result<Ordering> {
        Ok((a.at.fd / 100).cmp(&(b.at.fd / 100)))
    }

    /// Holders as `pid:fd`, and owners, by lock.
    fn check(text: &[&str], hits: &[Hit], expect: &[(&[(u32, u32)], u64)]) -> Joined {
        let joined = join(&lines(text), hits, holder, Some(hundreds));
        let found: Vec<_> = joined
            .locks
            .iter()
            .map(|lock| {
                let holders: Vec<_> = lock.holders.iter().map(|h| (h.process.unwrap().pid, h.fd.unwrap())).collect();
                (holders, lock.owner.0)
            })
            .collect();
        let expect: Vec<_> = expect.iter().map(|(holders, owner)| (holders.to_vec(), *owner)).collect();
        assert_eq!(found, expect);
        joined
    }

    #[test]
    fn a_lock_gets_all_who_print_it() {
        let hits = [hit(7, 3, FLOCK), hit(8, 3, FLOCK), hit(9, 4, OFD)];
        assert!(!check(&[FLOCK, OFD], &hits, &[(&[(7, 3), (8, 3)], 0), (&[(9, 4)], 1)]).moved);
    }

    #[test]
    fn locks_alike_are_told_apart_by_description() {
        let hits = [hit(7, 300, OFD), hit(8, 100, OFD), hit(9, 301, OFD)];
        let joined = check(&[OFD, OFD, OFD], &hits, &[(&[(7, 300), (9, 301)], 0), (&[(8, 100)], 1), (&[], 2)]);
        assert!(joined.surplus && !joined.moved);
        assert!(check(&[OFD], &[hit(7, 1, FLOCK)], &[(&[], 0)]).moved);
    }

    #[test]
    fn without_kcmp_it_is_said() {
        let none: Option<fn(&Hit, &Hit) -> io::Result<Ordering>> = None;
        let hits = [hit(7, 300, OFD), hit(8, 100, OFD)];
        let joined = join(&lines(&[OFD, OFD]), &hits, holder, none);
        assert_eq!(joined.alike, 2);
        assert_eq!(joined.locks.iter().map(|l| l.holders.len()).collect::<Vec<_>>(), [2, 0]);
    }

    #[test]
    fn one_description_or_table_is_one_owner() {
        let other = "OFDLCK ADVISORY  WRITE -1 fe:00:1 20 29";
        let (a, b) = ("POSIX  ADVISORY  READ 7 fe:00:1 0 9", "POSIX  ADVISORY  WRITE 7 fe:00:1 30 EOF");
        let hits = [hit(7, 3, OFD), hit(7, 3, other), hit(7, 4, a), hit(7, 5, b)];
        check(&[OFD, a, other, b], &hits, &[(&[(7, 3)], 0), (&[(7, 4)], 1), (&[(7, 3)], 0), (&[(7, 5)], 1)]);
    }

    #[test]
    fn what_a_pid_namespace_hides_is_seen_through_descriptors() {
        let outside = "FLOCK  ADVISORY  READ 0 fe:00:1 0 EOF";
        let hits = [hit(7, 3, FLOCK), hit(7, 100, outside), hit(8, 101, outside), hit(9, 200, outside)];
        let joined = check(&[FLOCK], &hits, &[(&[(7, 3)], 0), (&[(7, 100), (8, 101)], 1), (&[(9, 200)], 2)]);
        assert_eq!((joined.hidden, joined.moved, joined.locks[1].acquirer), (2, false, None));
    }

    #[test]
    fn acquirers_are_only_named_when_known() {
        let text = [FLOCK, OFD, "POSIX  ADVISORY  READ 0 fe:00:1 0 9", "POSIX  ADVISORY  READ -44 fe:00:1 0 9"];
        let joined = check(&text, &[], &[(&[], 0), (&[], 1), (&[], 2), (&[], 3)]);
        let acquirers: Vec<_> = joined.locks.iter().map(|l| l.acquirer.map(|a| (a.pid, a.start))).collect();
        assert_eq!(acquirers, [Some((7, None)), None, None, None]);
    }

    #[test]
    fn broken_leases_keep_the_mode_they_had() {
        let check = |text: &str, access, expect| {
            let hits = [Hit { access: Some(access), ..hit(7, 3, text) }];
            assert_eq!(mode(&lines(&[text])[0], &hits), expect, "{text}");
        };
        check("LEASE  ACTIVE    READ 7 fe:00:1 0 EOF", Access::Read, Some(Mode::Read));
        check("LEASE  BREAKING  READ 7 fe:00:1 0 EOF", Access::Read, Some(Mode::Write));
        check("LEASE  BREAKING  UNLCK 7 fe:00:1 0 EOF", Access::ReadWrite, Some(Mode::Write));
        check("LEASE  BREAKING  UNLCK 7 fe:00:1 0 EOF", Access::Read, None);
    }

    #[test]
    fn a_lease_is_found_although_its_mode_has_changed() {
        let (active, breaking) = ("LEASE  ACTIVE    READ 7 fe:00:1 0 EOF", "LEASE  BREAKING  UNLCK 7 fe:00:1 0 EOF");
        check(&[active], &[hit(7, 3, breaking)], &[(&[(7, 3)], 0)]);
    }
}
