//! What an agent has loaded, against the kernel that runs. Without the rights to load programs these say so and pass.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    sync::Mutex,
    time::{Duration, Instant},
};

use lockwatch_core::{lock::Kind, observation::LockSeen};
use rustix::{
    fs::{FlockOperation, MemfdFlags, fcntl_lock, flock, fstat, major, memfd_create, minor},
    thread::{CpuSet, sched_setaffinity},
};

use std::thread;

use super::{
    load::Way,
    stats::{Histogram, TableUse},
    *,
};

/// What an agent loads; `None` where this host does not let us.
fn agent(only: Option<Way>, sizes: Sizes) -> Option<Bpf> {
    match Bpf::for_watching(Purpose::Agent, only, sizes) {
        Ok(bpf) => Some(bpf),
        Err(error) if rustix::process::geteuid().is_root() && load::built() => panic!("{error:#}"),
        Err(error) => {
            eprintln!("left out: {error:#}");
            None
        }
    }
}

fn file() -> File {
    memfd_create("lockwatch-test", MemfdFlags::CLOEXEC).unwrap().into()
}

fn take(file: impl AsFd) {
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    flock(&file, FlockOperation::Unlock).unwrap();
}

fn count(histogram: &Histogram) -> u64 {
    histogram.buckets.iter().sum()
}

fn table(bpf: &Bpf, name: &str) -> TableUse {
    *bpf.stats().unwrap().tables.iter().find(|table| table.name == name).unwrap()
}

/// Who takes many locks, and who counts all locks that are taken, do not do so at once.
static COUNTED: Mutex<()> = Mutex::new(());

#[test]
fn every_operation_is_counted_once() {
    let _alone = COUNTED.lock();
    for way in [Way::Typed, Way::Raw] {
        let Some(bpf) = agent(Some(way), Sizes::default()) else { return };
        let (file, again) = (file(), file());
        let before = bpf.stats().unwrap();
        for _ in 0..1000 {
            take(&file);
        }
        flock(&file, FlockOperation::NonBlockingLockShared).unwrap();
        fcntl_lock(&again, FlockOperation::NonBlockingLockExclusive).unwrap();
        let after = bpf.stats().unwrap();
        // Others use locks meanwhile.
        let (flock, posix) = (Kind::Flock as usize, Kind::Posix as usize);
        let taken = |kind: usize, mode: usize| after.acquired[kind][mode] - before.acquired[kind][mode];
        assert!((1000..1100).contains(&taken(flock, 1)), "{way:?} {}", taken(flock, 1));
        assert!(taken(flock, 0) >= 1 && taken(posix, 1) >= 1, "{way:?} {after:?}");
        assert!(after.released[flock] - before.released[flock] >= 1000, "{way:?}");
        let held = count(&after.holds[flock]) - count(&before.holds[flock]);
        assert!((1000..1100).contains(&held), "{way:?} {held}");
        assert!(after.holds[flock].sum_ns > before.holds[flock].sum_ns, "{way:?}");
        assert!(table(&bpf, "held").entries >= 2, "{way:?}");
    }
}

#[test]
fn a_wait_is_timed() {
    let Some(bpf) = agent(None, Sizes::default()) else { return };
    let path = std::env::temp_dir().join(format!("lockwatch-wait-{}", std::process::id()));
    let open = || File::options().create(true).truncate(true).write(true).open(&path).unwrap();
    let (one, two) = (open(), open());
    std::fs::remove_file(&path).unwrap();
    let before = bpf.stats().unwrap();
    flock(&one, FlockOperation::LockExclusive).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| flock(&two, FlockOperation::LockExclusive).unwrap());
        let waits = || bpf.stats().unwrap().contended[0] > before.contended[0];
        until("a wait", waits);
        flock(&one, FlockOperation::Unlock).unwrap();
    });
    let after = bpf.stats().unwrap();
    assert!(count(&after.waits[0]) > count(&before.waits[0]), "{after:?}");
    assert!(after.waits[0].sum_ns > 0 && after.waits[0].buckets.len() == stats::bounds_ns().len() + 1);
}

#[test]
fn a_full_table_is_counted_and_empties() {
    let Some(mut bpf) =
        agent(None, Sizes { held: 64, processes: 64, waits: 64, watched: 64, ring_bytes: 1, ..Sizes::default() })
    else {
        return;
    };
    bpf.look(Depth::Usual).unwrap();
    let files: Vec<_> = (0..100).map(|_| file()).collect();
    files.iter().for_each(|file| flock(file, FlockOperation::NonBlockingLockExclusive).unwrap());
    let full = table(&bpf, "held");
    assert_eq!((full.entries, full.capacity), (64, 64), "{full:?}");
    assert!(full.full >= 36, "{full:?}");
    assert!(bpf.census().unwrap().locks[0][1] >= 100);
    // The walk has them all.
    assert!(bpf.look(Depth::Usual).unwrap().locks.len() >= 100);
    drop(files);
    assert!(table(&bpf, "held").entries < 64, "{:?}", table(&bpf, "held"));
    // Others' news may find the ring full, which nobody empties here.
    let lost = bpf.losses().unwrap().held;
    take(file());
    bpf.look(Depth::Usual).unwrap();
    assert_eq!(bpf.losses().unwrap().held, lost);
}

