//! What `/proc/PID` says of a process, and whether it lives.

use std::{io, path::Path};

use lockwatch_core::{
    lock::{Device, FileId},
    parse::cgroup,
    process::{Life, Process, ProcessId},
    text::Text,
    time::StartTime,
};
use lockwatch_sys::procdir::ProcDir;
pub(super) use lockwatch_sys::stat::Stat;
use rustix::fs::{major, minor};

use super::clock::Clock;

/// The living process of that number: `None` if there is none. What may not be read stays unknown.
pub fn process(root: &Path, pid: u32, clock: &Clock) -> Option<Process> {
    match ProcDir::process(root, pid) {
        Ok(dir) => read(&dir, pid, clock),
        Err(error) if is_gone(&error) => None,
        // It is there, and closed to us.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Some(Process::unknown(ProcessId { pid, start: None }, Life::Alive))
        }
        // We are out of descriptors or of memory: that says nothing of the process.
        Err(error) => {
            let why = format!("/proc/{pid} could not be read: {error}");
            Some(Process::unknown(ProcessId { pid, start: None }, Life::Unknown(why)))
        }
    }
}

/// Like [`process`], from its open directory.
pub(super) fn read(dir: &ProcDir, pid: u32, clock: &Clock) -> Option<Process> {
    let mut process = Process::unknown(ProcessId { pid, start: None }, Life::Alive);
    let stat = match dir.read("stat") {
        Ok(stat) => Stat::parse(&stat),
        Err(error) if is_gone(&error) => return None,
        Err(_) => return Some(process), // hidepid=noaccess: visible, not readable
    };
    let status = dir.read("status").unwrap_or_default();
    if !is_leader(&status, pid) {
        return None;
    }
    if let Some(stat) = stat {
        if stat.is_zombie() && !has_living_thread(dir, pid) {
            return None;
        }
        process.id.start = Some(stat.start);
        process.started_at = Some(clock.at_start(stat.start));
        process.comm = Some(stat.comm);
        process.parent = (stat.parent != 0).then_some(stat.parent);
        process.threads = Some(stat.threads);
        process.daemon_looks = Some(stat.session == i64::from(pid) && stat.tty == 0);
    }
    process.exe = dir.read_link("exe").ok().map(Text::new);
    process.exe_file = dir.stat("exe").ok().map(|s| FileId { device: device(s.st_dev), inode: s.st_ino });
    process.uid = field(&status, b"Uid:");
    process.inner_pid = inner_pid(&status);
    Some(process.with_origin(cgroup::parse(&dir.read("cgroup").unwrap_or_default())))
}

/// Whether the process is on its way out, or gone: PF_EXITING is set before any exit tracepoint fires (kernel/exit.c
/// do_exit, 6.18).
pub fn is_exiting(process: ProcessId) -> bool {
    own_stat(process).is_none_or(|stat| stat.is_ending())
}

/// Whether nothing is left of the process, not even a zombie.
pub fn has_vanished(process: ProcessId) -> bool {
    own_stat(process).is_none()
}

fn own_stat(process: ProcessId) -> Option<Stat> {
    let stat = ProcDir::process(Path::new("/proc"), process.pid).and_then(|dir| dir.read("stat")).ok()?;
    Stat::parse(&stat).filter(|stat| process.start.is_none_or(|start| start == stat.start))
}

/// Number and start of every living process.
pub fn births(root: &Path) -> Vec<(u32, StartTime)> {
    let pids = ProcDir::open(root).and_then(|root| root.numbers(".")).unwrap_or_default();
    pids.into_iter()
        .filter_map(|pid| {
            let dir = ProcDir::process(root, pid).ok()?;
            let stat = Stat::parse(&dir.read("stat").ok()?)?;
            (!stat.is_zombie() || has_living_thread(&dir, pid)).then_some((pid, stat.start))
        })
        .collect()
}

