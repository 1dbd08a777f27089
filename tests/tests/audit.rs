//! The record of every clear: `lockwatch audit` on logs as they are written, and as others have changed them; full disks;
//! and the adversary who wants our lines somewhere else.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::CStr,
    fs::{self, Permissions},
    os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lockwatch_control::{
    audit::{Actor, Log, Phase, Record},
    document::Outcome,
};
use lockwatch_tests::{
    Lines, Locker, Process, Run, Scene, contract, items, lockwatch, lockwatch_path, needs_bpf, needs_program,
    needs_root, only, plain, proc_locks_of, program, taken, until,
};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    thread::{UnshareFlags, unshare_unsafe},
};
use serde_json::Value;

fn record(phase: Phase, n: u64) -> Record {
    Record {
        actor: Actor { uid: 0, pid: 4711, comm: Some("bash\n".into()), tty: Some("pts/3".into()) },
        approved_by: Vec::new(),
        id: format!("f3k{}-27qd", n % 10),
        file: Some("/srv/x.lock".into()),
        method: Some("release".into()),
        reason: Some(n.to_string()),
        phase,
        outcome: (phase == Phase::Outcome).then_some(Outcome::Cleared),
        plan_hash: Some("ab".into()),
        notes: Vec::new(),
    }
}

/// Two clears and a refusal.
fn written(path: &Path) {
    let mut log = Log::open(path).unwrap();
    for n in 1..3 {
        for phase in [Phase::Planned, Phase::Intent, Phase::Outcome] {
            log.append(&record(phase, n)).unwrap();
        }
    }
    let actor = Actor { uid: 1000, ..record(Phase::Refused, 3).actor };
    log.append(&Record { actor, ..record(Phase::Refused, 3) }).unwrap();
}

fn audit(log: &Path, args: &[&str]) -> Run {
    lockwatch(["audit", "--audit-log", log.to_str().unwrap()].iter().chain(args))
}

/// The numbers of the records that the program shows.
fn shown(log: &Path, args: &[&str]) -> Vec<u64> {
    let run = audit(log, &[args, &["--ndjson"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(contract::differences(&record, contract::AUDIT), [""; 0], "{line}");
        record["reason"].as_str().unwrap().parse().unwrap()
    };
    run.text().lines().map(record).collect()
}

#[test]
fn every_line_keeps_the_contract_and_carries_the_hash_of_the_one_before() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    written(&path);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert_eq!(contract::differences(line, contract::AUDIT), [""; 0], "{line:#}");
    }
    assert_eq!(lines[0]["previous"], "0".repeat(64));
    let document = audit(&path, &["--json"]).json();
    assert_eq!((&document["whole"], &document["lines"]), (&true.into(), &7.into()), "{document:#}");
    if !needs_program("every_line_keeps_the_contract_and_carries_the_hash_of_the_one_before", "sha256sum") {
        return;
    }
    let hash = |n: usize| {
        let script = format!("sed -n {n}p \"$1\" | tr -d '\\n' | sha256sum");
        let out = Command::new("sh").args(["-c", &script, "sh"]).arg(&path).output().unwrap();
        String::from_utf8(out.stdout).unwrap()[..64].to_owned()
    };
    for (n, line) in lines.iter().enumerate().skip(1) {
        assert_eq!(line["previous"], hash(n), "line {}", n + 1);
    }
    assert_eq!(document["end"], hash(lines.len()));
}

#[test]
fn records_are_shown_as_asked() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    written(&path);
    let check = |args: &[&str], expect: &[u64]| assert_eq!(shown(&path, args), expect, "{args:?}");
    check(&[], &[1, 1, 1, 2, 2, 2, 3]);
    check(&["--id", "f3k1"], &[1, 1, 1]);
    check(&["--phase", "intent,refused"], &[1, 2, 3]);
    check(&["--outcome", "cleared"], &[1, 2]);
    check(&["--uid", "1000"], &[3]);
    check(&["--since", "1h"], &[1, 1, 1, 2, 2, 2, 3]);
    check(&["--since", "2500-01-01"], &[]);
    check(&["--verify"], &[]);
    let text = audit(&path, &["--id", "f3k2"]);
    let text = text.text();
    let rows: Vec<_> = text.lines().collect();
    assert!(rows[0].starts_with("WHEN") && rows[3].contains("cleared") && rows[3].contains("/srv/x.lock"), "{text}");
    assert!(rows[4].starts_with("3 records: 1 cleared") && rows[4].contains("7 lines is whole"), "{text}");
    assert!(rows[1].contains("bash\\n"), "{text}");
}

