//! Holding others still: who is frozen, who never is, and that everybody goes on whatever happens.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    fs,
    io::Write,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use lockwatch_tests::{
    ControlGroup, Echo, Hierarchy, Lines, Process, Scene, left_out, needs_root, proc_locks_of, program, until,
};
use rustix::process::Signal;

/// A process that holds others still when it is told to.
struct Freezer {
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Lines,
}

impl Freezer {
    fn start(limit: Duration, spared: u32, holds: &[&str]) -> Self {
        Self::greet(&mut Command::new(program("freezer")), limit, spared, holds)
    }

    /// One that kills itself at this point of `lockwatch_control::fault`.
    fn ending_at(point: u32, holds: &[&str]) -> Self {
        let mut command = Command::new(program("freezer"));
        Self::greet(command.env("LOCKWATCH_FAULT", point.to_string()), Duration::from_secs(60), 0, holds)
    }

    fn greet(command: &mut Command, limit: Duration, spared: u32, holds: &[&str]) -> Self {
        command.arg(limit.as_millis().to_string()).arg(spared.to_string()).args(holds);
        let mut child = piped(command);
        let lines = Lines::from(child.stdout.take().unwrap());
        let freezer = Self { stdin: child.stdin.take(), process: Process::of_child(child), lines };
        assert!(freezer.lines.take(|line| line == "ready").is_some(), "{:?}", freezer.lines.heard());
        freezer
    }

    fn long(holds: &[&str]) -> Self {
        Self::start(Duration::from_secs(60), 0, holds)
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn say(&mut self, command: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// The answer behind `ok`, or the error behind `err`.
    fn ask(&mut self, command: &str) -> Result<String, String> {
        self.say(command);
        let answer = self.lines.take(|line| line.starts_with("ok") || line.starts_with("err "));
        let (_, answer) = answer.unwrap_or_else(|| panic!("{command}: {:?}", self.lines.heard()));
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(answer.trim_start_matches("err ").to_owned()),
        }
    }

    fn tell(&mut self, command: &str) -> String {
        self.ask(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn refuses(&mut self, expect: &str) {
        let error = self.ask("freeze").err().unwrap_or_else(|| panic!("{expect}: not refused"));
        assert!(error.contains(expect), "{error}");
        assert_eq!(self.guardian(), None, "it ends with the hold");
    }

    /// Its guardian's number.
    fn guardian(&self) -> Option<u32> {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            parent == Some(self.pid()) && stat.contains("(lockwatch-thaw)")
        })
    }
}

fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// How something is held still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Group(Hierarchy),
    Process,
}

const ALL: [How; 4] =
    [How::Group(Hierarchy::Unified), How::Group(Hierarchy::Freezer), How::Group(Hierarchy::Plain), How::Process];

/// Somebody to hold still, and what is typed for it.
struct Stage {
    how: How,
    echo: Echo,
    group: Option<ControlGroup>,
}

impl Stage {
    /// `None`, and said, where it cannot be set.
    fn set(name: &str, how: How) -> Option<Self> {
        let echo = Echo::start();
        let group = match how {
            How::Process => None,
            How::Group(hierarchy) => match ControlGroup::new(hierarchy) {
                Some(group) => Some(group),
                None => {
                    left_out(&format!("{name} with {how:?}"), "needs that hierarchy of control groups");
                    return None;
                }
            },
        };
        if let Some(group) = &group {
            group.add(echo.pid());
        }
        Some(Self { how, echo, group })
    }

    fn typed(&self) -> String {
        self.group.as_ref().map_or(self.echo.pid().to_string(), |group| group.path().to_owned())
    }

    fn is_still(&self) -> bool {
        match (self.how, &self.group) {
            (How::Group(Hierarchy::Unified | Hierarchy::Freezer), Some(group)) => group.is_frozen(),
            _ => self.echo.state() == 'T',
        }
    }

    /// Somebody else freezes it, or lets it go on.
    fn freeze_otherwise(&self, frozen: bool) {
        match (self.how, &self.group) {
            (How::Group(Hierarchy::Unified | Hierarchy::Freezer), Some(group)) => group.freeze(frozen),
            _ => self.echo.process().signal(if frozen { Signal::STOP } else { Signal::CONT }),
        }
        until("it obeys", || (self.is_still() == frozen).then_some(()));
    }

