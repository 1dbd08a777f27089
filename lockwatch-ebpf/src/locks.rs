//! What happens to locks: granted, refused, blocked, released.
//!
//! The event grammar is DESIGN section 3.2's: `ret` 0 granted, -EAGAIN refused, FILE_LOCK_DEFERRED (1) blocked, and
//! later the same request with 0. `waits` knows what is in between.

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_pid_tgid};
use lockwatch_common::{HeldValue, LockKey, LockRecord, ProcessKey, RECORD_LOCK, counter, fl, kind, ty, what};

use crate::{
    kernel::{Kernel, Probed, at, beat, now, number, remote_locks, timing, tracing},
    maps::{EVENTS, EXISTS, LOCAL, REMOTE},
    notes::{self, Note, Noted},
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
                owner: number(K::load(lock, at!(fl_owner))),
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
pub fn on_lock<K: Kernel, C: EbpfContext>(ctx: &C, request: &mut Request, ret: i32) {
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
    if ret != 0
        && request.lock.kind == kind::FLOCK
        && let Some(note) = notes::find(&request.lock)
    {
        // A conversion drops the old lock before it looks for conflicts (fs/locks.c flock_lock_inode, 6.18).
        forget(tally, &request.lock, &note);
    }
    let (what, waited) = match ret {
        0 => {
            count_granted(tally, request);
            grant::<K, C>(ctx, tally, request);
            let waited = waits::waited::<K>(tally, request);
            (if waited.is_some() { what::GRANTED } else { what::ACQUIRED }, waited)
        }
        DEFERRED => {
            tally.count(counter::CONTENDED + request.lock.kind);
            waits::block::<K>(tally, request);
            return;
        }
        _ => {
            tally.count(counter::REFUSED + request.lock.kind);
            // A wait that turns out to be part of a deadlock ends so (fs/locks.c posix_lock_inode, 6.18).
            let waited = waits::waited::<K>(tally, request);
            (if waited.is_some() { what::WAIT_ENDED } else { what::REFUSED }, waited)
        }
    };
    if waited.is_some() || is_traced(tally) {
        emit::<K>(tally, request, what, waited.unwrap_or(0));
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
fn on_unlock<K: Kernel>(tally: Tally, request: &mut Request) {
    let mut note = notes::find(&request.lock);
    if note.is_none() && request.lock.kind == kind::POSIX && request.flags & fl::CLOSE != 0 {
        request.lock.kind = kind::OFD;
        note = notes::find(&request.lock);
    }
    if let Some(note) = note {
        release_and_tell::<K>(tally, request, note);
    }
}

#[inline(always)]
fn release_and_tell<K: Kernel>(tally: Tally, request: &mut Request, note: Note) {
    let Some(released) = release::<K>(tally, request, note) else { return };
    let kind = request.lock.kind;
    tally.count(counter::RELEASED + kind);
    if timing() && released.since_ns != 0 {
        tally.time(counter::HELD_FOR, counter::HELD_FOR_NS, kind, now() - released.since_ns);
    }
    request.ty = released.ty;
    if released.gone || is_traced(tally) {
        emit::<K>(tally, request, what::RELEASED, 0);
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
pub fn on_lease_deleted<K: Kernel>(request: &mut Request) {
    let Some(tally) = Tally::here() else { return };
    if let Some(note) = notes::find(&request.lock) {
        release_and_tell::<K>(tally, request, note);
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
pub fn on_fcntl<K: Kernel>(request: &mut Request, ret: i32) {
    let Some(tally) = Tally::here() else { return };
    if remote_locks() && is_remote(request) && LOCAL.remove(bpf_get_current_pid_tgid() as u32).is_err() {
        request.flags |= fl::REMOTE;
        let what = match (ret, request.ty) {
            (0, ty::UNLOCK) => what::RELEASED,
            (0, _) => what::ACQUIRED,
            (REFUSED, _) => what::REFUSED,
            _ => return,
        };
        if is_traced(tally) {
            emit::<K>(tally, request, what, 0);
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
    let at_ns = now();
    let value = || HeldValue { process, at_ns, start: request.start, end: request.end, ty: request.ty, pad: 0 };
    if let Some(note) = notes::find(&request.lock) {
        if request.lock.kind == kind::FLOCK && note.ty() == request.ty {
            return; // the lock that is there stays, with its acquirer (fs/locks.c flock_lock_inode, 6.18)
        }
        if note.process() == process {
            // SAFETY: a live value of a map.
            note.change(&request.lock, |held| unsafe { *held = value() });
            return;
        }
        forget(tally, &request.lock, &note);
    }
    if !tasks::note_locker::<K, C>(ctx, tally, task, &process) {
        return;
    }
    match notes::insert(&request.lock, value) {
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

/// Forgets a lock, if nothing of it is left. Says what was noted of it; none if somebody else has just forgotten it.
#[inline(always)]
fn release<K: Kernel>(tally: Tally, request: &Request, note: Note) -> Option<Released> {
    let ranged = request.lock.kind == kind::POSIX || request.lock.kind == kind::OFD;
    let whole = request.start == 0 && request.end >= OFFSET_MAX;
    if !ranged || whole || !owns_more::<K>(request) {
        let (noted, gone) = forget(tally, &request.lock, &note)?;
        return Some(Released { since_ns: noted.at_ns, ty: noted.ty, gone });
    }
    let noted = note.noted();
    let mut since_ns = 0;
    if note.is_within(request.start, request.end) {
        // Other ranges remain, taken at other times.
        since_ns = noted.at_ns;
        // SAFETY: a live value of a map.
        note.change(&request.lock, |held| unsafe { (*held).at_ns = 0 });
    }
    Some(Released { since_ns, ty: noted.ty, gone: tasks::is_gone(&noted.process) })
}

/// Whether the owner has another lock on this inode. The probe fires after the unlock, outside of the inode's lock:
/// a torn read may answer "yes" for nothing, which only keeps the note until the file is closed.
#[inline(always)]
fn owns_more<K: Kernel>(request: &Request) -> bool {
    if request.inode.is_null() {
        return true;
    }
    let context: *const u8 = K::load(request.inode, at!(i_flctx));
    let head = context as u64 + at!(ctx_posix) as u64;
    let mut node: u64 = K::load(context, at!(ctx_posix));
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

/// Takes a note out. Says what it said, and whether the acquirer is gone.
#[inline(always)]
fn forget(tally: Tally, lock: &LockKey, note: &Note) -> Option<(Noted, bool)> {
    let noted = note.remove(lock)?;
    tally.uncount(counter::HELD);
    let gone = tasks::drop_lock(tally, &noted.process);
    Some((noted, gone))
}

/// Whether to tell of what only a trace wants to hear, within its limits.
#[inline(always)]
fn is_traced(tally: Tally) -> bool {
    tracing() && trace::admits(tally)
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
    let record = entry.as_mut_ptr();
    // SAFETY: a reserved record, written field by field, for the stack is small.
    unsafe {
        (*record).record = RECORD_LOCK;
        (*record).what = what;
        (*record).at_ns = now();
        (*record).waited_ns = waited_ns;
        (*record).lock = request.lock;
        (*record).start = request.start;
        (*record).end = request.end;
        (*record).process = process;
        (*record).ty = request.ty;
        (*record).flags = request.flags;
        (*record).comm = tasks::comm::<K>(K::current());
    }
    entry.submit(0);
    tally.count(counter::TOLD + what);
}
