//! Looks at a made-up `/proc`, and at the real one with locks that these tests take.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lockwatch_core::lock::{Mode, Range};
use rustix::fs::{FlockOperation, flock};

use super::*;
use crate::sources::mounts::file_id;

/// A child that ends with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn real() -> Picture {
    look(&ProcfsOptions::default()).unwrap()
}

fn locks_on(picture: &Picture, file: FileId) -> Vec<LockSeen> {
    picture.locks.iter().filter(|lock| lock.file == file).cloned().collect()
}

fn holders(lock: &LockSeen) -> Vec<(u32, u32)> {
    lock.holders.iter().map(|h| (h.process.unwrap().pid, h.fd.unwrap())).collect()
}

fn fd(file: &File) -> u32 {
    file.as_raw_fd().unsigned_abs()
}

/// Locks a range with one of fcntl's commands.
fn lock_range(file: &File, command: libc::c_int, kind: libc::c_int, start: i64, len: i64) {
    // SAFETY: flock is plain numbers, for which zeros are valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (kind as libc::c_short, start, len);
    // SAFETY: the descriptor is open, and the pointer is to a live struct flock.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), command, &lock) }, 0);
}

/// flock(1) takes a lock on a descriptor that it was given, and exits: returns its pid, of a dead process.
fn lock_by_helper(file: &File) -> u32 {
    let mut helper = Command::new("flock").args(["-x", "0"]).stdin(file.try_clone().unwrap()).spawn().unwrap();
    assert!(helper.wait().unwrap().success());
    helper.id()
}

#[test]
fn every_kind_of_lock_has_its_acquirer_and_holder() {
    let dir = tempfile::tempdir().unwrap();
    let new = |name| File::options().create(true).truncate(false).read(true).write(true).open(dir.path().join(name));
    let me = std::process::id();
    let (flocked, posix, ofd) = (new("flock").unwrap(), new("posix").unwrap(), new("ofd").unwrap());
    flock(&flocked, FlockOperation::LockShared).unwrap();
    lock_range(&posix, libc::F_SETLK, libc::F_WRLCK, 10, 90);
    lock_range(&ofd, libc::F_OFD_SETLK, libc::F_RDLCK, 0, 0);
    let picture = real();
    let check = |name: &str, file: &File, kind, mode, range, acquirer: Option<u32>| {
        let id = file_id(&dir.path().join(name)).unwrap();
        let locks = locks_on(&picture, id);
        assert_eq!(locks.len(), 1, "{name}");
        assert_eq!((locks[0].kind, locks[0].mode, locks[0].range), (kind, mode, range));
        assert_eq!(locks[0].acquirer.map(|a| a.pid), acquirer);
        assert_eq!(holders(&locks[0]), [(me, fd(file))]);
        assert_eq!(locks[0].holders[0].cloexec, Some(true));
        assert_eq!(picture.files[&id].path, Some(Text::new(dir.path().join(name).as_os_str().as_encoded_bytes())));
        assert_eq!(picture.files[&id].text, None);
    };
    check("flock", &flocked, Kind::Flock, Mode::Read, Range::WHOLE, Some(me));
    check("posix", &posix, Kind::Posix, Mode::Write, Range { start: 10, end: Some(99) }, Some(me));
    check("ofd", &ofd, Kind::Ofd, Mode::Read, Range::WHOLE, None);
    assert_eq!(
        picture.census.living[&me].id,
        locks_on(&picture, file_id(&dir.path().join("ofd")).unwrap())[0].holders[0].process.unwrap()
    );
}

