//! The pictures in `docs/pictures` that show commands and Prometheus, each of what really happens while it is made.
//! `cargo xtask pictures` keeps them; without that they are made all the same, and looked at.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use lockwatch_tests::{
    Browser, HostAgent, Locker, Process, Prometheus, Scene, items, lockwatch_command, lockwatch_path, needs_bpf,
    needs_program, picture, plain, run, until,
};
use roxmltree::Document;
use serde_json::{Value, json};

/// One at a time: a program that is being copied cannot be run by a process that was forked meanwhile (ETXTBSY).
static STUDIO: Mutex<()> = Mutex::new(());

/// The terminal's width.
const COLUMNS: u16 = 112;

#[test]
fn picture_of_a_terminal() {
    let name = "picture_of_a_terminal";
    if !needs_bpf(name) || !needs_program(name, "script") {
        return;
    }
    let _studio = STUDIO.lock().unwrap_or_else(PoisonError::into_inner);
    let hot = Hot::new();
    let file = hot.path.display().to_string();
    let list = typed(&["list", &file], &hot.agent);
    let id = list.lines().find(|line| line.contains("HOT")).and_then(|line| line.split_whitespace().last());
    let id = id.unwrap_or_else(|| panic!("no hot lock: {list}")).to_owned();
    let explain = typed(&["explain", &id], &hot.agent);
    let text = format!("$ lockwatch list {file}\n{list}\n$ lockwatch explain {id}\n{explain}");
    for word in ["locksmith", "sleep", "updater", "SIGKILL", "Next: lockwatch clear"] {
        assert!(text.contains(word), "no {word}: {text}");
    }
    let svg = picture::terminal("a lock whose taker was killed", COLUMNS, &text);
    assert!(svg.contains("c31"), "no colour: {svg}");
    kept("terminal.svg", &svg);
}

#[test]
fn picture_of_a_deadlock() {
    let name = "picture_of_a_deadlock";
    if !needs_bpf(name) {
        return;
    }
    let _studio = STUDIO.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Scene::new();
    let agent = HostAgent::start(&place, hot_after());
    let scene = stage("demo");
    let [orders, stock, spool] = ["orders.lock", "stock.db", "mail.spool"].map(|name| scene.file(name));
    let person = |name: &str, file: &Path, lock: &str| {
        let mut locker = scene.locker_as(name);
        locker.open(file, "rw as 9");
        locker.tell(lock);
        locker
    };
    let mut billing = person("billing", &orders, "flock 9 ex");
    let mut keeper = person("stock", &stock, "posix 9 w 0 100");
    let mut mailer = person("mailer", &spool, "ofd 9 w 0 0");
    let mut report = scene.locker_as("report");
    let wants = |who: &mut Locker, file: &Path, lock: &str| {
        who.open(file, "rw as 10");
        who.wait_for(file, lock);
    };
    wants(&mut billing, &stock, "posix 10 w 0 100");
    wants(&mut keeper, &spool, "ofd 10 w 0 0");
    wants(&mut mailer, &orders, "flock 10 ex");
    wants(&mut report, &orders, "flock 10 sh");
    agent.watcher().wait_about("hot", &orders);
    // In a name space where the host has another name.
    let mut command = plain("unshare");
    command.args(["--uts", "sh", "-c", "hostname node-7 && exec \"$@\"", "sh"]).arg(lockwatch_path());
    command.args(["graph", "--format", "svg", "--no-agent"]).args([&orders, &stock, &spool]);
    let made = run(&mut command);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    for word in ["billing", "stock", "mailer", "report", "3 processes wait for each other in a circle"] {
        assert!(made.text().contains(word), "no {word}: {}", made.text());
    }
    kept("deadlock.svg", made.text());
}

