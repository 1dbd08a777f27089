//! Runs the walk over the kernel's own list of locks (DESIGN section 3.4): `/proc/locks` is never opened.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf,
    maps::{Array, MapData, RingBuf},
    programs::{RawTracePoint, TestRun},
};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use lockwatch_common::{Cursor, KeeperRecord, WalkRecord, Wire, cursor, kind, ty};
use rustix::{
    fs::{FlockOperation, MemfdFlags, flock, memfd_create},
    thread::{CpuSet, sched_setaffinity},
};

use super::{
    convert::{kind_of, mode_of},
    stats::Census,
};

/// Steps of one run at first: about a millisecond, so that no CPU is kept from others for long. An attempt that finds
/// the list changed between two runs begins again with longer ones.
const BUDGET: u32 = 2_000;
/// How much longer the runs of the next attempt are.
const GROWTH: u32 = 8;
/// The most steps of one run: BPF_MAX_LOOPS (include/linux/bpf.h, 6.18). With more bpf_loop makes none at all.
const MOST: u32 = 8 << 20;
/// How often a CPU's list is begun again before we say that the picture is not exact.
const ATTEMPTS: usize = 6;

/// The walk, loaded.
pub struct Walker {
    ring: RingBuf<MapData>,
    cursor: Array<MapData, [u8; size_of::<Cursor>()]>,
}

/// What a walk has met.
pub struct Walked {
    /// Every granted lock, followed by those that wait for it.
    pub records: Vec<WalkRecord>,
    /// Why it may not be all, one sentence each.
    pub gaps: Vec<String>,
}

impl Walked {
    /// The granted locks.
    pub fn locks(&self) -> impl Iterator<Item = &WalkRecord> {
        self.records.iter().filter(|record| record.depth == 0)
    }

    /// How many of each.
    #[allow(dead_code, reason = "the metrics are being built")]
    pub fn census(&self) -> Census {
        let mut census = Census { exact: self.gaps.is_empty(), ..Census::default() };
        for record in &self.records {
            let kind = kind_of(record.lock.kind) as usize;
            match record.depth {
                0 => census.locks[kind][mode_of(record.ty) as usize] += 1,
                _ => census.waiters[kind] += 1,
            }
        }
        census
    }

    /// Leaves out the hidden locks that a later walk has not met: their files may be others' by now, and whatever was
    /// found to keep them belongs to those.
    pub fn drop_released(&mut self, is_hidden: impl Fn(&WalkRecord) -> bool, later: &Walked) {
        if !later.gaps.is_empty() {
            return; // it may only not have met them
        }
        let identity = |record: &WalkRecord| (record.address, record.file, record.lock);
        let there: HashSet<_> = later.locks().map(identity).collect();
        self.records.retain(|record| record.depth > 0 || !is_hidden(record) || there.contains(&identity(record)));
    }

    /// Leaves one record of what has been met twice. The CPUs are walked one after another, so a lock that is released
    /// and taken again on another CPU meanwhile stands in both lists, and so may two that exclude each other: what was
    /// met last is true.
    fn settle(&mut self) {
        let mut addresses = HashSet::with_capacity(self.records.len());
        let mut ranges = HashSet::with_capacity(self.records.len());
        let mut flocked = HashMap::new();
        self.records.reverse();
        self.records.retain(|record| {
            let fresh = addresses.insert(record.address);
            if !fresh || record.depth > 0 {
                return fresh;
            }
            let excluded = record.lock.kind == kind::FLOCK && {
                let file = (record.lock.inode, record.lock.device);
                let (lock, ty) = *flocked.entry(file).or_insert((record.lock, record.ty));
                lock != record.lock && (ty == ty::WRITE || record.ty == ty::WRITE)
            };
            !excluded && ranges.insert((record.lock, record.start))
        });
        self.records.reverse();
    }
}

impl Walker {
    /// Loads the program. Needs `bpf_loop` (5.17).
    pub fn load(ebpf: &mut Ebpf) -> Result<Self> {
        program(ebpf)?.load().context("load the walk over the kernel's lock list (needs Linux 5.17)")?;
        let ring = RingBuf::try_from(ebpf.take_map("WALK").context("map WALK")?)?;
        let cursor = Array::try_from(ebpf.take_map("CURSOR").context("map CURSOR")?)?;
        Ok(Self { ring, cursor })
    }

    /// The ring that the walk and the search tell through.
    pub fn ring(&mut self) -> &mut RingBuf<MapData> {
        &mut self.ring
    }

