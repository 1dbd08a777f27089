//! Every row of both tables of DESIGN section 5, as data.

use super::*;
use crate::{
    lock::{Device, FileId, OwnerKey},
    process::{Death, Exit, ProcessId},
    text::Text,
};

/// A process whose executable is named by a number; 0 is "not known". It started at tick `pid`.
fn process(pid: u32, comm: &str, exe: u64, life: Life) -> Process {
    let id = ProcessId { pid, start: Some(StartTime(pid.into())) };
    let mut process = Process::unknown(id, life);
    process.comm = Some(Text::from(comm));
    process.exe_file = (exe != 0).then_some(FileId { device: Device { major: 8, minor: 1 }, inode: exe });
    process.daemon_looks = Some(false);
    process.execed = Some(false);
    process
}

fn alive(pid: u32, comm: &str, exe: u64) -> Process {
    process(pid, comm, exe, Life::Alive)
}

fn dead(pid: u32, comm: &str, exe: u64, exit: Option<Exit>) -> Process {
    process(
        pid,
        comm,
        exe,
        Life::Dead(Death { at: Some(Timestamp(1_795_317_127_000_000_000)), exit, ..Death::default() }),
    )
}

fn hidden(pid: u32) -> Process {
    process(pid, "hidden", 0, Life::Unknown("it lives in another pid namespace".into()))
}

fn killed() -> Option<Exit> {
    Some(Exit::Signal {
        signal: 9,
        core_dumped: false,
        sender: Some((900, Text::from("systemd"))),
        oom: false,
        raised: None,
    })
}

/// A holder that got its descriptor without O_CLOEXEC.
fn by(via: Via, process: Process) -> Holder {
    Holder {
        process: Some(Arc::new(process)),
        via,
        fd: (via == Via::Fd).then_some(9),
        cloexec: None,
        opened: None,
        detail: None,
    }
}

fn fd(process: Process) -> Holder {
    Holder { cloexec: Some(false), ..by(Via::Fd, process) }
}

fn nobody(via: Via) -> Holder {
    Holder { process: None, via, fd: None, cloexec: None, opened: None, detail: Some("loop0".into()) }
}

/// One situation; the default is a watched flock that nobody holds.
struct Scene {
    kind: Kind,
    watched: bool,
    taken: Option<u64>,
    acquirer: Option<Process>,
    /// Ancestors, and whether each was ever seen among the holders.
    ancestors: Vec<(Process, bool)>,
    holders: Vec<Holder>,
    complete: bool,
    text: &'static str,
    remote_gone: Option<bool>,
}

fn watched(acquirer: Process, holders: Vec<Holder>) -> Scene {
    Scene {
        kind: Kind::Flock,
        watched: true,
        taken: None,
        acquirer: Some(acquirer),
        ancestors: Vec::new(),
        holders,
        complete: true,
        text: "",
        remote_gone: None,
    }
}

fn cold(acquirer: Process, holders: Vec<Holder>) -> Scene {
    Scene { watched: false, ..watched(acquirer, holders) }
}

fn nameless(kind: Kind, holders: Vec<Holder>) -> Scene {
    Scene { kind, acquirer: None, ..cold(alive(1, "", 0), holders) }
}

impl Scene {
    fn under(self, ancestors: Vec<(Process, bool)>) -> Self {
        Self { ancestors, ..self }
    }

    fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    fn taken(self, at: u64) -> Self {
        Self { taken: Some(at), ..self }
    }

    fn text(self, text: &'static str) -> Self {
        Self { text, ..self }
    }

    fn incomplete(self) -> Self {
        Self { complete: false, ..self }
    }

    fn client_gone(self, gone: bool) -> Self {
        Self { remote_gone: Some(gone), ..self }
    }

