//! The kernel's own list of granted locks, from an anchor on (DESIGN section 3.4).
//!
//! Every granted lock hangs in a per-CPU hlist, newest first. User space pins itself to a CPU and takes a lock on a
//! file of its own, the anchor: whatever that CPU's list held before now stands behind it. Nothing is locked while we
//! look, so a node counts only if it and the node before it point at each other; if not, user space begins again.
//! Waiters hang on the lock that blocks them, as a tree (fs/locks.c locks_show, 6.18).

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_get_current_task, bpf_jiffies64, bpf_ktime_get_ns, bpf_loop, bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use lockwatch_common::{Cursor, LockKey, ProcessKey, WalkRecord, cursor, fl};

use crate::{
    kernel::{at, now, peek, peek32},
    maps::{CURSOR, LOCK_BYTES, WAITS, WALK},
    notes, tasks,
};

/// `Cursor::depth` while the way leads back up from a request that has no more children.
const CLIMBING: u32 = 1 << 31;

/// Run by BPF_PROG_TEST_RUN in the process that owns the anchor; never attached. Needs `bpf_loop` (5.17).
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn walk(_ctx: RawTracePointContext) -> i32 {
    let Some(shared) = CURSOR.get_ptr_mut(0) else { return 1 };
    // SAFETY: an array's value; user space runs one walk at a time.
    let mut cursor = unsafe { *shared };
    if cursor.state == cursor::START {
        start(&mut cursor);
    }
    if cursor.state == cursor::MORE || cursor.state == cursor::FULL {
        cursor.state = cursor::MORE;
        // SAFETY: the callback gets the cursor on this stack, which outlives the call.
        unsafe { bpf_loop(cursor.budget, step as *mut c_void, (&raw mut cursor).cast(), 0) };
    }
    // SAFETY: as above.
    unsafe { *shared = cursor };
    0
}

/// Finds the anchor through the running process's file table.
#[inline(always)]
fn start(cursor: &mut Cursor) {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let table = peek(peek(task + at!(task_files) as u64) + at!(files_fdt) as u64);
    let file = peek(peek(table + at!(fdt_fd) as u64) + cursor.anchor_fd as u64 * 8);
    let context = peek(peek(file + at!(f_inode) as u64) + at!(i_flctx) as u64);
    let head = context + at!(ctx_flock) as u64;
    let first = peek(head);
    if context == 0 || first == 0 || first == head {
        cursor.state = cursor::NO_ANCHOR;
        return;
    }
    let anchor = first - at!(fl_list) as u64 + at!(fl_link) as u64;
    cursor.previous = anchor;
    cursor.node = peek(anchor);
    cursor.lock = 0;
    cursor.depth = 0;
    cursor.state = cursor::MORE;
}

unsafe extern "C" fn step(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: `walk` passes its cursor.
    let cursor = unsafe { &mut *(context as *mut Cursor) };
    cursor.state = if cursor.lock != 0 { visit_waiter(cursor) } else { visit_lock(cursor) };
    (cursor.state != cursor::MORE) as i64
}

#[inline(always)]
fn visit_lock(cursor: &mut Cursor) -> u32 {
    let node = cursor.node;
    if node == 0 {
        return cursor::DONE;
    }
    let address = node - at!(fl_link) as u64;
    let Some(lock) = Bytes::copy(address) else { return cursor::TORN };
    let points_back = lock.u64(at!(fl_link) + 8) == cursor.previous;
    if !points_back || peek(cursor.previous) != node {
        return cursor::TORN;
    }
    if !emit_lock(&lock, address) {
        return cursor::FULL;
    }
    cursor.previous = node;
    cursor.node = lock.u64(at!(fl_link));
    let waiters = address + at!(fl_blocked_requests) as u64;
    if lock.u64(at!(fl_blocked_requests)) != waiters {
        cursor.lock = address;
        cursor.waiter = address;
        cursor.depth = 0;
    }
    cursor::MORE
}