#[test]
fn locks_alike_get_each_their_own_description() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let (a, b) = (path.reopen().unwrap(), path.reopen().unwrap());
    let heir = Killed(Command::new("sleep").arg("60").stdin(b.try_clone().unwrap()).spawn().unwrap());
    flock(&a, FlockOperation::LockShared).unwrap();
    flock(&b, FlockOperation::LockShared).unwrap();
    let me = std::process::id();
    let locks = locks_on(&real(), file_id(path.path()).unwrap());
    let mut found: Vec<_> = locks.iter().map(holders).collect();
    found.sort();
    let mut expect = [vec![(me, fd(&a))], vec![(me, fd(&b)), (heir.0.id(), 0)]];
    expect.iter_mut().for_each(|holders| holders.sort_unstable());
    expect.sort();
    assert_eq!(found, expect);
    assert_ne!(locks[0].owner, locks[1].owner);
}

#[test]
fn a_dead_acquirer_stays_named_and_its_pid_file_is_read() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = path.reopen().unwrap();
    fs::write(path.path(), "4711\n").unwrap();
    let helper = lock_by_helper(&file);
    let picture = real();
    let id = file_id(path.path()).unwrap();
    let locks = locks_on(&picture, id);
    assert_eq!(locks[0].acquirer, Some(ProcessId { pid: helper, start: None }));
    assert_eq!(holders(&locks[0]), [(std::process::id(), fd(&file))]);
    assert!(!picture.census.living.contains_key(&helper));
    assert_eq!(picture.files[&id].text.as_deref(), Some(&b"4711\n"[..]));
    assert!(picture.census.births.iter().any(|(pid, _)| *pid == std::process::id()));
    assert!(picture.taken_at > picture.census.living[&std::process::id()].started_at.unwrap());
}

#[test]
fn who_waits_is_named_with_its_start() {
    let path = tempfile::NamedTempFile::new().unwrap();
    flock(&path, FlockOperation::LockExclusive).unwrap();
    let waiter = Killed(Command::new("flock").arg(path.path()).arg("true").stdout(Stdio::null()).spawn().unwrap());
    let id = file_id(path.path()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = loop {
        let picture = real();
        if let Some(wait) = picture.waits.iter().find(|wait| wait.file == id) {
            break wait.clone();
        }
        assert!(Instant::now() < deadline, "nobody waits");
        std::thread::yield_now();
    };
    let process = wait.process.unwrap();
    assert_eq!((process.pid, wait.kind, wait.mode), (waiter.0.id(), Kind::Flock, Mode::Write));
    assert!(process.start.is_some());
}

/// A `/proc` with one process, 7, whose fd 3 is `locked`, and whatever `locks` says.
fn fake(locks: &str, locked: &Path) -> (tempfile::TempDir, ProcfsOptions) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_path_buf();
    for name in ["self", "7/fdinfo", "7/fd", "8", "block"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("locks"), locks).unwrap();
    fs::write(root.join("self/mountinfo"), "27 1 254:0 / / rw - ext4 /dev/vda rw\n").unwrap();
    fs::write(root.join("7/stat"), "7 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 99 9 9\n").unwrap();
    fs::write(root.join("8/stat"), "8 (y) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 100 9 9\n").unwrap();
    let mut fdinfo = "pos:\t0\nflags:\t02\nmnt_id:\t27\nino:\t5\n".to_owned();
    for line in locks.lines().filter(|line| !line.contains("->") && line.contains("fe:00:5")) {
        fdinfo += &format!("lock:\t{line}\n");
    }
    fs::write(root.join("7/fdinfo/3"), fdinfo).unwrap();
    std::os::unix::fs::symlink(locked, root.join("7/fd/3")).unwrap();
    let block = root.join("block");
    (dir, ProcfsOptions { root, block })
}

