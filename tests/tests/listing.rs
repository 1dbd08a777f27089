//! `lockwatch list`: every lock of a file, with the people around it, from both sources.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use lockwatch_tests::{Scene, document_of, items, list, needs_root, only, opened, pids, sources, taken, verdict};
use serde_json::{Value, json};

/// What a lock is: kind, mode, first and last byte.
fn what(lock: &Value) -> Value {
    json!([lock["kind"], lock["mode"], lock["range"]["start"], lock["range"]["end"]])
}

#[test]
fn every_kind_mode_and_range() {
    let check = |source: &str, how: &str, lock: &str, expect: Value| {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut locker = scene.locker();
        locker.open(&path, &format!("{how} as 9"));
        locker.tell(lock);

        let seen = only(source, &path);
        let context = format!("{source}: {lock}: {seen:#}");
        assert_eq!(what(&seen), expect, "{context}");
        assert_eq!(seen["file"]["path"], path.to_str().unwrap(), "{context}");
        assert_eq!(seen["file"]["inode"], fs::metadata(&path).unwrap().ino(), "{context}");
        assert_eq!(seen["file"]["deleted"], false, "{context}");
        assert_eq!(verdict(&seen), "held", "{context}");
        // The iterator is denied nothing; reading /proc may be, by a process that no root may look into.
        if source == "bpf" {
            assert_eq!(seen["holders_complete"], true, "{context}");
        }
        let holder = &items(&seen["holders"])[0];
        assert_eq!((&holder["pid"], &holder["via"]), (&json!(locker.pid()), &json!("fd")), "{context}");
        assert_eq!((&holder["comm"], &holder["fd"]), (&json!("locker"), &json!(9)), "{context}");
        // /proc/locks has no acquirer for OFD locks; the kernel's structure may.
        if seen["kind"] != "ofd" || !seen["acquirer"].is_null() {
            assert_eq!(seen["acquirer"]["pid"], locker.pid(), "{context}");
            assert_eq!(seen["acquirer"]["state"], "alive", "{context}");
            assert_eq!(seen["acquirer"]["comm"], "locker", "{context}");
        }
    };
    for source in sources("every_kind_mode_and_range") {
        check(source, "rw", "flock 9 ex", json!(["flock", "write", 0, null]));
        check(source, "ro", "flock 9 sh", json!(["flock", "read", 0, null]));
        check(source, "rw", "posix 9 w 0 0", json!(["posix", "write", 0, null]));
        check(source, "ro", "posix 9 r 5 10", json!(["posix", "read", 5, 14]));
        check(source, "rw", "posix 9 w 100 0", json!(["posix", "write", 100, null]));
        check(source, "rw", "ofd 9 w 0 1", json!(["ofd", "write", 0, 0]));
        check(source, "ro", "ofd 9 r 7 0", json!(["ofd", "read", 7, null]));
        check(source, "ro", "lease 9 r", json!(["lease", "read", 0, null]));
        check(source, "rw", "lease 9 w", json!(["lease", "write", 0, null]));
    }
}

#[test]
fn a_lock_on_fd_0_has_a_path() {
    for source in sources("a_lock_on_fd_0_has_a_path") {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut locker = scene.locker();
        locker.open(&path, "rw as 0");
        locker.tell("posix 0 w 0 0");
        locker.tell("flock 0 ex");
        let locks = list(source, &path);
        assert_eq!(locks.len(), 2, "{source}");
        for lock in locks {
            assert_eq!(lock["file"]["path"], path.to_str().unwrap(), "{source}: {lock:#}");
            assert_eq!(items(&lock["holders"])[0]["fd"], 0, "{source}: {lock:#}");
        }
    }
}

#[test]
fn a_writer_waits_for_every_reader() {
    for source in sources("a_writer_waits_for_every_reader") {
        for (one, two, writer) in [
            ("flock 9 sh", "flock 9 sh", "flock 9 ex"),
            ("posix 9 r 0 10", "posix 9 r 5 10", "posix 9 w 0 20"),
            ("posix 9 r 0 10", "ofd 9 r 50 10", "posix 9 w 0 0"),
        ] {
            let scene = Scene::new();
            let path = scene.file("lock");
            let _readers = [taken(&scene, &path, one), taken(&scene, &path, two)];
            let mut waiter = opened(&scene, &path);
            waiter.wait_for(&path, writer);
            let locks = list(source, &path);
            assert_eq!(locks.len(), 2, "{source}: {locks:#?}");
            for lock in locks {
                let waiters = items(&lock["waiters"]);
                assert_eq!(pids(&lock["waiters"]), [u64::from(waiter.pid())], "{source}: {writer}: {lock:#}");
                assert_eq!(waiters[0]["mode"], "write", "{source}: {lock:#}");
                assert_eq!(waiters[0]["comm"], "locker", "{source}: {lock:#}");
            }
        }
    }
}