    fn judge(&self) -> Judgement {
        let parties: Vec<u32> = self.ancestors.iter().filter(|a| a.1).map(|a| a.0.id.pid).collect();
        let ancestors: Vec<_> = self.ancestors.iter().map(|a| Arc::new(a.0.clone())).collect();
        judge(&Case {
            kind: self.kind,
            watched: self.watched,
            acquired_at: self.taken.map(Timestamp),
            acquirer: self.acquirer.as_ref(),
            ancestors: &ancestors,
            parties: &parties,
            holders: &self.holders,
            holders_complete: self.complete,
            births: &[],
            text: Some(self.text.as_bytes()),
            remote_gone: self.remote_gone,
        })
    }
}

fn check(situation: &str, scene: Scene, verdict: Verdict, cause: Option<Cause>) {
    let found = scene.judge();
    assert_eq!((found.verdict, found.cause), (verdict, cause), "{situation}: {:?}", found.evidence);
    assert!(!found.evidence.is_empty(), "{situation}");
}

const LOCKSMITH: u64 = 1;
const SLEEP: u64 = 2;
const SHELL: u64 = 3;

fn locksmith(exit: Option<Exit>) -> Process {
    dead(4711, "locksmith", LOCKSMITH, exit)
}

/// The dead locksmith with a file table, and when it died.
fn sharing(table: u64, died: u64) -> Process {
    let death = Death { at: Some(Timestamp(died)), exit: killed(), ..Death::default() };
    Process { file_table: Some(OwnerKey(table)), ..process(4711, "locksmith", LOCKSMITH, Life::Dead(death)) }
}

/// A fork of the locksmith with a file table, and when it was born.
fn table(table: u64, born: u64) -> Process {
    Process { file_table: Some(OwnerKey(table)), started_at: Some(Timestamp(born)), ..fork(LOCKSMITH) }
}

fn sleep() -> Process {
    Process { execed: Some(true), ..alive(4720, "sleep", SLEEP) }
}

fn fork(exe: u64) -> Process {
    alive(4720, "locksmith", exe)
}

/// A fork of the locksmith, and when it was born.
fn born(at: u64) -> Process {
    Process { started_at: Some(Timestamp(at)), ..fork(LOCKSMITH) }
}