/// Why a process that is not to be found under `root` may be alive all the same; `None` if every process shows there.
///
/// Pid namespaces nest, and only the initial one sees them all. Its inode number is fixed: PROC_PID_INIT_INO,
/// 0xEFFFFFFC (include/linux/proc_ns.h, and since 6.17 include/uapi/linux/nsfs.h). A procfs that is mounted with
/// `hidepid=invisible` hides even process 1 (proc(5)).
pub fn blind_spot(root: &Path) -> Option<String> {
    const INIT_NAMESPACE: u64 = 0xEFFF_FFFC;
    let is_procfs = rustix::fs::statfs(root).is_ok_and(|fs| fs.f_type == libc::PROC_SUPER_MAGIC);
    if !is_procfs {
        return None;
    }
    let dir = ProcDir::open(root).ok()?;
    if let Err(error) = dir.stat("1")
        && is_gone(&error)
    {
        return Some("processes of other users are hidden (/proc is mounted with hidepid)".into());
    }
    // Another namespace's procfs (a container that has the host's /proc) is judged by the first process in it.
    let name = if shows_our_numbers(root) { "self/ns/pid" } else { "1/ns/pid" };
    match dir.stat(name) {
        Ok(namespace) if namespace.st_ino == INIT_NAMESPACE => None,
        Ok(_) => Some("lockwatch runs in a pid namespace of its own and sees none of the processes outside it".into()),
        Err(_) => Some("it could not be read whether all of the host's processes are visible here".into()),
    }
}

/// Whether `root` numbers processes as our own pid namespace does. System calls that take a pid (kcmp, pidfd_open)
/// mean that namespace, and must not be given another one's numbers.
pub(super) fn shows_our_numbers(root: &Path) -> bool {
    let Ok(status) = std::fs::read(root.join("self/status")) else { return false };
    // NStgid has a number for each namespace from this procfs's down to the process's own (proc(5)).
    let numbers = line(&status, b"NStgid:").map(|l| l.trim_ascii()).unwrap_or_default();
    numbers == std::process::id().to_string().as_bytes()
}

/// Whether an error says that the process (or its thread, or descriptor) is no more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The device of a `st_dev`, which glibc encodes in its own way.
pub(super) fn device(st_dev: u64) -> Device {
    Device { major: major(st_dev), minor: minor(st_dev) }
}

/// A thread's number has a directory too, although it is not listed: then the process of that number is gone.
fn is_leader(status: &[u8], pid: u32) -> bool {
    field(status, b"Tgid:").is_none_or(|tgid| tgid == pid)
}

/// Whether any thread but the leader lives.
fn has_living_thread(dir: &ProcDir, pid: u32) -> bool {
    living_threads(dir, pid).next().is_some()
}

/// The numbers of the threads that live, without the leader.
pub(super) fn living_threads(dir: &ProcDir, pid: u32) -> impl Iterator<Item = u32> {
    let threads = dir.numbers("task").unwrap_or_default().into_iter().filter(move |tid| *tid != pid);
    threads.filter(|tid| {
        let stat = dir.read(&format!("task/{tid}/stat")).ok().and_then(|stat| Stat::parse(&stat));
        stat.is_some_and(|stat| !stat.is_zombie())
    })
}

/// The rest of the line of `/proc/PID/status` that starts with `key`.
fn line<'a>(status: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(key))
}

/// The number in the process's own pid namespace, if that is below the one of this procfs: NSpid has one for each
/// (proc_pid_status(5), Linux 4.1).
fn inner_pid(status: &[u8]) -> Option<u32> {
    let numbers = str::from_utf8(line(status, b"NSpid:")?).ok()?.split_ascii_whitespace();
    numbers.skip(1).last()?.parse().ok()
}

