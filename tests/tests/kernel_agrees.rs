//! Under stress, stopped at a random moment, lockwatch and the kernel see the same locks and the same waits.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use lockwatch_tests::{
    Locker, ProcLock, Process, Scene, document, items, needs_program, needs_root, proc_locks, program, sources, sys,
    until,
};
use rustix::process::Signal;
use serde_json::Value;

/// How often to start, stop and compare; 50 for a show, few for every day.
fn rounds() -> u32 {
    env::var("LOCKWATCH_ROUNDS").ok().map_or(5, |n| n.parse().unwrap())
}

/// stress-ng, and a mix of our own, in one process group, which stops and ends as one.
struct Stress {
    group: Process,
    /// Declared after the group: it is waited for when the group has been killed.
    _mix: Process,
}

impl Stress {
    fn start(scene: &Scene) -> Self {
        let mut command = Command::new("stress-ng");
        let help = Command::new("stress-ng").arg("--help").output().unwrap().stdout;
        for stressor in ["--flock", "--lockf", "--lockofd", "--locka", "--lockmix"] {
            if String::from_utf8_lossy(&help).contains(stressor) {
                command.args([stressor, "4"]);
            } else {
                println!("this stress-ng is too old for {stressor}; our own mix does the same");
            }
        }
        // Bounded in any case: a killed test leaves nothing behind for long.
        command.args(["--timeout", "180", "--temp-path"]).arg(scene.dir()).process_group(0);
        let group = Self::spawn(&mut command);
        let mut mix = Command::new(program("mix"));
        mix.arg("4").arg(scene.file("mix")).process_group(group.pid().cast_signed());
        Self { _mix: Self::spawn(&mut mix), group }
    }

    fn spawn(command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::of_child(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let _ = sys::kill(-self.group.pid().cast_signed(), signal.as_raw());
    }

    /// Stops every thread of the group, and returns when the kernel says so.
    fn stop(&self) {
        self.signal(Signal::STOP);
        until("stress-ng stands still", || self.threads().all(|stat| matches!(state(&stat), 'T' | 'Z')).then_some(()));
    }

    /// `/proc/PID/task/TID/stat` of every thread of the group.
    fn threads(&self) -> impl Iterator<Item = String> {
        let group = self.group.pid().to_string();
        entries("/proc".into())
            .filter(move |dir| {
                let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
                // After the name: state, parent, process group (proc_pid_stat(5)).
                stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(2) == Some(&group)
            })
            .flat_map(|dir| entries(dir.join("task")))
            .filter_map(|task| fs::read_to_string(task.join("stat")).ok())
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        // SIGKILL ends stopped processes too. The leader is reaped last, so the group's number stays its own.
        self.signal(Signal::KILL);
        // They must be gone before their directory is.
        until("stress-ng is gone", || self.threads().all(|stat| state(&stat) == 'Z').then_some(()));
    }
}

fn state(stat: &str) -> char {
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).unwrap_or('?')
}

fn entries(dir: PathBuf) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// How often each lock or wait is there.
type Census = BTreeMap<ProcLock, usize>;

fn by_kernel() -> Census {
    let mut census = Census::new();
    for lock in proc_locks() {
        let kind = if lock.waits { family(&lock.kind) } else { lock.kind };
        *census.entry(ProcLock { kind, ..lock }).or_default() += 1;
    }
    census
}

/// The document's waiters have no kind of their own: a POSIX request may wait for an OFD lock.
fn family(kind: &str) -> String {
    if kind == "posix" { "ofd".to_owned() } else { kind.to_owned() }
}

fn by_lockwatch(source: &str, kernel: &Census) -> Census {
    let mut census = Census::new();
    for lock in items(&document(source, &[])["locks"]) {
        let entry = |who: &Value, of: &Value, waits: bool| {
            let kind = lock["kind"].as_str().unwrap();
            let known = ProcLock {
                kind: if waits { family(kind) } else { kind.to_owned() },
                mode: of["mode"].as_str().unwrap().to_owned(),
                pid: who["pid"].as_u64().map(|pid| pid as u32),
                major: lock["file"]["major"].as_u64().unwrap() as u32,
                minor: lock["file"]["minor"].as_u64().unwrap() as u32,
                inode: lock["file"]["inode"].as_u64().unwrap(),
                start: of["range"]["start"].as_u64().unwrap(),
                end: of["range"]["end"].as_u64(),
                waits,
            };
            // lockwatch may know more than `/proc/locks` tells, which has no pid for OFD.
            let nameless = known.kind == "ofd" && !kernel.contains_key(&known);
            ProcLock { pid: known.pid.filter(|_| !nameless), ..known }
        };
        *census.entry(entry(&lock["acquirer"], lock, false)).or_default() += 1;
        // A waiter stands under every lock that blocks it: it is there as often as under the lock that has it most.
        let mut waits = Census::new();
        for waiter in items(&lock["waiters"]) {
            *waits.entry(entry(waiter, waiter, true)).or_default() += 1;
        }
        for (wait, count) in waits {
            let seen = census.entry(wait).or_default();
            *seen = count.max(*seen);
        }
    }
    census
}