    fn goes_on(&mut self) {
        until("it goes on", || (!self.is_still()).then_some(()));
        self.echo.runs();
    }
}

fn stages(name: &str) -> Vec<Stage> {
    if !needs_root(name) {
        return Vec::new();
    }
    ALL.into_iter().filter_map(|how| Stage::set(name, how)).collect()
}

#[test]
fn each_way_holds_still_and_lets_go() {
    for mut stage in stages("each_way_holds_still_and_lets_go") {
        let mut freezer = Freezer::long(&[&stage.typed()]);
        let words = freezer.tell("freeze");
        let how = match stage.how {
            How::Group(Hierarchy::Unified | Hierarchy::Freezer) => ": 1 process held still by its freezer",
            How::Group(Hierarchy::Plain) => ": 1 process held still by SIGSTOP",
            How::Process => ": held still by SIGSTOP",
        };
        assert!(words.ends_with(how), "{words}");
        assert!(stage.is_still(), "{:?}", stage.how);
        assert_eq!(freezer.tell("members"), format!("{{{}}}", stage.echo.pid()));
        freezer.tell("check");
        let word = stage.echo.call();
        freezer.tell("thaw");
        until("it answers", || stage.echo.answers().contains(&word).then_some(()));
        stage.goes_on();
        assert_eq!(freezer.guardian(), None, "it ends with the hold");
    }
}

#[test]
fn what_was_frozen_before_stays_so() {
    for mut stage in stages("what_was_frozen_before_stays_so") {
        stage.freeze_otherwise(true);
        let mut freezer = Freezer::long(&[&stage.typed()]);
        freezer.tell("freeze");
        freezer.tell("thaw");
        assert!(stage.is_still(), "{:?}", stage.how);
        freezer.tell("freeze");
        let mut guardian = Process::of_pid(freezer.guardian().unwrap());
        freezer.process.kill();
        guardian.wait();
        assert!(stage.is_still(), "{:?}", stage.how);
        stage.freeze_otherwise(false);
        stage.goes_on();
    }
}

#[test]
fn all_or_nobody() {
    for mut stage in stages("all_or_nobody") {
        let mut freezer = Freezer::long(&[&stage.typed(), "1"]);
        freezer.refuses("pid 1 cannot be held still: pid 1");
        assert!(!stage.is_still());
        stage.goes_on();
    }
}

#[test]
fn whoever_must_go_on_is_refused() {
    let name = "whoever_must_go_on_is_refused";
    if !needs_root(name) {
        return;
    }
    let check = |holds: &[&str], expect: &str| Freezer::long(holds).refuses(expect);
    check(&["1"], "it is the host's first process");
    check(&[&std::process::id().to_string()], "this lockwatch runs below it");
    check(&["2"], "pid 2 cannot be held still: ");
    check(&["4194304"], "there is no such process");
    check(&["/"], "every process of the host");
    check(&["/lockwatch-test-missing"], "there is no control group");
    check(&["lockwatch-test-missing.service"], "there is no control group of a unit");

    let mut echo = Echo::start();
    Freezer::start(Duration::from_secs(60), echo.pid(), &[&echo.pid().to_string()])
        .refuses("it is to be signalled, and a frozen process cannot end");
    echo.runs();
    for hierarchy in [Hierarchy::Unified, Hierarchy::Freezer, Hierarchy::Plain] {
        let Some(group) = ControlGroup::new(hierarchy) else { continue };
        let inside = group.inside("inside").unwrap();
        // A holder that is to be signalled, in a group below.
        let (mut holder, mut echo) = (Echo::start(), Echo::start());
        inside.add(holder.pid());
        group.add(echo.pid());
        Freezer::start(Duration::from_secs(60), holder.pid(), &[group.path()])
            .refuses(&format!("pid {} (cat) is in it: it is to be signalled", holder.pid()));
        // lockwatch itself.
        let mut freezer = Freezer::long(&[group.path()]);
        inside.add(freezer.pid());
        freezer.refuses("(freezer) is in it: it is this lockwatch");
        assert!(!group.is_frozen());
        holder.runs();
        echo.runs();
    }
}

