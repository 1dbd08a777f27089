//! The locks that file tables show: one walk over every process's fdinfo.

use std::{collections::HashMap, io, os::unix::fs::MetadataExt, path::Path};

use lockwatch_core::{
    parse::{
        fdinfo::{self, Access, FdInfo},
        locks::Line,
    },
    process::Process,
};

use super::{
    clock::Clock,
    kcmp::{self, Descriptor},
    procdir::ProcDir,
    processes::{self, Stat, is_gone},
};

/// Visits every descriptor of every process under `root`. A process that vanishes meanwhile had nothing.
/// `our_numbers` says that kcmp may be asked (see [`processes::shows_our_numbers`]).
pub fn scan(root: &Path, our_numbers: bool, clock: &Clock) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let our_exe = std::fs::metadata("/proc/self/exe").ok().map(|exe| exe.ino());
    for pid in ProcDir::open(root)?.numbers(".")? {
        let dir = match ProcDir::process(root, pid) {
            Ok(dir) => dir,
            Err(error) => {
                scan.denied.extend((!is_gone(&error)).then_some(pid));
                continue;
            }
        };
        let before = scan.hits.len();
        for sharers in tables(&dir, pid, our_numbers) {
            if !scan.read_table(&dir, pid, &sharers) && may_have_fds(&dir) {
                scan.denied.push(pid);
                break;
            }
        }
        if scan.hits.len() > before {
            match processes::read(&dir, pid, clock) {
                Some(process) => {
                    let looks =
                        process.exe_file.map(|exe| exe.inode) == our_exe || process.comm == Some("lockwatch".into());
                    if looks && pid != std::process::id() {
                        scan.forget_duplicates(before);
                    }
                    scan.processes.insert(pid, process);
                }
                None => scan.hits.truncate(before),
            }
        }
    }
    Ok(scan)
}

/// What the walk has found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Every descriptor that keeps a lock alive, once for each of its locks; in order of pid and fd.
    pub hits: Vec<Hit>,
    /// Every unix socket that descriptors wait in.
    pub queues: Vec<Queue>,
    /// The processes of the hits, by number.
    pub processes: HashMap<u32, Process>,
    /// The processes that would not let us look.
    pub denied: Vec<u32>,
    /// Lines that could not be read.
    pub warnings: Vec<String>,
}

impl Scan {
    /// Forgets the hits from `first` on that are duplicates which another lockwatch has made to look at them, as
    /// `peek` and `hidden` do: gone in a moment, and meant to change nothing. They survive no exec, so what
    /// that lockwatch was started with is not among them.
    fn forget_duplicates(&mut self, first: usize) {
        let mut n = 0;
        self.hits.retain(|hit| {
            n += 1;
            n <= first || hit.cloexec != Some(true) || u32::try_from(hit.line.pid) == Ok(hit.pid)
        });
    }

    /// Reads one file table, through any of the threads that share it: one that exits meanwhile loses it and shows an
    /// empty one. Returns whether that was permitted.
    fn read_table(&mut self, dir: &ProcDir, pid: u32, sharers: &[u32]) -> bool {
        let (hits, queues, warnings) = (self.hits.len(), self.queues.len(), self.warnings.len());
        for (n, task) in sharers.iter().copied().enumerate() {
            let done = visit(dir, pid, task, |fd, info| {
                let (at, cloexec, access) = (Descriptor { task, fd }, info.cloexec(), info.access());
                self.hits.extend(info.locks.iter().map(|line| Hit { pid, at, cloexec, access, line: *line }));
                let waiting = info.scm_fds.filter(|waiting| *waiting > 0);
                self.queues.extend(waiting.map(|waiting| Queue { pid, at, inode: info.ino, waiting }));
                self.warnings.extend(info.warnings.iter().map(|what| format!("fd {fd} of pid {pid}: {what}")));
            });
            let is_last = n + 1 == sharers.len();
            match done {
                Ok(()) if is_last || lives(dir, task) => return true,
                Err(error) if !is_gone(&error) => return false,
                _ => {}
            }
            if !is_last {
                self.hits.truncate(hits);
                self.queues.truncate(queues);
                self.warnings.truncate(warnings);
            }
        }
        true
    }
}

/// One descriptor with one of its locks.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// The process.
    pub pid: u32,
    /// A thread of it, and the descriptor in that thread's file table.
    pub at: Descriptor,
    /// Whether the descriptor has O_CLOEXEC.
    pub cloexec: Option<bool>,
    /// How the file is open.
    pub access: Option<Access>,
    /// The lock, as fdinfo prints it.
    pub line: Line,
}

/// A unix socket with descriptors in its receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    /// Who could receive them.
    pub pid: u32,
    /// The socket.
    pub at: Descriptor,
    /// Its inode, from Linux 5.14 on: sockets of one inode are one socket.
    pub inode: Option<u64>,
    /// How many there are.
    pub waiting: u64,
}