type File = (u32, u32, u64);

fn file(lock: &ProcLock) -> File {
    (lock.major, lock.minor, lock.inode)
}

fn by_file(census: &Census) -> BTreeMap<File, Vec<(&ProcLock, usize)>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (lock, count) in census {
        files.entry(file(lock)).or_default().push((lock, *count));
    }
    files
}

/// Others on this host may lock and unlock meanwhile. A file counts if the kernel shows it alike before and after. And
/// because `/proc/locks` is read page by page, where a line can slip through between two pages when the list changes,
/// a difference is excused, a few times, if the list as a whole has changed; never on a host that stands still.
fn compare(source: &str, round: u32) {
    let mut excuses = 5;
    loop {
        let before = by_kernel();
        let mut lockwatch = by_lockwatch(source, &before);
        let after = by_kernel();
        let moved = before != after;
        let later = by_file(&after);
        let alike = by_file(&before).into_iter().filter(|(file, locks)| later.get(file) == Some(locks));
        let files: BTreeSet<_> = alike.map(|(file, _)| file).collect();
        let kernel: Census = before.into_iter().filter(|(lock, _)| files.contains(&file(lock))).collect();
        lockwatch.retain(|lock, _| files.contains(&file(lock)));
        assert!(kernel.len() > 10, "stress-ng has hardly a lock: {kernel:#?}");

        let missing: Vec<_> = kernel.iter().filter(|(lock, n)| lockwatch.get(lock) != Some(n)).collect();
        let invented: Vec<_> = lockwatch.iter().filter(|(lock, n)| kernel.get(lock) != Some(n)).collect();
        if missing.is_empty() && invented.is_empty() {
            return;
        }
        excuses -= 1;
        let excused = moved && excuses > 0;
        assert!(excused, "round {round}, {source}: missing {missing:#?}, invented {invented:#?}");
        println!("round {round}, {source}: the host's locks have changed meanwhile, looking again");
    }
}

/// SIGSTOP ends a wait inside the kernel (it is asked for again on SIGCONT), so stopped processes hold but do not wait.
/// These wait on, through every round.
fn waiters(scene: &Scene) -> Vec<Locker> {
    let mut cast = Vec::new();
    for (name, holder, waiters) in [
        ("flock", "flock 3 sh", ["flock 3 ex", "flock 3 ex"]),
        ("posix", "posix 3 r 0 10", ["posix 3 w 5 1", "posix 3 w 0 0"]),
        ("ofd", "ofd 3 w 0 10", ["ofd 3 r 5 1", "posix 3 w 0 0"]),
    ] {
        let path = scene.file(name);
        let mut first = scene.locker();
        first.open(&path, "rw");
        first.tell(holder);
        cast.push(first);
        for request in waiters {
            let mut waiter = scene.locker();
            waiter.open(&path, "rw");
            waiter.wait_for(&path, request);
            cast.push(waiter);
        }
    }
    cast
}

#[test]
fn the_kernel_agrees_under_stress() {
    let name = "the_kernel_agrees_under_stress";
    if !needs_root(name) || !needs_program(name, "stress-ng") {
        return;
    }
    let sources = sources(name);
    let all: Vec<u32> = (1..=rounds()).collect();
    // A scene of its own for a few rounds at a time: its cast has a bounded life.
    for rounds in all.chunks(10) {
        let scene = Scene::new();
        let mut cast = waiters(&scene);
        let stress = Stress::start(&scene);
        until("stress-ng has locks", || (proc_locks().len() > cast.len() + 8).then_some(()));
        for round in rounds {
            stress.stop();
            for source in &sources {
                compare(source, *round);
            }
            stress.signal(Signal::CONT);
            // The group has moved on when the locks are others: something to wait for between two stops.
            let before = by_kernel();
            until("stress-ng goes on", || (by_kernel() != before).then_some(()));
        }
        for locker in &mut cast {
            assert!(locker.process().lives());
        }
    }
}