/// Who is traced shows its signals to its tracer first.
#[test]
fn a_traced_process_is_refused() {
    if !needs_root("a_traced_process_is_refused") {
        return;
    }
    let mut echo = Echo::start();
    let pid = echo.pid().cast_signed();
    // SAFETY: seizes a child of this test, which goes on; no memory is passed.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) }, 0);
    let mut freezer = Freezer::long(&[&echo.pid().to_string()]);
    freezer.refuses(&format!("is traced by pid {}", rustix::thread::gettid().as_raw_nonzero()));
    echo.runs();
}

#[test]
fn a_unit_is_found_by_its_name() {
    let name = "a_unit_is_found_by_its_name";
    if !needs_root(name) {
        return;
    }
    let (slice, unit) = (
        format!("lockwatchtest{}.slice", std::process::id()),
        format!("lockwatch-test-{}.service", std::process::id()),
    );
    let Some(group) = ControlGroup::named(Hierarchy::Unified, &format!("/{slice}/{unit}")) else {
        return left_out(name, "needs version 2 of control groups");
    };
    let mut echo = Echo::start();
    group.add(echo.pid());
    let mut freezer = Freezer::long(&[&unit]);
    assert_eq!(freezer.tell("freeze"), format!("{unit}: 1 process held still by its freezer"));
    assert!(group.is_frozen());
    freezer.tell("thaw");
    echo.runs();
    let mut freezer = Freezer::long(&[&slice, &echo.pid().to_string()]);
    freezer.tell("freeze");
    assert!(group.is_frozen() && freezer.tell("members").contains(&echo.pid().to_string()));
    drop(freezer);
    echo.runs();
}

/// A group that was delegated to a user is not ours to write: the session has no CAP_DAC_OVERRIDE.
#[test]
fn a_group_whose_freezer_belongs_to_a_user_is_stopped() {
    let name = "a_group_whose_freezer_belongs_to_a_user_is_stopped";
    let Some(group) = needs_root(name).then(|| ControlGroup::new(Hierarchy::Unified)).flatten() else {
        return left_out(name, "needs root and version 2 of control groups");
    };
    std::os::unix::fs::chown(group.file("cgroup.freeze"), Some(65534), Some(65534)).unwrap();
    let mut echo = Echo::start();
    group.add(echo.pid());
    let mut freezer = Freezer::long(&[group.path()]);
    assert_eq!(freezer.tell("freeze"), format!("{}: 1 process held still by SIGSTOP", group.path()));
    assert!(echo.state() == 'T' && !group.is_frozen());
    freezer.tell("thaw");
    echo.runs();
}

/// The same name may stand for others in another hierarchy: they would go on unseen.
#[test]
fn who_bears_the_name_elsewhere_must_be_still_too() {
    let name = "who_bears_the_name_elsewhere_must_be_still_too";
    let (Some(group), true) = (ControlGroup::new(Hierarchy::Unified), needs_root(name)) else { return };
    let Some(elsewhere) = group.also_in(Hierarchy::Freezer) else {
        return left_out(name, "needs both versions of control groups");
    };
    let (mut one, mut other) = (Echo::start(), Echo::start());
    elsewhere.add(other.pid());
    let mut freezer = Freezer::long(&[group.path()]);
    // Nobody is in version 2.
    assert!(freezer.tell("freeze").contains("1 process"));
    assert!(elsewhere.is_frozen());
    freezer.tell("thaw");
    group.add(one.pid());
    freezer.refuses("is not in the group that is held still");
    one.runs();
    other.runs();
}

