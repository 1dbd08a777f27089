//! Programs that lock files in their daily work: while they do nothing wrong, no lock of theirs is called orphaned, by
//! a watcher or by one who looks now and then.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    collections::BTreeSet,
    env,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lockwatch_tests::{
    Process, Scene, Watcher, document, items, needs_bpf, needs_program, needs_root, sources_that_see_all, sys, verdict,
};
use serde_json::Value;

/// How often each is looked at.
fn looks() -> u32 {
    8 * env::var("LOCKWATCH_ROUNDS").ok().map_or(1, |n| n.parse::<u32>().unwrap())
}

/// After so long a script is at its end, should this test be killed.
const LIMIT: &str = "600";

/// What a script may use: `busy` is true while there is work to do, and the working directory is its own.
const PRELUDE: &str = r#"
set -u
done=$PWD/done
busy() { [ ! -e "$done" ]; }
several() { for _ in 1 2 3 4; do ( while busy; do "$@" || { echo "$* failed" >> failed; exit 1; }; done ) & done; }
"#;

/// The end of every script: whether anything in the background has failed.
const END: &str = r#"
cat failed >&2 2> /dev/null && exit 1; exit 0
"#;

/// A shell script at work, in a process group that ends as one.
struct Work(Process);

impl Work {
    fn begin(scene: &Scene, script: &str) -> Self {
        let mut bounded = Command::new("timeout");
        bounded.args(["--kill-after", "5", LIMIT, "sh", "-c", &format!("{PRELUDE}{script}{END}")]);
        bounded.current_dir(scene.dir()).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        Self(Process::of_child(bounded.spawn().unwrap()))
    }

    /// Whether it has ended well, when it has.
    fn ended(&mut self) -> bool {
        self.0.wait_within(Duration::from_secs(60)).is_some_and(|status| status.success())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.0.lives() {
            // Its leader has not been waited for, so the group's number is its own.
            let _ = sys::kill(-self.0.pid().cast_signed(), libc::SIGKILL);
        }
    }
}

fn within(dir: &Path, lock: &Value) -> bool {
    lock["file"]["path"].as_str().is_some_and(|path| Path::new(path).starts_with(dir))
}

/// Lets the script work, and listens and looks until it has ended. `locks`: whether it must have been seen with locks.
fn in_peace(name: &str, programs: &[&str], locks: bool, script: &str) {
    if !needs_root(name) || !programs.iter().all(|program| needs_program(name, program)) {
        return;
    }
    // One at a time: each is a load for this machine.
    static BUSY: Mutex<()> = Mutex::new(());
    let _busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = Scene::new();
    let watcher = needs_bpf(name).then(|| Watcher::orphans(&[]));
    let sources = sources_that_see_all(name);
    let mut work = Work::begin(&scene, script);
    let (start, mut seen, mut wrong) = (Instant::now(), BTreeSet::new(), Vec::new());
    let mut left = looks();
    while work.0.lives() && left > 0 {
        for source in &sources {
            let document = document(source, &[]);
            for lock in items(&document["locks"]).iter().filter(|lock| within(scene.dir(), lock)) {
                seen.insert(format!("{} {}", lock["kind"], verdict(lock)));
                if lock["verdict"] == "orphaned" {
                    wrong.push(format!("{source}: {lock:#}"));
                }
            }
        }
        left -= 1;
    }
    scene.file("done");
    assert!(work.ended(), "{name}: the script failed");
    let events = watcher.iter().flat_map(Watcher::events);
    wrong.extend(
        events
            .filter(|event| event.is("orphaned") && within(scene.dir(), &event.json["lock"]))
            .map(|event| format!("watched: {:#}", event.json)),
    );
    println!("{name}: {} looks in {:.1?}, seen: {seen:?}", looks() - left, start.elapsed());
    assert!(wrong.is_empty(), "{name}: {} false orphans, the first: {}", wrong.len(), wrong[0]);
    assert_eq!(!seen.is_empty(), locks, "{name}: {seen:?}");
}

#[test]
fn flock_in_all_its_forms() {
    in_peace(
        "flock_in_all_its_forms",
        &["flock"],
        true,
        r#"
        several flock lock sleep 0.05
        several flock --shared shared sleep 0.05
        several flock --close close sleep 0.05
        several flock lock --command 'sleep 0.05; true'
        try() { "$@"; [ $? -le 1 ]; }
        several try flock --nonblock lock sleep 0.05
        several try flock --timeout 0.02 lock sleep 0.05
        several flock --conflict-exit-code 0 --nonblock . sleep 0.05
        idiom() { ( flock 9; sleep 0.05; : ) 9>idiom; }
        several idiom
        descriptor() { exec 8>descriptor; flock 8; sleep 0.05; flock --unlock 8; exec 8>&-; }
        several descriptor
        wait"#,
    );
}

#[test]
fn jobs_that_cron_starts() {
    in_peace(
        "jobs_that_cron_starts",
        &["flock"],
        true,
        r#"
        # Each minute another one, whether the last has ended or not; here a minute is short.
        job() { ( flock -n 9 || exit 0; sleep 0.2; : ) 9>job.lock & flock -n wrapped.lock sh -c 'sleep 0.2; true'; true; }
        cron() { job & sleep 0.05; }
        while busy; do cron; done
        wait"#,
    );
}