#[test]
fn a_fake_proc_is_read_to_the_letter() {
    let (_dir, options) = fake(
        "1: FLOCK  ADVISORY  WRITE 6 fe:00:5 0 EOF\n1: -> FLOCK  ADVISORY  READ 8 fe:00:5 0 EOF\n\
         2: LEASE  BREAKING  UNLCK 7 fe:00:6 0 EOF\n2: -> LEASE  BREAKER   WRITE 8 <none>:0 0 EOF\n\
         3: POSIX  ADVISORY  WRITE -44 fe:00:6 0 9\n",
        Path::new("/var/gone (deleted)"),
    );
    let picture = look(&options).unwrap();
    let file = |inode| FileId { device: lockwatch_core::lock::Device { major: 254, minor: 0 }, inode };
    let acquirers: Vec<_> = picture.locks.iter().map(|l| l.acquirer.map(|a| a.pid)).collect();
    assert_eq!(acquirers, [Some(6), Some(7), None]);
    assert_eq!(holders(&picture.locks[0]), [(7, 3)]);
    assert_eq!(picture.waits.iter().map(|w| w.file).collect::<Vec<_>>(), [file(5), file(6)]);
    assert_eq!(picture.waits[0].process.unwrap().start.unwrap().0, 100);
    let seen = &picture.files[&file(5)];
    assert_eq!((&seen.path, seen.deleted), (&Some(Text::from("/var/gone")), true));
    assert_eq!(seen.fs, Some(Text::from("ext4")));
    assert_eq!(picture.census.births.len(), 2);
    assert!(picture.fds_complete);
    assert!(picture.exact);
    let warnings = [
        "1 lease is being broken, and the kernel no longer prints the mode: shown as read",
        "a holder may be missing: descriptors on their way through unix sockets can be seen only from the pid namespace \
         of this /proc",
    ];
    assert_eq!(picture.warnings, warnings);
    assert!(!picture.search_complete);
}

#[test]
fn junk_is_warned_of_and_the_rest_is_shown() {
    let (dir, options) = fake("junk\x07\n2: FLOCK  ADVISORY  WRITE 7 fe:00:5 0 EOF\n", Path::new("/x"));
    let picture = look(&options).unwrap();
    assert_eq!(picture.locks.len(), 1);
    assert!(!picture.exact);
    let root = dir.path().display();
    assert_eq!(picture.warnings, [format!("{root}/locks: line 1 cannot be read (no lock number): junk\\x07")]);
}

#[test]
fn locks_alike_without_kcmp_are_not_complete() {
    let same = "FLOCK  ADVISORY  READ 7 fe:00:5 0 EOF";
    let (_dir, options) = fake(&format!("1: {same}\n2: {same}\n"), Path::new("/x"));
    let picture = look(&options).unwrap();
    assert_eq!((picture.locks.len(), picture.fds_complete, picture.exact), (2, false, false));
    assert!(picture.warnings[0].starts_with("2 locks are alike"), "{:?}", picture.warnings);
}

/// A `/proc` that claims to be our own, with a lock on file 6 by process `taker` and a process, 8, that maps it.
fn fake_with_mapping(taker: u32, more: &str) -> (tempfile::TempDir, ProcfsOptions) {
    let (dir, options) = fake(&format!("1: FLOCK  ADVISORY  WRITE {taker} fe:00:6 0 EOF\n{more}"), Path::new("/x"));
    let ours = format!("NStgid:\t{}\n", std::process::id());
    fs::write(options.root.join("self/status"), ours).unwrap();
    fs::write(options.root.join("8/maps"), "7f00-7f01 rw-s 00000000 fe:00 6    /run/lock (deleted)\n").unwrap();
    fs::write(options.root.join("7/maps"), "").unwrap();
    fs::create_dir_all(options.root.join("8/fd")).unwrap();
    (dir, options)
}

#[test]
fn what_only_memory_keeps_is_a_holder_by_elimination() {
    let (_dir, options) = fake_with_mapping(6, "");
    let picture = look(&options).unwrap();
    let holder = &picture.locks[0].holders[0];
    assert_eq!((holder.process.unwrap().start.unwrap().0, holder.via, holder.fd), (100, Via::Mapping, None));
    assert_eq!(holder.detail.as_deref(), Some("mapped at 7f00-7f01 (rw-s)"));
    let seen = &picture.files[&picture.locks[0].file];
    assert_eq!((&seen.path, seen.deleted), (&Some(Text::from("/run/lock")), true));
    assert!(picture.census.living.contains_key(&8));
    assert_eq!((picture.search_complete, picture.warnings), (true, vec![]));
}