/// What Prometheus itself shows of the alerts in `contrib`. tests/night.rs tests that they fire.
#[test]
#[ignore = "only a picture: cargo xtask pictures"]
fn picture_of_prometheus_alerts() {
    let name = "picture_of_prometheus_alerts";
    if !needs_bpf(name) || !needs_program(name, "prometheus") || !needs_program(name, "chromium") {
        return;
    }
    let _studio = STUDIO.lock().unwrap_or_else(PoisonError::into_inner);
    let hot = Hot::new();
    // Its path is on the page.
    let etc = stage("prometheus");
    let rules = etc.path("lockwatch-alerts.yml");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus/lockwatch-alerts.yml"), &rules).unwrap();
    let server = Prometheus::start(&hot.place, hot.agent.address(), &[&rules]);
    until("the alert fires", || {
        let alerts = server.ask("/api/v1/alerts");
        let firing = |alert: &&Value| alert["labels"]["alertname"] == "LockwatchHotLock" && alert["state"] == "firing";
        items(&alerts["alerts"]).iter().find(firing).map(drop)
    });
    let mut browser = Browser::start(&hot.place);
    let size = json!({ "width": 1000, "height": 820, "deviceScaleFactor": 1, "mobile": false });
    browser.call("Emulation.setDeviceMetricsOverride", size);
    browser.open(&format!("http://{}/classic/alerts", server.address()));
    browser.evaluate("document.querySelector('div.show-annotations').click()");
    browser.evaluate("document.querySelector('.alert_header.alert-danger').click()");
    let made = hot.place.path("alerts.png");
    browser.screenshot(&made);
    assert!(fs::read(&made).unwrap().starts_with(b"\x89PNG"));
    if updating() {
        let to = pictures().join("alerts.png");
        fs::copy(&made, &to).unwrap();
        small(&to);
    }
}

fn updating() -> bool {
    env::var_os("UPDATE_PICTURES").is_some()
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures")
}

/// What is kept shows the usual times.
fn hot_after() -> &'static str {
    if updating() { "" } else { "hot_after = '200ms'" }
}

/// Where it plays: where everybody can imagine it, if the picture is kept.
fn stage(name: &str) -> Scene {
    if updating() { Scene::at(&Path::new("/srv").join(name)) } else { Scene::new() }
}

/// A hot lock that locksmith took and sleep keeps, and for which updater waits; and an agent that has seen it all.
struct Hot {
    _heir: Process,
    _updater: Locker,
    path: PathBuf,
    agent: HostAgent,
    _scene: Scene,
    place: Scene,
}

impl Hot {
    fn new() -> Self {
        let place = Scene::new();
        let agent = HostAgent::start(&place, hot_after());
        let scene = stage("app");
        let path = scene.file("app.lock");
        let mut locksmith = scene.locker_as("locksmith");
        locksmith.open(&path, "rw as 9");
        locksmith.tell("flock 9 ex");
        let heir = locksmith.spawn("sleep 60");
        // Who kills is named in the story, and so it is none of ours.
        let killed = run(plain("kill").args(["-KILL", &locksmith.pid().to_string()]));
        assert_eq!(killed.code, Some(0), "{}", killed.stderr);
        locksmith.process().wait();
        let mut updater = scene.locker_as("updater");
        updater.open(&path, "rw as 9");
        updater.wait_for(&path, "flock 9 ex");
        agent.watcher().wait_about("hot", &path);
        Self { _heir: heir, _updater: updater, path, agent, _scene: scene, place }
    }
}

/// What lockwatch says on a terminal.
fn typed(args: &[&str], agent: &HostAgent) -> String {
    let command = lockwatch_command();
    let line = std::iter::once(command.get_program().to_string_lossy().into_owned())
        .chain(args.iter().map(|arg| (*arg).to_owned()))
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>();
    let line = format!("stty cols {COLUMNS} rows 60 && {} </dev/null", line.join(" "));
    let mut script = plain("script");
    script.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").env("LOCKWATCH_API_SOCKET", agent.api_socket());
    let made = run(&mut script);
    assert_eq!(made.code, Some(0), "{line}: {} {}", made.text(), made.stderr);
    made.text().to_owned()
}

/// A picture that browsers can read; kept, if it is to be.
fn kept(name: &str, svg: &str) {
    Document::parse(svg).unwrap_or_else(|e| panic!("{name}: {e}"));
    if updating() {
        let to = pictures().join(name);
        fs::write(&to, svg).unwrap_or_else(|e| panic!("write {}: {e}", to.display()));
        small(&to);
    }
}

fn small(picture: &Path) {
    let size = picture.metadata().map_or(0, |file| file.size());
    assert!(size < 200_000, "{}: {size} bytes", picture.display());
}