/// One move in the tree of requests: down to the first child, else to the next sibling, else up.
#[inline(always)]
fn visit_waiter(cursor: &mut Cursor) -> u32 {
    let here = cursor.waiter;
    let depth = cursor.depth & !CLIMBING;
    if cursor.depth & CLIMBING == 0 {
        let head = here + at!(fl_blocked_requests) as u64;
        let first = peek(head);
        if first != 0 && first != head {
            return enter(cursor, first, here, depth + 1);
        }
        cursor.depth = depth | CLIMBING;
        return cursor::MORE;
    }
    if here == cursor.lock {
        cursor.lock = 0;
        cursor.depth = 0;
        return cursor::MORE;
    }
    let blocker = peek(here + at!(fl_blocker) as u64);
    if blocker == 0 || depth == 0 {
        return cursor::TORN;
    }
    let next = peek(here + at!(fl_blocked_member) as u64);
    if next != blocker + at!(fl_blocked_requests) as u64 {
        return enter(cursor, next, blocker, depth);
    }
    cursor.waiter = blocker;
    cursor.depth = (depth - 1) | CLIMBING;
    cursor::MORE
}

#[inline(always)]
fn enter(cursor: &mut Cursor, member: u64, blocker: u64, depth: u32) -> u32 {
    let address = member - at!(fl_blocked_member) as u64;
    let Some(request) = Bytes::copy(address) else { return cursor::TORN };
    if request.u64(at!(fl_blocker)) != blocker {
        return cursor::TORN;
    }
    if !emit_waiter(&request, address, cursor.lock, depth) {
        return cursor::FULL;
    }
    cursor.waiter = address;
    cursor.depth = depth;
    cursor::MORE
}

#[inline(always)]
fn emit_lock(lock: &Bytes, address: u64) -> bool {
    let mut record = describe(lock, address, lock.u64(at!(fl_file)));
    record.deadline_ns = deadline(lock, record.flags);
    let key = record.lock;
    let unknown = (record.process, record.at_ns);
    let is_sure = notes::look(&key, |held| {
        (record.process, record.at_ns) = unknown;
        // SAFETY: a live value of a map, which others may change meanwhile.
        let held = unsafe { &*held };
        if held.process.pid == record.pid {
            record.process = held.process;
            if held.start == record.start && held.end == record.end {
                record.at_ns = held.at_ns;
            }
        }
    });
    if !is_sure {
        (record.process, record.at_ns) = unknown;
    }
    send(&record)
}

#[inline(always)]
fn emit_waiter(request: &Bytes, address: u64, lock: u64, depth: u32) -> bool {
    // Who breaks a lease has not opened the file yet (fs/locks.c __break_lease, 6.18): it is the lease's.
    let file = match request.u64(at!(fl_file)) {
        0 => peek(lock + at!(fl_file) as u64),
        file => file,
    };
    let mut record = describe(request, address, file);
    record.depth = depth;
    let queue = address + at!(fl_wait_head) as u64;
    let sleeper = peek(queue);
    if sleeper != 0 && sleeper != queue {
        let entry = sleeper - at!(wqe_entry) as u64;
        let task = peek(entry + at!(wqe_private) as u64);
        if task != 0 && peek32(task + at!(task_tgid) as u64) == record.pid {
            record.process = tasks::key::<crate::kernel::Probed>(task as *const u8);
            record.at_ns = since(task);
        }
    }
    send(&record)
}