#[test]
fn elimination_needs_every_place_and_a_taker_who_was_dead() {
    let check = |taker: u32, more: &str, spoil: &dyn Fn(&Path), expect: &str| {
        let (_dir, options) = fake_with_mapping(taker, more);
        spoil(&options.root);
        let picture = look(&options).unwrap();
        assert_eq!(picture.locks[0].holders.len(), 1);
        assert!(!picture.search_complete, "{expect}");
        assert!(picture.warnings.iter().any(|why| why.contains(expect)), "{expect}: {:?}", picture.warnings);
    };
    let nothing = |_: &Path| ();
    check(7, "", &nothing, "pid 7 lives and took a lock that no descriptor keeps");
    check(6, "2: OFDLCK ADVISORY  WRITE -1 fe:00:6 0 9\n", &nothing, "who took it is not known");
    check(6, "", &|root| fs::remove_dir(root.join("block")).unwrap(), "the loop devices cannot be listed");
    check(
        6,
        "",
        &|root| {
            fs::create_dir_all(root.join("block/loop0/loop")).unwrap();
            fs::write(root.join("block/loop0/loop/backing_file"), "/image (deleted)\n").unwrap();
        },
        "behind loop device /dev/loop0 cannot be told by its name: /image (deleted)",
    );
    let ring = |info: &'static str| {
        move |root: &Path| {
            std::os::unix::fs::symlink("anon_inode:[io_uring]", root.join("8/fd/4")).unwrap();
            fs::create_dir_all(root.join("8/fdinfo")).unwrap();
            fs::write(root.join("8/fdinfo/4"), info).unwrap();
        }
    };
    check(6, "", &ring("pos:\t0\nino:\t9\n"), "the io_uring at fd 4 of pid 8 is busy");
    check(6, "", &ring("ino:\t9\nUserFiles:\t1\n    0: name\n"), "cannot be told by its name: name");
    check(6, "", &ring("ino:\t9\nUserFiles:\t1\nUserBufs:\t0\n"), "does not show whether");
    let unlisted =
        "7f00-7f01 rw-s 00000000 fe:00 6    /run/lock\n7f02-7f03 rw-s 00000000 00:10 9 anon_inode:[io_uring]\n";
    check(6, "", &|root| fs::write(root.join("8/maps"), unlisted).unwrap(), "an io_uring without a descriptor");
}

#[test]
fn a_taker_who_maps_the_file_itself_may_live() {
    let (_dir, options) = fake_with_mapping(8, "");
    assert!(look(&options).unwrap().search_complete);
}

#[test]
fn what_has_gone_by_the_second_reading_is_not_proven() {
    let (_dir, options) = fake_with_mapping(6, "");
    let (lines, _) = locks::parse(&fs::read(options.root.join("locks")).unwrap());
    let check = |then: &str, expect: bool| {
        fs::write(options.root.join("locks"), then).unwrap();
        let clock = Clock::read();
        let mut scan = fds::scan(&options.root, true, &clock).unwrap();
        let mut joined = join_up(&lines, &scan.hits, &scan, None, true);
        let place = Place { options: &options, our_numbers: true, clock: &clock };
        let searched = search::explain(&place, &lines, &mut scan, &mut joined);
        assert_eq!((joined.locks[0].holders.len(), searched.complete), (1, expect), "{then}");
    };
    check("9: FLOCK  ADVISORY  WRITE 6 fe:00:6 0 EOF\n", true);
    check("1: FLOCK  ADVISORY  WRITE 5 fe:00:6 0 EOF\n", false);
    check("", false);
}

#[test]
fn nothing_is_searched_where_descriptors_explain_it_all() {
    let (_dir, mut options) = fake("1: FLOCK  ADVISORY  WRITE 6 fe:00:5 0 EOF\n", Path::new("/x"));
    options.block = "/nonexistent".into();
    let picture = look(&options).unwrap();
    assert_eq!((picture.search_complete, picture.warnings), (true, vec![]));
}