#[test]
fn watched_locks() {
    use Cause::*;
    use Verdict::*;
    let smith = || alive(4711, "locksmith", LOCKSMITH);
    let shell = |life: Life| process(4000, "bash", SHELL, life);
    let shot = || shell(Life::Dead(Death { exit: killed(), ..Death::default() }));
    let left = || shell(Life::Dead(Death { exit: Some(Exit::Code(0)), ..Death::default() }));
    let ok = || Some(Exit::Code(0));
    let remote = || nobody(Via::Remote);
    let kernel = || nobody(Via::Kernel);
    let rows = [
        ("acquirer alive and among the holders", watched(smith(), vec![fd(smith())]), Held, None),
        ("it maps the file only", watched(smith(), vec![by(Via::Mapping, smith())]), Held, None),
        ("it holds, others may be hidden", watched(smith(), vec![fd(smith())]).incomplete(), Held, None),
        ("ofd, acquirer unseen", nameless(Kind::Ofd, vec![fd(sleep())]), Held, None),
        ("ofd, acquirer unseen, others may be hidden", nameless(Kind::Ofd, vec![fd(sleep())]).incomplete(), Held, None),
        ("flock, acquirer unseen", nameless(Kind::Flock, vec![fd(sleep())]), Unknown, None),
        ("ofd, acquirer unseen, mapped", nameless(Kind::Ofd, vec![by(Via::Mapping, sleep())]), Unknown, None),
        ("acquirer unseen, nobody holds", nameless(Kind::Ofd, vec![]), Unknown, None),
        ("acquirer alive, others hold", watched(smith(), vec![fd(sleep())]), HandedOver, Some(Passed)),
        ("acquirer alive, it may be hidden", watched(smith(), vec![fd(sleep())]).incomplete(), Unknown, None),
        ("acquirer alive, nobody holds", watched(smith(), vec![]), Unknown, None),
        (
            "flock(1) on the shell's descriptor",
            watched(locksmith(ok()), vec![fd(shell(Life::Alive)), fd(sleep())])
                .under(vec![(shell(Life::Alive), false)]),
            HandedOver,
            Some(Borrowed),
        ),
        (
            "a grandparent's descriptor, not all seen",
            watched(locksmith(killed()), vec![fd(shell(Life::Alive))])
                .under(vec![(alive(4600, "sudo", 9), false), (shell(Life::Alive), false)])
                .incomplete(),
            HandedOver,
            Some(Borrowed),
        ),
        (
            "the shell closed its descriptor and lives",
            watched(locksmith(ok()), vec![fd(sleep())]).under(vec![(shell(Life::Alive), true)]),
            HandedOver,
            Some(Passed),
        ),
        (
            "an ancestor lives that never held",
            watched(locksmith(killed()), vec![fd(sleep())]).under(vec![(shell(Life::Alive), false)]),
            Orphaned,
            Some(Leaked),
        ),
        (
            "an older sibling has it from the shell, which let go",
            watched(locksmith(ok()), vec![fd(Process { execed: Some(true), ..alive(4705, "worker", SLEEP) })])
                .under(vec![(shell(Life::Alive), false)]),
            HandedOver,
            Some(Borrowed),
        ),
        (
            "the shell is dead, sleep is left",
            watched(locksmith(ok()), vec![fd(sleep())]).under(vec![(shot(), true)]),
            Orphaned,
            Some(Leaked),
        ),
        (
            "the shell was killed, its subshell is left",
            watched(locksmith(ok()), vec![fd(alive(4720, "bash", SHELL))]).under(vec![(shot(), true)]),
            Orphaned,
            Some(Child),
        ),
        (
            "the shell exited, its background job is left",
            watched(locksmith(ok()), vec![fd(alive(4720, "bash", SHELL))]).under(vec![(left(), true)]),
            HandedOver,
            Some(Daemonized),
        ),
        (
            "the launcher exited 0, the daemon was killed, its worker is left",
            watched(locksmith(killed()), vec![fd(fork(LOCKSMITH))])
                .under(vec![(dead(4000, "locksmith", LOCKSMITH, ok()), true)]),
            Orphaned,
            Some(Child),
        ),
        (
            "a party's life cannot be established",
            watched(locksmith(killed()), vec![fd(sleep())]).under(vec![(hidden(4000), true)]),
            Unknown,
            None,
        ),
        ("daemonized", watched(locksmith(ok()), vec![fd(fork(LOCKSMITH))]), HandedOver, Some(Daemonized)),
        (
            "killed, but the pid file names the heir",
            watched(locksmith(killed()), vec![fd(fork(LOCKSMITH))]).text(" 4720\n"),
            HandedOver,
            Some(Daemonized),
        ),
        (
            "the pid file names a stranger",
            watched(locksmith(killed()), vec![fd(sleep())]).text("4720\n"),
            Orphaned,
            Some(Leaked),
        ),
        (
            "one of several heirs is the daemon",
            watched(locksmith(ok()), vec![fd(alive(4730, "sleep", SLEEP)), fd(fork(LOCKSMITH))]),
            HandedOver,
            Some(Daemonized),
        ),
        ("killed, child left", watched(locksmith(killed()), vec![fd(fork(LOCKSMITH))]), Orphaned, Some(Child)),
        (
            "failed, child left",
            watched(locksmith(Some(Exit::Code(1))), vec![fd(fork(LOCKSMITH))]),
            Orphaned,
            Some(Child),
        ),
        ("ended unseen, child left", watched(locksmith(None), vec![fd(fork(LOCKSMITH))]), Unknown, Some(Inherited)),
        ("another program is left", watched(locksmith(killed()), vec![fd(sleep())]), Orphaned, Some(Leaked)),
        (
            "another run of the same program is left",
            watched(locksmith(ok()), vec![fd(Process { execed: Some(true), ..fork(LOCKSMITH) })]),
            Orphaned,
            Some(Leaked),
        ),
        (
            "a child born before the lock had the file too",
            watched(locksmith(killed()), vec![fd(born(10))]).taken(11),
            HandedOver,
            Some(Borrowed),
        ),
        (
            "a child born after the lock inherited it",
            watched(locksmith(killed()), vec![fd(born(12))]).taken(11),
            Orphaned,
            Some(Child),
        ),
        (
            "the heir's executable is unknown, but it called no execve",
            watched(locksmith(killed()), vec![fd(fork(0))]),
            Orphaned,
            Some(Child),
        ),
        (
            "the heir's program is unknown",
            watched(locksmith(ok()), vec![fd(Process { execed: None, ..fork(0) })]),
            Orphaned,
            Some(Inherited),
        ),
        (
            "the heir's program is unknown, but its descriptor survives no exec",
            watched(
                locksmith(killed()),
                vec![Holder { cloexec: Some(true), ..fd(Process { execed: None, ..fork(0) }) }],
            ),
            Orphaned,
            Some(Child),
        ),
        ("not all holders seen", watched(locksmith(killed()), vec![fd(sleep())]).incomplete(), Unknown, None),
        ("nobody seen holding", watched(locksmith(killed()), vec![]), Unknown, None),
        ("mapped", watched(locksmith(killed()), vec![by(Via::Mapping, sleep())]), Orphaned, Some(Mapped)),
        ("in flight", watched(locksmith(ok()), vec![by(Via::Message, fork(LOCKSMITH))]), Orphaned, Some(InFlight)),
        ("io_uring", watched(locksmith(killed()), vec![by(Via::IoUring, sleep())]), Orphaned, Some(IoUring)),
        (
            "mapped, maybe others",
            watched(locksmith(killed()), vec![by(Via::Mapping, sleep())]).incomplete(),
            Unknown,
            None,
        ),
        (
            "mapped by the process that opened the file",
            watched(locksmith(killed()), vec![Holder { opened: Some(true), ..by(Via::Mapping, sleep()) }]),
            HandedOver,
            Some(Borrowed),
        ),
        (
            "registered by an ancestor",
            watched(locksmith(killed()), vec![by(Via::IoUring, shell(Life::Alive))])
                .under(vec![(shell(Life::Alive), true)]),
            HandedOver,
            Some(Borrowed),
        ),
        (
            "in flight to an ancestor, which has not got it yet",
            watched(locksmith(killed()), vec![by(Via::Message, shell(Life::Alive))])
                .under(vec![(shell(Life::Alive), false)]),
            Orphaned,
            Some(InFlight),
        ),
        (
            "in flight back to the process that opened the file",
            watched(locksmith(killed()), vec![Holder { opened: Some(true), ..by(Via::Message, sleep()) }]),
            Orphaned,
            Some(InFlight),
        ),
        ("in flight to the living acquirer", watched(smith(), vec![by(Via::Message, smith())]), Held, None),
        (
            "in flight from the living acquirer",
            watched(smith(), vec![by(Via::Message, sleep())]),
            HandedOver,
            Some(Passed),
        ),
        ("registered by the living acquirer", watched(smith(), vec![by(Via::IoUring, smith())]), Held, None),
        ("mapped by others", watched(smith(), vec![by(Via::Mapping, sleep())]), HandedOver, Some(Passed)),
        ("registered by others", watched(smith(), vec![by(Via::IoUring, sleep())]), HandedOver, Some(Passed)),
        ("flock in a shared file table", watched(sharing(1, 50), vec![fd(table(1, 40))]), Orphaned, Some(SharedFiles)),
        ("flock, tables of their own", watched(sharing(1, 50), vec![fd(table(2, 40))]), Orphaned, Some(Child)),
        ("born when the table was free again", watched(sharing(1, 50), vec![fd(table(1, 60))]), Orphaned, Some(Child)),
        ("a living sharer beside the acquirer", watched(smith(), vec![fd(smith()), fd(table(1, 40))]), Held, None),
        (
            "shared file table",
            watched(locksmith(killed()), vec![fd(fork(LOCKSMITH))]).kind(Kind::Posix),
            Orphaned,
            Some(SharedFiles),
        ),
        ("loop device", watched(locksmith(ok()), vec![kernel()]), Orphaned, Some(Kernel)),
        ("loop device, acquirer unseen", nameless(Kind::Flock, vec![kernel()]), Orphaned, Some(Kernel)),
        ("loop device, acquirer alive", watched(smith(), vec![kernel()]), HandedOver, Some(Passed)),
        ("a remote client is gone", nameless(Kind::Posix, vec![remote()]).client_gone(true), Orphaned, Some(Remote)),
        ("a remote client lives", nameless(Kind::Posix, vec![remote()]).client_gone(false), Held, None),
        ("a remote client, nobody asked", watched(smith(), vec![remote()]), Unknown, Some(Remote)),
        ("the acquirer's life is unknown", watched(hidden(4711), vec![fd(sleep())]), Unknown, None),
    ];
    for (situation, scene, verdict, cause) in rows {
        check(situation, scene, verdict, cause);
    }
}

