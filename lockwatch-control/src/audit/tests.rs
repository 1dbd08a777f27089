//! The log in directories of all kinds.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink},
    path::PathBuf,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::{samples::record, *};

/// A directory of its own, in which a log may be.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let dir = TempDir::with_prefix("lockwatch-").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn dir(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn reading(path: &Path) -> Reading {
    Reading::open(path).unwrap()
}

fn append(path: &Path, n: u32) -> Result<()> {
    Log::open(path)?.append(&record(n))
}

/// Nothing is written there, and the error says so.
fn refused(path: &Path, expect: &str) {
    let error = append(path, 1).expect_err(expect);
    let error = format!("{error:#}");
    assert!(error.contains(expect) && error.contains("audit log"), "{error}");
}

#[test]
fn a_log_is_made_with_its_directory_and_grows() {
    let scene = Scene::new();
    let path = scene.path("log/audit.jsonl");
    let mut log = Log::open(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&scene.path("log")), mode(&path), fs::read(&path).unwrap()), (0o700, 0o600, Vec::new()));
    for n in 0..3 {
        log.append(&record(n)).unwrap();
        append(&path, n + 100).unwrap();
    }
    let read = reading(&path);
    assert_eq!((read.lines, &read.breaks[..], &read.notes[..]), (6, &[][..], &[][..]));
    assert_eq!(read.entries[0].previous, ZEROS);
    let pids: Vec<_> = read.entries.iter().map(|entry| entry.record.actor.pid).collect();
    assert_eq!(pids, [0, 100, 1, 101, 2, 102]);
    assert!(read.entries.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

#[test]
fn what_is_in_the_logs_place_stays_as_it_is() {
    let scene = Scene::new();
    let victim = scene.file("victim", "precious\n");
    let path = scene.path("audit.jsonl");
    symlink(&victim, &path).unwrap();
    refused(&path, "is a symbolic link");
    fs::remove_file(&path).unwrap();
    symlink(scene.path("nothing"), &path).unwrap();
    refused(&path, "is a symbolic link");
    assert!(!scene.path("nothing").exists());
    fs::remove_file(&path).unwrap();
    fs::hard_link(&victim, &path).unwrap();
    refused(&path, "has 2 names");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&path, "is a directory");
    fs::remove_dir(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    refused(&path, "is a FIFO");
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
    refused(&victim, "it is no audit log");
    assert_eq!(fs::read(&victim).unwrap(), b"precious\n");
    refused(Path::new("audit.jsonl"), "is not an absolute path");
    refused(Path::new("/"), "is no name of a file");
    refused(&scene.path("a/b/audit.jsonl"), "No such file");
}

#[test]
fn what_others_can_change_is_not_trusted() {
    let scene = Scene::new();
    for (mode, expect) in [(0o770, "chmod go-w"), (0o777, "chmod o-w"), (0o1777, "chmod go-w"), (0o702, "chmod o-w")] {
        let dir = scene.dir(&format!("{mode:o}"), mode);
        refused(&dir.join("audit.jsonl"), expect);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
    // Above the log's own directory a group or a sticky bit is allowed, but nothing new is made there for a group.
    for (parent, mode) in [("group", 0o775), ("sticky", 0o1777)] {
        scene.dir(parent, mode);
        scene.dir(&format!("{parent}/log"), 0o755);
        append(&scene.path(&format!("{parent}/log/audit.jsonl")), 1).unwrap();
    }
    refused(&scene.path("group/new/audit.jsonl"), "is missing, and is not made");
    append(&scene.path("sticky/new/audit.jsonl"), 1).unwrap();

    let open = scene.dir("open", 0o777);
    scene.dir("open/log", 0o700);
    refused(&open.join("log/audit.jsonl"), "chmod o-w");

    let path = scene.path("audit.jsonl");
    append(&path, 1).unwrap();
    for mode in [0o620, 0o602] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        refused(&path, "chmod go-w");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    append(&path, 2).unwrap();
    assert_eq!((reading(&path).lines, reading(&path).notes.len()), (2, 0));
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    assert!(reading(&path).notes[0].contains("others can write to it"));
}

#[test]
fn what_belongs_to_somebody_else_is_not_trusted() {
    if !geteuid_is_root() {
        println!("LEFT OUT: what_belongs_to_somebody_else_is_not_trusted: needs root");
        return;
    }
    let scene = Scene::new();
    let path = scene.dir("log", 0o700).join("audit.jsonl");
    append(&path, 1).unwrap();
    let check = |whose: &Path, expect: &str| {
        chown(whose, Some(4711), None).unwrap();
        refused(&path, expect);
        chown(whose, Some(0), None).unwrap();
    };
    check(&path, "belongs to uid 4711");
    check(&scene.path("log"), "belongs to uid 4711");
    check(scene.0.path(), "belongs to uid 4711");
    assert_eq!(reading(&path).lines, 1);
}

#[test]
fn no_link_is_followed_on_the_way() {
    let scene = Scene::new();
    let dir = scene.dir("real", 0o755);
    fs::create_dir(dir.join("log")).unwrap();
    symlink(&dir, scene.path("link")).unwrap();
    refused(&scene.path("link/log/audit.jsonl"), "link is a symbolic link");
    refused(&scene.path("link/audit.jsonl"), "link is a symbolic link");
    refused(&scene.file("file", "").join("audit.jsonl"), "is a regular file");
    assert_eq!(fs::read_dir(dir.join("log")).unwrap().count(), 0);
}

#[test]
fn a_rotated_log_begins_anew() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    let mut log = Log::open(&path).unwrap();
    log.append(&record(1)).unwrap();
    // By `nocreate`, and by `create`.
    fs::rename(&path, scene.path("audit.jsonl.1")).unwrap();
    log.append(&record(2)).unwrap();
    fs::rename(&path, scene.path("audit.jsonl.2")).unwrap();
    scene.file("audit.jsonl", "");
    log.append(&record(3)).unwrap();
    log.append(&record(4)).unwrap();
    let check = |name: &str, pids: &[u32]| {
        let read = reading(&scene.path(name));
        assert!(read.breaks.is_empty() && read.entries[0].previous == ZEROS, "{name}: {read:?}");
        assert_eq!(read.entries.iter().map(|entry| entry.record.actor.pid).collect::<Vec<_>>(), pids, "{name}");
    };
    check("audit.jsonl.1", &[1]);
    check("audit.jsonl.2", &[2]);
    check("audit.jsonl", &[3, 4]);
    // Several logs put together are told as such.
    let all = ["audit.jsonl.1", "audit.jsonl.2"].map(|name| fs::read(scene.path(name)).unwrap()).concat();
    assert_eq!(Reading::of(&*all).unwrap().breaks, [Break { line: 2, damage: Damage::Restart }]);
}

#[test]
fn a_directory_is_never_rotated() {
    let scene = Scene::new();
    let dir = scene.dir("log", 0o755);
    let mut log = Log::open(&dir.join("audit.jsonl")).unwrap();
    log.append(&record(1)).unwrap();
    fs::rename(&dir, scene.path("old")).unwrap();
    let refused = |log: &mut Log| format!("{:#}", log.append(&record(2)).unwrap_err());
    assert!(refused(&mut log).contains("No such file"));
    assert!(!dir.exists());
    scene.dir("log", 0o755);
    assert!(refused(&mut log).contains("was replaced"));
    assert!(!dir.join("audit.jsonl").exists());
    fs::remove_dir(&dir).unwrap();
    fs::rename(scene.path("old"), &dir).unwrap();
    log.append(&record(3)).unwrap();
    assert_eq!(reading(&dir.join("audit.jsonl")).lines, 2);
}

#[test]
fn a_torn_line_stays_and_spoils_none() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    for n in 0..2 {
        append(&path, n).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|b| *b == b'\n').unwrap();
    for cut in [1, 7, first, first + 2, first + 200, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        let read = reading(&path);
        assert_eq!((&read.breaks[..], read.notes.len()), (&[][..], 1), "{cut}: {read:?}");
        append(&path, 7).unwrap();
        let text = fs::read(&path).unwrap();
        assert!(text.starts_with(&whole[..cut]), "{cut}");
        let read = reading(&path);
        assert!(read.breaks.is_empty(), "{cut}: {read:?}");
        assert_eq!(read.entries.last().unwrap().record, record(7), "{cut}");
    }
}

