//! The system calls that the locker is made of, as safe functions. Numbers of descriptors are plain integers here,
//! because a test says "fd 9" and means it.

use std::{
    ffi::{CString, c_int},
    io,
};

/// Which kind of byte-range lock: the process's (POSIX) or the open file description's (OFD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// F_SETLK, F_SETLKW.
    Posix,
    /// F_OFD_SETLK, F_OFD_SETLKW.
    Ofd,
}

/// open(2) with the given flags, mode 0644.
pub fn open(path: &[u8], flags: c_int) -> io::Result<i32> {
    let path = CString::new(path)?;
    // SAFETY: `path` is NUL-terminated and lives through the call.
    check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CREAT, 0o644) })
}

/// close(2).
pub fn close(fd: i32) -> io::Result<()> {
    // SAFETY: no Rust value owns the descriptors that a locker is told about.
    check(unsafe { libc::close(fd) }).map(drop)
}

/// read(2).
pub fn read(fd: i32, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is writable for its whole length.
    let n = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// write(2).
pub fn write(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is readable for its whole length.
    let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// ftruncate(2) to nothing, and back to the beginning.
pub fn empty(fd: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::ftruncate(fd, 0) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::lseek(fd, 0, libc::SEEK_SET) } as c_int).map(drop)
}

/// dup(2).
pub fn dup(fd: i32) -> io::Result<i32> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::dup(fd) })
}

/// dup3(2): `fd` becomes reachable as `number`, whatever was there.
pub fn dup_as(fd: i32, number: i32, cloexec: bool) -> io::Result<i32> {
    // SAFETY: takes numbers only; the locker keeps its own channel out of reach of small numbers.
    check(unsafe { libc::dup3(fd, number, if cloexec { libc::O_CLOEXEC } else { 0 }) })
}

/// fcntl(2) F_DUPFD_CLOEXEC: a duplicate numbered `from` or higher that survives no exec.
pub fn dup_above(fd: i32, from: i32) -> io::Result<i32> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, from) })
}

/// flock(2); `operation` is LOCK_SH, LOCK_EX or LOCK_UN, perhaps with LOCK_NB.
pub fn flock(fd: i32, operation: c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::flock(fd, operation) }).map(drop)
}

/// fcntl(2) F_SETLK and its kin; `lock` is F_RDLCK, F_WRLCK or F_UNLCK, `len` 0 means to the end of the file.
pub fn range_lock(fd: i32, kind: RangeKind, lock: c_int, start: i64, len: i64, wait: bool) -> io::Result<()> {
    let command = match (kind, wait) {
        (RangeKind::Posix, false) => libc::F_SETLK,
        (RangeKind::Posix, true) => libc::F_SETLKW,
        (RangeKind::Ofd, false) => libc::F_OFD_SETLK,
        (RangeKind::Ofd, true) => libc::F_OFD_SETLKW,
    };
    // l_pid must be 0 for OFD locks (fcntl(2)).
    let request =
        libc::flock { l_type: lock as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: len, l_pid: 0 };
    // SAFETY: `request` is what these commands read, and lives through the call.
    check(unsafe { libc::fcntl(fd, command, &raw const request) }).map(drop)
}

/// fcntl(2) F_SETLEASE; `lock` is F_RDLCK, F_WRLCK or F_UNLCK.
pub fn lease(fd: i32, lock: c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(fd, libc::F_SETLEASE, lock) }).map(drop)
}

/// fork(2): `None` in the child, its number in the parent.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the child goes on with one thread; glibc makes malloc usable in it, and the locker keeps no lock of its
    // own across a fork (its output is one write(2) a line).
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// clone(2) with CLONE_FILES: like [`fork`], but both go on with one table of descriptors.
pub fn clone_files() -> io::Result<Option<i32>> {
    // SAFETY: without CLONE_VM the child has a copy of this stack and goes on with one thread, as after fork(2). glibc
    // is not told, so the caller has no other thread that could be inside malloc.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) } as c_int)?;
    Ok((pid != 0).then_some(pid))
}

/// clone(2) with CLONE_PARENT: like [`fork`], but the child is a child of this process's parent.
pub fn fork_sibling() -> io::Result<Option<i32>> {
    // SAFETY: as in [`clone_files`], but nothing is shared.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) } as c_int)?;
    Ok((pid != 0).then_some(pid))
}

