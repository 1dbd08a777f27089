//! Standing orders, carried out by a real agent through a real `lockwatch control`.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use lockwatch_tests::{Door, Event, HostAgent, Locker, Scene, document_of, in_flight, items, needs_bpf, until};
use rustix::process::Signal;
use serde_json::Value;

/// Files with a ghost each, where control may act, and what one of its policies says.
struct Stage {
    scene: Scene,
    door: Door,
    paths: Vec<PathBuf>,
    heirs: Vec<Locker>,
}

impl Stage {
    /// With so many ghosts, and a control process with this in its `[control]`.
    fn new(ghosts: usize, control: &str) -> Self {
        let scene = Scene::new();
        let dir = scene.path("locks");
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("make {}: {e}", dir.display()));
        let paths: Vec<_> = (0..ghosts).map(|n| scene.file(format!("locks/{n}"))).collect();
        // Orphaned also for an agent that starts later, however many processes this host has started.
        let heirs = paths.iter().map(|path| in_flight(&scene, path)).collect();
        let door = Door::open(&scene, &format!("settle = '0s'\n{control}"));
        Self { scene, door, paths, heirs }
    }

    /// The agent's configuration, after `[agent]`: one policy on these files, and this in it.
    fn config(&self, policy: &str) -> String {
        format!(
            "control_socket = {:?}\ninterval = '100ms'\n[control]\naudit_log = {:?}\n[[policy]]\nname = 'stale'\n\
             match.paths = ['{}/*']\nmin_age = '0s'\naction = 'clear'\n{policy}",
            self.door.socket(),
            self.scene.path("door/log/audit.jsonl"),
            self.scene.path("locks").display(),
        )
    }

    fn agent(&self, policy: &str) -> HostAgent {
        HostAgent::start(&self.scene, &self.config(policy))
    }

    /// How many of the files are locked by nobody who lives. Each question has the agent look, and its policies judge.
    fn orphans(&self, agent: &HostAgent) -> usize {
        let mut args: Vec<_> = ["orphans", "--json", "--api-socket"].map(Into::into).to_vec();
        args.push(agent.api_socket().as_os_str().to_owned());
        args.extend(self.paths.iter().map(|path| path.as_os_str().to_owned()));
        items(&document_of(args)["locks"]).len()
    }

    /// What is on record of this phase.
    fn records(&self, phase: &str) -> Vec<Value> {
        self.door.records().into_iter().filter(|record| record["phase"] == phase).collect()
    }
}

/// Waits for what the policy does or says.
fn decides(agent: &HostAgent, decision: &str) -> Event {
    agent.watcher().wait_for(decision, |event| event.is("policy") && event.json["policy"]["decision"] == decision)
}

fn decided(agent: &HostAgent, decision: &str) -> usize {
    let is = |event: &&Event| event.is("policy") && event.json["policy"]["decision"] == decision;
    agent.watcher().events().iter().filter(is).count()
}

