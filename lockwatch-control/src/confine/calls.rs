//! Which system calls a confined process may make, each with its reason.

use std::{collections::BTreeMap, env::consts::ARCH};

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// A system call that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number on this architecture.
    pub number: c_long,
    /// With which arguments.
    pub only: Only,
    /// What it is needed for.
    pub why: &'static str,
}

/// With which arguments a system call is allowed.
#[derive(Clone, Copy, Debug)]
pub enum Only {
    /// With any.
    Any,
    /// If this argument, counted from 0 and 32 bits wide, is one of these.
    Among(u8, &'static [u64]),
    /// If this argument has none of these bits.
    Without(u8, u64),
}

use Only::{Among, Any, Without};

/// Commands of fcntl(2). The only locks that are ever set are unlocks: what F_OFD_SETLK asks for is behind a pointer,
/// where no filter sees it, but a lease's type is in the argument itself.
const FCNTL: &[u64] = &[
    libc::F_DUPFD_CLOEXEC as u64,
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
    libc::F_SETFL as u64,
    libc::F_OFD_GETLK as u64,
    libc::F_OFD_SETLK as u64,
    libc::F_SETLEASE as u64,
    libc::F_GETLEASE as u64,
];

/// Whether somebody lives, asking it to end, ending it, holding it still, letting it go on.
const SIGNALS: &[u64] = &[0, libc::SIGTERM as u64, libc::SIGKILL as u64, libc::SIGSTOP as u64, libc::SIGCONT as u64];

const PRCTL: &[u64] = &[libc::PR_SET_PDEATHSIG as u64, libc::PR_SET_NAME as u64];

const FLOCK: &[u64] = &[libc::LOCK_UN as u64, (libc::LOCK_EX | libc::LOCK_NB) as u64];

const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

const EXEC: u64 = libc::PROT_EXEC as u64;

/// The whole list. What is not in it is refused, above all: sockets of any kind, exec, ptrace, bpf, mounts, namespaces,
/// kill(2) by number, and memory that can be run.
pub const CALLS: &[Call] = &[
    // The acts.
    call(libc::SYS_pidfd_open, Any, "pin a process"),
    call(libc::SYS_pidfd_getfd, Any, "duplicate a descriptor of a pinned process"),
    call(libc::SYS_pidfd_send_signal, Among(1, SIGNALS), "end a holder, hold somebody still, let it go on"),
    call(libc::SYS_kcmp, Any, "is the duplicate of the same open file"),
    call(libc::SYS_flock, Among(1, FLOCK), "unlock; lock the record for a line's time"),
    call(libc::SYS_fcntl, Among(1, FCNTL), "unlock OFD locks and leases; descriptors' flags"),
    call(libc::SYS_recvmsg, Any, "peek for a message in flight"),
    // Files: /proc, the freezer, the audit log, what waits for a second person.
    call(libc::SYS_openat, Any, "open files"),
    call(libc::SYS_openat2, Any, "open files below a directory"),
    call(libc::SYS_read, Any, "read files, pipes and the request"),
    call(libc::SYS_pread64, Any, "read a file's end"),
    call(libc::SYS_readv, Any, "read pipes"),
    call(libc::SYS_write, Any, "write the record, the freezer, words on stderr"),
    call(libc::SYS_writev, Any, "write words on stderr"),
    call(libc::SYS_lseek, Any, "read a file's end"),
    call(libc::SYS_close, Any, "close files and duplicates"),
    call(libc::SYS_close_range, Any, "the guardian closes what it has inherited"),
    call(libc::SYS_fsync, Any, "no record, no act"),
    call(libc::SYS_fdatasync, Any, "no record, no act"),
    call(libc::SYS_fstat, Any, "which file is this"),
    call(libc::SYS_newfstatat, Any, "which file is this"),
    call(libc::SYS_statx, Any, "which file is this"),
    call(libc::SYS_fstatfs, Any, "which file system is this"),
    call(libc::SYS_readlinkat, Any, "what a descriptor leads to"),
    call(libc::SYS_getdents64, Any, "list /proc/PID/fdinfo and what waits"),
    call(libc::SYS_mkdirat, Any, "the record's directory"),
    call(libc::SYS_fchmod, Any, "the record is 0600"),
    call(libc::SYS_ftruncate, Any, "take back half a line"),
    call(libc::SYS_unlinkat, Any, "take away what no longer waits"),
    call(libc::SYS_renameat, Any, "put down what waits, whole or not at all"),
    call(libc::SYS_renameat2, Any, "put down what waits, whole or not at all"),
    // The caller, whose socket is connected already, and the eyes.
    call(libc::SYS_recvfrom, Any, "read the request"),
    call(libc::SYS_sendto, Any, "answer it"),
    call(libc::SYS_sendmsg, Any, "answer it"),
    call(libc::SYS_shutdown, Any, "end the answer"),
    call(libc::SYS_getsockopt, Any, "is the duplicate a unix socket"),
    call(libc::SYS_getsockname, Any, "is the duplicate a unix socket"),
    call(libc::SYS_ppoll, Any, "wait for an answer, a death, or the end of a time"),
    // The guardian.
    call(libc::SYS_pipe2, Any, "the guardian's leash"),
    call(libc::SYS_socketpair, Among(0, &[libc::AF_UNIX as u64]), "the guardian's leash"),
    call(libc::SYS_clone, Without(0, NAMESPACES), "fork the guardian, and watch it in a thread"),
    call(libc::SYS_clone3, Any, "glibc, for a thread: answered ENOSYS, and then it takes clone"),
    call(libc::SYS_set_robust_list, Any, "glibc, in a child or thread"),
    call(libc::SYS_rseq, Any, "glibc, in a thread"),
    call(libc::SYS_sched_getaffinity, Any, "glibc, in a thread"),
    call(libc::SYS_dup, Any, "the guardian's own descriptors"),
    call(libc::SYS_dup3, Any, "the guardian's own descriptors"),
    call(libc::SYS_setsid, Any, "the guardian leaves the terminal"),
    call(libc::SYS_prctl, Among(0, PRCTL), "the guardian's name, and its parent's death"),
    call(libc::SYS_getppid, Any, "whether the guardian's parent lives"),
    call(libc::SYS_wait4, Any, "reap children"),
    call(libc::SYS_waitid, Any, "reap children"),
    // What every program does.
    call(libc::SYS_brk, Any, "memory"),
    call(libc::SYS_mmap, Without(2, EXEC), "memory that is not run"),
    call(libc::SYS_mprotect, Without(2, EXEC), "memory that is not run"),
    call(libc::SYS_munmap, Any, "memory"),
    call(libc::SYS_mremap, Any, "memory"),
    call(libc::SYS_madvise, Any, "memory"),
    call(libc::SYS_futex, Any, "locks of the standard library"),
    call(libc::SYS_getrandom, Any, "seeds of hash maps"),
    call(libc::SYS_clock_gettime, Any, "time, where the vDSO has none"),
    call(libc::SYS_clock_nanosleep, Any, "settle between two looks"),
    call(libc::SYS_nanosleep, Any, "settle between two looks"),
    call(libc::SYS_restart_syscall, Any, "the kernel itself, after SIGSTOP and SIGCONT"),
    call(libc::SYS_rt_sigaction, Any, "Ctrl-C thaws"),
    call(libc::SYS_rt_sigprocmask, Any, "Ctrl-C thaws"),
    call(libc::SYS_rt_sigreturn, Any, "Ctrl-C thaws"),
    call(libc::SYS_rt_sigtimedwait, Any, "the guardian waits for signals"),
    call(libc::SYS_signalfd4, Any, "Ctrl-C thaws"),
    call(libc::SYS_sigaltstack, Any, "the standard library, at the end"),
    call(libc::SYS_sched_yield, Any, "the standard library"),
    call(libc::SYS_getpid, Any, "who am I"),
    call(libc::SYS_gettid, Any, "who am I"),
    call(libc::SYS_getuid, Any, "who am I"),
    call(libc::SYS_geteuid, Any, "who am I"),
    call(libc::SYS_exit, Any, "end"),
    call(libc::SYS_exit_group, Any, "end"),
    // Older forms, which glibc and the standard library still use where they exist.
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_poll, Any, "as ppoll"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_dup2, Any, "as dup3"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_readlink, Any, "as readlinkat"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_unlink, Any, "as unlinkat"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_rename, Any, "as renameat"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_stat, Any, "as newfstatat"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_lstat, Any, "as newfstatat"),
];

