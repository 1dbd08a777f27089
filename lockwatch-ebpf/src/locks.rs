//! What happens to locks: granted, refused, blocked, released.
//!
//! The event grammar is DESIGN section 3.2's: `ret` 0 granted, -EAGAIN refused, FILE_LOCK_DEFERRED (1) blocked, and
//! later the same request with 0. A wait that a signal ends shows up in `tasks`.

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_pid_tgid};
use lockwatch_common::{
    HeldValue, LockKey, LockRecord, ProcessKey, RECORD_LOCK, WaitValue, counter, fl, kind, ty, what,
};

use crate::{
    kernel::{Kernel, Probed, at, now, remote_locks, tracing},
    maps::{EVENTS, HELD, LOCAL, REMOTE, WAITS, count},
    tasks,
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
    if remote_locks() && request.flags & fl::POSIX != 0 && request.flags & fl::CLOSE == 0 && is_remote(request) {
        let _ = LOCAL.insert(bpf_get_current_pid_tgid() as u32, 1, 0);
    }
    let kind = if request.lock.kind < counter::KINDS { request.lock.kind } else { kind::LEASE };
    if request.ty == ty::UNLOCK {
        on_unlock::<K>(request);
        return;
    }
    if ret != 0 && request.lock.kind == kind::FLOCK {
        // A conversion drops the old lock before it looks for conflicts (fs/locks.c flock_lock_inode, 6.18).
        release(request);
    }
    match ret {
        0 => {
            count(counter::ACQUIRED + kind);
            grant::<K, C>(ctx, request);
            match waited::<K>(request) {
                Some(wait) => emit::<K>(request, what::GRANTED, now() - wait.since_ns),
                None if tracing() => emit::<K>(request, what::ACQUIRED, 0),
                None => {}
            }
        }
        DEFERRED => {
            count(counter::CONTENDED + kind);
            block::<K>(request);
        }
        _ => {
            count(counter::REFUSED + kind);
            // A wait that turns out to be part of a deadlock ends so (fs/locks.c posix_lock_inode, 6.18).
            match waited::<K>(request) {
                Some(wait) => emit::<K>(request, what::WAIT_ENDED, now() - wait.since_ns),
                None if tracing() => emit::<K>(request, what::REFUSED, 0),
                None => {}
            }
        }
    }
}

/// A close tells of every lock that the closer might have had: only one that is noted was there. That of an OFD lock
/// comes as one of a POSIX lock, with the open file as its owner (fs/locks.c locks_remove_file, 6.18).
#[inline(always)]
fn on_unlock<K: Kernel>(request: &Request) {
    let mut request = *request;
    let mut noted = release(&request);
    if noted.is_none() && request.lock.kind == kind::POSIX && request.flags & fl::CLOSE != 0 {
        request.lock.kind = kind::OFD;
        noted = release(&request);
    }
    let Some((held, gone)) = noted else { return };
    count(counter::RELEASED + request.lock.kind);
    if tracing() || gone {
        request.ty = held.ty;
        emit::<K>(&request, what::RELEASED, 0);
    }
}

/// `generic_add_lease` fires before the outcome is known: the note is made all the same, and the walk, which knows,
/// uses it only for a lease that is there.
#[inline(always)]
pub fn on_lease_added<K: Kernel, C: EbpfContext>(ctx: &C, request: &Request) {
    count(counter::ACQUIRED + request.lock.kind);
    grant::<K, C>(ctx, request);
}

/// `break_lease_block`: somebody opens or truncates a file with a lease on it, and waits for the holder to give it up.
/// `break_lease_unblock` ends the wait; who breaks a lease gets no lock (fs/locks.c __break_lease, 6.18).
#[inline(always)]
pub fn on_lease_wait<K: Kernel>(request: &Request) {
    count(counter::CONTENDED + request.lock.kind);
    block::<K>(request);
}

/// `generic_delete_lease`: the owner gives it up. One that goes with its last descriptor, or that the kernel takes
/// away, has no probe.
#[inline(always)]
pub fn on_lease_deleted<K: Kernel>(request: &Request) {
    let Some((held, gone)) = release(request) else { return };
    count(counter::RELEASED + request.lock.kind);
    if tracing() || gone {
        let mut request = *request;
        request.ty = held.ty;
        let request = &request;
        emit::<K>(request, what::RELEASED, 0);
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
    if remote_locks() && is_remote(request) && LOCAL.remove(bpf_get_current_pid_tgid() as u32).is_err() {
        let mut request = *request;
        request.flags |= fl::REMOTE;
        match (ret, request.ty) {
            (0, ty::UNLOCK) => emit::<K>(&request, what::RELEASED, 0),
            (0, _) => emit::<K>(&request, what::ACQUIRED, 0),
            (REFUSED, _) => emit::<K>(&request, what::REFUSED, 0),
            _ => {}
        }
        return;
    }
    if ret < 0
        && ret != RESTART
        && let Some(wait) = end_wait()
    {
        emit::<K>(request, what::WAIT_ENDED, now() - wait.since_ns);
    }
}

/// Notes who took a lock. Each note is counted at a process of the table: a lock whose acquirer found no room there is
/// not noted, so that user space sees it as one that nobody saw being taken, and asks for its acquirer's death.
#[inline(always)]
fn grant<K: Kernel, C: EbpfContext>(ctx: &C, request: &Request) {
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
            forget(&request.lock, &noted);
        }
    }
    if !tasks::note_locker::<K, C>(ctx, task, &process) {
        return;
    }
    if HELD.insert(request.lock, value, 0).is_err() {
        count(counter::HELD_FULL);
        tasks::drop_lock(&process);
    }
}

