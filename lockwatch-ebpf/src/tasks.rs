//! What happens to processes that take locks: birth of heirs, exec, fatal signals, death.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid},
};
use aya_log_ebpf::debug;
use lockwatch_common::{
    ANCESTORS, COMM_LEN, DeathRecord, ProcessKey, ProcessValue, RECORD_DEATH, counter, process_flag,
};

use crate::{
    kernel::{Kernel, Probed, at, atomic_add, beat, now},
    maps::{EVENTS, EXISTS, NO_EXIST, PROCESSES, VICTIMS, WATCHED},
    tally::Tally,
};

/// Nobody.
const NONE: ProcessKey = ProcessKey { start_ns: 0, pid: 0, pad: 0 };

/// Which process a thread belongs to: its group's number and its leader's start.
#[inline(always)]
pub fn key<K: Kernel>(task: *const u8) -> ProcessKey {
    let leader: *const u8 = K::load(task, at!(task_group_leader));
    ProcessKey { start_ns: K::load(leader, at!(task_start)), pid: K::load(task, at!(task_tgid)), pad: 0 }
}

/// The command name of a thread's process: its leader's, for threads give themselves names of their own.
#[inline(always)]
pub fn comm<K: Kernel>(task: *const u8) -> [u8; COMM_LEN] {
    let leader: *const u8 = K::load(task, at!(task_group_leader));
    Probed::load(leader, at!(task_comm))
}

/// Counts one lock less of a process's. Says whether that process is gone: dead, or never seen.
#[inline(always)]
pub fn drop_lock(tally: Tally, process: &ProcessKey) -> bool {
    let Some(value) = PROCESSES.get_ptr_mut(process) else { return true };
    // SAFETY: a live value of a preallocated map; `held` is only changed atomically.
    let (held, died) = unsafe {
        atomic_add(&raw mut (*value).held, -1);
        ((&raw const (*value).held).read_volatile(), (*value).died_ns != 0)
    };
    if died && held <= 0 {
        remove(tally, process);
    }
    died
}

#[inline(always)]
fn remove(tally: Tally, process: &ProcessKey) {
    if PROCESSES.remove(process).is_ok() {
        tally.uncount(counter::PROCESSES);
    }
}

/// Nobody needs to be told any more.
#[inline(always)]
fn unwatch(tally: Tally, process: &ProcessKey) {
    if WATCHED.remove(process).is_ok() {
        tally.uncount(counter::WATCHED);
    }
}

/// Whether a lock's acquirer is dead, or was never seen: then user space wants to know of the lock's end.
#[inline(always)]
pub fn is_gone(process: &ProcessKey) -> bool {
    match PROCESSES.get_ptr(process) {
        // SAFETY: a live value of a preallocated map.
        Some(value) => unsafe { (*value).died_ns != 0 },
        None => true,
    }
}

/// Counts a lock for the running process, which is entered into the table with its first. False if the table is full.
#[inline(always)]
pub fn note_locker<K: Kernel, C: EbpfContext>(ctx: &C, tally: Tally, task: *const u8, process: &ProcessKey) -> bool {
    if note_again(process) {
        return true;
    }
    let mut value = describe::<K>(task);
    value.comm = comm::<K>(task);
    // SAFETY: a helper without arguments.
    value.cgroup = unsafe { bpf_get_current_cgroup_id() };
    value.held = 1;
    value.flags = process_flag::LOCKER;
    match enter(ctx, tally, process, &value) {
        Entered::New => true,
        Entered::Known => note_again(process), // another of its threads was quicker
        Entered::Full => false,
    }
}

/// The same for a process that is in the table.
#[inline(always)]
fn note_again(process: &ProcessKey) -> bool {
    let Some(value) = PROCESSES.get_ptr_mut(process) else { return false };
    // SAFETY: a live value of a preallocated map; `held` is only changed atomically.
    unsafe {
        atomic_add(&raw mut (*value).held, 1);
        if (*value).flags & process_flag::LOCKER == 0 {
            (*value).flags |= process_flag::LOCKER;
        }
    }
    true
}

/// What came of entering a process into the table.
enum Entered {
    New,
    Known,
    Full,
}

#[inline(always)]
fn enter<C: EbpfContext>(ctx: &C, tally: Tally, process: &ProcessKey, value: &ProcessValue) -> Entered {
    match PROCESSES.insert(process, value, NO_EXIST) {
        Ok(()) => {
            tally.count(counter::PROCESSES);
            Entered::New
        }
        Err(EXISTS) => Entered::Known,
        Err(_) => {
            tally.count(counter::PROCESSES_FULL);
            debug!(ctx, "table of processes full: pid {} not noted", process.pid);
            Entered::Full
        }
    }
}

