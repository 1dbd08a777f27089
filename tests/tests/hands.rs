//! What carries out plans, against real processes: it does what is planned, or nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{any::Any, fs, os::unix::ffi::OsStrExt, path::Path, thread, time::Duration};

use lockwatch_control::hands::{Acted, Failure, Grip, carry_out};
use lockwatch_core::{
    clear::{Case, Keeper, Method, Plan, Policy, Wish},
    observation::Via,
};
use lockwatch_tests::{
    Locker, Process, Scene, case_of, keeper, left_out, locker::words::encode, needs_program, needs_root, opened,
    proc_locks_of, taken, until,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// What a test hands over: the lock of this kind on a file, left by `dead`, kept by these.
fn case(path: &Path, kind: &str, dead: u32, holders: Vec<Keeper>) -> Case {
    let locks = proc_locks_of(path);
    let lock = locks.iter().find(|lock| !lock.waits && lock.kind == kind);
    case_of(lock.unwrap_or_else(|| panic!("no {kind} in {locks:?}")), dead, holders)
}

fn by_fd(process: &Process, fd: u32) -> Keeper {
    keeper(process.pid(), Via::Fd, Some(fd))
}

fn plan(case: &Case, method: Method) -> Plan {
    let wish = Wish { method: Some(method), grace: Duration::from_millis(500), ..Wish::default() };
    let plan = Plan::of(case.clone(), wish, &Policy::default());
    assert_eq!(plan.refusals, []);
    plan
}

/// Grip and act, with nothing in between.
fn clear(case: &Case, method: Method) -> Result<Acted, Failure> {
    let grip = Grip::take(case)?;
    carry_out(&plan(case, method), &grip)
}

/// That nothing was done, for this reason.
fn refused(done: Result<Acted, Failure>, expect: &str) {
    match done {
        Err(Failure::Changed(words)) => assert!(words.contains(expect), "{words} instead of {expect}"),
        other => panic!("{other:?} instead of {expect}"),
    }
}

fn count(path: &Path) -> usize {
    proc_locks_of(path).iter().filter(|lock| !lock.waits).count()
}

/// A child of a dead taker of this lock, with the file as fd 9. The taker's number comes first.
fn left_behind(scene: &Scene, path: &Path, lock: &str) -> (u32, Locker) {
    let mut parent = opened(scene, path);
    parent.tell(lock);
    let child = parent.fork(scene);
    (parent.kill(), child)
}

#[test]
fn a_release_ends_that_lock_and_no_other() {
    for (lock, kind, waits) in
        [("flock 9 ex", "flock", "flock 9 ex"), ("ofd 9 w 100 50", "ofd", "ofd 9 w 120 1"), ("lease 9 r", "lease", "")]
    {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut parent = scene.locker();
        parent.open(&path, if kind == "lease" { "ro as 9" } else { "rw as 9" });
        // Of other kinds and ranges, through the same description.
        let others: &[&str] = match kind {
            "flock" => &["ofd 9 w 0 100"],
            "ofd" => &["flock 9 ex", "ofd 9 r 0 50", "ofd 9 w 300 0"],
            _ => &["flock 9 sh", "ofd 9 r 5 5"],
        };
        others.iter().chain([&lock]).for_each(|lock| drop(parent.tell(lock)));
        let mut heir = parent.fork(&scene);
        let dead = parent.kill();
        let locks = proc_locks_of(&path);
        let lock = locks.iter().find(|lock| lock.kind == kind && (kind != "ofd" || lock.start == 100));
        let case = case_of(lock.unwrap(), dead, vec![by_fd(heir.process(), 9)]);
        let next = (!waits.is_empty()).then(|| {
            let mut next = opened(&scene, &path);
            let wait = next.wait_for(&path, waits);
            (next, wait)
        });
        let before = proc_locks_of(&path);
        let acted = clear(&case, Method::Release).unwrap();
        assert!(acted.gone && acted.duplicate_held.is_some(), "{acted:?}");
        if let Some((next, wait)) = next {
            next.granted(wait);
            next.exit(0);
        }
        let mut left = before;
        left.retain(|lock| !lock.waits && !(lock.kind == kind && (kind != "ofd" || lock.start == 100)));
        let mut after = proc_locks_of(&path);
        after.sort();
        left.sort();
        assert_eq!(after, left, "{kind}");
        // Its descriptor is what it was.
        heir.tell("dup 9");
    }
}

#[test]
fn a_lease_that_is_being_broken_is_released() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let (dead, mut heir) = {
        let mut parent = opened(&scene, &path);
        parent.tell("ignore 29");
        parent.tell("lease 9 w");
        let child = parent.fork(&scene);
        (parent.kill(), child)
    };
    let case = case(&path, "lease", dead, vec![by_fd(heir.process(), 9)]);
    let mut comer = scene.locker();
    let wait = comer.wait_for(&path, &format!("break {} w", encode(path.as_os_str().as_bytes())));
    assert!(clear(&case, Method::Release).unwrap().gone);
    comer.granted(wait);
}