const fn call(number: c_long, only: Only, why: &'static str) -> Call {
    Call { number, only, why }
}

/// [`CALLS`] as programs for the kernel, in the order in which they are to be set. The strictest answer counts, and
/// ENOSYS is stricter than leave. A call of another architecture's table kills (seccompiler's own rule): then the numbers
/// mean something else.
pub(super) fn filters() -> Result<[BpfProgram; 2], seccompiler::Error> {
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut rules = BTreeMap::new();
    for call in CALLS {
        rules.insert(call.number, call.only.rules()?);
    }
    let refuse = |error: i32| SeccompAction::Errno(error.unsigned_abs());
    let arch = ARCH.try_into()?;
    // clone3's flags are behind a pointer, where no filter sees them.
    let first = SeccompFilter::new(absent, SeccompAction::Allow, refuse(libc::ENOSYS), arch)?;
    let second = SeccompFilter::new(rules, refuse(libc::EPERM), SeccompAction::Allow, arch)?;
    Ok([first.try_into()?, second.try_into()?])
}

impl Only {
    /// Any one of them must fit; none at all means that every argument does.
    fn rules(self) -> Result<Vec<SeccompRule>, seccompiler::Error> {
        let rule = |argument, operator, value| -> Result<SeccompRule, seccompiler::Error> {
            Ok(SeccompRule::new(vec![SeccompCondition::new(argument, Width::Dword, operator, value)?])?)
        };
        match self {
            Any => Ok(Vec::new()),
            Among(argument, values) => values.iter().map(|value| rule(argument, SeccompCmpOp::Eq, *value)).collect(),
            Without(argument, bits) => Ok(vec![rule(argument, SeccompCmpOp::MaskedEq(bits), 0)?]),
        }
    }
}
