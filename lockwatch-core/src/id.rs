//! The short name of a lock.

use std::{cmp::Reverse, collections::HashSet, fmt};

use crate::{
    lock::{FileId, Kind, Mode, Range},
    observation::HolderSeen,
    process::ProcessId,
    time::StartTime,
};

/// The short name of a lock, such as `f3k9-27qd` (CONTRACT section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(pub String);

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a name spells. Numbers sort as names do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

impl From<Number> for LockId {
    fn from(number: Number) -> Self {
        LockId(spell(number.0))
    }
}

/// Names every lock of a list, newest first: the same name from every source and in every run, and no name twice.
///
/// A name is a hash of what every source knows of a lock, and of its rank among locks that are equal in all that.
/// Equals are ranked by their holders, then oldest first, so that a new one does not rename the others. When two
/// different locks meet in one name (40 bits: one list of 100,000 in 200), the one that sorts later is hashed again.
pub fn assign<'a>(boot_id: &str, locks: impl IntoIterator<Item = Subject<'a>>) -> Vec<Number> {
    let locks: Vec<Subject> = locks.into_iter().collect();
    let boot = Hash::START.text(boot_id);
    let mut numbers: Vec<Number> = locks.iter().map(|lock| Key::of(lock).number(boot, 0, 0)).collect();

    // Most locks have their number for themselves. Of the others each that is not the first is hashed again.
    let mut order: Vec<(Number, usize)> = numbers.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let shared = order.chunk_by(|(a, _), (b, _)| a == b).filter(|group| group.len() > 1).flatten();
    let mut shared: Vec<(Key, Reverse<usize>)> = shared.map(|(_, i)| (Key::of(&locks[*i]), Reverse(*i))).collect();
    shared.sort_unstable();
    let is_wanted = |number: Number| order.binary_search_by_key(&number, |(wanted, _)| *wanted).is_ok();
    let mut taken = HashSet::new();
    for equals in shared.chunk_by_mut(|(a, _), (b, _)| a == b) {
        // The sort is stable: the oldest stay first.
        equals.sort_by_cached_key(|(_, Reverse(i))| in_order(locks[*i].holders));
        for ((key, Reverse(i)), rank) in equals.iter().zip(0..) {
            let choice = |attempt| {
                let number = key.number(boot, rank, attempt);
                let free = (rank, attempt) == (0, 0) || !is_wanted(number);
                (free && taken.insert(number)).then_some(number)
            };
            // Ends: more attempts than there are locks cannot all be taken by them.
            numbers[*i] = (0..).find_map(choice).unwrap_or(numbers[*i]);
        }
    }
    numbers
}

/// A lock, as far as its name depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// On which file.
    pub file: FileId,
    /// Which kind of lock.
    pub kind: Kind,
    /// Shared or exclusive.
    pub mode: Mode,
    /// On which bytes.
    pub range: Range,
    /// Who took it.
    pub acquirer: Option<ProcessId>,
    /// What keeps it alive.
    pub holders: &'a [HolderSeen],
}

/// What [`find`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No such lock.
    None,
    /// This one.
    One(usize),
    /// The prefix fits several.
    Many(Vec<usize>),
}

/// Finds a lock by its name or the beginning of it, with or without the dash, in upper or lower case. `o` is read as
/// 0, `i` and `l` as 1, as Crockford's base32 has it. A whole name wins over a beginning; nothing fits an empty prefix.
pub fn find(ids: &[LockId], prefix: &str) -> Lookup {
    let prefix = plain(prefix);
    if prefix.is_empty() {
        return Lookup::None;
    }
    let mut fits = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        let id = plain(&id.0);
        if id == prefix {
            return Lookup::One(i);
        }
        if id.starts_with(&prefix) {
            fits.push(i);
        }
    }
    match fits[..] {
        [] => Lookup::None,
        [one] => Lookup::One(one),
        _ => Lookup::Many(fits),
    }
}

/// What tells locks apart in every source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    file: FileId,
    kind: Kind,
    mode: Mode,
    range: Range,
    /// As `/proc/locks` prints it: nothing for OFD locks, even where BPF knows better.
    acquirer: Option<u32>,
}

impl Key {
    fn of(lock: &Subject) -> Self {
        let acquirer = lock.acquirer.filter(|_| lock.kind != Kind::Ofd).map(|process| process.pid);
        Self { file: lock.file, kind: lock.kind, mode: lock.mode, range: lock.range, acquirer }
    }

    fn number(&self, boot: Hash, rank: u64, attempt: u64) -> Number {
        let device = (u64::from(self.file.device.major) << 32) | u64::from(self.file.device.minor);
        let acquirer = self.acquirer.map_or(u64::MAX, u64::from);
        let numbers = [device, self.file.inode, self.range.start, self.range.last(), acquirer, rank, attempt];
        let words = boot.text(self.kind.name()).text(self.mode.name());
        let hash = numbers.iter().fold(words, |hash, number| hash.bytes(&number.to_le_bytes())).end();
        Number(hash >> UNUSED_BITS)
    }
}

