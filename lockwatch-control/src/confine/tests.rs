//! What is left of a process that has been confined: tried in forked children.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, Command, Stdio},
};

use libc::{c_int, c_long};
use rustix::{
    process::{self as processes, Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitOptions},
    thread::{capabilities, capability_is_in_bounding_set},
};

use super::*;

/// Runs `act` in a forked child, which has one thread, and returns the lines it makes.
fn in_child(act: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    // SAFETY: the child runs only what glibc makes safe after fork(3) (its allocator, system calls), and then exits
    // without running anything of the parent's.
    match unsafe { libc::fork() } {
        0 => {
            let lines = catch_unwind(AssertUnwindSafe(act));
            let lines = lines.unwrap_or_else(|_| vec!["it panicked".into()]);
            let _ = theirs.write_all(lines.join("\n").as_bytes());
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => {
            drop(theirs);
            let mut said = String::new();
            ours.read_to_string(&mut said).unwrap();
            processes::waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
            said.lines().map(str::to_owned).collect()
        }
    }
}

fn is_root() -> bool {
    let may = capabilities(None).unwrap().effective;
    let root = processes::geteuid().is_root() && may.contains(NEEDED | CapabilitySet::SETPCAP | CapabilitySet::SETUID);
    if !root {
        println!("LEFT OUT: needs root");
    }
    root
}

/// A process of another user, which waits for its input to end.
fn stranger() -> Child {
    let mut command = Command::new("cat");
    command.uid(65534).gid(65534).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn every_call_stands_once_in_the_list() {
    let numbers: BTreeSet<_> = CALLS.iter().map(|call| call.number).collect();
    assert_eq!(numbers.len(), CALLS.len());
    assert!(calls::filters().unwrap().iter().all(|filter| filter.len() < 4096), "BPF_MAXINSNS, linux/bpf_common.h");
}

#[test]
fn nothing_but_two_capabilities_is_left() {
    if !is_root() {
        return;
    }
    let said = in_child(|| {
        if let Err(error) = drop_to(NEEDED) {
            return vec![format!("{error:#}")];
        }
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let keys = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp:"];
        let plain = |line: &str| line.replace('\t', " ");
        status.lines().filter(|line| keys.iter().any(|key| line.starts_with(key))).map(plain).collect()
    });
    // CAP_KILL is 5, CAP_SYS_PTRACE 19 (linux/capability.h).
    let (none, both) = ("0000000000000000", format!("{:016x}", 1 << 5 | 1 << 19));
    let expect = [
        format!("CapInh: {none}"),
        format!("CapPrm: {both}"),
        format!("CapEff: {both}"),
        format!("CapBnd: {both}"),
        format!("CapAmb: {none}"),
        "NoNewPrivs: 1".to_owned(),
        "Seccomp: 2".to_owned(),
    ];
    assert_eq!(said, expect);
    assert!(capability_is_in_bounding_set(CapabilitySet::CHOWN).unwrap(), "and the parent keeps what it has");
}

#[test]
fn what_is_not_listed_fails_and_does_not_kill() {
    if !is_root() {
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let l = |n: c_int| c_long::from(n);
    let (socket, locked, own) =
        (l(theirs.as_raw_fd()), l(file.as_file().as_raw_fd()), l(processes::getpid().as_raw_nonzero().get()));
    let stream = l(libc::SOCK_STREAM);
    let (page, anonymous) = (l(libc::PROT_READ | libc::PROT_EXEC), l(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
    let hello = c"hello".as_ptr().expose_provenance().cast_signed() as c_long;
    let rows: [(&str, c_long, [c_long; 4], c_int); 16] = [
        ("a socket of the network", libc::SYS_socket, [l(libc::AF_INET), stream, 0, 0], libc::EPERM),
        ("a socket of this host", libc::SYS_socket, [l(libc::AF_UNIX), stream, 0, 0], libc::EPERM),
        ("execve", libc::SYS_execve, [0; 4], libc::EPERM),
        ("ptrace", libc::SYS_ptrace, [0; 4], libc::EPERM),
        ("bpf", libc::SYS_bpf, [0; 4], libc::EPERM),
        ("unshare", libc::SYS_unshare, [l(libc::CLONE_NEWNS), 0, 0, 0], libc::EPERM),
        ("a child in a namespace", libc::SYS_clone, [l(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0], libc::EPERM),
        ("clone3", libc::SYS_clone3, [0; 4], libc::ENOSYS),
        ("kill", libc::SYS_kill, [own, 0, 0, 0], libc::EPERM),
        ("memory to run", libc::SYS_mmap, [0, 4096, page, anonymous], libc::EPERM),
        ("setuid", libc::SYS_setuid, [0; 4], libc::EPERM),
        ("waiting for a flock", libc::SYS_flock, [locked, l(libc::LOCK_EX), 0, 0], libc::EPERM),
        ("a pair of sockets of the network", libc::SYS_socketpair, [l(libc::AF_INET), stream, 0, 0], libc::EPERM),
        ("taking a POSIX lock", libc::SYS_fcntl, [locked, l(libc::F_SETLK), 0, 0], libc::EPERM),
        ("an unlock", libc::SYS_flock, [locked, l(libc::LOCK_UN), 0, 0], 0),
        ("the connected socket", libc::SYS_write, [socket, hello, 5, 0], 0),
    ];
    let said = in_child(|| {
        if let Err(error) = drop_to(NEEDED) {
            return vec![format!("{error:#}")];
        }
        let try_one = |(name, number, [a, b, c, d], _): &(&str, c_long, [c_long; 4], c_int)| {
            // SAFETY: what is refused does nothing; what is let through takes numbers, and a text that lives on.
            let result = unsafe { libc::syscall(*number, *a, *b, *c, *d, -1, 0) };
            let error = if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 };
            format!("{name}: {error}")
        };
        rows.iter().map(try_one).collect()
    });
    assert_eq!(said, rows.map(|(name, _, _, expect)| format!("{name}: {expect}")));
    drop(theirs);
    let mut got = String::new();
    (&ours).read_to_string(&mut got).unwrap();
    assert_eq!(got, "hello");
}

/// The proof that CAP_DAC_READ_SEARCH is not needed: everything the acts take, on a process of another user.
#[test]
fn two_capabilities_suffice_to_act() {
    if !is_root() {
        return;
    }
    let mut stranger = stranger();
    let pid = Pid::from_child(&stranger);
    let said = in_child(|| {
        if let Err(error) = drop_to(NEEDED) {
            return vec![format!("{error:#}")];
        }
        let told = |what: &str, result: io::Result<()>| match result {
            Ok(()) => format!("{what}: done"),
            Err(error) => format!("{what}: {:?}", error.kind()),
        };
        let dir = format!("/proc/{}", pid.as_raw_nonzero());
        let listed = |name: &str| fs::read_dir(format!("{dir}/{name}")).map(drop);
        let pidfd = processes::pidfd_open(pid, PidfdFlags::empty());
        let duplicate = pidfd.and_then(|pidfd| processes::pidfd_getfd(&pidfd, 0, PidfdGetfdFlags::empty()));
        let same = |fd: &OwnedFd| {
            let (own, fd) = (processes::getpid(), fd.as_raw_fd());
            // SAFETY: takes numbers only. 0 is KCMP_FILE (linux/kcmp.h).
            unsafe { libc::syscall(libc::SYS_kcmp, own.as_raw_nonzero(), pid.as_raw_nonzero(), 0, fd, 0) }
        };
        let kcmp = duplicate.as_ref().map_or(-1, same);
        let end = || {
            let pidfd = processes::pidfd_open(pid, PidfdFlags::empty())?;
            Ok(processes::pidfd_send_signal(&pidfd, Signal::TERM)?)
        };
        vec![
            told("read its stat", fs::read(format!("{dir}/stat")).map(drop)),
            told("list its fdinfo", listed("fdinfo")),
            told("read its fdinfo", fs::read(format!("{dir}/fdinfo/0")).map(drop)),
            told("duplicate its descriptor", duplicate.map(drop).map_err(io::Error::from)),
            format!("compare it: {kcmp}"),
            told("list its fd", listed("fd")),
            told("signal it", end()),
        ]
    });
    let status = stranger.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    let mut expect = vec![
        "read its stat: done",
        "list its fdinfo: done",
        "read its fdinfo: done",
        "duplicate its descriptor: done",
        "compare it: 0",
        "list its fd: PermissionDenied",
        "signal it: done",
    ];
    // Before Linux 5.14 fdinfo was as closed as fd (fs/proc/fd.c), and whoever looks for a descriptor has to try numbers.
    let said: Vec<_> = said.iter().map(String::as_str).collect();
    if said.get(1) != expect.get(1) {
        expect[1] = "list its fdinfo: PermissionDenied";
        expect[2] = "read its fdinfo: PermissionDenied";
    }
    assert_eq!(said, expect);
}

#[test]
fn forks_threads_and_panics_still_work() {
    if !is_root() {
        return;
    }
    let said = in_child(|| {
        if let Err(error) = drop_to(NEEDED) {
            return vec![format!("{error:#}")];
        }
        let thread = std::thread::Builder::new().spawn(|| fs::read_to_string("/proc/self/status").is_ok());
        let thread = thread.map(|thread| thread.join().is_ok_and(|read| read));
        // SAFETY: the child ends at once.
        let child = match unsafe { libc::fork() } {
            // SAFETY: ends the process.
            0 => unsafe { libc::_exit(7) },
            child => processes::waitpid(Pid::from_raw(child), WaitOptions::empty()),
        };
        let code = child.ok().flatten().and_then(|(_, status)| status.exit_status());
        let panicked = catch_unwind(|| panic!("on purpose"));
        vec![format!("{:?} {code:?} {}", thread.ok(), panicked.is_err())]
    });
    assert_eq!(said, ["Some(true) Some(7) true"]);
}
