//! Pid, user and time namespaces, seen from both sides; each is made by the test and ends with it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{fs, path::Path, process::Stdio};

use lockwatch_tests::{
    Resident, Run, Scene, contract, ghost, items, left_out, locker::words::encode, lockwatch_path, needs_program,
    needs_root, only, plain, proc_locks_of, run, sources, sources_that_see_all, taken, until, verdict,
};
use serde_json::Value;

/// A shell in namespaces of its own.
fn inside(unshare: &[&str], script: &str) -> Resident {
    let started = Resident::start(plain("unshare").args(unshare).args(["--kill-child", "--", "sh", "-c", script]));
    started.unwrap_or_else(|said| panic!("{script}: {said:?}"))
}

/// Whether such namespaces can be made here; says if not.
fn can_unshare(name: &str, unshare: &[&str]) -> bool {
    if !needs_root(name) || !needs_program(name, "unshare") || !needs_program(name, "flock") {
        return false;
    }
    let done = plain("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
    let can = done.is_ok_and(|status| status.success());
    if !can {
        left_out(name, &format!("needs unshare {}", unshare.join(" ")));
    }
    can
}

/// lockwatch in namespaces of its own.
fn look_from(unshare: &[&str], lockwatch: &Path, args: &[&str], path: &Path) -> Run {
    run(plain("unshare").args(unshare).arg("--").arg(lockwatch).args(args).arg(path))
}

fn list_from(unshare: &[&str], args: &[&str], path: &Path) -> Value {
    look_from(unshare, &lockwatch_path(), &[&["list", "--json"], args].concat(), path).document()
}

const PID_NAMESPACE: &[&str] = &["--pid", "--fork", "--mount-proc"];

#[test]
fn the_host_sees_into_a_pid_namespace() {
    let name = "the_host_sees_into_a_pid_namespace";
    if !can_unshare(name, PID_NAMESPACE) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let shown = path.to_str().unwrap();
    let _taker = inside(PID_NAMESPACE, &format!("exec flock {shown} sh -c 'echo ready; read x'"));
    let _waiter = inside(PID_NAMESPACE, &format!("flock {shown} true & echo ready; read x"));
    until("somebody waits", || proc_locks_of(&path).iter().any(|lock| lock.waits).then_some(()));
    for source in sources(name) {
        let lock = only(source, &path);
        assert_eq!(verdict(&lock), "held", "{source}: {lock:#}");
        let holder = items(&lock["holders"]).iter().find(|holder| holder["pid"] == lock["acquirer"]["pid"]).unwrap();
        for person in [&lock["acquirer"], holder, &items(&lock["waiters"])[0]] {
            assert_eq!(person["comm"], "flock", "{source}: {lock:#}");
            // Both numbers, as the kernel has them.
            let status = fs::read_to_string(format!("/proc/{}/status", person["pid"])).unwrap();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
            let numbers: Vec<u64> = numbers.split_ascii_whitespace().map(|n| n.parse().unwrap()).collect();
            assert_eq!(numbers.len(), 2, "{numbers:?}");
            assert_eq!((&person["pid"], &person["inner_pid"]), (&numbers[0].into(), &numbers[1].into()), "{lock:#}");
        }
        let detail = format!("pid {} in its own pid namespace", holder["inner_pid"]);
        assert_eq!(holder["detail"], detail.as_str(), "{source}: {lock:#}");
    }
}

#[test]
fn a_ghost_in_a_pid_namespace_is_a_ghost() {
    let name = "a_ghost_in_a_pid_namespace_is_a_ghost";
    if !can_unshare(name, PID_NAMESPACE) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    // A shell takes the lock by flock(1) and passes it to its child, without which nobody has it: the idiom's leak.
    let script =
        format!("sh -c 'exec 9>{0}; flock 9; sleep 60 & exec 9>&-'; echo ready; read x", path.to_str().unwrap());
    let _inside = inside(PID_NAMESPACE, &script);
    for source in sources_that_see_all(name) {
        let lock = only(source, &path);
        assert_eq!(lock["acquirer"]["state"], "dead", "{source}: {lock:#}");
        assert_ne!(lock["verdict"], "held", "{source}: {lock:#}");
        let holder = &items(&lock["holders"])[0];
        assert!(holder["comm"] == "sleep" && holder["inner_pid"].is_u64(), "{source}: {lock:#}");
    }
}

#[test]
fn inside_a_pid_namespace_nothing_is_claimed_of_the_outside() {
    let name = "inside_a_pid_namespace_nothing_is_claimed_of_the_outside";
    if !can_unshare(name, PID_NAMESPACE) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut locker = taken(&scene, &path, "flock 9 ex");
    let document = list_from(PID_NAMESPACE, &[], &path);
    assert_eq!(document["exact"], false, "{document:#}");
    assert!(document["warnings"].to_string().contains("pid namespace"), "{document:#}");
    assert!(items(&document["locks"]).is_empty(), "the kernel hides it: {document:#}");
    let told = look_from(PID_NAMESPACE, &lockwatch_path(), &["explain"], &path);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.text().contains("pid namespace"), "that none is seen is no proof: {}", told.text());
    // An OFD lock is listed everywhere, and its holder is not.
    locker.tell("unflock 9");
    locker.tell("ofd 9 w 0 10");
    let document = list_from(PID_NAMESPACE, &[], &path);
    let lock = &items(&document["locks"])[0];
    assert_eq!((verdict(lock), &lock["holders_complete"]), ("unknown".into(), &false.into()), "{lock:#}");
}