#[test]
fn a_log_that_was_changed_is_told_first_and_fails() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    written(&path);
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let check = |what: &str, lines: Vec<&str>, expect: &str| {
        fs::write(&path, lines.concat()).unwrap();
        let run = audit(&path, &[]);
        assert_eq!(run.code, Some(1), "{what}: {}", run.text());
        assert!(run.text().starts_with("BROKEN: ") && run.text().contains(expect), "{what}: {}", run.text());
        assert!(run.text().contains("\nNext: sed -n "), "{what}: {}", run.text());
        assert_eq!(audit(&path, &["--verify"]).code, Some(1), "{what}");
        let json = audit(&path, &["--json"]);
        let document: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((json.code, &document["whole"]), (Some(1), &false.into()), "{what}: {document:#}");
        assert!(!items(&document["breaks"]).is_empty(), "{what}: {document:#}");
        let ndjson = audit(&path, &["--ndjson"]);
        assert!(ndjson.code == Some(1) && ndjson.stderr.contains("broken"), "{what}: {}", ndjson.stderr);
    };
    let altered = lines[2].replace("cleared", "refused");
    let with = |n: usize, line| lines.iter().enumerate().map(|(i, l)| if i == n { line } else { *l }).collect();
    check("altered", with(2, &altered), "line 4 does not follow line 3: line 3 was altered");
    check("no record", with(2, "x\n"), "line 3 is no record");
    check("taken out", [&lines[..3], &lines[4..]].concat(), "line 4 does not follow line 3");
    check("swapped", [&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat(), "line 3 belongs right after line 4");
    check("beheaded", lines[1..].to_vec(), "line 1 is not the first");
    check("doubled", [&lines[..4], &lines[3..]].concat(), "line 5 belongs right after line 3");
    check("glued", [&lines[..], &lines[..]].concat(), "line 8 begins a chain of its own");

    // A write that was cut short is none of that.
    fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    let run = audit(&path, &[]);
    assert_eq!(run.code, Some(0), "{}", run.text());
    assert!(run.text().starts_with("Note: the last line, 7, has no end"), "{}", run.text());
    Log::open(&path).unwrap().append(&record(Phase::Refused, 4)).unwrap();
    let run = audit(&path, &["--verify"]);
    assert_eq!(run.code, Some(0), "{}", run.text());
    assert!(run.text().contains("line 7 cannot be read, but the chain goes on"), "{}", run.text());
}

#[test]
fn a_log_comes_from_a_pipe_too_and_a_missing_one_is_no_empty_one() {
    let scene = Scene::new();
    let path = scene.path("audit.jsonl");
    written(&path);
    let mut cat = Command::new("cat").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let mut command = plain(lockwatch_path());
    command.args(["audit", "--verify", "--audit-log", "/dev/stdin"]).stdin(cat.stdout.take().unwrap());
    let run = lockwatch_tests::run(&mut command);
    cat.wait().unwrap();
    assert!(run.code == Some(0) && run.text().starts_with("The chain is whole: 7 lines"), "{run:?}");
    let run = audit(&scene.path("nothing"), &[]);
    assert!(run.code == Some(1) && run.stderr.contains("nothing"), "{run:?}");
    let run = audit(&scene.file("text"), &[]);
    assert!(run.code == Some(0) && run.text().contains("log is empty"), "{run:?}");
    fs::write(scene.path("text"), "hello\n").unwrap();
    let run = audit(&scene.path("text"), &[]);
    assert!(run.code == Some(1) && run.stderr.contains("no audit log"), "{run:?}");
}

#[test]
fn a_full_disk_leaves_no_half_line_behind() {
    let name = "a_full_disk_leaves_no_half_line_behind";
    if !needs_root(name) {
        return;
    }
    let scene = Scene::new();
    with_tmpfs(scene.dir(), c"size=64k,mode=755", || {
        let path = scene.path("audit.jsonl");
        let mut log = Log::open(&path).unwrap();
        let ballast = scene.path("ballast");
        fs::write(&ballast, vec![0; 40 << 10]).unwrap();
        let mut appended = 0;
        let error = loop {
            match log.append(&record(Phase::Refused, appended)) {
                Ok(()) => appended += 1,
                Err(error) => break format!("{error:#}"),
            }
        };
        assert!(appended > 10 && appended < 100, "{appended}");
        // The line that crosses the last page is cut, the next one finds no page at all.
        assert!(error.contains("is the disk full?") || error.contains("No space left"), "{error}");
        let size = fs::metadata(&path).unwrap().len();
        let long = Record { reason: Some("x".repeat(5000)), ..record(Phase::Refused, 0) };
        let error = format!("{:#}", log.append(&long).unwrap_err());
        assert!(error.contains("is the disk full?"), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), size, "something was left behind");
        assert_eq!(shown(&path, &[]), (0..appended).collect::<Vec<_>>());
        fs::remove_file(&ballast).unwrap();
        log.append(&record(Phase::Refused, appended)).unwrap();
        assert_eq!(shown(&path, &[]), (0..=appended).collect::<Vec<_>>());
    });
}

