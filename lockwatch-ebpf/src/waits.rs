//! Waits: requests that block, and how they end. The wait for a POSIX or OFD lock ends with its grant or its refusal,
//! that for a flock may also end without a word: then a signal was delivered, or the thread has ended.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use lockwatch_common::{WaitValue, counter, fl, what};

use crate::{
    kernel::{Kernel, atomic_add, now, timing},
    locks::{Request, emit, emit_for},
    maps::{NO_EXIST, WAITING, WAITS},
    tally::Tally,
    tasks,
};

/// Notes a wait, and tells user space: waits are rare and make locks hot.
#[inline(always)]
pub fn block<K: Kernel>(tally: Tally, request: &Request) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(wait) = WAITS.get_ptr(tid) {
        // SAFETY: a live value of a preallocated map.
        let wait = unsafe { *wait };
        if is_for(&wait, request) {
            return; // woken and blocked again by the next in line, or begun again after a signal
        }
        end_running_wait::<K>(tally);
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
    match WAITS.insert(tid, wait, NO_EXIST) {
        Ok(()) => {
            tally.count(counter::WAITS);
            add_waiting(1);
        }
        Err(_) => tally.count(counter::WAITS_FULL),
    }
    emit::<K>(tally, request, what::WAITING, 0);
}

/// Takes the running thread's wait out of the table, if it has one. Says how long it was.
#[inline(always)]
pub fn end_wait(tally: Tally) -> Option<(WaitValue, u64)> {
    if nobody_waits() {
        return None;
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: a live value of a preallocated map, copied at once; only its own thread removes it.
    let wait = unsafe { *WAITS.get_ptr(tid)? };
    if WAITS.remove(tid).is_ok() {
        tally.uncount(counter::WAITS);
        add_waiting(-1);
    }
    let ns = now() - wait.since_ns;
    if timing() {
        tally.time(counter::WAITED, counter::WAITED_NS, wait.lock.kind, ns);
    }
    Some((wait, ns))
}

/// Whether the table of waits is empty. A thread's own wait was counted by that thread.
#[inline(always)]
fn nobody_waits() -> bool {
    // SAFETY: a live value of an array.
    WAITING.get_ptr(0).is_some_and(|waiting| unsafe { waiting.read_volatile() == 0 })
}

#[inline(always)]
fn add_waiting(add: i64) {
    if let Some(waiting) = WAITING.get_ptr_mut(0) {
        // SAFETY: a live value of an array.
        unsafe { atomic_add(waiting, add) }
    }
}

/// Whether a wait is for what is asked for now: then it is the same, whatever interrupted it.
#[inline(always)]
fn is_for(wait: &WaitValue, request: &Request) -> bool {
    wait.lock == request.lock && wait.start == request.start && wait.end == request.end && wait.ty == request.ty
}

/// How long the wait was that a request's answer ends. A wait for something else was given up in a signal's handler.
#[inline(always)]
pub fn waited<K: Kernel>(tally: Tally, request: &Request) -> Option<u64> {
    if request.flags & fl::SLEEP == 0 {
        return None;
    }
    let (wait, ns) = end_wait(tally)?;
    if is_for(&wait, request) {
        return Some(ns);
    }
    emit_end::<K>(tally, &wait, ns);
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
    if nobody_waits() || WAITS.get_ptr(bpf_get_current_pid_tgid() as u32).is_none() {
        return;
    }
    let action = action();
    if action.handler > SIG_IGN
        && action.flags & SA_RESTART == 0
        && let Some(tally) = Tally::here()
    {
        end_running_wait::<K>(tally);
    }
}

/// Ends the running thread's wait, if it has one, without a lock.
#[inline(always)]
pub fn end_running_wait<K: Kernel>(tally: Tally) {
    if let Some((wait, ns)) = end_wait(tally) {
        emit_end::<K>(tally, &wait, ns);
    }
}

#[inline(always)]
fn emit_end<K: Kernel>(tally: Tally, wait: &WaitValue, ns: u64) {
    let request = Request {
        lock: wait.lock,
        start: wait.start,
        end: wait.end,
        ty: wait.ty,
        flags: wait.flags,
        inode: core::ptr::null(),
    };
    emit_for::<K>(tally, &request, what::WAIT_ENDED, ns, wait.process);
}