/// FNV-1a, 64 bits, over fields at fixed widths. Written out: `std`'s hasher may change with the compiler.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// NUL ends what has no fixed width.
    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0])
    }

    /// An avalanche (the finalizer of MurmurHash3), because FNV's upper bits hardly feel its last bytes.
    fn end(self) -> u64 {
        let hash = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// Holders in an order that does not depend on who listed them.
fn in_order(holders: &[HolderSeen]) -> Vec<(Option<u32>, Option<StartTime>, Option<u32>)> {
    let mut all: Vec<_> =
        holders.iter().map(|h| (h.process.map(|p| p.pid), h.process.and_then(|p| p.start), h.fd)).collect();
    all.sort_unstable();
    all
}

/// A name has the upper 40 bits of a hash.
const UNUSED_BITS: u32 = 64 - 40;

/// 40 bits in Crockford's base32, lower case, in two groups of four.
fn spell(bits: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digit = |i: u32| char::from(DIGITS[(bits >> (35 - 5 * i)) as usize & 31]);
    (0..4).map(digit).chain(['-']).chain((4..8).map(digit)).collect()
}

/// A name as it is compared.
fn plain(id: &str) -> String {
    id.chars()
        .filter(|c| *c != '-')
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lock::{Device, OwnerKey},
        observation::{LockSeen, Via},
    };

    fn subject(lock: &LockSeen) -> Subject<'_> {
        let &LockSeen { file, kind, mode, range, acquirer, ref holders, .. } = lock;
        Subject { file, kind, mode, range, acquirer, holders }
    }

    fn names(boot_id: &str, locks: &[LockSeen]) -> Vec<LockId> {
        assign(boot_id, locks.iter().map(subject)).into_iter().map(LockId::from).collect()
    }

    fn lock(kind: Kind, inode: u64, pid: u32, holder: u32) -> LockSeen {
        let process = |pid| ProcessId { pid, start: None };
        LockSeen {
            file: FileId { device: Device { major: 254, minor: 0 }, inode },
            kind,
            mode: Mode::Read,
            range: Range::WHOLE,
            owner: OwnerKey(0),
            acquirer: Some(process(pid)),
            acquired_at: None,
            ancestors: Vec::new(),
            watched: false,
            holders: vec![HolderSeen {
                process: Some(process(holder)),
                via: Via::Fd,
                fd: Some(3),
                cloexec: None,
                opened: None,
                detail: None,
            }],
            breaking: None,
        }
    }

    /// The expected name was computed by another program, from the description at `Key::number`.
    #[test]
    fn a_name_stays_what_it_was_in_older_versions() {
        let ids = names("c0ffee", &[lock(Kind::Flock, 7, 4711, 1)]);
        assert_eq!(ids, [LockId("9cmt-v1ec".to_owned())]);
    }

    #[test]
    fn every_source_gives_the_same_names() {
        let [a, b, c] = [(1, 10), (2, 20), (2, 30)].map(|(inode, holder)| lock(Kind::Flock, inode, 5, holder));
        let one = names("boot", &[a.clone(), b.clone(), c.clone()]);
        let other = names("boot", &[c, a.clone(), b]);
        assert_eq!([&one[0], &one[1], &one[2]], [&other[1], &other[2], &other[0]]);
        assert_ne!(one[1], one[2]);
        assert_ne!(names("another boot", &[a])[0], one[0]);

        let seen = |acquirer| LockSeen { acquirer, ..lock(Kind::Ofd, 1, 5, 5) };
        let by_bpf = names("boot", &[seen(Some(ProcessId { pid: 5, start: None }))]);
        assert_eq!(by_bpf, names("boot", &[seen(None)]), "/proc/locks does not know who took an OFD lock");
    }

    #[test]
    fn a_newer_equal_does_not_rename_the_older() {
        let old = lock(Kind::Flock, 1, 5, 5);
        assert_eq!(names("boot", &[old.clone(), old.clone()])[1], names("boot", &[old])[0]);
    }

    #[test]
    fn no_two_locks_share_a_name() {
        let locks: Vec<_> = (0..100_000).map(|i| lock(Kind::Flock, i / 4, (i / 2) as u32, 1)).collect();
        let ids = names("boot", &locks);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), locks.len());
        assert!(ids.iter().all(|id| id.0.len() == 9 && id.0.as_bytes()[4] == b'-'));
    }

    #[test]
    fn a_prefix_finds_what_it_fits() {
        let ids = ["f3k9-27qd", "f3k9-1000", "0abc-0000", "f3k9"].map(|id| LockId(id.to_owned()));
        let check = |prefix, expect| assert_eq!(find(&ids, prefix), expect, "{prefix:?}");
        check("f3k9-27qd", Lookup::One(0));
        check("F3K927", Lookup::One(0));
        check("f3k9-", Lookup::One(3));
        check("f3k", Lookup::Many(vec![0, 1, 3]));
        check("OABC", Lookup::One(2));
        check("f3k9i", Lookup::One(1));
        check("zz", Lookup::None);
        check("", Lookup::None);
        check("-", Lookup::None);
    }
}