/// More than one read(2) shows: like a page of the real list.
#[test]
fn a_list_in_pieces_is_exact_if_nothing_contradicts_it() {
    let line = |n: usize| format!("{n}: POSIX  ADVISORY  WRITE 7 fe:00:5 {n} {n}\n");
    let list: String = (0..2500).map(line).collect();
    let check = |more: &str, exact: bool| {
        let (_dir, options) = fake(&format!("{list}{more}"), Path::new("/x"));
        // What descriptors show is in the list, but `more` only once.
        let fdinfo = options.root.join("7/fdinfo/3");
        fs::write(&fdinfo, fs::read_to_string(&fdinfo).unwrap().replacen(&format!("lock:\t{more}"), "", 1)).unwrap();
        let picture = look(&options).unwrap();
        let torn = picture.warnings.iter().any(|why| why.starts_with("locks came and went while the list"));
        assert_eq!((picture.exact, torn), (exact, !exact), "{:?}", picture.warnings);
    };
    check("", true);
    check(&line(2499), false);
}

#[test]
fn a_long_list_must_not_contradict_itself() {
    let line = |n: usize, pid: u32, inode: usize| format!("{n}: FLOCK  ADVISORY  WRITE {pid} fe:00:{inode} 0 EOF\n");
    let check = |lines: &[String], expect: bool| {
        let (lines, _) = locks::parse(lines.concat().as_bytes());
        assert_eq!(contradicts_itself(&lines), expect);
    };
    let list: Vec<String> = (1..200).map(|n| line(n, 7, n)).collect();
    check(&list, false);
    check(&[&list[..], &[line(200, 7, 199)]].concat(), true);
    check(&[&list[..], &[line(200, 8, 100)]].concat(), true);
    check(
        &["1: FLOCK  ADVISORY  READ 7 fe:00:1 0 EOF\n".into(), "2: FLOCK  ADVISORY  READ 7 fe:00:1 0 EOF\n".into()],
        false,
    );
    check(
        &[
            "1: FLOCK  ADVISORY  WRITE 7 fe:00:1 0 EOF\n".into(),
            "1: -> FLOCK  ADVISORY  WRITE 7 fe:00:1 0 EOF\n".into(),
        ],
        false,
    );
    check(
        &["1: LEASE  ACTIVE    WRITE 7 fe:00:1 0 EOF\n".into(), "2: FLOCK  ADVISORY  WRITE 7 fe:00:1 0 EOF\n".into()],
        false,
    );
}

#[test]
fn a_host_without_locks_is_quiet_and_one_without_the_list_is_an_error() {
    let (dir, options) = fake("", Path::new("/x"));
    let picture = look(&options).unwrap();
    assert_eq!((picture.locks.len(), picture.exact, picture.warnings.len()), (0, true, 0));
    fs::remove_file(dir.path().join("locks")).unwrap();
    let error = format!("{:#}", look(&options).unwrap_err());
    assert_eq!(error, format!("read {}/locks: No such file or directory (os error 2)", dir.path().display()));
}

#[test]
fn the_denied_are_counted_and_the_first_are_named() {
    let check = |pids: &[u32], expect: &str| {
        let said = denied(pids).unwrap();
        assert!(said.starts_with(expect) && said.contains("CAP_SYS_PTRACE"), "{said}");
    };
    assert_eq!(denied(&[]), None);
    check(&[1], "1 process may hold locks but could not be looked into (pid 1): ");
    check(&[1, 2, 3, 9, 8], "5 processes may hold locks but could not be looked into (pid 1, 2, 3 and 2 more): ");
}

#[test]
fn sentences_count() {
    assert_eq!(count(2, "lease is"), "2 leases are");
    assert_eq!(count(1, "lock or waiter is"), "1 lock or waiter is");
    assert_eq!(count(3, "lock or waiter is"), "3 locks or waiters are");
}
