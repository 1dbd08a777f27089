//! What happens to locks: granted, refused, blocked, released.
//!
//! The event grammar is DESIGN section 3.2's: `ret` 0 granted, -EAGAIN refused, FILE_LOCK_DEFERRED (1) blocked, and
//! later the same request with 0. `waits` knows what is in between.

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_pid_tgid};
use lockwatch_common::{HeldValue, LockKey, LockRecord, ProcessKey, RECORD_LOCK, counter, fl, kind, ty, what};

use crate::{
    kernel::{Kernel, Probed, at, beat, now, remote_locks, timing, tracing},
    maps::{EVENTS, EXISTS, HELD, LOCAL, NO_EXIST, REMOTE},
    tally::Tally,
    tasks, trace, waits,
};

/// FILE_LOCK_DEFERRED (include/linux/filelock.h).
const DEFERRED: i32 = 1;
/// OFFSET_MAX (include/linux/fs.h).
const OFFSET_MAX: u64 = i64::MAX as u64;
/// How many locks of an inode are looked at to see whether an owner has others.
const SCAN: usize = 32;

/// A lock request as a probe shows it.
#[derive(Clone, Copy)]
pub struct Request {
    pub lock: LockKey,
    pub start: u64,
    pub end: u64,
    pub ty: u32,
    pub flags: u32,
    /// The inode, where the probe has it.
    pub inode: *const u8,
}

impl Request {
    /// From a probe's `struct inode *` and `struct file_lock *` (or `file_lease`, which begins alike).
    #[inline(always)]
    pub fn read<K: Kernel>(inode: *const u8, lock: *const u8) -> Self {
        let flags: u32 = K::load(lock, at!(fl_flags));
        let ranged = flags & (fl::POSIX | fl::OFDLCK) != 0;
        let superblock: *const u8 = K::load(inode, at!(i_sb));
        Self {
            lock: LockKey {
                inode: K::load(inode, at!(i_ino)),
                owner: K::load(lock, at!(fl_owner)),
                device: K::load(superblock, at!(s_dev)),
                kind: fl::kind(flags),
            },
            start: if ranged { K::load(lock, at!(fl_start)) } else { 0 },
            end: if ranged { K::load(lock, at!(fl_end)) } else { OFFSET_MAX },
            ty: K::load::<u8>(lock, at!(fl_type)) as u32,
            flags,
            inode,
        }
    }
}

/// `flock_lock_inode`, `posix_lock_inode` (inode, file_lock, ret): include/trace/events/filelock.h, since 4.19.
#[inline(always)]
pub fn on_lock<K: Kernel, C: EbpfContext>(ctx: &C, request: &Request, ret: i32) {
    if request.flags & fl::ACCESS != 0 {
        return;
    }
    let Some(tally) = Tally::here() else { return };
    if is_ours(request) {
        tally.count(if request.lock.kind == kind::FLOCK { counter::BEAT_FLOCK } else { counter::BEAT_FCNTL });
        return;
    }
    let posix = request.flags & fl::POSIX != 0 && request.flags & fl::CLOSE == 0;
    if remote_locks() && posix && tracing() && is_remote(request) {
        let _ = LOCAL.insert(bpf_get_current_pid_tgid() as u32, 1, 0);
    }
    if request.ty == ty::UNLOCK {
        on_unlock::<K>(tally, request);
        return;
    }
    if ret != 0 && request.lock.kind == kind::FLOCK {
        // A conversion drops the old lock before it looks for conflicts (fs/locks.c flock_lock_inode, 6.18).
        release(tally, request);
    }
    match ret {
        0 => {
            count_granted(tally, request);
            grant::<K, C>(ctx, tally, request);
            match waits::waited::<K>(tally, request) {
                Some((_, ns)) => emit::<K>(tally, request, what::GRANTED, ns),
                None => trace_it::<K>(tally, request, what::ACQUIRED),
            }
        }
        DEFERRED => {
            tally.count(counter::CONTENDED + request.lock.kind);
            waits::block::<K>(tally, request);
        }
        _ => {
            tally.count(counter::REFUSED + request.lock.kind);
            // A wait that turns out to be part of a deadlock ends so (fs/locks.c posix_lock_inode, 6.18).
            match waits::waited::<K>(tally, request) {
                Some((_, ns)) => emit::<K>(tally, request, what::WAIT_ENDED, ns),
                None => trace_it::<K>(tally, request, what::REFUSED),
            }
        }
    }
}

/// A heartbeat of ours, or the anchor of a walk.
#[inline(always)]
fn is_ours(request: &Request) -> bool {
    request.lock.inode == beat().inode && request.lock.device == beat().device
}

