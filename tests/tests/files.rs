//! The path of a locked file is one that leads to it, or none; and a path selects the file's locks, whatever stat says
//! of its device. Mounts are made in mount namespaces of the tests' own.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use lockwatch_tests::{
    Resident, Run, Scene, document_of, items, left_out, list, lockwatch_path, needs_program, needs_root, only, plain,
    run, sources, sys, taken,
};
use serde_json::Value;

/// A shell in a mount namespace of its own, that has done its work and waits.
struct Inside(Resident);

impl Inside {
    /// Runs `script` in `dir`. `None`, said loudly, where it fails.
    fn start(name: &str, dir: &Path, script: &str) -> Option<Self> {
        if !needs_root(name) || !needs_program(name, "unshare") || !needs_program(name, "perl") {
            return None;
        }
        let mut unshare = plain("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-ec"]).arg(format!("{script}\necho ready; read x"));
        match Resident::start(unshare.current_dir(dir)) {
            Ok(resident) => Some(Self(resident)),
            Err(said) => {
                left_out(name, &format!("its mounts cannot be made here ({said:?})"));
                None
            }
        }
    }

    /// lockwatch in that mount namespace.
    fn run(&self, args: &[&str]) -> Run {
        let target = self.0.pid().to_string();
        run(plain("nsenter").args(["--mount", "--target", &target]).arg(lockwatch_path()).args(args))
    }

    /// The locks of a file, as seen in there.
    fn list(&self, source: &str, path: &Path) -> Vec<Value> {
        let document = self.run(&["list", "--json", "--source", source, path.to_str().unwrap()]).document();
        items(&document["locks"]).to_vec()
    }

    /// What is seen from outside of the locks that a process in there has.
    fn seen_outside(&self, source: &str) -> Vec<Value> {
        let pid = self.0.pid().to_string();
        items(&document_of(["list", "--json", "--source", source, "--pid", &pid])["locks"]).to_vec()
    }
}

/// The shell itself keeps the lock, on fd 9.
const LOCK: &str = "flock 9";

fn path_is(lock: &Value, path: Option<&Path>, deleted: Option<bool>) {
    let shown = path.map(|path| path.to_str().unwrap());
    assert_eq!((lock["file"]["path"].as_str(), lock["file"]["deleted"].as_bool()), (shown, deleted), "{lock:#}");
}

#[test]
fn a_deleted_file_keeps_its_name_and_the_new_one_is_another() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let locker = taken(&scene, &path, "flock 9 ex");
    let pid = locker.pid().to_string();
    fs::remove_file(&path).unwrap();
    for again in [false, true] {
        if again {
            scene.file("lock");
        }
        for source in sources("a_deleted_file_keeps_its_name_and_the_new_one_is_another") {
            let document = document_of(["list", "--json", "--source", source, "--pid", &pid]);
            path_is(&items(&document["locks"])[0], Some(&path), Some(true));
            assert!(!again || list(source, &path).is_empty(), "{source}: the new file has no lock");
        }
    }
}

#[test]
fn any_link_selects_and_a_living_one_is_shown() {
    let scene = Scene::new();
    let (one, two) = (scene.file("one"), scene.path("two"));
    fs::hard_link(&one, &two).unwrap();
    let symlink = scene.path("symlink");
    std::os::unix::fs::symlink(&two, &symlink).unwrap();
    let _locker = taken(&scene, &one, "flock 9 ex");
    for source in sources("any_link_selects_and_a_living_one_is_shown") {
        for path in [&one, &two, &symlink] {
            path_is(&only(source, path), Some(&one), Some(false));
        }
    }
    fs::remove_file(&one).unwrap();
    for source in sources("any_link_selects_and_a_living_one_is_shown") {
        path_is(&only(source, &two), Some(&one), Some(true));
    }
    // An heir of the same lock does not know the other name, but who opens it by that name does; one with a lock, for
    // procfs shows no other.
    let mut reader = scene.locker();
    reader.open(&two, "rw");
    reader.tell("posix 3 r 0 1");
    for source in sources("any_link_selects_and_a_living_one_is_shown") {
        for lock in list(source, &two) {
            path_is(&lock, Some(&two), Some(false));
        }
    }
}