#[test]
fn a_log_that_is_no_log_any_more_is_refused() {
    let scene = Scene::new();
    let endless = [line::BEGIN, &vec![b'x'; 2 * line::MOST]].concat();
    refused(&scene.file("endless", str::from_utf8(&endless).unwrap()), "its last line has no beginning");
    refused(&scene.file("zeros", "\0\0\0"), "it begins otherwise");
    append(&scene.file("empty", ""), 1).unwrap();
}

#[test]
fn many_writers_make_one_chain() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    Log::open(&path).unwrap();
    thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut log = Log::open(path).unwrap();
                (0..25).for_each(|n| log.append(&record(writer * 100 + n)).unwrap());
            });
        }
    });
    let read = reading(&path);
    assert_eq!((read.lines, &read.breaks[..], &read.notes[..]), (100, &[][..], &[][..]));
    for writer in 0..4 {
        let pids = read.entries.iter().map(|entry| entry.record.actor.pid).filter(|pid| pid / 100 == writer);
        assert!(pids.eq(writer * 100..writer * 100 + 25), "{writer}");
    }
}

#[test]
fn whoever_keeps_the_log_locked_is_not_waited_for_for_ever() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    append(&path, 1).unwrap();
    let other = File::open(&path).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    refused(&path, "somebody else keeps it locked");
    assert_eq!(reading(&path).lines, 1);
}

fn geteuid_is_root() -> bool {
    rustix::process::geteuid().is_root()
}