#[test]
fn a_message_stays_queued() {
    for (kind, before) in [("dgram", false), ("seqpacket", false), ("dgram", true)] {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut sender = taken(&scene, &path, "flock 9 ex");
        let mut receiver = scene.locker();
        let pair = receiver.tell(&format!("socketpair {kind}"));
        let (to, from) = pair.split_once(' ').unwrap();
        let socket = scene.socket();
        let name = encode(socket.as_os_str().as_bytes());
        let inbox: i32 = receiver.number(&format!("bind {name}"));
        sender.tell(&format!("sendfd 9 {name}"));
        let fd: i32 = receiver.number(&format!("recvfd {inbox}"));
        if before {
            receiver.open(Path::new("/dev/null"), "ro as 20");
            receiver.tell(&format!("sendfd 20 over {to}"));
        }
        receiver.tell(&format!("sendfd {fd} over {to}"));
        receiver.tell(&format!("close {fd}"));
        let case = case(&path, "flock", sender.kill(), vec![keeper(receiver.pid(), Via::Message, None)]);
        let done = clear(&case, Method::Release);
        if before {
            let words = done.unwrap_err().to_string();
            assert!(words.contains("behind its first message") && words.contains("--method terminate"), "{words}");
            assert_eq!(count(&path), 1);
            continue;
        }
        let acted = done.unwrap();
        assert!(acted.gone && acted.words[0].contains("queued in the unix socket"), "{acted:?}");
        assert_eq!(count(&path), 0);
        let received: i32 = receiver.number(&format!("recvfd {from}"));
        receiver.tell(&format!("flock {received} ex"));
        assert_eq!(count(&path), 1);
        // Now it is the receiver's own, and no message.
        refused(clear(&case, Method::Release), "carries the lock");
    }
}

#[test]
fn a_table_without_its_leader_is_reached() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let (dead, mut heir) = left_behind(&scene, &path, "flock 9 ex");
    heir.tell("leader-exit");
    let case = case(&path, "flock", dead, vec![by_fd(heir.process(), 9)]);
    match clear(&case, Method::Release) {
        Ok(acted) => assert!(acted.gone),
        Err(failure) => {
            left_out("a_table_without_its_leader_is_reached", &failure.to_string());
            assert!(failure.to_string().contains("Linux 6.9"), "{failure}");
            assert_eq!(count(&path), 1);
        }
    }
    heir.tell("dup 9");
}

/// What a holder does between the plan and the act, and the reason that is given for doing nothing.
#[test]
fn what_has_changed_is_left_alone() {
    type Change = fn(Locker, &Path) -> Box<dyn Any>;
    let check = |lock: &str, change: Change, expect: &str| {
        let scene = Scene::new();
        let (path, other) = (scene.file("lock"), scene.file("other"));
        let (dead, mut heir) = left_behind(&scene, &path, lock);
        let also = heir.fork(&scene);
        let case = case(&path, lock.split(' ').next().unwrap(), dead, vec![by_fd(heir.process(), 9)]);
        let grip = Grip::take(&case).unwrap();
        let keep = change(heir, &other);
        let locks = || (proc_locks_of(&path), proc_locks_of(&other));
        let before = locks();
        for method in [Method::Release, Method::Terminate, Method::Kill] {
            refused(carry_out(&plan(&case, method), &grip), expect);
            assert_eq!(locks(), before, "{expect}");
        }
        drop((keep, also));
    };
    check("flock 9 ex", |heir, _| tell_all(heir, &["close 9"]), "no longer");
    check("flock 9 ex", |heir, _| tell_all(heir, &["unflock 9"]), "no longer");
    check("flock 9 ex", |heir, _| tell_all(heir, &["unflock 9", "flock 9 ex"]), "no longer");
    check("flock 9 ex", |heir, _| tell_all(heir, &["flock 9 sh"]), "no longer");
    check("ofd 9 w 5 5", |heir, _| tell_all(heir, &["ofd 9 w 10 5"]), "no longer");
    check("ofd 9 w 5 5", |heir, _| tell_all(heir, &["ofdun 9 7 1"]), "no longer");
    check(
        "flock 9 ex",
        |mut heir, other| {
            heir.open(other, "rw as 12");
            tell_all(heir, &["flock 12 ex", "dup 12 as 9"])
        },
        "no longer",
    );
    check("flock 9 ex", |heir, _| Box::new(heir.exec("sleep 60")), "runs another program");
    check(
        "flock 9 ex",
        |heir, _| {
            heir.exit(0);
            Box::new(())
        },
        "has ended",
    );
}