/// Forgets a lock, if nothing of it is left. Says what was noted of it, and whether its acquirer is gone: then user
/// space wants to know of the lock's end.
#[inline(always)]
fn release(request: &Request) -> Option<(HeldValue, bool)> {
    let ranged = request.lock.kind == kind::POSIX || request.lock.kind == kind::OFD;
    let whole = request.start == 0 && request.end >= OFFSET_MAX;
    let held = HELD.get_ptr_mut(request.lock)?;
    // SAFETY: a live value of a preallocated map, copied at once.
    let noted = unsafe { *held };
    if !ranged || whole || !owns_more(request) {
        return Some((noted, forget(&request.lock, &noted)));
    }
    if noted.start >= request.start && noted.end <= request.end {
        // Other ranges remain, taken at other times.
        // SAFETY: as above.
        unsafe { (*held).at_ns = 0 }
    }
    Some((noted, tasks::is_gone(&noted.process)))
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
fn forget(lock: &LockKey, noted: &HeldValue) -> bool {
    HELD.remove(lock).is_ok() && tasks::drop_lock(&noted.process)
}

/// Notes a wait, and tells user space: waits are rare and make locks hot.
#[inline(always)]
fn block<K: Kernel>(request: &Request) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(wait) = WAITS.get_ptr(tid) {
        // SAFETY: a live value of a preallocated map.
        let wait = unsafe { *wait };
        if is_for(&wait, request) {
            return; // woken and blocked again by the next in line, or begun again after a signal
        }
        end_running_wait::<K>();
    }
    let wait = WaitValue {
        lock: request.lock,
        start: request.start,
        end: request.end,
        since_ns: now(),
        process: tasks::key::<K>(K::current()),
        ty: request.ty,
        flags: request.flags,
    };
    if WAITS.insert(tid, wait, 0).is_err() {
        count(counter::WAITS_FULL);
    }
    emit::<K>(request, what::WAITING, 0);
}

/// Takes the running thread's wait out of the table, if it has one.
#[inline(always)]
fn end_wait() -> Option<WaitValue> {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: a live value of a preallocated map, copied at once; only its own thread removes it.
    let wait = unsafe { *WAITS.get_ptr(tid)? };
    let _ = WAITS.remove(tid);
    Some(wait)
}

/// Whether a wait is for what is asked for now: then it is the same, whatever interrupted it.
#[inline(always)]
fn is_for(wait: &WaitValue, request: &Request) -> bool {
    wait.lock == request.lock && wait.start == request.start && wait.end == request.end && wait.ty == request.ty
}

/// The wait that a request's answer ends. A wait for something else was given up in a signal's handler.
#[inline(always)]
fn waited<K: Kernel>(request: &Request) -> Option<WaitValue> {
    if request.flags & fl::SLEEP == 0 {
        return None;
    }
    let wait = end_wait()?;
    if is_for(&wait, request) {
        return Some(wait);
    }
    emit_end::<K>(&wait);
    None
}

/// What a signal does that is being delivered (struct k_sigaction).
pub struct Action {
    pub handler: u64,
    pub flags: u64,
}

/// SIG_IGN; SIG_DFL is 0 (include/uapi/asm-generic/signal-defs.h).
const SIG_IGN: u64 = 1;
/// SA_RESTART: the system call begins again after the handler.
const SA_RESTART: u64 = 0x1000_0000;

/// `signal_deliver`, to the running thread: a wait is over if a handler runs that lets it end with EINTR. With
/// SA_RESTART, or without a handler, the request is made again (arch/x86/kernel/signal.c handle_signal, 6.18); if the
/// signal kills, the exit ends the wait. No lock probe fires for any of these.
#[inline(always)]
pub fn on_signal<K: Kernel>(action: impl FnOnce() -> Action) {
    if WAITS.get_ptr(bpf_get_current_pid_tgid() as u32).is_none() {
        return;
    }
    let action = action();
    if action.handler > SIG_IGN && action.flags & SA_RESTART == 0 {
        end_running_wait::<K>();
    }
}

/// Ends the running thread's wait, if it has one, without a lock.
#[inline(always)]
pub fn end_running_wait<K: Kernel>() {
    if let Some(wait) = end_wait() {
        emit_end::<K>(&wait);
    }
}

#[inline(always)]
fn emit_end<K: Kernel>(wait: &WaitValue) {
    let request = Request {
        lock: wait.lock,
        start: wait.start,
        end: wait.end,
        ty: wait.ty,
        flags: wait.flags,
        inode: core::ptr::null(),
    };
    emit_for::<K>(&request, what::WAIT_ENDED, now() - wait.since_ns, wait.process);
}

#[inline(always)]
fn emit<K: Kernel>(request: &Request, what: u32, waited_ns: u64) {
    emit_for::<K>(request, what, waited_ns, tasks::key::<K>(K::current()));
}

#[inline(always)]
fn emit_for<K: Kernel>(request: &Request, what: u32, waited_ns: u64, process: ProcessKey) {
    let Some(mut entry) = EVENTS.reserve::<LockRecord>(0) else {
        count(counter::RING_LOST);
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
}