#[test]
fn cold_locks() {
    use Cause::*;
    use Verdict::*;
    let gone = || dead(4711, "flock", 0, None);
    // Starts are known here, so that ages follow from them; `age` has its own tests for births.
    let older = || alive(4000, "bash", SHELL);
    let younger = || alive(4720, "sleep", SLEEP);
    let no_start = || Process { id: ProcessId { pid: 4720, start: None }, ..younger() };
    let looks = |daemon_looks| Process { daemon_looks, ..younger() };
    let rows = [
        ("acquirer holds", cold(alive(4711, "app", 1), vec![fd(alive(4711, "app", 1))]), Held, None),
        ("older holder", cold(gone(), vec![fd(older())]), HandedOver, Some(Borrowed)),
        (
            "a holder of no known age that opened the file",
            cold(gone(), vec![Holder { opened: Some(true), ..fd(no_start()) }]),
            HandedOver,
            Some(Borrowed),
        ),
        ("an older and a younger holder", cold(gone(), vec![fd(younger()), fd(older())]), HandedOver, Some(Borrowed)),
        ("the text is the holder's pid", cold(gone(), vec![fd(younger())]).text("4720"), HandedOver, Some(Daemonized)),
        ("the text is another pid", cold(gone(), vec![fd(younger())]).text("4711"), Orphaned, Some(Inherited)),
        ("looks like a daemon", cold(gone(), vec![fd(looks(Some(true)))]), Unknown, Some(Inherited)),
        ("its looks are unknown", cold(gone(), vec![fd(looks(None))]), Unknown, Some(Inherited)),
        ("younger holder", cold(gone(), vec![fd(younger())]), Orphaned, Some(Inherited)),
        ("younger holder, maybe others", cold(gone(), vec![fd(younger())]).incomplete(), Unknown, None),
        ("ages cannot be compared", cold(gone(), vec![fd(no_start())]), Unknown, Some(Inherited)),
        ("one age cannot be compared", cold(gone(), vec![fd(younger()), fd(no_start())]), Unknown, Some(Inherited)),
        ("mapped by a younger one", cold(gone(), vec![by(Via::Mapping, younger())]), Orphaned, Some(Mapped)),
        ("shared file table", cold(gone(), vec![fd(younger())]).kind(Kind::Posix), Orphaned, Some(SharedFiles)),
        ("the acquirer's number is in doubt", cold(hidden(4711), vec![fd(younger())]), Unknown, None),
        ("nobody seen holding", cold(gone(), vec![]), Unknown, None),
    ];
    for (situation, scene, verdict, cause) in rows {
        check(situation, scene, verdict, cause);
    }
}