#[test]
fn inside_a_lock_of_the_outside_is_seen_by_who_inherited_it() {
    let name = "inside_a_lock_of_the_outside_is_seen_by_who_inherited_it";
    if !can_unshare(name, PID_NAMESPACE) {
        return;
    }
    let scene = Scene::new();
    let (path, out) = (scene.file("lock"), scene.file("out"));
    let mut locker = taken(&scene, &path, "flock 9 sh");
    let line = format!(
        "unshare {} {} list --json {} >{}",
        PID_NAMESPACE.join(" "),
        lockwatch_path().display(),
        path.display(),
        out.display()
    );
    // lockwatch itself inherits the lock.
    let shell = locker.number::<i32>(&format!("spawn sh -c {}", encode(&line)));
    assert_eq!(locker.tell(&format!("wait {shell}")), "code 0");
    let document: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(contract::differences(&document, contract::LOCKS), [""; 0], "{document:#}");
    let locks = items(&document["locks"]);
    assert_eq!(locks.len(), 1, "{document:#}");
    assert_eq!(verdict(&locks[0]), "unknown", "{document:#}");
    assert!(locks[0]["acquirer"].is_null() && !items(&locks[0]["holders"]).is_empty(), "{document:#}");
    assert!(document["exact"] == false && document["warnings"].to_string().contains("hidden"), "{document:#}");
}

#[test]
fn with_the_hosts_proc_all_is_seen() {
    let (name, namespace) = ("with_the_hosts_proc_all_is_seen", &["--pid", "--fork"]);
    if !can_unshare(name, namespace) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let locker = taken(&scene, &path, "flock 9 ex");
    let document = list_from(namespace, &[], &path);
    let lock = &items(&document["locks"])[0];
    assert_eq!((verdict(lock), &lock["acquirer"]["pid"]), ("held".into(), &locker.pid().into()), "{lock:#}");
    let bpf = items(&document["sources"]).iter().find(|source| source["name"] == "bpf").unwrap();
    assert_eq!(bpf["state"], "unavailable", "its iterator shows this namespace only: {bpf:#}");
}

#[test]
fn in_a_time_namespace_starts_are_the_same() {
    let name = "in_a_time_namespace_starts_are_the_same";
    let namespace = &["--time", "--boottime", "200000", "--fork"];
    if !can_unshare(name, namespace) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let _locker = taken(&scene, &path, "flock 9 ex");
    for source in sources(name) {
        let here = only(source, &path);
        let document = list_from(namespace, &["--source", source], &path);
        let there = &items(&document["locks"])[0];
        assert_eq!(verdict(there), "held", "{source}: {there:#}");
        // The offset is more than two days.
        let day = |lock: &Value| lock["holders"][0]["start_time"].as_str().unwrap()[..10].to_owned();
        assert_eq!(day(there), day(&here), "{source}");
    }
}

/// A ghost, as somebody sees it who may not look at everything: never orphaned.
fn judges_nothing(unshare: &[&str], lockwatch: &Path, path: &Path) {
    let document = look_from(unshare, lockwatch, &["list", "--json"], path).document();
    assert_eq!(document["exact"], false, "{document:#}");
    assert!(!items(&document["warnings"]).is_empty(), "{document:#}");
    for lock in items(&document["locks"]) {
        assert_eq!((&lock["verdict"], &lock["holders_complete"]), (&"unknown".into(), &false.into()), "{lock:#}");
    }
}

#[test]
fn who_may_not_look_judges_nothing() {
    let name = "who_may_not_look_judges_nothing";
    if !can_unshare(name, &["--user", "--map-root-user"]) || !needs_program(name, "setpriv") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let (_, _heir) = ghost(&scene, &path);
    let copy = scene.lockwatch();
    judges_nothing(&["--user", "--map-root-user"], &copy, &path);
    for hidepid in ["1", "2", "4"] {
        let script = format!(
            "mount -t proc -o hidepid={hidepid} proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\""
        );
        judges_nothing(&["--mount", "sh", "-c", &script, "sh"], &copy, &path);
    }
}