/// What is noted of locks of these files.
fn noted(bpf: &Bpf, files: &[File]) -> Vec<notes::Note> {
    let id = |file: &File| {
        let stat = fstat(file).unwrap();
        (stat.st_ino, major(stat.st_dev) << 20 | minor(stat.st_dev))
    };
    let ids: Vec<_> = files.iter().map(id).collect();
    let mut all = bpf.notes.all().unwrap();
    all.retain(|note| ids.contains(&(note.lock.inode, note.lock.device)));
    all
}

/// What comes of it if the kernel leaves out no run of a probe meanwhile, which it does on a busy machine; `None` if it
/// always does.
fn unmissed<T>(bpf: &mut Bpf, mut run: impl FnMut(&mut Bpf) -> T) -> Option<T> {
    for _ in 0..20 {
        let before = bpf.losses().unwrap().missed;
        let result = run(bpf);
        if bpf.losses().unwrap().missed == before {
            return Some(result);
        }
    }
    eprintln!("left out: this machine is too busy to run every probe");
    None
}

/// Has the running thread go on there; where there is only one CPU, all is done on that.
fn run_on(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu);
    let _ = sched_setaffinity(None, &one);
}

#[test]
fn a_note_is_in_its_slot_or_beyond_it_and_ends_with_its_lock() {
    const FILES: usize = 400;
    for way in [Way::Typed, Way::Raw] {
        // There are 128 slots.
        let Some(mut bpf) = agent(Some(way), Sizes { held: 2048, ..Sizes::default() }) else { return };
        let files: Vec<_> = (0..FILES).map(|_| file()).collect();
        let all = |files: &[File], operation| files.iter().for_each(|file| flock(file, operation).unwrap());
        let (some, others) = files.split_at(FILES / 2);
        let found = unmissed(&mut bpf, |bpf| {
            run_on(0);
            all(&files, FlockOperation::NonBlockingLockExclusive);
            let taken = noted(bpf, &files);
            until("a true count of notes", || {
                bpf.notes.audit().is_some_and(|(slots, table)| slots > 60 && table > 200)
            });
            let own = taken.iter().filter(|note| note.held.process.pid == std::process::id()).count();
            let picture = bpf.look(Depth::Usual).unwrap();
            let is_ours = |by: ProcessId| by.pid == std::process::id() && by.start.is_some();
            let seen = |lock: &&LockSeen| lock.acquirer.is_some_and(is_ours) && lock.acquired_at.is_some();
            let seen = picture.locks.iter().filter(seen).count();
            // Slots get free, and others' locks find them.
            run_on(1);
            for _ in 0..20 {
                for file in files.iter().step_by(3) {
                    flock(file, FlockOperation::Unlock).unwrap();
                    flock(file, FlockOperation::NonBlockingLockShared).unwrap();
                    flock(file, FlockOperation::NonBlockingLockExclusive).unwrap();
                }
            }
            let turned = noted(bpf, &files).len();
            all(some, FlockOperation::Unlock);
            let half = (noted(bpf, some).len(), noted(bpf, others).len());
            all(others, FlockOperation::Unlock);
            (taken.len(), own, seen, turned, half, noted(bpf, &files).len())
        });
        let Some((taken, own, seen, turned, half, none)) = found else { return };
        assert_eq!((taken, own, turned, half, none), (FILES, FILES, FILES, (0, FILES / 2), 0), "{way:?}");
        assert!(seen >= FILES, "{way:?} {seen}");
        until("a true count of notes in the end", || bpf.notes.audit().is_some());
    }
}