#[test]
fn the_evidence_tells_the_whole_story() {
    let mut scene = watched(locksmith(killed()), vec![fd(sleep())]);
    assert_eq!(
        scene.judge().evidence,
        [
            "pid 4711 (locksmith) was killed by SIGKILL from pid 900 (systemd) at 2026-11-22 03:12:07 UTC",
            "pid 4720 (sleep) still has the file open as fd 9, inherited without O_CLOEXEC",
            "pid 4720 (sleep) has started a program of its own (execve) since pid 4711 (locksmith)",
        ]
    );
    scene.holders.clear();
    let nothing = |scene: &Scene, words: &[&str]| {
        let evidence = scene.judge().evidence.concat();
        words.iter().for_each(|word| assert!(evidence.contains(word), "{word}: {evidence}"));
    };
    nothing(
        &scene,
        &["nothing was found to keep the lock", "everything was searched", "mappings", "messages", "io_uring"],
    );
    scene.complete = false;
    nothing(&scene, &["no process is seen", "mapping", "message in flight", "io_uring", "kernel", "may keep the lock"]);
    let held = alive(4711, "locksmith", LOCKSMITH);
    assert_eq!(
        watched(held.clone(), vec![fd(held)]).judge().evidence,
        ["pid 4711 (locksmith) took the lock and has the file open as fd 9"]
    );
}