/// A lock in flight, which is orphaned whoever is older than whom.
struct Orphan {
    path: PathBuf,
    _receiver: Locker,
    id: String,
}

impl Orphan {
    fn new(scene: &Scene, name: &str) -> Self {
        let (path, socket) = (scene.file(name), scene.socket());
        let mut receiver = scene.locker();
        receiver.tell(&format!("bind {}", socket.display()));
        let mut sender = taken(scene, &path, "flock 9 ex");
        sender.tell(&format!("sendfd 9 {}", socket.display()));
        sender.kill();
        let id = only("auto", &path)["id"].as_str().unwrap().to_owned();
        Self { path, _receiver: receiver, id }
    }

    /// A clear with the record there.
    fn clear(&self, log: &Path, more: &[&str]) -> Run {
        let log = log.to_str().unwrap();
        lockwatch(["clear", &self.id, "--json", "--settle", "0s", "--audit-log", log].iter().chain(more))
    }

    /// The plan, which is only that.
    fn plan(&self, log: &Path) -> Value {
        let run = self.clear(log, &[]);
        assert_eq!(run.code, Some(4), "{}{}", run.text(), run.stderr);
        serde_json::from_slice::<Value>(&run.stdout).unwrap()["plan"].clone()
    }

    fn is_refused(&self, log: &Path, more: &[&str], expect: &str) {
        let run = self.clear(log, more);
        assert_eq!(run.code, Some(1), "{expect}: {}{}", run.text(), run.stderr);
        assert!(run.stderr.contains(expect) && run.stderr.contains("audit log"), "{expect}: {}", run.stderr);
        // A page of /proc/locks may miss a line while others come and go.
        until(&format!("the lock is there ({expect})"), || (proc_locks_of(&self.path).len() == 1).then_some(()));
    }
}

#[test]
fn without_a_record_nothing_is_done() {
    let name = "without_a_record_nothing_is_done";
    if !needs_root(name) || !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let dir = |name: &str, mode| {
        fs::create_dir(scene.path(name)).unwrap();
        fs::set_permissions(scene.path(name), Permissions::from_mode(mode)).unwrap();
        scene.path(name)
    };
    let victim = scene.file("victim");
    fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
    symlink(&victim, scene.path("link")).unwrap();
    symlink(dir("real", 0o755), scene.path("dirlink")).unwrap();
    let foreign = dir("foreign", 0o755);
    for whose in [&foreign, &scene.file("theirs")] {
        chown(whose, Some(4711), None).unwrap();
    }
    let orphan = Orphan::new(&scene, "lock");
    for (log, expect) in [
        (scene.path("link"), "is a symbolic link"),
        (scene.path("dirlink/audit.jsonl"), "is a symbolic link"),
        (scene.path("theirs"), "belongs to uid 4711"),
        (foreign.join("audit.jsonl"), "belongs to uid 4711"),
        (dir("group", 0o770).join("audit.jsonl"), "chmod go-w"),
        (dir("sticky", 0o1777).join("audit.jsonl"), "chmod go-w"),
        ("/dev/full".into(), "is a device"),
    ] {
        orphan.is_refused(&log, &["--confirm", "0000-0000"], expect);
    }
    assert_eq!(fs::read(&victim).unwrap(), b"");

    // A limit on the size of files is told too, and ends nobody.
    let log = scene.path("audit.jsonl");
    let before = Record { reason: Some("x".repeat(5000)), ..record(Phase::Refused, 0) };
    Log::open(&log).unwrap().append(&before).unwrap();
    let mut limited = plain("sh");
    limited.args(["-c", "ulimit -f 8; exec \"$@\"", "sh"]).arg(lockwatch_path());
    limited.args(["clear", &orphan.id, "--json", "--settle", "0s", "--audit-log"]).arg(&log);
    let run = lockwatch_tests::run(&mut limited);
    assert!(run.code == Some(1) && run.stderr.contains("File too large"), "{}{}", run.text(), run.stderr);

    // One page, with room for the plan but not for the intent.
    let (disk, usual) = (Scene::new(), log);
    let log = disk.path("audit.jsonl");
    with_tmpfs(disk.dir(), c"size=4k,mode=755", move || {
        let before = Record { reason: Some("x".repeat(2700)), ..record(Phase::Refused, 0) };
        Log::open(&log).unwrap().append(&before).unwrap();
        let plan = orphan.plan(&usual);
        let code = plan["code"].as_str().unwrap();
        orphan.is_refused(&log, &["--confirm", code, "--reason", &"x".repeat(250)], "is the disk full?");
        let left = audit(&log, &["--json"]).json();
        assert_eq!((&left["whole"], &left["notes"]), (&true.into(), &serde_json::json!([])), "{left:#}");
        let phases: Vec<_> = items(&left["records"]).iter().map(|record| record["phase"].clone()).collect();
        assert_eq!(phases, ["refused", "planned"], "{left:#}");
    });
}

