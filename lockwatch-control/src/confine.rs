//! Giving up what is not needed: capabilities, new privileges, and every system call that clearing a lock does not take.

mod calls;
#[cfg(test)]
mod tests;

use std::{fs, io, time::Duration};

use anyhow::{Context, ensure};
use lockwatch_core::text::Text;
pub use rustix::thread::CapabilitySet;
use rustix::{
    io::Errno,
    thread::{self, CapabilitySets},
};
use seccompiler::BpfProgram;

pub use self::calls::{CALLS, Call, Only};

/// What acting upon another user's process takes.
///
/// CAP_SYS_PTRACE: pidfd_getfd(2), kcmp(2) and `/proc/PID/fdinfo` (which asks for PTRACE_MODE_READ and nothing else since
/// Linux 5.14, fs/proc/fd.c `proc_fdinfo_permission`). CAP_KILL: pidfd_send_signal(2). CAP_DAC_READ_SEARCH would open
/// `/proc/PID/fd` as well, which nobody here reads: the tests below show that the other two suffice.
pub const NEEDED: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::KILL);

/// Leaves this process with these capabilities, without a way to any other, and with the system calls of [`CALLS`].
///
/// Every set of capabilities holds only them: effective and permitted all, inheritable and ambient none, bounding no
/// other. no_new_privs is set. A system call that is not listed fails with EPERM, and the kernel logs it; it does not
/// end the process, because one that is killed in mid-act leaves no record of how far it came, and a call that fails
/// does no more than one that was never made. What was open stays open: a connected socket goes on to work.
///
/// Needs CAP_SETPCAP, and Linux 4.14 (SECCOMP_FILTER_FLAG_LOG, seccomp(2)).
///
/// # Errors
///
/// There are other threads, a capability is missing, or the kernel has no seccomp filters. Then some of it may have been
/// given up, and nothing must be acted upon.
pub fn drop_to(kept: CapabilitySet) -> anyhow::Result<()> {
    let filters = calls::filters().context("make the seccomp filters")?;
    keep_only(kept)?;
    // Whatever rustix asks of the kernel once, it asks now: its vDSO is found by a prctl(2) that is not on the list.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let [absent, allowed] = &filters;
    // That clone3 is absent is no news.
    apply(absent, 0)
        .and_then(|()| apply(allowed, libc::SECCOMP_FILTER_FLAG_LOG))
        .context("set the seccomp filters (does this kernel have CONFIG_SECCOMP_FILTER?)")
}

/// Leaves this process with these capabilities, without a way to any other, and with all system calls.
///
/// # Errors
///
/// There are other threads, or a capability is missing. Then some may have been given up.
pub fn keep_only(kept: CapabilitySet) -> anyhow::Result<()> {
    // Capabilities belong to threads (capabilities(7)): another one would keep them all.
    ensure!(is_alone()?, "this process has more threads than one");
    drop_capabilities(kept)?;
    thread::set_no_new_privs(true).context("set no_new_privs")
}

/// Nothing that this process starts inherits a capability: neither by the ambient set, which systemd fills for a service
/// with a user of its own (`AmbientCapabilities=`), nor by the inheritable one. What this process may itself stays.
///
/// # Errors
///
/// The kernel does not allow it.
pub fn pass_nothing_on() -> anyhow::Result<()> {
    // The ambient set is empty without this on every kernel that lacks it (before 4.3).
    match thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error).context("clear the ambient capabilities"),
    }
    let now = thread::capabilities(None).context("read this process's capabilities")?;
    let sets = CapabilitySets { inheritable: CapabilitySet::empty(), ..now };
    thread::set_capabilities(None, sets).context("clear the inheritable capabilities")
}

/// Does something without the use of these capabilities. The thread has them back afterwards.
///
/// # Errors
///
/// They cannot be put aside, or not be taken back. The inner result is that of what was done.
pub fn without<T>(aside: CapabilitySet, act: impl FnOnce() -> T) -> anyhow::Result<T> {
    let before = thread::capabilities(None).context("read this process's capabilities")?;
    let less = CapabilitySets { effective: before.effective - aside, ..before };
    thread::set_capabilities(None, less).context("put capabilities aside")?;
    let done = act();
    thread::set_capabilities(None, before).context("take capabilities back")?;
    Ok(done)
}

fn drop_capabilities(kept: CapabilitySet) -> anyhow::Result<()> {
    let missing = kept - thread::capabilities(None).context("read this process's capabilities")?.permitted;
    ensure!(missing.is_empty(), "this process does not have {}", names(missing));
    pass_nothing_on()?;
    for one in bounding() {
        if !kept.contains(one) {
            let name = names(one);
            thread::remove_capability_from_bounding_set(one)
                .with_context(|| format!("drop {name} from the bounding set (is CAP_SETPCAP missing?)"))?;
        }
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    thread::set_capabilities(None, sets).context("drop capabilities")?;
    // Not that anybody doubts the kernel; but all of what follows stands on it.
    ensure!(thread::capabilities(None)? == sets, "the kernel has not dropped the capabilities");
    ensure!(bounding().all(|one| kept.contains(one)), "the kernel has not dropped the bounding set");
    Ok(())
}

/// Every capability of the bounding set, each alone. The kernel knows of no more than the first that it calls invalid.
fn bounding() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|bit| CapabilitySet::from_bits_retain(1 << bit))
        .map_while(|one| Some((one, thread::capability_is_in_bounding_set(one).ok()?)))
        .filter_map(|(one, is_in)| is_in.then_some(one))
}

fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() { format!("capability {:#x}", set.bits()) } else { names.join(" and ") }
}

/// Whether this is the only thread. One that was joined may still be counted for a moment: whoever joins it goes on when it
/// has let go of its memory, which is before it leaves the process (kernel/exit.c `do_exit`, 6.18: exit_mm, then exit_notify).
fn is_alone() -> anyhow::Result<bool> {
    for _ in 0..100 {
        if threads()? == 1 {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(threads()? == 1)
}

fn threads() -> anyhow::Result<usize> {
    let status = fs::read("/proc/self/status").context("read /proc/self/status")?;
    let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Threads:"));
    let count = line.and_then(|count| str::from_utf8(count).ok()?.trim().parse().ok());
    count.with_context(|| format!("no count of threads in {}", Text::new(&status)))
}

/// seccomp(2) with flags, which `seccompiler::apply_filter` does not take.
fn apply(filter: &BpfProgram, flags: libc::c_ulong) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: `program` and the filter it names live through the call, and the kernel only reads them; seccompiler's
    // `sock_filter` is `repr(C)` with the fields of the kernel's (linux/filter.h).
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