fn tell_all(mut heir: Locker, commands: &[&str]) -> Box<dyn Any> {
    tell(&mut heir, commands);
    Box::new(heir)
}

fn tell(locker: &mut Locker, commands: &[&str]) {
    commands.iter().for_each(|command| drop(locker.tell(command)));
}

#[test]
fn nobody_is_pinned_who_is_not_that_process() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let (dead, mut heir) = left_behind(&scene, &path, "flock 9 ex");
    let mut case = case(&path, "flock", dead, vec![by_fd(heir.process(), 9)]);
    let who = case.holders[0].who.as_mut().unwrap();
    who.id.start.as_mut().unwrap().0 += 1;
    refused(clear(&case, Method::Kill), "its number is another process's");
    case.holders[0].who.as_mut().unwrap().id.start = None;
    assert!(matches!(Grip::take(&case), Err(Failure::Failed(_))));
    // Somebody else's grip will not do.
    let (dead, mut other) = left_behind(&scene, &scene.file("other"), "flock 9 ex");
    let others = case_of(&proc_locks_of(&scene.path("other"))[0], dead, vec![by_fd(other.process(), 9)]);
    let grip = Grip::take(&others).unwrap();
    case.holders = vec![by_fd(heir.process(), 9)];
    let failure = carry_out(&plan(&case, Method::Kill), &grip).unwrap_err();
    assert!(failure.to_string().contains("was not pinned"), "{failure}");
    assert!(heir.process().lives() && other.process().lives());
}

#[test]
fn holders_are_asked_to_end_and_then_made_to() {
    for via in [Via::Fd, Via::Mapping] {
        let scene = Scene::new();
        let path = scene.pages("lock");
        let (dead, mut polite) = left_behind(&scene, &path, "flock 9 ex");
        let mut stubborn = polite.fork(&scene);
        stubborn.tell("ignore 15");
        let mut keepers = vec![by_fd(polite.process(), 9), by_fd(stubborn.process(), 9)];
        if via == Via::Mapping {
            tell(&mut polite, &["mmap 9", "close 9"]);
            tell(&mut stubborn, &["mmap 9", "close 9"]);
            keepers = [&polite, &stubborn].map(|locker| keeper(locker.pid(), via, None)).to_vec();
        }
        let case = case(&path, "flock", dead, keepers);
        let acted = clear(&case, Method::Terminate).unwrap();
        assert!(!acted.gone && acted.words.last().unwrap().contains("did not end within 500ms"), "{acted:?}");
        assert!(!polite.process().lives() && stubborn.process().lives());
        // One of them is gone, so the case is another one.
        refused(clear(&case, Method::Kill), "has ended");
        assert!(stubborn.process().lives());
        let case = Case { holders: vec![case.holders[1].clone()], ..case };
        assert!(clear(&case, Method::Kill).unwrap().gone);
        assert!(!stubborn.process().lives());
        assert_eq!(count(&path), 0);
    }
}

#[test]
fn posix_locks_end_with_those_who_share_the_table() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let mut first = taken(&scene, &path, "posix 9 w 5 5");
    let mut sharer = first.clone_files(&scene);
    let case = case(&path, "posix", first.kill(), vec![by_fd(sharer.process(), 9)]);
    assert!(clear(&case, Method::Terminate).unwrap().gone);
    assert_eq!(count(&path), 0);
}