/// Since when a thread sleeps: what `WAITS` noted, else when it last got a CPU, measured against our own last arrival
/// because the scheduler has a clock of its own. It may have begun earlier (woken and blocked again), never later by
/// more than the time we have been running.
#[inline(always)]
fn since(task: u64) -> u64 {
    let tid = peek32(task + at!(task_pid) as u64);
    if let Some(wait) = WAITS.get_ptr(tid) {
        // SAFETY: a live value of a preallocated map.
        return unsafe { (*wait).since_ns };
    }
    if at!(task_last_arrival) == lockwatch_common::Layout::MISSING as usize {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let ours = peek(unsafe { bpf_get_current_task() } + at!(task_last_arrival) as u64);
    let theirs = peek(task + at!(task_last_arrival) as u64);
    if theirs == 0 || ours < theirs { 0 } else { now() - (ours - theirs) }
}

/// When the kernel takes a lease away that is being broken; 0 for other locks, or for never.
#[inline(always)]
fn deadline(lock: &Bytes, flags: u32) -> u64 {
    let at = match flags & (fl::UNLOCK_PENDING | fl::DOWNGRADE_PENDING) {
        0 => return 0,
        fl::DOWNGRADE_PENDING => at!(lease_downgrade_time),
        _ => at!(lease_break_time),
    };
    if at == lockwatch_common::Layout::MISSING as usize {
        return 0;
    }
    let jiffies = lock.u64(at);
    if jiffies == 0 { 0 } else { at_jiffies(jiffies) }
}

/// A moment in jiffies, in nanoseconds since boot. What a jiffy is depends on CONFIG_HZ, which no helper tells; but
/// jiffies begin at 2^32 less five minutes (INITIAL_JIFFIES, include/linux/jiffies.h), so their number tells it.
#[inline(always)]
fn at_jiffies(jiffies: u64) -> u64 {
    // SAFETY: helpers without arguments (since 5.5).
    let (ticks, monotonic_ms) = unsafe { (bpf_jiffies64(), bpf_ktime_get_ns() / 1_000_000) };
    let (mut hz, mut nearest) = (0, u64::MAX);
    for candidate in [100, 250, 300, 1000] {
        let expect = (1 << 32) + monotonic_ms * candidate / 1000 - 300 * candidate;
        let distance = expect.abs_diff(ticks);
        if distance < nearest {
            (hz, nearest) = (candidate, distance);
        }
    }
    match jiffies.checked_sub(ticks) {
        Some(left) => now() + left * 1_000_000_000 / hz,
        None => now() - (ticks - jiffies) * 1_000_000_000 / hz,
    }
}

#[inline(always)]
fn describe(lock: &Bytes, address: u64, file: u64) -> WalkRecord {
    let flags = lock.u32(at!(fl_flags));
    let ranged = flags & (fl::POSIX | fl::OFDLCK) != 0;
    let inode = peek(file + at!(f_inode) as u64);
    WalkRecord {
        lock: LockKey {
            inode: peek(inode + at!(i_ino) as u64),
            owner: lock.u64(at!(fl_owner)),
            device: peek32(peek(inode + at!(i_sb) as u64) + at!(s_dev) as u64),
            kind: fl::kind(flags),
        },
        address,
        file,
        start: if ranged { lock.u64(at!(fl_start)) } else { 0 },
        end: if ranged { lock.u64(at!(fl_end)) } else { i64::MAX as u64 },
        process: ProcessKey { start_ns: 0, pid: 0, pad: 0 },
        at_ns: 0,
        deadline_ns: 0,
        flags,
        ty: lock.u8(at!(fl_type)) as u32,
        pid: lock.u32(at!(fl_pid)),
        depth: 0,
    }
}

#[inline(always)]
fn send(record: &WalkRecord) -> bool {
    let Some(mut entry) = WALK.reserve::<WalkRecord>(0) else { return false };
    entry.write(*record);
    entry.submit(1); // BPF_RB_NO_WAKEUP: user space drains between two runs
    true
}

/// A struct file_lock, copied in one read.
struct Bytes(*mut u8);

impl Bytes {
    #[inline(always)]
    fn copy(address: u64) -> Option<Self> {
        let bytes = LOCK_BYTES.get_ptr_mut(0)? as *mut u8;
        let size = at!(fl_size) as u32;
        if size > 256 {
            return None;
        }
        // SAFETY: the buffer has 256 bytes; the helper checks the address.
        let failed = unsafe { bpf_probe_read_kernel(bytes.cast(), size, address as *const c_void) };
        if failed == 0 { Some(Self(bytes)) } else { None }
    }

    #[inline(always)]
    fn u64(&self, offset: usize) -> u64 {
        // SAFETY: user space loads only layouts whose fields lie within the buffer, and the verifier checks it again.
        unsafe { (self.0.add(offset) as *const u64).read_volatile() }
    }

    #[inline(always)]
    fn u32(&self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { (self.0.add(offset) as *const u32).read_volatile() }
    }

    #[inline(always)]
    fn u8(&self, offset: usize) -> u8 {
        // SAFETY: as above.
        unsafe { self.0.add(offset).read_volatile() }
    }
}