#[test]
fn every_step_of_a_clear_is_on_record() {
    let name = "every_step_of_a_clear_is_on_record";
    if !needs_root(name) || !needs_bpf(name) {
        return;
    }
    let scene = Scene::new();
    let log = scene.path("log/audit.jsonl");
    let orphan = Orphan::new(&scene, "lock");
    let plan = orphan.plan(&log);
    let code = plan["code"].as_str().unwrap();
    let cleared = orphan.clear(&log, &["--confirm", code, "--reason", "ticket\n7"]);
    assert_eq!(cleared.code, Some(0), "{}{}", cleared.text(), cleared.stderr);
    let document = audit(&log, &["--json", "--id", &orphan.id]).json();
    let records = items(&document["records"]);
    let told = |field: &str| records.iter().map(|record| record[field].clone()).collect::<Vec<_>>();
    assert_eq!(told("phase"), ["planned", "planned", "intent", "outcome"], "{document:#}");
    assert_eq!(told("outcome")[3], "cleared", "{document:#}");
    assert_eq!(told("reason")[1..], ["ticket\n7", "ticket\n7", "ticket\n7"], "{document:#}");
    for record in records {
        assert_eq!(contract::differences(record, contract::AUDIT), [""; 0], "{record:#}");
        assert_eq!((&record["plan_hash"], &record["unfinished"]), (&plan["hash"], &false.into()), "{record:#}");
        assert_eq!(record["actor"]["uid"], 0, "{record:#}");
    }
}