/// What the kernel knows of a process, but its command name and cgroup.
#[inline(always)]
fn describe<K: Kernel>(task: *const u8) -> ProcessValue {
    let cred: *const u8 = K::load(task, at!(task_real_cred));
    let (exe_inode, exe_device) = executable::<K>(task);
    let mut ancestors = [NONE; ANCESTORS];
    let mut ancestor: *const u8 = K::load(task, at!(task_real_parent));
    for slot in &mut ancestors {
        let key = key::<K>(ancestor);
        if key.pid <= 1 {
            break;
        }
        *slot = key;
        let leader: *const u8 = K::load(ancestor, at!(task_group_leader));
        ancestor = K::load(leader, at!(task_real_parent));
    }
    ProcessValue {
        ancestors,
        exe_inode,
        cgroup: 0,
        files: K::load::<u64>(task, at!(task_files)),
        died_ns: 0,
        held: 0,
        exe_device,
        uid: K::load(cred, at!(cred_uid)),
        exit_code: 0,
        flags: 0,
        killer_pid: 0,
        killer_signal: 0,
        killer_code: 0,
        pad: 0,
        comm: [0; COMM_LEN],
        killer_comm: [0; COMM_LEN],
    }
}

/// Inode and device of a task's executable; zeroes for kernel threads.
#[inline(always)]
pub fn executable<K: Kernel>(task: *const u8) -> (u64, u32) {
    let mm: *const u8 = K::load(task, at!(task_mm));
    if mm.is_null() {
        return (0, 0);
    }
    let file: *const u8 = K::load(mm, at!(mm_exe_file));
    if file.is_null() {
        return (0, 0);
    }
    let inode: *const u8 = K::load(file, at!(f_inode));
    let superblock: *const u8 = K::load(inode, at!(i_sb));
    (K::load(inode, at!(i_ino)), K::load(superblock, at!(s_dev)))
}

/// `sched_process_exit`: fires for each thread, before its files are closed (kernel/exit.c do_exit, 6.18).
#[inline(always)]
pub fn on_exit<K: Kernel, C: EbpfContext>(ctx: &C, tally: Tally) {
    let task = K::current();
    if K::load::<u32>(task, at!(task_tgid)) == beat().pid {
        tally.count(counter::BEAT_EXIT);
    }
    note_victim::<K>(task);
    let signal: *const u8 = K::load(task, at!(task_signal));
    if K::load::<i32>(signal, at!(signal_live)) != 0 {
        return; // other threads live, and so does the process
    }
    let process = key::<K>(task);
    let watched = WATCHED.get_ptr(process).is_some();
    let Some(value) = PROCESSES.get_ptr_mut(process) else {
        if watched {
            unwatch(tally, &process);
            let mut value = describe::<K>(task);
            finish::<K>(&mut value, task, signal);
            tell(tally, &process, &value);
        }
        return;
    };
    // SAFETY: a live value of a preallocated map.
    let value = unsafe { &mut *value };
    if value.died_ns != 0 {
        return; // two last threads may both find nobody left
    }
    finish::<K>(value, task, signal);
    if value.flags & process_flag::LOCKER != 0 {
        // The low seven bits are the signal (wait(2)).
        tally.count(if value.exit_code & 0x7f == 0 { counter::EXITED } else { counter::KILLED });
    }
    if watched || value.held > 0 {
        debug!(ctx, "pid {} died with exit code {:x}, {} locks noted", process.pid, value.exit_code, value.held);
        tell(tally, &process, value);
    }
    if watched {
        unwatch(tally, &process);
    }
    if value.held <= 0 {
        remove(tally, &process);
    }
}

/// Fills in how a process ended.
#[inline(always)]
fn finish<K: Kernel>(value: &mut ProcessValue, task: *const u8, signal: *const u8) {
    let of_group: u32 = K::load(signal, at!(signal_group_exit_code));
    let own: u32 = K::load(task, at!(task_exit_code));
    value.died_ns = now();
    value.exit_code = if of_group != 0 { of_group } else { own };
    value.comm = comm::<K>(task);
}