/// Children that are born while their parents are being stopped.
#[test]
fn forks_are_caught() {
    for how in [Hierarchy::Plain, Hierarchy::Freezer, Hierarchy::Unified] {
        let name = "forks_are_caught";
        let Some(group) = needs_root(name).then(|| ControlGroup::new(how)).flatten() else {
            left_out(&format!("{name} with {how:?}"), "needs root and that hierarchy of control groups");
            continue;
        };
        let mut parents: Vec<_> = (0..4)
            .map(|_| {
                let mut shell = Command::new("sh");
                let mut child = piped(shell.args(["-c", "read go; while :; do (sleep 0 &); done"]));
                group.add(child.id());
                let mut stdin = child.stdin.take().unwrap();
                stdin.write_all(b"go\n").unwrap();
                Process::of_child(child)
            })
            .collect();
        for _ in 0..5 {
            until("they fork", || (group.members().len() > 5).then_some(()));
            let mut freezer = Freezer::long(&[group.path()]);
            freezer.tell("freeze");
            let before = group.members();
            for pid in before.iter().filter(|_| how == Hierarchy::Plain) {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                assert!(stat.is_empty() || stat.contains(") T ") || stat.contains(") Z "), "{stat}");
            }
            freezer.tell("check");
            assert_eq!(group.members(), before, "{how:?}");
            freezer.tell("thaw");
            until("they go on", || (group.members() != before).then_some(()));
        }
        for parent in &mut parents {
            parent.kill();
        }
    }
}

/// SIGKILL at any moment: before, between and after the orders to be still.
#[test]
fn everybody_goes_on_when_lockwatch_is_killed() {
    const ROUNDS: u32 = 25;
    for mut stage in stages("everybody_goes_on_when_lockwatch_is_killed") {
        let began = Instant::now();
        let mut freezer = Freezer::long(&[&stage.typed()]);
        let asked = Instant::now();
        freezer.tell("freeze");
        let takes = asked.elapsed();
        freezer.process.kill();
        stage.goes_on();
        let mut longest = Duration::ZERO;
        for round in 0..ROUNDS {
            let mut freezer = Freezer::long(&[&stage.typed()]);
            freezer.say("freeze");
            std::thread::sleep(takes * round * 2 / ROUNDS);
            let killed = Instant::now();
            freezer.process.kill();
            stage.goes_on();
            longest = longest.max(killed.elapsed());
        }
        println!("{:?}: {ROUNDS} kills in {:?}, the longest until it went on {longest:?}", stage.how, began.elapsed());
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    }
}

/// Right before somebody is told to be still, and right after.
#[test]
fn everybody_goes_on_when_lockwatch_ends_in_mid_act() {
    for point in [11, 12] {
        for mut stage in stages("everybody_goes_on_when_lockwatch_ends_in_mid_act") {
            let mut freezer = Freezer::ending_at(point, &[&stage.typed()]);
            freezer.say("freeze");
            freezer.process.wait();
            stage.goes_on();
        }
    }
}

/// It need not even be dead: whoever is stopped thaws nobody.
#[test]
fn everybody_goes_on_when_the_limit_has_passed() {
    for mut stage in stages("everybody_goes_on_when_the_limit_has_passed") {
        let limit = Duration::from_secs(1);
        let began = Instant::now();
        let mut freezer = Freezer::start(limit, 0, &[&stage.typed()]);
        freezer.tell("freeze");
        assert!(stage.is_still());
        freezer.process.signal(Signal::STOP);
        stage.goes_on();
        assert!(began.elapsed() >= limit);
        freezer.process.signal(Signal::CONT);
        let error = freezer.ask("check").err().unwrap();
        assert_eq!(error, "everybody goes on: 1 s have passed, the most that was allowed");
        freezer.tell("thaw");
    }
}

#[test]
fn everybody_goes_on_when_the_guardian_is_killed() {
    for mut stage in stages("everybody_goes_on_when_the_guardian_is_killed") {
        let mut freezer = Freezer::long(&[&stage.typed()]);
        freezer.tell("freeze");
        Process::of_pid(freezer.guardian().unwrap()).kill();
        stage.goes_on();
        assert_eq!(freezer.ask("check"), Err("everybody goes on: the guardian was killed".into()));
        freezer.tell("thaw");
    }
}