#[inline(always)]
fn count_granted(tally: Tally, request: &Request) {
    tally.count(counter::ACQUIRED + 2 * request.lock.kind + (request.ty == ty::WRITE) as u32);
}

/// A close tells of every lock that the closer might have had: only one that is noted was there. That of an OFD lock
/// comes as one of a POSIX lock, with the open file as its owner (fs/locks.c locks_remove_file, 6.18).
#[inline(always)]
fn on_unlock<K: Kernel>(tally: Tally, request: &Request) {
    let mut request = *request;
    let mut released = release(tally, &request);
    if released.is_none() && request.lock.kind == kind::POSIX && request.flags & fl::CLOSE != 0 {
        request.lock.kind = kind::OFD;
        released = release(tally, &request);
    }
    if let Some(released) = released {
        tell_release::<K>(tally, &request, &released);
    }
}

#[inline(always)]
fn tell_release<K: Kernel>(tally: Tally, request: &Request, released: &Released) {
    let kind = request.lock.kind;
    tally.count(counter::RELEASED + kind);
    if timing() && released.since_ns != 0 {
        tally.time(counter::HELD_FOR, counter::HELD_FOR_NS, kind, now() - released.since_ns);
    }
    let mut request = *request;
    request.ty = released.ty;
    match released.gone {
        true => emit::<K>(tally, &request, what::RELEASED, 0),
        false => trace_it::<K>(tally, &request, what::RELEASED),
    }
}

/// `generic_add_lease` fires before the outcome is known: the note is made all the same, and the walk, which knows,
/// uses it only for a lease that is there.
#[inline(always)]
pub fn on_lease_added<K: Kernel, C: EbpfContext>(ctx: &C, request: &Request) {
    let Some(tally) = Tally::here() else { return };
    count_granted(tally, request);
    grant::<K, C>(ctx, tally, request);
}

/// `break_lease_block`: somebody opens or truncates a file with a lease on it, and waits for the holder to give it up.
/// `break_lease_unblock` ends the wait; who breaks a lease gets no lock (fs/locks.c __break_lease, 6.18).
#[inline(always)]
pub fn on_lease_wait<K: Kernel>(request: &Request) {
    let Some(tally) = Tally::here() else { return };
    tally.count(counter::CONTENDED + request.lock.kind);
    waits::block::<K>(tally, request);
}

/// `generic_delete_lease`: the owner gives it up. One that goes with its last descriptor, or that the kernel takes
/// away, has no probe.
#[inline(always)]
pub fn on_lease_deleted<K: Kernel>(request: &Request) {
    let Some(tally) = Tally::here() else { return };
    if let Some(released) = release(tally, request) {
        tell_release::<K>(tally, request, &released);
    }
}

/// -ERESTARTSYS (include/linux/errno.h): a signal came. Whether the wait goes on is known when it is delivered.
const RESTART: i32 = -512;

/// -EAGAIN.
const REFUSED: i32 = -11;

/// Whether the file system may keep the lock to itself.
#[inline(always)]
fn is_remote(request: &Request) -> bool {
    REMOTE.get_ptr(request.lock.device).is_some()
}

/// `fcntl_setlk`, on demand: a POSIX wait that ends with an error, and all that is ever heard of a lock that its file
/// system keeps to itself. If the kernel keeps it, `posix_lock_inode` has come before.
#[inline(always)]
pub fn on_fcntl<K: Kernel>(request: &Request, ret: i32) {
    let Some(tally) = Tally::here() else { return };
    if remote_locks() && is_remote(request) && LOCAL.remove(bpf_get_current_pid_tgid() as u32).is_err() {
        let mut request = *request;
        request.flags |= fl::REMOTE;
        match (ret, request.ty) {
            (0, ty::UNLOCK) => trace_it::<K>(tally, &request, what::RELEASED),
            (0, _) => trace_it::<K>(tally, &request, what::ACQUIRED),
            (REFUSED, _) => trace_it::<K>(tally, &request, what::REFUSED),
            _ => {}
        }
        return;
    }
    if ret < 0
        && ret != RESTART
        && let Some((_, ns)) = waits::end_wait(tally)
    {
        emit::<K>(tally, request, what::WAIT_ENDED, ns);
    }
}