/// Calls `found` for every descriptor in the file table of a thread. Errors are those of opening the table, and of a
/// descriptor that may not be read; descriptors that vanish are passed over.
pub fn visit(dir: &ProcDir, pid: u32, task: u32, mut found: impl FnMut(u32, FdInfo)) -> io::Result<()> {
    let table = if task == pid { dir.dir("fdinfo")? } else { dir.dir(&format!("task/{task}/fdinfo"))? };
    let mut bytes = Vec::with_capacity(4096);
    for fd in table.numbers(".")? {
        match table.read_into(&fd.to_string(), &mut bytes) {
            Ok(_) => found(fd, fdinfo::parse(&bytes)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The threads of a process, by the file table they share. Normally that is one for all: but a leader that has exited
/// has none any more while its threads use theirs, and a thread may have left the common one by unshare(2) with
/// CLONE_FILES.
pub(super) fn tables(dir: &ProcDir, pid: u32, our_numbers: bool) -> Vec<Vec<u32>> {
    let threads = dir.numbers("task").unwrap_or_default();
    if threads.len() < 2 {
        return vec![vec![pid]];
    }
    match our_numbers.then(|| kcmp::classes(threads, |a, b| kcmp::tables(*a, *b))) {
        Some(Ok(mut tables)) => {
            // The leader speaks for its table.
            tables.iter_mut().for_each(|sharers| sharers.sort_by_key(|tid| (*tid != pid, *tid)));
            tables
        }
        _ if leader_has_exited(dir) => vec![processes::living_threads(dir, pid).collect()],
        _ => vec![vec![pid]],
    }
}

fn lives(dir: &ProcDir, task: u32) -> bool {
    let stat = dir.read(&format!("task/{task}/stat")).ok().and_then(|stat| Stat::parse(&stat));
    stat.is_some_and(|stat| !stat.is_zombie())
}

fn leader_has_exited(dir: &ProcDir) -> bool {
    dir.read("stat").ok().and_then(|stat| Stat::parse(&stat)).is_some_and(|stat| stat.is_zombie())
}

/// Whether a process whose table is closed to us could have descriptors at all: kernel threads and the dead have none.
pub(super) fn may_have_fds(dir: &ProcDir) -> bool {
    let stat = dir.read("stat").ok().and_then(|stat| Stat::parse(&stat));
    stat.is_none_or(|stat| !stat.is_kernel_thread() && !stat.is_zombie())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead, BufReader, Read},
        os::fd::AsRawFd,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    const REAL: &str = "/proc";

    fn hits_of(inode: u64) -> Vec<Hit> {
        let scan = scan(Path::new(REAL), true, &Clock::read()).unwrap();
        scan.hits.into_iter().filter(|hit| hit.line.file.is_some_and(|f| f.inode == inode)).collect()
    }

    #[test]
    fn finds_a_lock_of_our_own() {
        let file = tempfile::tempfile().unwrap();
        flock(&file, FlockOperation::LockShared).unwrap();
        let hits = hits_of(rustix::fs::fstat(&file).unwrap().st_ino);
        let at = Descriptor { task: std::process::id(), fd: file.as_raw_fd().unsigned_abs() };
        assert_eq!(hits.iter().map(|h| (h.pid, h.at)).collect::<Vec<_>>(), [(at.task, at)]);
        assert_eq!((hits[0].cloexec, hits[0].access), (Some(true), Some(Access::ReadWrite)));
    }

    const ROLE: &str = "LOCKWATCH_TEST_ROLE";

    /// Runs one test of this binary in a process of its own, up to its [`say_ready`]. For what would disturb the other
    /// tests: their descriptors are everywhere in this process.
    fn in_a_process_of_its_own(test: &str, seen_from_outside: impl FnOnce(u32, Vec<Hit>)) {
        let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&name, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, "child")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept until the child has ended: the harness in it has a summary to print.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let inode =
            lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.split_once("locked ")?.1.parse().unwrap()));
        let hits = inode.map(hits_of);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        seen_from_outside(child.id(), hits.unwrap());
    }

    /// The child's side: tells which inode is locked, and lives until it has been looked at.
    fn say_ready_and_wait(file: &fs::File) {
        let inode = rustix::fs::fstat(file).unwrap().st_ino;
        rustix::io::write(std::io::stdout(), format!("\nlocked {inode}\n").as_bytes()).unwrap();
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn finds_a_lock_in_a_threads_own_table() {
        if std::env::var_os(ROLE).is_none() {
            return in_a_process_of_its_own("finds_a_lock_in_a_threads_own_table", |pid, hits| {
                let found: Vec<_> = hits.iter().map(|hit| (hit.pid, hit.at.task == pid)).collect();
                assert_eq!(found, [(pid, false)]);
            });
        }
        let thread = std::thread::spawn(|| {
            // SAFETY: this thread gets a copy of the table; no other thread expects what it opens or closes from here.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }.unwrap();
            let file = tempfile::tempfile().unwrap();
            flock(&file, FlockOperation::LockExclusive).unwrap();
            say_ready_and_wait(&file);
        });
        thread.join().unwrap();
    }

    #[test]
    fn finds_a_lock_of_a_process_whose_leader_has_exited() {
        if std::env::var_os(ROLE).is_none() {
            return in_a_process_of_its_own("finds_a_lock_of_a_process_whose_leader_has_exited", |pid, hits| {
                let found: Vec<_> = hits.iter().map(|hit| (hit.pid, hit.at.task == pid)).collect();
                assert_eq!(found, [(pid, false)]);
            });
        }
        extern "C" fn leave(_: libc::c_int) {
            // SAFETY: ends the thread that got the signal; allowed in a signal handler.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        let test = std::thread::spawn(|| {
            let file = tempfile::tempfile().unwrap();
            flock(&file, FlockOperation::LockExclusive).unwrap();
            let leader = rustix::process::getpid().as_raw_pid();
            // SAFETY: the handler has the right signature, and takes nothing that another thread waits for: the leader
            // is the harness, which only waits for this test.
            unsafe {
                libc::signal(libc::SIGUSR1, leave as extern "C" fn(libc::c_int) as libc::sighandler_t);
                libc::syscall(libc::SYS_tgkill, leader, leader, libc::SIGUSR1);
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            while !leader_has_exited(&ProcDir::process(Path::new(REAL), leader.unsigned_abs()).unwrap()) {
                assert!(Instant::now() < deadline, "the leader lives on");
                std::thread::yield_now();
            }
            say_ready_and_wait(&file);
            std::process::exit(0);
        });
        test.join().unwrap();
    }

    #[test]
    fn the_duplicates_of_another_lockwatch_are_no_holders() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| fs::create_dir_all(root.path().join(name)).unwrap();
        let line = |pid: u32| format!("lock:\t1: FLOCK  ADVISORY  WRITE {pid} fe:00:99 0 EOF\n");
        for (pid, comm) in [(7, "lockwatch"), (8, "other")] {
            dir(&format!("{pid}/fdinfo"));
            let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 80 9 9\n");
            fs::write(root.path().join(format!("{pid}/stat")), stat).unwrap();
            for (fd, flags, owner) in [(3, "02000002", 6), (4, "02", 6), (5, "02000002", pid)] {
                let info = format!("pos:\t0\nflags:\t{flags}\n{}", line(owner));
                fs::write(root.path().join(format!("{pid}/fdinfo/{fd}")), info).unwrap();
            }
        }
        let hits = scan(root.path(), false, &Clock::read()).unwrap().hits;
        let found: Vec<_> = hits.iter().map(|hit| (hit.pid, hit.at.fd)).collect();
        assert_eq!(found, [(7, 4), (7, 5), (8, 3), (8, 4), (8, 5)]);
    }

    #[test]
    fn reads_a_fake_root_and_the_threads_of_an_exited_leader() {
        let root = tempfile::tempdir().unwrap();
        let line = "lock:\t1: FLOCK  ADVISORY  WRITE 7 fe:00:99 0 EOF\nlock:\tjunk\n";
        let stat = |pid: u32, state: char| {
            format!("{pid} (x) {state} 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {} 9 9\n", pid * 10)
        };
        for (pid, leader, table) in [(7, 'S', "7/fdinfo"), (8, 'Z', "8/task/9/fdinfo"), (5, 'S', "5/nothing")] {
            fs::create_dir_all(root.path().join(table)).unwrap();
            fs::write(root.path().join(format!("{pid}/stat")), stat(pid, leader)).unwrap();
            fs::write(root.path().join(table).join("3"), format!("pos:\t0\nflags:\t02\n{line}")).unwrap();
        }
        for (tid, state) in [(8, 'Z'), (9, 'S')] {
            let task = root.path().join(format!("8/task/{tid}"));
            fs::create_dir_all(task.join("fdinfo")).unwrap();
            fs::write(task.join("stat"), stat(tid, state)).unwrap();
        }
        let scan = scan(root.path(), false, &Clock::read()).unwrap();
        let found: Vec<_> = scan.hits.iter().map(|hit| (hit.pid, hit.at.task, hit.at.fd, hit.cloexec)).collect();
        assert_eq!(found, [(7, 7, 3, Some(false)), (8, 9, 3, Some(false))]);
        assert_eq!(scan.denied, [0; 0]);
        assert_eq!(scan.warnings[0], "fd 3 of pid 7: lock line cannot be read (no lock number): junk");
        assert_eq!(scan.processes[&8].id.start.unwrap().0, 80);
    }
}