    /// Walks every CPU's list. The anchors and their locks are gone when it returns.
    pub fn run(&mut self, ebpf: &mut Ebpf) -> Result<Walked> {
        let mut walked = Walked { records: Vec::new(), gaps: Vec::new() };
        let program = program(ebpf)?;
        // A thread of its own, because it is moved from CPU to CPU.
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    for cpu in online_cpus()? {
                        self.walk_cpu(program, cpu, &mut walked)?;
                    }
                    Ok::<(), anyhow::Error>(())
                })
                .join()
                .map_err(|_| anyhow!("the walking thread panicked"))?
        })?;
        walked.settle();
        Ok(walked)
    }

    fn walk_cpu(&mut self, program: &RawTracePoint, cpu: usize, walked: &mut Walked) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(cpu);
        if let Err(error) = sched_setaffinity(None, &set) {
            walked.gaps.push(format!("locks taken on cpu {cpu} are missing: cannot run there ({error})"));
            return Ok(());
        }
        let kept = walked.records.len();
        let mut budget = BUDGET;
        for _ in 0..ATTEMPTS {
            let anchor = anchor()?;
            if self.attempt(program, &anchor, budget, &mut walked.records)? {
                return Ok(());
            }
            walked.records.truncate(kept);
            budget = budget.saturating_mul(GROWTH).min(MOST);
        }
        walked.gaps.push(format!("the list of cpu {cpu} changed faster than it could be read"));
        Ok(())
    }

    /// One way from the anchor to the list's end; false if the list was torn on the way.
    fn attempt(
        &mut self,
        program: &RawTracePoint,
        anchor: &OwnedFd,
        budget: u32,
        records: &mut Vec<WalkRecord>,
    ) -> Result<bool> {
        let mut cursor = Cursor {
            node: 0,
            previous: 0,
            lock: 0,
            waiter: 0,
            anchor_fd: anchor.as_fd().as_raw_fd() as u32,
            budget,
            state: cursor::START,
            depth: 0,
        };
        loop {
            let mut bytes = [0; size_of::<Cursor>()];
            bytes.copy_from_slice(cursor.bytes());
            self.cursor.set(0, bytes, 0).context("set the walk's cursor")?;
            program.test_run(Default::default()).context("run the walk")?;
            cursor = Cursor::read(&self.cursor.get(&0, 0).context("get the walk's cursor")?).context("short cursor")?;
            while let Some(item) = self.ring.next() {
                // A search that ran late tells of keepers through the same ring.
                if item.len() != size_of::<KeeperRecord>() {
                    records.push(WalkRecord::read(&item).context("short walk record")?);
                }
            }
            match cursor.state {
                cursor::MORE | cursor::FULL => {}
                cursor::DONE => return Ok(true),
                cursor::TORN => return Ok(false),
                cursor::NO_ANCHOR => {
                    bail!("the walk did not find its anchor: this kernel's structs are not as its BTF says")
                }
                state => bail!("the walk stopped in state {state}"),
            }
        }
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut RawTracePoint> {
    Ok(ebpf.program_mut("walk").context("program walk")?.try_into()?)
}

/// A flock on a private memory file: the newest lock of the CPU that we run on, and so the head of its list.
fn anchor() -> Result<OwnedFd> {
    let file = memfd_create("lockwatch-anchor", MemfdFlags::CLOEXEC).context("create the anchor")?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).context("lock the anchor")?;
    Ok(file)
}

/// `/sys/devices/system/cpu/online`: "0-3,5".
fn online_cpus() -> Result<Vec<usize>> {
    let path = "/sys/devices/system/cpu/online";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    parse_cpus(text.trim()).with_context(|| format!("parse {path}"))
}

fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use lockwatch_common::{LockKey, ProcessKey};

    use super::*;

    /// Address, inode, owner, kind, mode, start, depth.
    type Row = (u64, u64, u64, u32, u32, u64, u32);

    fn record((address, inode, owner, kind, ty, start, depth): Row) -> WalkRecord {
        let lock = LockKey { inode, owner, device: 1, kind };
        let process = ProcessKey { start_ns: 0, pid: 0, pad: 0 };
        WalkRecord {
            lock,
            address,
            file: owner,
            start,
            end: start,
            process,
            at_ns: 0,
            deadline_ns: 0,
            flags: 0,
            ty,
            pid: 9,
            depth,
        }
    }

    #[test]
    fn of_what_was_met_twice_the_last_stays() {
        const W: u32 = ty::WRITE;
        const R: u32 = ty::READ;
        let check = |rows: &[Row], expect: &[usize]| {
            let mut walked = Walked { records: rows.iter().copied().map(record).collect(), gaps: Vec::new() };
            walked.settle();
            let found: Vec<_> = walked.records.iter().map(|record| (record.address, record.lock)).collect();
            let expect: Vec<_> = expect.iter().map(|&i| record(rows[i])).map(|r| (r.address, r.lock)).collect();
            assert_eq!(found, expect, "{rows:?}");
        };
        // Taken again on another CPU; its memory given to another; a waiter that has moved on.
        check(&[(1, 7, 70, kind::FLOCK, W, 0, 0), (2, 7, 70, kind::FLOCK, W, 0, 0)], &[1]);
        check(&[(1, 7, 70, kind::OFD, W, 0, 0), (1, 8, 80, kind::OFD, W, 0, 0)], &[1]);
        check(
            &[(1, 7, 70, kind::OFD, W, 0, 0), (5, 7, 71, kind::OFD, W, 0, 1), (5, 7, 71, kind::OFD, W, 0, 1)],
            &[0, 2],
        );
        // Exclusive flocks exclude each other, ranges and readers do not.
        check(&[(1, 7, 70, kind::FLOCK, R, 0, 0), (2, 7, 71, kind::FLOCK, W, 0, 0)], &[1]);
        check(&[(1, 7, 70, kind::FLOCK, W, 0, 0), (2, 7, 71, kind::FLOCK, R, 0, 0)], &[1]);
        check(&[(1, 7, 70, kind::FLOCK, R, 0, 0), (2, 7, 71, kind::FLOCK, R, 0, 0)], &[0, 1]);
        check(&[(1, 7, 70, kind::OFD, W, 0, 0), (2, 7, 70, kind::OFD, W, 9, 0)], &[0, 1]);
        check(&[(1, 7, 70, kind::FLOCK, W, 0, 0), (2, 8, 70, kind::FLOCK, W, 0, 0)], &[0, 1]);
    }

    #[test]
    fn a_hidden_lock_that_is_gone_later_is_left_out() {
        let walked = |rows: &[Row], gaps: &[&str]| Walked {
            records: rows.iter().copied().map(record).collect(),
            gaps: gaps.iter().map(ToString::to_string).collect(),
        };
        const HIDDEN: Row = (1, 7, 70, kind::FLOCK, ty::WRITE, 0, 0);
        const SHOWN: Row = (2, 8, 80, kind::FLOCK, ty::WRITE, 0, 0);
        const WAITER: Row = (3, 7, 90, kind::FLOCK, ty::WRITE, 0, 1);
        let check = |later: Walked, expect: &[u64]| {
            let mut first = walked(&[HIDDEN, WAITER, SHOWN], &[]);
            first.drop_released(|record| record.file == 70, &later);
            assert_eq!(first.records.iter().map(|r| r.address).collect::<Vec<_>>(), expect);
        };
        check(walked(&[HIDDEN], &[]), &[1, 3, 2]);
        check(walked(&[SHOWN], &[]), &[3, 2]);
        // Its memory was given to another lock; another walk has not met all.
        check(walked(&[(1, 9, 70, kind::FLOCK, ty::WRITE, 0, 0)], &[]), &[3, 2]);
        check(walked(&[], &["torn"]), &[1, 3, 2]);
    }

    #[test]
    fn a_census_counts_by_kind_and_mode() {
        let rows = [
            (1, 7, 70, kind::FLOCK, ty::READ, 0, 0),
            (2, 7, 71, kind::FLOCK, ty::READ, 0, 0),
            (3, 7, 72, kind::FLOCK, ty::WRITE, 0, 1),
            (4, 7, 73, kind::OFD, ty::WRITE, 0, 0),
        ];
        let census = Walked { records: rows.map(record).to_vec(), gaps: Vec::new() }.census();
        assert_eq!((census.locks[0], census.locks[2], census.waiters[0], census.exact), ([2, 0], [0, 1], 1, true));
        assert!(!Walked { records: Vec::new(), gaps: vec!["torn".into()] }.census().exact);
    }

    #[test]
    fn cpu_lists() {
        let check = |text, expect: Option<Vec<usize>>| assert_eq!(parse_cpus(text), expect, "{text}");
        check("0", Some(vec![0]));
        check("0-3,5,8-9", Some(vec![0, 1, 2, 3, 5, 8, 9]));
        check("", None);
    }
}