#[inline(always)]
fn tell(tally: Tally, process: &ProcessKey, value: &ProcessValue) {
    let Some(mut entry) = EVENTS.reserve::<DeathRecord>(0) else {
        tally.count(counter::RING_LOST);
        return;
    };
    entry.write(DeathRecord { record: RECORD_DEATH, pad: 0, process: *process, value: *value });
    entry.submit(0);
    tally.count(counter::TOLD_DEATHS);
}

/// `sched_process_fork` (parent, child): a child of a locker, or of an heir, is an heir.
#[inline(always)]
pub fn on_fork<K: Kernel, C: EbpfContext>(ctx: &C, parent: *const u8, child: *const u8) {
    let pid: u32 = K::load(child, at!(task_pid));
    let tgid: u32 = K::load(child, at!(task_tgid));
    if pid != tgid {
        return; // a thread
    }
    let parent = key::<K>(parent);
    let heir = match PROCESSES.get_ptr(parent) {
        // SAFETY: a live value of a preallocated map.
        Some(known) => unsafe { (*known).held > 0 || (*known).flags & process_flag::HEIR != 0 },
        None => false,
    };
    if !heir && WATCHED.get_ptr(parent).is_none() {
        return;
    }
    let mut value = describe::<K>(child);
    value.comm = comm::<K>(child);
    value.flags = process_flag::HEIR;
    if let Some(tally) = Tally::here() {
        enter(ctx, tally, &key::<K>(child), &value);
    }
}

/// `sched_process_exec`: from here on it runs another program.
#[inline(always)]
pub fn on_exec<K: Kernel>() {
    let task = K::current();
    let Some(value) = PROCESSES.get_ptr_mut(key::<K>(task)) else { return };
    let (exe_inode, exe_device) = executable::<K>(task);
    // SAFETY: a live value of a preallocated map.
    unsafe {
        (*value).exe_inode = exe_inode;
        (*value).exe_device = exe_device;
        (*value).files = K::load::<u64>(task, at!(task_files)); // it has one of its own now
        (*value).comm = comm::<K>(task);
        (*value).flags |= process_flag::EXECED;
    }
}

/// What stands for the `siginfo` of a signal from a process that gives none, and of one from the kernel: SEND_SIG_NOINFO
/// and SEND_SIG_PRIV (include/linux/sched/signal.h, 6.18).
const NO_INFO: u64 = 0;
const PRIVATE: u64 = 1;
/// SI_USER and SI_KERNEL (include/uapi/asm-generic/siginfo.h).
const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;

/// `signal_generate` (sig, info, task, group, result): who sends a signal that can kill to a process that somebody
/// cares for. It fires where the signal is sent, so the running process is the sender, unless an interrupt sends.
#[inline(always)]
pub fn on_signal_sent<K: Kernel, C: EbpfContext>(ctx: &C, signal: u32, info: u64, target: *const u8, result: i32) {
    // CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG (17 to 23) and WINCH (28) kill nobody: signal(7).
    if result != 0 || matches!(signal, 0 | 17..=23 | 28 | 32..) {
        return;
    }
    let process = key::<K>(target);
    if PROCESSES.get_ptr(process).is_none() && WATCHED.get_ptr(process).is_some() {
        let mut value = describe::<K>(target);
        value.comm = comm::<K>(target);
        if let Some(tally) = Tally::here() {
            enter(ctx, tally, &process, &value);
        }
    }
    let Some(value) = PROCESSES.get_ptr_mut(process) else { return };
    let code = match info {
        NO_INFO => SI_USER,
        PRIVATE => SI_KERNEL,
        pointer => Probed::load(pointer as *const u8, at!(siginfo_code)),
    };
    // SAFETY: a live value of a preallocated map.
    unsafe {
        (*value).killer_signal = signal;
        (*value).killer_code = code;
        (*value).killer_pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*value).killer_comm = comm::<K>(K::current());
    }
}

/// `mark_victim` of the OOM killer, for one thread of its choice (mm/oom_kill.c mark_oom_victim, 6.18). Only its number
/// is known everywhere, so the process is found when that thread ends.
#[inline(always)]
pub fn on_victim(tid: u32) {
    let _ = VICTIMS.insert(tid, 1, 0);
}

#[inline(always)]
fn note_victim<K: Kernel>(task: *const u8) {
    let tid: u32 = K::load(task, at!(task_pid));
    if VICTIMS.get_ptr(tid).is_none() {
        return;
    }
    let _ = VICTIMS.remove(tid);
    if let Some(value) = PROCESSES.get_ptr_mut(key::<K>(task)) {
        // SAFETY: a live value of a preallocated map.
        unsafe { (*value).flags |= process_flag::OOM };
    }
}
