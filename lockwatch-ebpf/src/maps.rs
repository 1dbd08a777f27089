//! The tables, the rings and the counters. Sizes are defaults: user space sets them at load.
//!
//! Hash maps are preallocated and never LRU: an LRU map evicts entries that are in use.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use lockwatch_common::{BudgetValue, Counters, Cursor, HeldValue, LockKey, ProcessKey, ProcessValue, Slot, WaitValue};

/// BPF_NOEXIST (include/uapi/linux/bpf.h): only if there is no such key.
pub const NO_EXIST: u64 = 1;
/// -EEXIST: there is.
pub const EXISTS: i32 = -17;

/// Who took which lock, and when: a slot for each lock's note, shared with user space. `notes`.
#[map]
pub static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The notes that found another's in their slot.
#[map]
pub static HELD: HashMap<LockKey, HeldValue> = HashMap::with_max_entries(1 << 17, 0);

/// Blocked requests by thread id.
#[map]
pub static WAITS: HashMap<u32, WaitValue> = HashMap::with_max_entries(1 << 13, 0);

/// How many there are, so that nobody searches where there are none.
#[map]
pub static WAITING: Array<i64> = Array::with_max_entries(1, 0);

/// Processes that took locks, and their offspring.
#[map]
pub static PROCESSES: HashMap<ProcessKey, ProcessValue> = HashMap::with_max_entries(1 << 14, 0);

/// Processes of whose death user space wants to hear, whatever they hold: it writes, the probes read.
#[map]
pub static WATCHED: HashMap<ProcessKey, u32> = HashMap::with_max_entries(1 << 14, 0);

/// Threads that the OOM killer has chosen and that have not ended yet, by thread id.
#[map]
pub static VICTIMS: HashMap<u32, u32> = HashMap::with_max_entries(1 << 8, 0);

/// Devices of file systems that may keep locks to themselves: user space writes, the probes read.
#[map]
pub static REMOTE: HashMap<u32, u32> = HashMap::with_max_entries(1 << 8, 0);

/// Threads whose request on such a file system the kernel itself has answered.
#[map]
pub static LOCAL: HashMap<u32, u32> = HashMap::with_max_entries(1 << 10, 0);

/// How much of the trace each control group has had: user space takes out those that are quiet.
#[map]
pub static BUDGETS: HashMap<u64, BudgetValue> = HashMap::with_max_entries(1 << 10, 0);

/// News for user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// The open files whose keepers are searched, by address, with their inode numbers: user space writes it for each
/// search. Not preallocated, for most looks have nothing to search.
#[map]
pub static WANTED: HashMap<u64, u64> = HashMap::with_max_entries(1 << 12, BPF_F_NO_PREALLOC);

/// The open file whose path is asked for.
#[map]
pub static NAMED: Array<u64> = Array::with_max_entries(1, 0);

/// What a walk has met, and what a search.
#[map]
pub static WALK: RingBuf = RingBuf::with_byte_size(1 << 21, 0);

/// Where the walk stands.
#[map]
pub static CURSOR: Array<Cursor> = Array::with_max_entries(1, 0);

/// What has been counted: `tally`.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// A struct file_lock, copied in one read.
#[map]
pub static LOCK_BYTES: PerCpuArray<[u8; 256]> = PerCpuArray::with_max_entries(1, 0);

/// A path under construction.
#[map]
pub static PATH_BYTES: PerCpuArray<[u8; 4096]> = PerCpuArray::with_max_entries(1, 0);