/// Works on a file system in memory, which nobody else sees, and which is gone afterwards.
fn with_tmpfs(dir: &Path, options: &CStr, work: impl FnOnce() + Send) {
    // A mount namespace belongs to a thread if its file system context does, and ends with it.
    let inside = || {
        // SAFETY: only the file system context becomes this thread's own, no descriptor table.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount("lockwatch", dir, "tmpfs", MountFlags::empty(), Some(options)).unwrap();
        work();
        // Whoever looks at paths of this host may have a descriptor in it for a moment.
        unmount(dir, UnmountFlags::DETACH).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Where the adversary plays: the log, traps, and what they lead to.
struct Stage(PathBuf);

/// Of files that are found by following a link, by another name or in spite of their owner: they look like a log.
const LOOKS_LIKE_A_LOG: &str = "{\"schema\":\"lockwatch.audit/1\",\"previous\":\"precious\"}\n";
/// Of files that could be one but for their text.
const LOOKS_LIKE_NONE: &str = "precious\n";

impl Stage {
    fn set(dir: &Path) -> Self {
        let stage = Self(dir.to_owned());
        for dir in ["way", "way/log", "victims", "fake", "fake/log", "traps", "traps/dir", "traps/logdir"] {
            stage.dir(dir, 0o755);
        }
        stage.dir("traps/logopen", 0o777);
        stage.dir("traps/waydir", 0o755);
        stage.dir("traps/waydir/log", 0o755);
        stage.dir("traps/wayforeign", 0o755);
        for name in ["victims/target", "victims/audit.jsonl", "fake/log/audit.jsonl", "traps/foreign", "traps/open"] {
            stage.precious(name, LOOKS_LIKE_A_LOG);
        }
        for name in ["traps/logdir/audit.jsonl", "traps/waydir/log/audit.jsonl", "traps/other"] {
            stage.precious(name, LOOKS_LIKE_NONE);
        }
        symlink(stage.0.join("victims/target"), stage.0.join("traps/link")).unwrap();
        symlink(stage.0.join("victims/new"), stage.0.join("traps/dangling")).unwrap();
        symlink(stage.0.join("victims"), stage.0.join("traps/loglink")).unwrap();
        symlink(stage.0.join("fake"), stage.0.join("traps/waylink")).unwrap();
        fs::hard_link(stage.0.join("victims/target"), stage.0.join("traps/hard")).unwrap();
        mknodat(CWD, stage.0.join("traps/fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::set_permissions(stage.0.join("traps/open"), Permissions::from_mode(0o666)).unwrap();
        for name in ["traps/foreign", "traps/wayforeign"] {
            chown(stage.0.join(name), Some(4711), Some(4711)).unwrap();
        }
        stage
    }

    fn dir(&self, name: &str, mode: u32) {
        fs::create_dir(self.0.join(name)).unwrap();
        fs::set_permissions(self.0.join(name), Permissions::from_mode(mode)).unwrap();
    }

    fn precious(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
        fs::set_permissions(self.0.join(name), Permissions::from_mode(0o600)).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.0.join("way/log/audit.jsonl")
    }

    /// Everything but the logs, and what it is.
    fn rest(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![self.0.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let kind = fs::symlink_metadata(&path).unwrap().file_type();
                let what = match () {
                    () if kind.is_dir() => {
                        dirs.push(path.clone());
                        "directory".to_owned()
                    }
                    () if kind.is_symlink() => format!("link to {}", fs::read_link(&path).unwrap().display()),
                    () if kind.is_fifo() => "fifo".to_owned(),
                    () if self.logs().contains(&path) => continue,
                    () => fs::read_to_string(&path).unwrap(),
                };
                found.insert(path, what);
            }
        }
        found
    }

    /// The log, and those that were rotated away.
    fn logs(&self) -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(self.0.join("way/log")).unwrap().map(|entry| entry.unwrap());
        entries.filter(|e| e.file_name().to_str().unwrap().starts_with("audit.jsonl")).map(|e| e.path()).collect()
    }
}

#[test]
fn no_line_lands_elsewhere_whatever_is_put_in_the_logs_place() {
    if !needs_root("no_line_lands_elsewhere_whatever_is_put_in_the_logs_place") {
        return;
    }
    let appends = env::var("LOCKWATCH_APPENDS").ok().map_or(3000, |n| n.parse().unwrap());
    let scene = Scene::new();
    // In memory a line costs microseconds, and so meets the adversary in every moment of its way.
    with_tmpfs(scene.dir(), c"mode=755", || against_the_swapper(Stage::set(scene.dir()), appends));
}

fn against_the_swapper(stage: Stage, appends: usize) {
    let mut log = Log::open(&stage.log()).unwrap();
    log.append(&record(Phase::Refused, 0)).unwrap();
    let before = stage.rest();

    let mut child =
        Command::new(program("swapper")).arg(&stage.0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), Lines::from(child.stdout.take().unwrap()));
    let mut swapper = Process::of_child(child);
    output.take(|line| line == "ready").unwrap();

    let (mut appended, mut refused) = (BTreeSet::from([0]), BTreeMap::<String, u64>::new());
    let begun = Instant::now();
    let mut tried = 0;
    while appended.len() < appends {
        assert!(
            tried < 1000 * appends as u64,
            "hardly anything was written: {} of {tried}; {refused:#?}",
            appended.len()
        );
        tried += 1;
        // Half of them as one clear after the other, each with a log of its own.
        let result = match tried % 2 {
            0 => log.append(&record(Phase::Refused, tried)),
            _ => Log::open(&stage.log()).and_then(|mut log| log.append(&record(Phase::Refused, tried))),
        };
        match result {
            Ok(()) => _ = appended.insert(tried),
            Err(error) => *refused.entry(reason(&error)).or_default() += 1,
        }
    }
    let took = begun.elapsed();
    drop(input);
    let swaps: u64 = output.take(|_| true).unwrap().1.parse().unwrap();
    swapper.wait_within(Duration::from_secs(10));

    assert_eq!(stage.rest(), before, "something was written elsewhere");
    let mut found = BTreeSet::new();
    for file in stage.logs() {
        for n in shown(&file, &[]) {
            assert!(found.insert(n), "{n} was written twice");
        }
    }
    assert_eq!(found, appended, "what was said to be written is not what is there");
    println!(
        "{tried} records against {swaps} swaps in {took:.1?}: {} in the log and {} rotated ones, {} refused, 0 elsewhere",
        appended.len(),
        stage.logs().len() - 1,
        refused.values().sum::<u64>()
    );
    for (why, count) in &refused {
        println!("{count:>8} {why}");
    }
    assert!(refused.len() >= 5, "hardly a trap was met: {refused:#?}");
}

/// Why it was refused, without names.
fn reason(error: &anyhow::Error) -> String {
    let root = error.chain().nth(1).map(ToString::to_string).unwrap_or_default();
    let words = root.split(' ').filter(|word| !word.starts_with('/'));
    words.collect::<Vec<_>>().join(" ").trim_end_matches(':').to_owned()
}