#[test]
fn a_memfd_has_no_path() {
    // SAFETY: the name is NUL-terminated.
    let fd = unsafe { libc::memfd_create(c"lockwatch-test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given us this descriptor.
    let _memfd = unsafe { OwnedFd::from_raw_fd(fd) };
    sys::flock(fd, libc::LOCK_EX).unwrap();
    let pid = std::process::id().to_string();
    for source in sources("a_memfd_has_no_path") {
        let document = document_of(["list", "--json", "--source", source, "--pid", &pid]);
        let labels: Vec<_> = items(&document["locks"]).iter().map(|lock| lock["file"].clone()).collect();
        let file = labels.iter().find(|file| file["label"] == "memfd:lockwatch-test");
        assert!(file.is_some_and(|file| file["path"].is_null()), "{source}: {labels:#?}");
    }
}

#[test]
fn a_file_in_another_mount_namespace_is_reached_through_its_process() {
    let name = "a_file_in_another_mount_namespace_is_reached_through_its_process";
    let scene = Scene::new();
    let (here, there) = (scene.path("here"), scene.path("there"));
    for dir in [&here, &there] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(there.join("lock"), "").unwrap();
    for mount in ["mount -t tmpfs lockwatch there", "mount --bind here there"] {
        let Some(inside) = Inside::start(name, scene.dir(), &format!("{mount}; exec 9>there/lock; {LOCK}")) else {
            return;
        };
        for source in sources(name) {
            let locks = inside.seen_outside(source);
            assert_eq!(locks.len(), 1, "{source}: {locks:#?}");
            let lock = &locks[0];
            path_is(lock, Some(&there.join("lock")), Some(false));
            let reach = lock["file"]["reach"].as_str().unwrap();
            assert_eq!(
                fs::metadata(reach).unwrap().ino(),
                lock["file"]["inode"].as_u64().unwrap(),
                "{mount}: {lock:#}"
            );
            assert!(lock["evidence"].to_string().contains("mount namespace"), "{lock:#}");
            assert!(list(source, &there.join("lock")).is_empty(), "that name is another file here");
            assert_eq!(only(source, Path::new(reach))["id"], lock["id"]);
            let seen = &inside.list(source, &there.join("lock"))[0];
            path_is(seen, Some(&there.join("lock")), Some(false));
            assert!(seen["file"]["reach"].is_null() && seen["id"] == lock["id"], "{seen:#}");
            if mount.contains("bind") {
                assert_eq!(only(source, &here.join("lock"))["id"], lock["id"], "a bind mount is the same file");
            }
        }
    }
}

#[test]
fn a_detached_or_hidden_file_has_no_path() {
    let name = "a_detached_or_hidden_file_has_no_path";
    let check = |script: &str| {
        let scene = Scene::new();
        fs::create_dir(scene.path("dir")).unwrap();
        let Some(inside) = Inside::start(name, scene.dir(), script) else { return };
        for source in sources(name) {
            let pid = inside.0.pid().to_string();
            let run = inside.run(&["list", "--json", "--source", source, "--pid", &pid]);
            for lock in [&items(&run.json()["locks"])[0], &inside.seen_outside(source)[0]] {
                assert!(lock["file"]["path"].is_null() && lock["file"]["reach"].is_null(), "{script}: {lock:#}");
            }
        }
    };
    let mount = "mount -t tmpfs lockwatch dir";
    check(&format!("{mount}; exec 9>dir/lock; {LOCK}; umount -l dir"));
    check(&format!("{mount}; exec 9>dir/lock; {LOCK}; {mount}; echo other >dir/lock"));
    // As in a chroot, where the kernel's name for a detached file is the name of another.
    check(&format!("{mount}; exec 9>dir/lock; {LOCK}; umount -l dir; {mount}; echo other >dir/lock"));
}

#[test]
fn overlays_are_selected_by_their_superblock() {
    let name = "overlays_are_selected_by_their_superblock";
    let check = |layers: &str, option: &str| {
        let scene = Scene::new();
        for dir in ["lower", "rest", "merged"] {
            fs::create_dir(scene.path(dir)).unwrap();
        }
        let script = format!(
            "{layers}; mkdir -p rest/upper rest/work; echo text >lower/below
             mount -t overlay overlay -o lowerdir=lower,upperdir=rest/upper,workdir=rest/work{option} merged
             exec 8<merged/below 9>merged/new; flock -s 8; flock 9"
        );
        let Some(inside) = Inside::start(&format!("{name} ({layers}{option})"), scene.dir(), &script) else { return };
        for source in sources(name) {
            for file in ["below", "new"] {
                let path = scene.path("merged").join(file);
                let locks = inside.list(source, &path);
                assert_eq!(locks.len(), 1, "{source}: {layers}{option}: {file}");
                path_is(&locks[0], Some(&path), Some(false));
                assert_eq!(locks[0]["file"]["fs"], "overlay", "{:#}", locks[0]);
            }
            // The layer's own file is another.
            assert!(inside.list(source, &scene.path("lower/below")).is_empty(), "{source}");
            let outside = inside.seen_outside(source);
            assert_eq!(outside.len(), 2, "{outside:#?}");
            assert!(outside.iter().all(|lock| lock["file"]["reach"].is_string()), "{outside:#?}");
        }
    };
    check("true", "");
    check("mount -t tmpfs lockwatch rest", "");
    check("mount -t tmpfs lockwatch rest", ",xino=off");
}

#[test]
fn btrfs_is_selected_by_its_superblock() {
    let name = "btrfs_is_selected_by_its_superblock";
    if !needs_program(name, "mkfs.btrfs") {
        return;
    }
    let scene = Scene::new();
    fs::create_dir(scene.path("dir")).unwrap();
    let script = format!(
        "truncate -s 200M image; mkfs.btrfs -q image; mount -o loop image dir; btrfs subvolume create dir/sub >/dev/null
         exec 9>dir/sub/lock; {LOCK}"
    );
    let Some(inside) = Inside::start(name, scene.dir(), &script) else { return };
    for source in sources(name) {
        let path = scene.path("dir/sub/lock");
        let locks = inside.list(source, &path);
        assert_eq!(locks.len(), 1, "{source}");
        path_is(&locks[0], Some(&path), Some(false));
    }
}

#[test]
fn looking_at_a_path_breaks_no_lease() {
    let name = "looking_at_a_path_breaks_no_lease";
    let scene = Scene::new();
    for dir in ["lower", "rest", "merged"] {
        fs::create_dir(scene.path(dir)).unwrap();
    }
    // F_SETLEASE is 1024, F_WRLCK 1. The layers' devices differ, so that more than a stat is needed.
    let script = "mount -t tmpfs lockwatch rest; mkdir -p rest/upper rest/work
        mount -t overlay overlay -o lowerdir=lower,upperdir=rest/upper,workdir=rest/work,xino=off merged
        exec perl -e '$SIG{IO} = sub { exit 3 }; open(F, \"+>\", $ARGV[0]) or die; fcntl(F, 1024, 1) or die;
                      $| = 1; print \"ready\\n\"; <STDIN>' merged/lock";
    let Some(inside) = Inside::start(name, scene.dir(), script) else { return };
    let path = scene.path("merged/lock");
    for source in sources(name) {
        for command in ["list", "explain"] {
            let run = inside.run(&[command, "--source", source, path.to_str().unwrap()]);
            assert!(run.text().contains("lease"), "{command}: {} {}", run.text(), run.stderr);
        }
        let locks = inside.list(source, &path);
        assert_eq!((locks.len(), &locks[0]["kind"]), (1, &"lease".into()), "{source}: {locks:#?}");
        let active = fs::read_to_string("/proc/locks").unwrap();
        let inode = format!(":{} ", locks[0]["file"]["inode"]);
        assert!(
            active.lines().any(|line| line.contains(&inode) && line.contains("LEASE  ACTIVE    WRITE")),
            "{source}: {active}"
        );
    }
}

#[test]
fn a_chrooted_process_has_the_path_of_our_root() {
    let name = "a_chrooted_process_has_the_path_of_our_root";
    if !needs_root(name) || !needs_program(name, "perl") {
        return;
    }
    let scene = Scene::new();
    fs::create_dir(scene.path("root")).unwrap();
    let path = scene.path("root/lock");
    let script = "chroot $ARGV[0] or die; chdir '/'; open(F, '>', '/lock') or die; flock(F, 2) or die; \
                  $| = 1; print \"ready\\n\"; <STDIN>";
    let _chrooted = Resident::start(plain("perl").args(["-e", script]).arg(scene.path("root"))).unwrap();
    for source in sources(name) {
        path_is(&only(source, &path), Some(&path), Some(false));
    }
}