#[test]
fn if_one_has_changed_nobody_is_signalled() {
    let scene = Scene::new();
    let path = scene.pages("lock");
    let (dead, mut one) = left_behind(&scene, &path, "flock 9 ex");
    let mut two = one.fork(&scene);
    let address = two.tell("mmap 9");
    let keepers = vec![by_fd(one.process(), 9), by_fd(two.process(), 9), keeper(two.pid(), Via::Mapping, None)];
    let case = case(&path, "flock", dead, keepers);
    let grip = Grip::take(&case).unwrap();
    two.tell(&format!("munmap {address}"));
    refused(carry_out(&plan(&case, Method::Kill), &grip), "by a mapping");
    two.tell("close 9");
    refused(carry_out(&plan(&case, Method::Terminate), &grip), "by fd 9");
    assert!(one.process().lives() && two.process().lives());
}

#[test]
fn we_and_those_above_us_are_spared() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let (dead, mut heir) = left_behind(&scene, &path, "flock 9 ex");
    let me = std::process::id();
    let case = case(&path, "flock", dead, vec![by_fd(heir.process(), 9), keeper(me, Via::Fd, Some(0))]);
    let failure = clear(&case, Method::Kill).unwrap_err();
    assert!(failure.to_string().contains("must not be signalled"), "{failure}");
    let parent = std::os::unix::process::parent_id();
    let case = Case { holders: vec![by_fd(heir.process(), 9), keeper(parent, Via::Fd, Some(0))], ..case };
    let failure = clear(&case, Method::Kill).unwrap_err();
    assert!(failure.to_string().contains("must not be signalled"), "{failure}");
    assert!(heir.process().lives());
}

#[test]
fn a_namesake_of_the_acquirer_may_have_taken_it() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let (_, mut heir) = left_behind(&scene, &path, "flock 9 ex");
    // As if the dead acquirer's number had come back to somebody who has got the file and has taken the lock again.
    tell(&mut heir, &["unflock 9", "flock 9 ex"]);
    let case = case(&path, "flock", heir.pid(), vec![by_fd(heir.process(), 9)]);
    refused(clear(&case, Method::Release), "the dead acquirer's number and the lock");
    assert_eq!(count(&path), 1);
}

/// With the capabilities of the one who acts and no others, on processes and files of another user.
#[test]
fn few_capabilities_are_enough() {
    let name = "few_capabilities_are_enough";
    if !needs_root(name) || !needs_program(name, "setpriv") {
        return;
    }
    let usual = CapabilitySet::SYS_PTRACE | CapabilitySet::KILL;
    for (lock, kind, how) in [("flock 9 ex", "flock", "rw as 9"), ("lease 9 r", "lease", "ro as 9")] {
        let scene = Scene::new();
        let path = scene.file("lock");
        rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(65534)), None).unwrap();
        let mut parent = scene.locker();
        parent.open(&path, how);
        parent.tell(lock);
        let heir = parent.spawn("setpriv --reuid=65534 --clear-groups sleep 60");
        until("the heir is another user's", || {
            let comm = fs::read_to_string(format!("/proc/{}/comm", heir.pid())).ok()?;
            (comm == "sleep\n").then_some(())
        });
        let case = case(&path, kind, parent.kill(), vec![by_fd(&heir, 9)]);
        let clear = |method, capabilities| {
            let case = case.clone();
            // Capabilities are a thread's own.
            let thread = thread::spawn(move || {
                let (effective, permitted) = (capabilities, capabilities);
                set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
                    .unwrap();
                clear(&case, method)
            });
            thread.join().unwrap()
        };
        if kind == "lease" {
            let failure = clear(Method::Release, usual).unwrap_err();
            assert!(failure.to_string().contains("CAP_LEASE"), "{failure}");
            assert_eq!(count(&path), 1);
            assert!(clear(Method::Release, usual | CapabilitySet::LEASE).unwrap().gone);
        } else {
            assert!(clear(Method::Release, CapabilitySet::KILL).is_err());
            assert!(clear(Method::Kill, CapabilitySet::SYS_PTRACE).is_err());
            assert_eq!(count(&path), 1);
            assert!(heir.lives());
            assert!(clear(Method::Release, usual).unwrap().gone);
            // It keeps nothing any more, and so is not ended.
            refused(clear(Method::Kill, usual), "no longer keeps the lock");
        }
        assert_eq!(count(&path), 0);
        assert!(heir.lives());
    }
}
