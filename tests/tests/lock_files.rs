//! `explain PATH` of lock files: files whose existence is the lock, and of which the kernel knows nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use lockwatch_tests::{
    Process, Run, Scene, contract, items, lockwatch, needs_program, only, proc_locks_of, sources, verdict,
};
use serde_json::Value;

fn explain(source: &str, path: &Path, json: bool) -> Run {
    let mut args = vec!["explain", "--source", source, path.to_str().unwrap()];
    args.extend(json.then_some("--json"));
    let run = lockwatch(args);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run
}

/// What the document and the text say of a file without locks.
fn told(source: &str, path: &Path) -> (Value, String) {
    let document = explain(source, path, true).json();
    assert_eq!(contract::differences(&document, contract::LOCKS), [""; 0], "{document:#}");
    assert!(items(&document["locks"]).is_empty(), "{document:#}");
    (document["lock_file"].clone(), explain(source, path, false).text().to_owned())
}

fn sleeper() -> Process {
    Process::of_child(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap())
}

fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(then)).unwrap();
}

#[test]
fn a_pid_file_says_whether_its_writer_lives() {
    let scene = Scene::new();
    let path = scene.path("app.pid");
    for source in sources("a_pid_file_says_whether_its_writer_lives") {
        let mut writer = sleeper();
        fs::write(&path, format!("{}\n", writer.pid())).unwrap();
        let (file, text) = told(source, &path);
        assert_eq!((&file["names"]["pid"], &file["writer"]), (&writer.pid().into(), &"lives".into()), "{file:#}");
        assert_eq!(file["process"]["comm"], "sleep", "{file:#}");
        assert_eq!(file["uid"], fs::metadata(&path).unwrap().uid(), "{file:#}");
        assert!(text.contains("lock *file*") && text.contains("no kernel lock"), "{text}");
        assert!(text.contains("Next: ps "), "{text}");
        // The same process, but the file was there before it: an innocent one has got the number.
        age(&path, 3600);
        let (file, text) = told(source, &path);
        assert_eq!(file["writer"], "reused", "{file:#}");
        assert!(text.contains("given away") || text.contains("left behind"), "{text}");
        writer.kill();
        let (file, text) = told(source, &path);
        assert_eq!((&file["writer"], &file["process"]), (&"gone".into(), &Value::Null), "{file:#}");
        assert!(text.contains("left behind") && text.contains("Next: rm -i "), "{text}");
    }
}

#[test]
fn other_lock_files_are_read_too() {
    let scene = Scene::new();
    let me = std::process::id();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim_end().to_owned();
    let texts = [
        ("LCK..ttyS0", format!("{me:>10}\n"), "lives"),
        (".X0-lock", format!("{me:>10}\n"), "lives"),
        ("postmaster.pid", format!("{me}\n/var/lib/pg\n1795317127\n5432\n"), "lives"),
        ("gc.pid", format!("{me} {hostname}"), "lives"),
        ("far.pid", format!("{me} surely-not-{hostname}"), "elsewhere"),
    ];
    for (name, text, _) in &texts {
        fs::write(scene.path(name), text).unwrap();
    }
    let links = [("lock", format!("127.0.0.1:+{me}"), "lives"), (".#notes", format!("ann@{hostname}.{me}:1"), "lives")];
    for (name, target, _) in &links {
        symlink(target, scene.path(name)).unwrap();
    }
    fs::write(scene.path("index.lock"), b"DIRC\0\0\0\x02").unwrap();
    fs::write(scene.path("plain"), b"text").unwrap();
    for source in sources("other_lock_files_are_read_too") {
        for (name, _, writer) in texts.iter().chain(&links) {
            let (file, text) = told(source, &scene.path(name));
            assert_eq!((&file["names"]["pid"], &file["writer"]), (&me.into(), &(*writer).into()), "{name}: {file:#}");
            assert!(text.contains("lock *file*"), "{text}");
        }
        let (file, text) = told(source, &scene.path("index.lock"));
        assert!(file["names"].is_null() && file["writer"].is_null() && file["is_lock_file"] == true, "{file:#}");
        assert!(text.contains("does not say who"), "{text}");
        let (file, _) = told(source, &scene.path("plain"));
        assert_eq!(file["is_lock_file"], false, "{file:#}");
    }
}

#[test]
fn who_has_it_open_is_named() {
    let scene = Scene::new();
    let path = scene.file("app.lock");
    let mut locker = scene.locker();
    locker.open(&path, "rw");
    for source in sources("who_has_it_open_is_named") {
        let (file, text) = told(source, &path);
        let opener = &items(&file["open_by"])[0];
        assert_eq!((&opener["pid"], &opener["fd"]), (&locker.pid().into(), &3.into()), "{file:#}");
        assert!(text.contains(&format!("pid {}", locker.pid())), "{text}");
    }
}

#[test]
fn what_must_stay_closed_is_not_opened() {
    let scene = Scene::new();
    let fifo = scene.path("fifo.lock");
    if !needs_program("what_must_stay_closed_is_not_opened", "mkfifo") {
        return;
    }
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let leased = scene.path("leased.lock");
    fs::write(&leased, "1\n").unwrap();
    let mut locker = scene.locker();
    locker.open(&leased, "rw");
    locker.tell("lease 3 w");
    for source in sources("what_must_stay_closed_is_not_opened") {
        assert_eq!(told(source, &fifo).0["kind"], "fifo");
        // A lease is a kernel lock, and looking at its file breaks none.
        assert_eq!(verdict(&only(source, &leased)), "held");
        assert!(explain(source, &leased, false).text().contains("lease"));
        assert_eq!(explain(source, &leased, true).json()["lock_file"], Value::Null);
        assert_eq!(proc_locks_of(&leased)[0].mode, "write", "the lease is being broken");
    }
    let atime = |path: &Path| fs::metadata(path).unwrap().atime_nsec();
    let path = scene.path("quiet.pid");
    fs::write(&path, "1\n").unwrap();
    let before = atime(&path);
    told("auto", &path);
    assert_eq!(atime(&path), before, "a look leaves no trace");
}

#[test]
fn a_kernel_lock_goes_first() {
    let scene = Scene::new();
    let path = scene.path("both.pid");
    fs::write(&path, "1\n").unwrap();
    let mut locker = scene.locker();
    locker.open(&path, "rw");
    locker.tell("flock 3 ex");
    for source in sources("a_kernel_lock_goes_first") {
        let text = explain(source, &path, false);
        assert!(text.text().starts_with("held"), "{}", text.text());
    }
}