#[test]
fn threads_that_share_a_file_leave_no_note() {
    let Some(mut bpf) = agent(None, Sizes { held: 1024, ..Sizes::default() }) else { return };
    let files: Vec<_> = (0..4).map(|_| file()).collect();
    let byte = |file: &File, ty: i32, start: usize| {
        let request = libc::flock { l_type: ty as i16, l_whence: 0, l_start: start as i64, l_len: 1, l_pid: 0 };
        // SAFETY: `request` is what the command reads, and lives through the call.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const request) }, 0);
    };
    let left = unmissed(&mut bpf, |bpf| {
        thread::scope(|scope| {
            for number in 0..4 {
                let files = &files;
                scope.spawn(move || {
                    for turn in 0..5_000 {
                        run_on(turn / 100 % 2);
                        let file = &files[(turn + number) % files.len()];
                        byte(file, libc::F_WRLCK, number);
                        byte(file, libc::F_UNLCK, number);
                    }
                });
            }
        });
        let left = noted(bpf, &files).len();
        // If a run was left out, something has stayed: the next attempt is to begin without.
        files.iter().for_each(take_range);
        left
    });
    let Some(left) = left else { return };
    assert_eq!(left, 0);
    until("a true count of notes", || bpf.notes.audit().is_some());
}

fn take_range(file: &File) {
    fcntl_lock(file, FlockOperation::NonBlockingLockExclusive).unwrap();
    fcntl_lock(file, FlockOperation::Unlock).unwrap();
}

#[test]
fn a_probe_that_is_gone_is_missed_and_attached_again() {
    let Some(mut bpf) = agent(None, Sizes::default()) else { return };
    for _ in 0..3 {
        assert!(bpf.silent().unwrap().is_empty());
    }
    for point in ["flock_lock_inode", "posix_lock_inode", "sched_process_exit", "sched_process_fork"] {
        bpf.attached.as_mut().unwrap().hooks.iter().find(|hook| hook.point() == point).unwrap().cut();
        assert_eq!(bpf.silent().unwrap(), [point]);
        bpf.reattach(&[point]).unwrap();
        for _ in 0..3 {
            assert!(bpf.silent().unwrap().is_empty(), "{point}");
        }
    }
}

#[test]
fn a_death_that_nobody_saw_is_found_by_the_next_look() {
    let Some(mut bpf) = agent(None, Sizes::default()) else { return };
    let path = std::env::temp_dir().join(format!("lockwatch-unseen-{}", std::process::id()));
    let point = "sched_process_exit";
    bpf.attached.as_mut().unwrap().hooks.iter().find(|hook| hook.point() == point).unwrap().cut();
    let before = table(&bpf, "processes").entries;
    for _ in 0..20 {
        // flock(1) takes a lock and ends with it.
        let Ok(status) = std::process::Command::new("flock").arg(&path).arg("true").status() else { return };
        assert!(status.success());
    }
    let _ = std::fs::remove_file(&path);
    let leaked = table(&bpf, "processes").entries;
    assert!(leaked >= before + 20, "{before} {leaked}");
    bpf.reattach(&[point]).unwrap();
    bpf.look(Depth::Usual).unwrap();
    assert!(table(&bpf, "processes").entries + 20 <= leaked, "{:?} {leaked}", table(&bpf, "processes"));
}

#[test]
fn an_agent_traces_when_it_is_asked_to_and_within_limits() {
    let _alone = COUNTED.lock();
    // More than whatever else runs in our control group is likely to do.
    let Some(mut bpf) = agent(None, Sizes { traced_per_second: 3000, ..Sizes::default() }) else { return };
    let told = |bpf: &Bpf| bpf.stats().unwrap().events.iter().find(|(name, _)| *name == "acquired").unwrap().1;
    let file = file();
    let hooks = bpf.attached.as_ref().unwrap().hooks.len();
    take(&file);
    assert_eq!(told(&bpf), 0);
    bpf.set_tracing(true).unwrap();
    bpf.set_tracing(true).unwrap();
    assert_eq!(bpf.attached.as_ref().unwrap().hooks.len(), hooks + 1);
    take(&file);
    assert!(told(&bpf) > 0);
    for _ in 0..50_000 {
        take(&file);
    }
    let so_far = told(&bpf);
    assert!(so_far < 40_000, "{so_far}");
    let mut ring = bpf.take_news().unwrap();
    let mut began = 0;
    while let Some(record) = ring.next() {
        if let Some(events::News::Throttled(throttled)) = events::decode(&record, &Clock::read()) {
            assert_eq!(throttled.left_out, None);
            began += 1;
        }
    }
    assert!(began >= 1, "{began}");
    let mut over = Vec::new();
    until("the end of it", || {
        over.extend(bpf.unthrottled().unwrap());
        !over.is_empty()
    });
    assert!(over.iter().all(|throttled| throttled.left_out > Some(0)), "{over:?}");
    bpf.set_tracing(false).unwrap();
    assert_eq!(bpf.attached.as_ref().unwrap().hooks.len(), hooks);
    let so_far = told(&bpf);
    take(&file);
    assert_eq!(told(&bpf), so_far);
}

/// Waits for something that must come.
fn until(what: &str, mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < Duration::from_secs(20), "no {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