#[test]
fn sqlite_with_a_journal() {
    sqlite("sqlite_with_a_journal", "DELETE");
}

#[test]
fn sqlite_with_a_write_ahead_log() {
    sqlite("sqlite_with_a_write_ahead_log", "WAL");
}

fn sqlite(name: &str, mode: &str) {
    let script = format!(
        r#"
        sqlite3 db 'PRAGMA journal_mode={mode}; CREATE TABLE t(a, b);'
        write() {{ sqlite3 -cmd '.timeout 20000' db 'PRAGMA synchronous=OFF; BEGIN IMMEDIATE; INSERT INTO t SELECT value, hex(randomblob(50)) FROM generate_series(1, 2000); COMMIT;'; }}
        read() {{ sqlite3 -cmd '.timeout 20000' db 'SELECT count(*), max(b) FROM t;'; }}
        several write
        several read
        wait"#
    );
    in_peace(name, &["sqlite3"], true, &script);
}

#[test]
fn dpkg_with_a_database_of_its_own() {
    in_peace(
        "dpkg_with_a_database_of_its_own",
        &["dpkg", "dpkg-deb"],
        true,
        r#"
        mkdir -p package/DEBIAN package/usr/share/lockwatch root/var/lib/dpkg/info root/var/lib/dpkg/updates
        touch root/var/lib/dpkg/status root/var/lib/dpkg/available package/usr/share/lockwatch/file
        printf 'Package: lockwatch-test\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: a\n' \
            > package/DEBIAN/control
        dpkg-deb --build package package.deb
        # Runs without a pause, so that looks meet it; it waits for nobody (dpkg fails where another has its lock).
        while busy; do
            dpkg --root=root --log=/dev/null --install package.deb || exit 1
            dpkg --root=root --log=/dev/null --remove lockwatch-test || exit 1
        done"#,
    );
}

#[test]
fn daemons_of_start_stop_daemon() {
    in_peace(
        "daemons_of_start_stop_daemon",
        &["start-stop-daemon", "flock"],
        true,
        r#"
        ssd() { name=$1; shift; start-stop-daemon --oknodo --pidfile "$PWD/$name.pid" "$@"; }
        # One that locks for itself, one that lets flock(1) do it, and one that runs under flock(1).
        start() {
            ssd shell --start --background --make-pidfile --startas /bin/sh -- \
                -c "exec 9>$PWD/shell.lock; flock 9; sleep 60; :"
            ssd last --start --background --make-pidfile --startas /bin/sh -- \
                -c "exec 9>$PWD/last.lock; flock 9; exec sleep 60"
            ssd wrapped --start --background --make-pidfile --startas "$(command -v flock)" -- \
                "$PWD/wrapped.lock" sleep 0.5
        }
        start
        while busy; do sleep 0.1; done
        # What a shell has started outlives it: a leak indeed, so it goes with it.
        for pid in $(cat shell.pid); do
            child=$(cat /proc/$pid/task/$pid/children); kill $pid $child
        done
        ssd last --stop --retry 5
        flock wrapped.lock true"#,
    );
}

#[test]
fn git_under_load() {
    // Its lock files are made and renamed, and carry no lock of the kernel's.
    in_peace(
        "git_under_load",
        &["git"],
        false,
        r#"
        export HOME="$PWD" GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b.c GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b.c
        git init --quiet repository
        cd repository
        git commit --quiet --allow-empty --message first
        for tree in 1 2 3 4; do git worktree add --quiet ../tree-$tree; done
        commit() { date +%N > file; git add file; git commit --quiet --message more --allow-empty; }
        for tree in 1 2 3 4; do ( cd ../tree-$tree; while busy; do commit || true; done ) & done
        while busy; do git gc --quiet || exit 1; done
        wait"#,
    );
}

#[test]
fn postgresql_and_its_lock_files() {
    // The same: postmaster.pid is a file with a number in it.
    in_peace(
        "postgresql_and_its_lock_files",
        &["initdb", "postgres", "psql", "setpriv"],
        false,
        r#"
        nobody="setpriv --reuid nobody --regid nogroup --clear-groups"
        mkdir data; chown nobody data; cd data
        $nobody initdb --no-sync --auth trust --username a --pgdata "$PWD/db"
        $nobody postgres -D "$PWD/db" -k "$PWD" -c listen_addresses= -F 2> /dev/null &
        server=$!
        sql() { psql --quiet --host "$PWD" --username a --dbname postgres --command "$1" > /dev/null; }
        until sql 'CREATE TABLE t(a int)' 2> /dev/null; do kill -0 $server || exit 1; done
        insert() { sql 'INSERT INTO t SELECT generate_series(1, 1000)'; }
        clients=
        for _ in 1 2 3 4; do ( while busy; do insert || exit 1; done ) & clients="$clients $!"; done
        wait $clients
        kill -INT $server
        wait $server"#,
    );
}