#[test]
fn a_queue_has_an_order() {
    for source in sources("a_queue_has_an_order") {
        let scene = Scene::new();
        let path = scene.file("lock");
        let _holder = taken(&scene, &path, "flock 9 ex");
        let mut queue = [opened(&scene, &path), opened(&scene, &path)];
        for waiter in &mut queue {
            waiter.wait_for(&path, "flock 9 ex");
        }
        let lock = only(source, &path);
        let behind = |pid| items(&lock["waiters"]).iter().find(|w| w["pid"] == pid).unwrap()["behind"].clone();
        assert_eq!(behind(queue[0].pid()), json!([]), "{source}: {lock:#}");
        assert_eq!(behind(queue[1].pid()), json!([queue[0].pid()]), "{source}: {lock:#}");
    }
}

#[test]
fn only_overlapping_ranges_block() {
    for source in sources("only_overlapping_ranges_block") {
        let scene = Scene::new();
        let path = scene.file("lock");
        let _apart = taken(&scene, &path, "posix 9 w 0 10");
        let _hit = taken(&scene, &path, "posix 9 w 100 10");
        let mut waiter = opened(&scene, &path);
        waiter.wait_for(&path, "posix 9 w 105 1");
        let waiters: Vec<_> = list(source, &path).iter().map(|lock| pids(&lock["waiters"])).collect();
        assert_eq!(waiters, [vec![], vec![u64::from(waiter.pid())]], "{source}");
    }
}

#[test]
fn a_file_is_found_by_any_of_its_names() {
    for source in sources("a_file_is_found_by_any_of_its_names") {
        let scene = Scene::new();
        let path = scene.file("lock");
        let (hard, soft) = (scene.path("hard"), scene.path("soft"));
        fs::hard_link(&path, &hard).unwrap();
        symlink(&path, &soft).unwrap();
        let _locker = taken(&scene, &path, "flock 9 ex");
        let ids = [&path, &hard, &soft].map(|name| only(source, name)["id"].clone());
        assert!(ids.iter().all(|id| *id == ids[0]), "{source}: {ids:?}");
    }
}

#[test]
fn a_deleted_file_keeps_its_name() {
    for source in sources("a_deleted_file_keeps_its_name") {
        let scene = Scene::new();
        // The second name shows that "(deleted)" is not taken off a name that really ends so.
        for name in ["lock", "lock (deleted)"] {
            let path = scene.file(name);
            let locker = taken(&scene, &path, "flock 9 ex");
            let alive = only(source, &path);
            assert_eq!((&alive["file"]["path"], &alive["file"]["deleted"]), (&json!(path), &json!(false)), "{source}");
            fs::remove_file(&path).unwrap();
            let pid = locker.pid().to_string();
            let document = document_of(["list", "--json", "--source", source, "--pid", &pid]);
            let file = &items(&document["locks"])[0]["file"];
            assert_eq!((&file["path"], &file["deleted"]), (&json!(path), &json!(true)), "{source}: {file:#}");
        }
    }
}

#[test]
fn a_handed_over_descriptor_names_both_sides() {
    for source in sources("a_handed_over_descriptor_names_both_sides") {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut parent = taken(&scene, &path, "flock 9 ex");
        let mut child = parent.fork(&scene);
        child.tell("comm heir");
        let lock = only(source, &path);
        assert_eq!(lock["acquirer"]["pid"], parent.pid(), "{source}: {lock:#}");
        let mut both = [u64::from(parent.pid()), u64::from(child.pid())];
        both.sort_unstable();
        assert_eq!(pids(&lock["holders"]), both, "{source}: {lock:#}");
        assert_eq!(verdict(&lock), "held", "{source}: {lock:#}");
    }
}

#[test]
fn sources_agree_on_ids() {
    if !needs_root("sources_agree_on_ids") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut locker = taken(&scene, &path, "flock 9 sh");
    // Equals in everything that an id is made of but their rank: two descriptions of one process.
    for fd in [10, 11] {
        locker.open(&path, &format!("rw as {fd}"));
        locker.tell(&format!("flock {fd} sh"));
        locker.tell(&format!("ofd {fd} r 100 1"));
    }
    // Last: closing any descriptor of the file, as opening under a number does, drops them.
    locker.tell("posix 9 w 0 1");
    locker.tell("posix 9 w 10 1");
    locker.tell("posix 9 r 20 1");
    let ids = |source| {
        let mut ids: Vec<_> = list(source, &path).iter().map(|lock| lock["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let first = ids("procfs");
    let mut distinct = first.clone();
    distinct.dedup();
    assert_eq!(distinct.len(), 8, "{first:?}");
    for source in sources("sources_agree_on_ids") {
        assert_eq!(ids(source), first, "{source}, again");
    }
}

#[test]
fn an_id_may_be_cut_short() {
    for source in sources("an_id_may_be_cut_short") {
        let scene = Scene::new();
        let path = scene.file("lock");
        let _locker = taken(&scene, &path, "flock 9 ex");
        let id = only(source, &path)["id"].as_str().unwrap().to_owned();
        for name in [id.as_str(), &id[..id.len() - 2]] {
            let document = document_of(["explain", "--json", "--source", source, name]);
            assert_eq!(items(&document["locks"])[0]["id"], *id, "{source}: {name}");
        }
    }
}