/// One value of `/metrics`.
fn metric(agent: &HostAgent, name: &str) -> Option<f64> {
    let mut page = String::new();
    TcpStream::connect(agent.address())
        .and_then(|mut stream| {
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            stream.read_to_string(&mut page)
        })
        .unwrap_or_else(|e| panic!("scrape {}: {e}", agent.address()));
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn becomes(agent: &HostAgent, name: &str, value: f64) {
    until(name, || metric(agent, name).filter(|found| *found == value));
}

#[test]
fn a_canary_clears_exactly_as_many_as_it_may_and_stops() {
    if !needs_bpf("a_canary_clears_exactly_as_many_as_it_may_and_stops") {
        return;
    }
    let mut stage = Stage::new(4, "");
    // Nothing happens when they are old enough: only the interval shows it.
    let config = |policy| stage.config(policy).replace("min_age = '0s'", "min_age = '1s'");
    let mut agent = HostAgent::start(&stage.scene, &config("stage = 'canary'\ncanary = 2"));
    let finished = decides(&agent, "finished");
    assert_eq!(finished.json["policy"]["name"], "stale");
    // Every question is another look, and another chance to do too much.
    for _ in 0..5 {
        assert_eq!(stage.orphans(&agent), 2);
    }
    assert_eq!((decided(&agent, "clear"), decided(&agent, "cleared"), decided(&agent, "finished")), (2, 2, 1));
    let outcomes = stage.records("outcome");
    assert_eq!(outcomes.len(), 2);
    for record in outcomes {
        let actor = &record["actor"];
        assert_eq!((&record["outcome"], &record["method"]), (&"cleared".into(), &"release".into()), "{record}");
        assert_eq!(record["reason"], "policy stale");
        let pid = agent.process().pid();
        assert_eq!((&actor["uid"], &actor["pid"], &actor["comm"]), (&0.into(), &pid.into(), &"lockwatch".into()));
    }
    becomes(&agent, "lockwatch_clears_total{method=\"release\",outcome=\"cleared\"}", 2.0);
    becomes(&agent, "lockwatch_policy_acts_total{policy=\"stale\",outcome=\"cleared\"}", 2.0);
    becomes(&agent, "lockwatch_policy_frozen{policy=\"stale\"}", 0.0);

    // The same configuration read again is no other one.
    agent.process().signal(Signal::HUP);
    agent.notice("configuration reloaded");
    assert_eq!(stage.orphans(&agent), 2);
    agent.configure(&config("stage = 'enforce'"));
    agent.process().signal(Signal::HUP);
    until("everything is cleared", || (stage.orphans(&agent) == 0).then_some(()));
    until("everything is on record", || (stage.records("outcome").len() == 4).then_some(()));
    assert!(stage.heirs.iter_mut().all(|heir| heir.process().lives()), "nobody was signalled");
}

#[test]
fn an_observer_clears_none_and_says_what_it_would() {
    if !needs_bpf("an_observer_clears_none_and_says_what_it_would") {
        return;
    }
    let stage = Stage::new(2, "");
    let mut agent = stage.agent("stage = 'observe'");
    for path in &stage.paths {
        let would = agent.watcher().wait_for("would", |event| {
            let policy = &event.json["policy"];
            policy["decision"] == "would" && policy["file"].as_str().map(Path::new) == Some(path)
        });
        assert!(would.json["policy"]["words"].as_str().unwrap().starts_with("would clear "), "{:?}", would.json);
    }
    for _ in 0..5 {
        assert_eq!(stage.orphans(&agent), 2);
    }
    assert_eq!((decided(&agent, "would"), decided(&agent, "clear")), (2, 0), "once for each lock");
    assert_eq!(stage.door.records(), [Value::Null; 0]);
    becomes(&agent, "lockwatch_policy_would_total{policy=\"stale\"}", 2.0);

    // A policy that is wrong changes nothing, the right one beside it included.
    let right = "stage = 'enforce'";
    agent.configure(&stage.config(&format!("{right}\n[[policy]]\nname = 'stale'\nmatch.kind = ['ofd']")));
    agent.process().signal(Signal::HUP);
    let notice = agent.notice("nothing has changed");
    assert!(notice.contains("there is a policy stale already"), "{notice}");
    becomes(&agent, "lockwatch_config_last_reload_successful", 0.0);
    assert_eq!(stage.orphans(&agent), 2);
    agent.configure(&stage.config(right));
    agent.process().signal(Signal::HUP);
    becomes(&agent, "lockwatch_config_last_reload_successful", 1.0);
    until("everything is cleared", || (stage.orphans(&agent) == 0).then_some(()));
}

#[test]
fn a_canary_that_fails_freezes_its_policy_until_a_human_reloads() {
    if !needs_bpf("a_canary_that_fails_freezes_its_policy_until_a_human_reloads") {
        return;
    }
    // Control protects these files, of which the agent's configuration knows nothing.
    let stage = Stage::new(2, "protect = ['*/locks/*']");
    let mut agent = stage.agent("stage = 'canary'\ncanary = 2");
    let frozen = decides(&agent, "frozen");
    let words = frozen.json["policy"]["words"].as_str().unwrap();
    assert!(words.contains("is on the protect list") && words.contains("lockwatch explain"), "{words}");
    becomes(&agent, "lockwatch_policy_frozen{policy=\"stale\"}", 1.0);
    for _ in 0..5 {
        assert_eq!(stage.orphans(&agent), 2);
    }
    assert_eq!((decided(&agent, "clear"), stage.records("refused").len()), (1, 1));
    becomes(&agent, "lockwatch_clears_total{method=\"release\",outcome=\"refused\"}", 1.0);

    let text = fs::read_to_string(stage.door.config()).unwrap();
    fs::write(stage.door.config(), text.replace("protect = ['*/locks/*']", "")).unwrap();
    agent.process().signal(Signal::HUP);
    decides(&agent, "finished");
    assert_eq!(stage.orphans(&agent), 0);
    becomes(&agent, "lockwatch_policy_frozen{policy=\"stale\"}", 0.0);
}

#[test]
fn a_restart_gives_no_policy_another_hours_worth() {
    if !needs_bpf("a_restart_gives_no_policy_another_hours_worth") {
        return;
    }
    let stage = Stage::new(2, "");
    let policy = "stage = 'enforce'\nmax_per_hour = 1";
    let mut agent = stage.agent(policy);
    decides(&agent, "spent");
    assert_eq!(stage.orphans(&agent), 1);
    agent.process().kill();
    let again = stage.agent(policy);
    decides(&again, "spent");
    for _ in 0..5 {
        assert_eq!(stage.orphans(&again), 1);
    }
    assert_eq!((decided(&again, "clear"), stage.records("outcome").len()), (0, 1));
}

#[test]
fn what_the_host_protects_is_left_alone_and_said() {
    if !needs_bpf("what_the_host_protects_is_left_alone_and_said") {
        return;
    }
    let stage = Stage::new(1, "protect = ['*/locks/*']");
    let config = stage.config("stage = 'enforce'").replace("[control]", "[control]\nprotect = ['*/locks/*']");
    let agent = HostAgent::start(&stage.scene, &config);
    let spared = decides(&agent, "spared");
    assert!(spared.json["policy"]["words"].as_str().unwrap().contains("protect list"), "{:?}", spared.json);
    for _ in 0..3 {
        assert_eq!(stage.orphans(&agent), 1);
    }
    assert_eq!((decided(&agent, "clear"), stage.door.records().len()), (0, 0), "nobody was even asked");
    assert_eq!(decided(&agent, "spared"), 1);
}

#[test]
fn nobody_to_be_asked_is_said_and_freezes_nothing() {
    if !needs_bpf("nobody_to_be_asked_is_said_and_freezes_nothing") {
        return;
    }
    let stage = Stage::new(1, "");
    let config = stage.config("stage = 'enforce'");
    let nowhere = config.replace(stage.door.socket().to_str().unwrap(), "/nonexistent/control.sock");
    let mut agent = HostAgent::start(&stage.scene, &nowhere);
    let missed = decides(&agent, "missed");
    assert!(missed.json["policy"]["words"].as_str().unwrap().contains("nobody listens at"), "{:?}", missed.json);
    becomes(&agent, "lockwatch_policy_frozen{policy=\"stale\"}", 0.0);
    agent.configure(&config);
    agent.process().signal(Signal::HUP);
    decides(&agent, "cleared");
}

#[test]
fn a_configuration_that_others_can_write_starts_no_agent() {
    if !needs_bpf("a_configuration_that_others_can_write_starts_no_agent") {
        return;
    }
    let scene = Scene::new();
    let path = scene.path("agent.toml");
    let check = |expect: &str| {
        let config = path.as_os_str();
        let run = lockwatch_tests::lockwatch(["agent".as_ref(), "--config".as_ref(), config]);
        assert_eq!(run.code, Some(1), "{}", run.text());
        assert!(run.stderr.contains(expect), "{}", run.stderr);
    };
    fs::write(&path, "[agent]\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    check("others than root can write to");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    check("belongs to uid 65534, not to root");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    fs::write(&path, "[agent]\nlisen = 'none'\n[[policy]]\nname = 'x'\n").unwrap();
    check("agent.toml:2: unknown key lisen (did you mean listen?)");
    check("agent.toml:3: policy x matches nothing in particular: say match.paths = [\"*\"]");
}