/// _exit(2), without any of Rust's or C's farewells.
pub fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Ends this thread alone, as exit(2) means it in the kernel: a main thread becomes a zombie while others live on.
pub fn exit_thread() -> ! {
    // SAFETY: ends the thread; the caller has given away everything that it owned.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    exit(127)
}

/// setsid(2).
pub fn setsid() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// unshare(2) CLONE_NEWPID: children get a pid namespace of their own.
pub fn new_pids() -> io::Result<()> {
    // SAFETY: takes a number only.
    check(unsafe { libc::unshare(libc::CLONE_NEWPID) }).map(drop)
}

/// alarm(2): SIGALRM ends the process after so many seconds, even if it has become another program by then.
pub fn alarm(seconds: u32) {
    // SAFETY: takes a number only.
    unsafe { libc::alarm(seconds) };
}

/// timer_create(2): `signal` for this process once, after so many milliseconds.
pub fn timer(signal: c_int, ms: u32) -> io::Result<()> {
    // SAFETY: an all-zero sigevent is a valid one.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = signal;
    let mut timer = std::ptr::null_mut();
    // SAFETY: `event` and `timer` live through the call.
    check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) })?;
    let value = libc::timespec { tv_sec: (ms / 1000).into(), tv_nsec: (ms % 1000 * 1_000_000).into() };
    let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // SAFETY: `timer` was just made, `once` lives through the call.
    check(unsafe { libc::timer_settime(timer, 0, &raw const once, std::ptr::null_mut()) }).map(drop)
}

/// mmap(2): the first page of a file, shared; its address.
pub fn map(fd: i32) -> io::Result<usize> {
    // SAFETY: a new mapping where the kernel likes it; nobody ever reads or writes it.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as usize) }
}

/// mmap(2): so many bytes of a file, shared, to read and to write; the address.
pub fn map_shared(fd: i32, len: usize) -> io::Result<usize> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping where the kernel likes it; what the caller makes of it is the caller's to justify.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as usize) }
}

/// munmap(2) of what [`map`] has mapped.
pub fn unmap(address: usize) -> io::Result<()> {
    // SAFETY: no Rust value lives in a page that [`map`] made.
    check(unsafe { libc::munmap(address as *mut libc::c_void, PAGE) }).map(drop)
}

/// Any size up to that of a real page does: the kernel rounds up.
const PAGE: usize = 4096;

/// ioctl(2) whose argument is a number.
pub fn ioctl(fd: i32, request: u32, argument: libc::c_ulong) -> io::Result<c_int> {
    // SAFETY: the requests of this crate's callers read their argument as a number, or as the address of a value that
    // lives through the call.
    check(unsafe { libc::ioctl(fd, request.into(), argument) })
}

/// prctl(2) PR_SET_PDEATHSIG: SIGKILL when the thread that forked this process ends.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// prctl(2) PR_SET_CHILD_SUBREAPER: whoever loses its parent becomes a child of this process.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
}

/// execve(2) of `sleep` with so many seconds, found in the PATH. Returns only an error.
pub fn exec_sleep(seconds: u32) -> io::Result<()> {
    let seconds = CString::new(seconds.to_string())?;
    let args = [c"sleep".as_ptr(), seconds.as_ptr(), std::ptr::null()];
    // SAFETY: both are NUL-terminated, `args` ends with a null, and all live through the call.
    check(unsafe { libc::execvp(c"sleep".as_ptr(), args.as_ptr()) }).map(drop)
}