/// A caller that reads lockwatch's output to its end, and a lock whose duplicate lockwatch has, must not wait for it.
#[test]
fn the_guardian_keeps_nothing_of_others_and_obeys_nobody() {
    if !needs_root("the_guardian_keeps_nothing_of_others_and_obeys_nobody") {
        return;
    }
    let echo = Echo::start();
    let mut freezer = Freezer::long(&[&echo.pid().to_string()]);
    freezer.tell("freeze");
    let pid = freezer.guardian().unwrap();
    let link = |entry: fs::DirEntry| fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
    let mut links: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().map(link).collect();
    links.sort();
    let kinds: Vec<_> = links.iter().map(|link| link.split('[').next().unwrap_or_default()).collect();
    let pidfd = links.iter().find(|link| link.contains("pidfd")).unwrap().as_str();
    assert_eq!(
        kinds,
        ["/dev/null", "/dev/null", "/dev/null", pidfd, pidfd, "socket:"].map(|kind| kind.split('[').next().unwrap())
    );
    let mut guardian = Process::of_pid(pid);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::PIPE, Signal::ALARM, Signal::USR1] {
        guardian.signal(signal);
    }
    freezer.tell("check");
    let session = |pid: u32| rustix::process::getsid(rustix::process::Pid::from_raw(pid.cast_signed())).unwrap();
    assert_eq!(session(pid).as_raw_nonzero().get().cast_unsigned(), pid);
    // Stopped, it cannot end, and the output of the dead one ends all the same.
    guardian.signal(Signal::STOP);
    freezer.process.kill();
    assert!(freezer.lines.closed());
    assert_eq!(echo.state(), 'T');
    guardian.signal(Signal::CONT);
    guardian.wait();
    until("it goes on", || (echo.state() != 'T').then_some(()));
}

#[test]
fn a_thaw_by_others_is_noticed() {
    for mut stage in stages("a_thaw_by_others_is_noticed") {
        let mut freezer = Freezer::long(&[&stage.typed()]);
        freezer.tell("freeze");
        stage.freeze_otherwise(false);
        assert!(freezer.ask("check").err().unwrap().ends_with("goes on: somebody else has let it"));
        freezer.tell("thaw");
        stage.goes_on();
    }
}

/// A parent in vfork(2) cannot be interrupted until its child goes on, and that one is stopped.
#[test]
fn who_does_not_obey_is_named_and_nobody_stays_frozen() {
    let name = "who_does_not_obey_is_named_and_nobody_stays_frozen";
    let Some(group) = needs_root(name).then(|| ControlGroup::new(Hierarchy::Plain)).flatten() else {
        return left_out(name, "needs root and version 1 of control groups");
    };
    let mut child = piped(Command::new(program("freezer")).arg("vfork"));
    let mut stdin = child.stdin.take().unwrap();
    group.add(child.id());
    let parent = Process::of_child(child);
    stdin.write_all(b"go\n").unwrap();
    until("there are two", || (group.members().len() == 2).then_some(()));
    let mut freezer = Freezer::start(Duration::from_secs(1), 0, &[group.path()]);
    freezer.refuses(&format!("pid {} (freezer) did not stand still in time", parent.pid()));
    for pid in group.members() {
        until("it goes on", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            (!stat.contains(") T ")).then_some(())
        });
    }
}

/// Why a plan whose waiter is held still looks different afterwards.
#[test]
fn a_waiter_loses_its_place_in_the_queue() {
    for how in ALL {
        let name = "a_waiter_loses_its_place_in_the_queue";
        if !needs_root(name) {
            return;
        }
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut people: Vec<_> = (0..3).map(|_| scene.locker()).collect();
        for person in &mut people {
            person.open(&path, "rw");
        }
        people[0].tell("flock 3 ex");
        for person in &mut people[1..] {
            person.wait_for(&path, "flock 3 ex");
        }
        let [first, second] = [people[1].pid(), people[2].pid()];
        let queue = || -> Vec<u32> {
            proc_locks_of(&path).iter().filter(|lock| lock.waits).filter_map(|lock| lock.pid).collect()
        };
        assert_eq!(queue(), [first, second]);
        let group = match how {
            How::Process => None,
            How::Group(hierarchy) => {
                let Some(group) = ControlGroup::new(hierarchy) else { continue };
                group.add(first);
                Some(group)
            }
        };
        let typed = group.as_ref().map_or(first.to_string(), |group| group.path().to_owned());
        let mut freezer = Freezer::long(&[&typed]);
        freezer.tell("freeze");
        // Who waited behind it is woken by that, and queues up anew.
        until("it has left", || (queue() == [second]).then_some(()));
        freezer.tell("thaw");
        until("it is the last", || (queue() == [second, first]).then_some(()));
    }
}