/// The first number on that line: `Uid:` lists the real one first.
fn field(status: &[u8], key: &[u8]) -> Option<u32> {
    str::from_utf8(line(status, key)?).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    const REAL: &str = "/proc";

    fn stat(pid: u32, comm: &str, state: char, session: u32, tty: u32, start: u64) -> String {
        format!("{pid} ({comm}) {state} 1 {pid} {session} {tty} -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9 9\n")
    }

    #[test]
    fn reads_a_fake_process() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("42");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("stat"), stat(42, "a) b\n(c", 'S', 42, 0, 1234)).unwrap();
        fs::write(dir.join("status"), "Name:\tx\nTgid:\t42\nUid:\t1000\t0\t0\t0\nNSpid:\t42\t9\t7\n").unwrap();
        fs::write(dir.join("cgroup"), "0::/system.slice/x.service\n").unwrap();
        std::os::unix::fs::symlink("/nowhere/x (deleted)", dir.join("exe")).unwrap();
        let clock = Clock::read();
        let p = process(root.path(), 42, &clock).unwrap();
        assert_eq!(p.id, ProcessId { pid: 42, start: Some(StartTime(1234)) });
        assert_eq!(p.comm, Some(Text::from("a) b\n(c")));
        assert_eq!(p.started_at, Some(clock.at_start(StartTime(1234))));
        assert_eq!((p.uid, p.parent, p.daemon_looks), (Some(1000), Some(1), Some(true)));
        assert_eq!(p.threads, Some(1));
        assert_eq!((p.unit, p.slice), (Some(Text::from("x.service")), Some(Text::from("system.slice"))));
        assert_eq!((p.inner_pid, inner_pid(b"NSpid:\t42\n")), (Some(7), None));
        assert_eq!((p.exe, p.exe_file), (Some(Text::from("/nowhere/x (deleted)")), None));
        assert_eq!(births(root.path()), [(42, StartTime(1234))]);
        assert_eq!(process(root.path(), 43, &clock), None);
        assert_eq!(blind_spot(root.path()), None);
        assert!(!shows_our_numbers(root.path()));
    }

    #[test]
    fn a_zombie_lives_while_a_thread_of_it_does() {
        let root = tempfile::tempdir().unwrap();
        let task = root.path().join("42/task");
        for tid in ["42", "50"] {
            fs::create_dir_all(task.join(tid)).unwrap();
        }
        fs::write(root.path().join("42/stat"), stat(42, "x", 'Z', 1, 0, 7)).unwrap();
        let lives = |thread: char| {
            fs::write(task.join("50/stat"), stat(50, "t", thread, 1, 0, 9)).unwrap();
            (process(root.path(), 42, &Clock::read()).is_some(), births(root.path()).len())
        };
        assert_eq!(lives('S'), (true, 1));
        assert_eq!(lives('Z'), (false, 0));
    }

    #[test]
    fn a_threads_number_is_no_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_pid().unsigned_abs()).unwrap();
            finished.recv().unwrap_err();
        });
        let tid = told.recv().unwrap();
        assert!(Path::new(REAL).join(tid.to_string()).exists());
        assert_eq!(process(Path::new(REAL), tid, &Clock::read()), None);
        drop(finish);
        thread.join().unwrap();
    }

    #[test]
    fn sees_itself_and_its_children() {
        let clock = Clock::read();
        let me = process(Path::new(REAL), std::process::id(), &clock).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(me.exe.unwrap().as_bytes(), exe.as_os_str().as_encoded_bytes());
        assert_eq!(me.uid, Some(rustix::process::getuid().as_raw()));
        assert!(me.started_at.unwrap() <= clock.now());

        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let seen = process(Path::new(REAL), child.id(), &clock).unwrap();
        assert_eq!(seen.parent, Some(std::process::id()));
        assert!(births(Path::new(REAL)).contains(&(child.id(), seen.id.start.unwrap())));
        let stranger = ProcessId { start: Some(StartTime(0)), ..seen.id };
        assert!(!is_exiting(seen.id));
        assert!(is_exiting(stranger));
        child.kill().unwrap();
        // Until it is waited for it is a zombie, so its number is still listed; then it is gone.
        child.wait().unwrap();
        assert_eq!(process(Path::new(REAL), child.id(), &clock), None);
    }

    #[test]
    fn an_unwaited_child_is_dead() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let flags = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), flags).unwrap();
        assert_eq!(process(Path::new(REAL), child.id(), &Clock::read()), None);
        let id = ProcessId { pid: child.id(), start: None };
        assert!(is_exiting(id));
        child.wait().unwrap();
    }

    #[test]
    fn knows_the_namespace_of_the_real_proc() {
        assert!(shows_our_numbers(Path::new(REAL)));
        let initial = fs::read_link("/proc/self/ns/pid").unwrap() == Path::new("pid:[4026531836]");
        assert_eq!(blind_spot(Path::new(REAL)).is_none(), initial);
    }
}