/// prctl(2) PR_SET_NAME: the command name of this thread.
pub fn set_comm(name: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: `name` is NUL-terminated and lives through the call.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// kill(2).
pub fn kill(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// gettid(2).
pub fn thread_id() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// tgkill(2): a signal for one thread of this process.
pub fn kill_thread(tid: i32, signal: c_int) -> io::Result<()> {
    kill_thread_of(std::process::id().cast_signed(), tid, signal)
}

/// Gives `signal` a handler that does nothing, so that it ends waits with EINTR, or with `restart` interrupts them for
/// a moment (SA_RESTART).
pub fn interrupt_on(signal: c_int, restart: bool) -> io::Result<()> {
    extern "C" fn nothing(_: c_int) {}
    // SAFETY: an all-zero sigaction is a valid one: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    action.sa_flags = if restart { libc::SA_RESTART } else { 0 };
    // SAFETY: the handler does nothing, so it is async-signal-safe; `action` lives through the call.
    check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// signal(2) with SIG_DFL: a program that a shell has put into the background ignores SIGINT and SIGQUIT, and so does
/// whatever it starts (POSIX.1-2017, XCU 2.11).
pub fn obey(signal: c_int) -> io::Result<()> {
    // SAFETY: SIG_DFL is no address.
    match unsafe { libc::signal(signal, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// signal(2) with SIG_IGN.
pub fn ignore(signal: c_int) -> io::Result<()> {
    // SAFETY: installs no handler.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// waitid(2): a child that has ended, and the signal that ended it or 0. It is still to be waited for, so its number is
/// its own.
pub fn ended_child() -> io::Result<Option<(i32, c_int)>> {
    // SAFETY: an all-zero siginfo is a valid one.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` lives through the call.
    check(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) })?;
    // SAFETY: these fields are there after a waitid, or zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let signal = if info.si_code == libc::CLD_EXITED { 0 } else { status };
    Ok((pid != 0).then_some((pid, signal)))
}

/// waitpid(2): the wait status of a child.
pub fn wait_for(pid: i32) -> io::Result<std::process::ExitStatus> {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(std::os::unix::process::ExitStatusExt::from_raw(status))
}

/// What SIGALRM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAlarm {
    /// It ends the process.
    Die,
    /// It ends waits with EINTR.
    Interrupt,
    /// It interrupts waits, and the kernel begins them again (SA_RESTART).
    Restart,
}

/// setitimer(2) ITIMER_REAL: SIGALRM after so many milliseconds; over and over for [`OnAlarm::Restart`].
pub fn alarm_in(milliseconds: u32, on_alarm: OnAlarm) -> io::Result<()> {
    extern "C" fn nothing(_: c_int) {}
    // SAFETY: an all-zero sigaction is a valid one: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = match on_alarm {
        OnAlarm::Die => libc::SIG_DFL,
        OnAlarm::Interrupt | OnAlarm::Restart => nothing as *const () as usize,
    };
    action.sa_flags = if on_alarm == OnAlarm::Restart { libc::SA_RESTART } else { 0 };
    // SAFETY: the handler does nothing, so it is async-signal-safe; `action` lives through the call.
    check(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) })?;
    let first =
        libc::timeval { tv_sec: i64::from(milliseconds / 1000), tv_usec: i64::from(milliseconds % 1000) * 1000 };
    let again = match on_alarm {
        OnAlarm::Restart => first,
        _ => libc::timeval { tv_sec: 0, tv_usec: 0 },
    };
    let timer = libc::itimerval { it_interval: again, it_value: first };
    // SAFETY: `timer` lives through the call; glibc's signature takes the kernel's ITIMER_REAL (0).
    check(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }).map(drop)
}

/// Reads from address 0, in a directory that gets the core.
pub fn crash(directory: &[u8]) -> io::Result<()> {
    let directory = CString::new(directory)?;
    // SAFETY: `directory` is NUL-terminated and lives through the call.
    check(unsafe { libc::chdir(directory.as_ptr()) })?;
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) })?;
    // SAFETY: none: nothing is mapped at 0 (vm.mmap_min_addr), and the fault that ends the process is what is asked for.
    unsafe { std::ptr::without_provenance::<u8>(std::hint::black_box(8)).read_volatile() };
    Ok(())
}

/// Takes memory, and touches every page of it, until there is no more.
pub fn eat_memory() -> ! {
    let mut eaten = Vec::new();
    loop {
        let mut block = vec![0_u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        eaten.push(std::hint::black_box(block));
    }
}

/// posix_openpt(3): the master of a new terminal, and its slave's path.
pub fn open_terminal() -> io::Result<(i32, String)> {
    // SAFETY: takes numbers only.
    let master = check(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) })?;
    let mut unlock: c_int = 0;
    // SAFETY: `unlock` lives through the call.
    check(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw mut unlock) })?;
    let mut number: c_int = 0;
    // SAFETY: `number` lives through the call.
    check(unsafe { libc::ioctl(master, libc::TIOCGPTN, &raw mut number) })?;
    Ok((master, format!("/dev/pts/{number}")))
}

/// tgkill(2): a signal for one thread of any process.
pub fn kill_thread_of(pid: i32, tid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) } as c_int).map(drop)
}

/// truncate(2) to nothing; O_NONBLOCK does not exist for it, so it waits for a lease to break.
pub fn truncate(path: &[u8]) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: `path` is NUL-terminated and lives through the call.
    check(unsafe { libc::truncate(path.as_ptr(), 0) }).map(drop)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