#[test]
fn every_means_has_its_sentence() {
    let check = |scene: Scene, expect: &str| {
        let evidence = scene.judge().evidence;
        assert!(evidence.iter().any(|sentence| sentence == expect), "{expect}\n{evidence:#?}");
    };
    let told = |via, process, detail: &str| Holder { detail: Some(detail.into()), ..by(via, process) };
    let mapped = "mapped at 7f12-7f13 (read-write, shared)";
    let queued = "queued in unix socket inode 324666 of pid 4720, 1 descriptor";
    let registered = "registered as file 3 of io_uring fd 7";
    let smith = || alive(4711, "locksmith", LOCKSMITH);
    let gone = || locksmith(killed());
    check(
        watched(gone(), vec![told(Via::Mapping, sleep(), mapped)]),
        &format!("pid 4720 (sleep) still has the file mapped into its memory: {mapped}"),
    );
    check(
        watched(gone(), vec![told(Via::Message, sleep(), queued)]),
        &format!("a message in a unix socket of pid 4720 (sleep) carries the open file: {queued}"),
    );
    check(
        watched(gone(), vec![told(Via::Message, sleep(), queued)]),
        "whoever is to receive the message has not got it yet, and nobody who knows of the lock is left",
    );
    check(
        watched(gone(), vec![told(Via::IoUring, sleep(), registered)]),
        &format!("an io_uring of pid 4720 (sleep) still has the file registered: {registered}"),
    );
    check(watched(gone(), vec![nobody(Via::Kernel)]), "the kernel itself keeps the file open: loop0");
    check(
        watched(sharing(1, 50), vec![fd(table(1, 40))]),
        "pid 4720 (locksmith) shares the file table of pid 4711 (locksmith) (clone with CLONE_FILES), and all descriptors \
         in it",
    );
    check(
        watched(smith(), vec![told(Via::Message, smith(), queued)]),
        &format!("pid 4711 (locksmith) took the lock and can take it out of its own socket again: {queued}"),
    );
    check(
        watched(smith(), vec![told(Via::Mapping, smith(), mapped)]),
        &format!("pid 4711 (locksmith) took the lock and has the file mapped into its memory: {mapped}"),
    );
    check(
        watched(smith(), vec![told(Via::IoUring, smith(), registered)]),
        &format!("pid 4711 (locksmith) took the lock and has the file registered with its io_uring: {registered}"),
    );
    check(
        watched(smith(), vec![told(Via::Message, sleep(), queued)]),
        "pid 4711 (locksmith) took the lock and lives, but only others keep the file open now",
    );
}