/// Notes who took a lock. Each note is counted at a process of the table: a lock whose acquirer found no room there is
/// not noted, so that user space sees it as one that nobody saw being taken, and asks for its acquirer's death.
#[inline(always)]
fn grant<K: Kernel, C: EbpfContext>(ctx: &C, tally: Tally, request: &Request) {
    let task = K::current();
    let process = tasks::key::<K>(task);
    let value = HeldValue { process, at_ns: now(), start: request.start, end: request.end, ty: request.ty, pad: 0 };
    if let Some(held) = HELD.get_ptr_mut(request.lock) {
        // SAFETY: a live value of a preallocated map.
        unsafe {
            if request.lock.kind == kind::FLOCK && (*held).ty == request.ty {
                return; // the lock that is there stays, with its acquirer (fs/locks.c flock_lock_inode, 6.18)
            }
            if (*held).process == process {
                *held = value;
                return;
            }
            let noted = *held;
            forget(tally, &request.lock, &noted);
        }
    }
    if !tasks::note_locker::<K, C>(ctx, tally, task, &process) {
        return;
    }
    match HELD.insert(request.lock, value, NO_EXIST) {
        Ok(()) => tally.count(counter::HELD),
        Err(error) => {
            if error != EXISTS {
                tally.count(counter::HELD_FULL);
            } // else another thread with the same open file was quicker
            tasks::drop_lock(tally, &process);
        }
    }
}

/// A lock that is gone, as it was noted.
struct Released {
    /// When it was taken; 0 if nobody saw that, or if what was noted is still there.
    since_ns: u64,
    ty: u32,
    /// Whether its acquirer is: then user space wants to know of the lock's end.
    gone: bool,
}

/// Forgets a lock, if nothing of it is left. Says what was noted of it.
#[inline(always)]
fn release(tally: Tally, request: &Request) -> Option<Released> {
    let ranged = request.lock.kind == kind::POSIX || request.lock.kind == kind::OFD;
    let whole = request.start == 0 && request.end >= OFFSET_MAX;
    let held = HELD.get_ptr_mut(request.lock)?;
    // SAFETY: a live value of a preallocated map, copied at once.
    let noted = unsafe { *held };
    let mut released = Released { since_ns: noted.at_ns, ty: noted.ty, gone: false };
    if !ranged || whole || !owns_more(request) {
        released.gone = forget(tally, &request.lock, &noted);
        return Some(released);
    }
    if noted.start >= request.start && noted.end <= request.end {
        // Other ranges remain, taken at other times.
        // SAFETY: as above.
        unsafe { (*held).at_ns = 0 }
    } else {
        released.since_ns = 0;
    }
    released.gone = tasks::is_gone(&noted.process);
    Some(released)
}

/// Whether the owner has another lock on this inode. The probe fires after the unlock, outside of the inode's lock:
/// a torn read may answer "yes" for nothing, which only keeps the note until the file is closed.
#[inline(always)]
fn owns_more(request: &Request) -> bool {
    if request.inode.is_null() {
        return true;
    }
    let context: u64 = Probed::load(request.inode, at!(i_flctx));
    if context == 0 {
        return false;
    }
    let head = context + at!(ctx_posix) as u64;
    let mut node: u64 = Probed::load(head as *const u8, 0);
    for _ in 0..SCAN {
        if node == head || node == 0 {
            return false;
        }
        let lock = (node - at!(fl_list) as u64) as *const u8;
        let owner: u64 = Probed::load(lock, at!(fl_owner));
        if owner == request.lock.owner {
            return true;
        }
        node = Probed::load(node as *const u8, 0);
    }
    true
}

/// Takes a note out of the table. Says whether the acquirer is gone.
#[inline(always)]
fn forget(tally: Tally, lock: &LockKey, noted: &HeldValue) -> bool {
    if HELD.remove(lock).is_err() {
        return false;
    }
    tally.uncount(counter::HELD);
    tasks::drop_lock(tally, &noted.process)
}

/// Tells of what only a trace wants to hear, within its limits.
#[inline(always)]
fn trace_it<K: Kernel>(tally: Tally, request: &Request, what: u32) {
    if tracing() && trace::admits(tally) {
        emit::<K>(tally, request, what, 0);
    }
}

#[inline(always)]
pub fn emit<K: Kernel>(tally: Tally, request: &Request, what: u32, waited_ns: u64) {
    emit_for::<K>(tally, request, what, waited_ns, tasks::key::<K>(K::current()));
}

#[inline(always)]
pub fn emit_for<K: Kernel>(tally: Tally, request: &Request, what: u32, waited_ns: u64, process: ProcessKey) {
    let Some(mut entry) = EVENTS.reserve::<LockRecord>(0) else {
        tally.count(counter::RING_LOST);
        return;
    };
    entry.write(LockRecord {
        record: RECORD_LOCK,
        what,
        at_ns: now(),
        waited_ns,
        lock: request.lock,
        start: request.start,
        end: request.end,
        process,
        ty: request.ty,
        flags: request.flags,
        comm: tasks::comm::<K>(K::current()),
    });
    entry.submit(0);
    tally.count(counter::TOLD + what);
}
