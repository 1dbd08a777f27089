//! One night, from end to end: a lock goes hot, the pager hears of it, somebody looks at the page, types what stands
//! there, and everybody hears that it is over.
//!
//! `UPDATE_PICTURES=1 cargo test -p lockwatch-tests --test night` makes docs/pictures/page.png anew, best on a quiet host.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use lockwatch_tests::{
    Browser, HostAgent, Prometheus, Run, Scene, ghost, items, lockwatch_command, needs_bpf, needs_program, opened,
    proc_locks_of, run, until,
};
use serde_json::{Value, json};

#[test]
fn a_hot_lock_wakes_somebody_and_is_cleared() {
    let name = "a_hot_lock_wakes_somebody_and_is_cleared";
    if !needs_bpf(name) || !needs_program(name, "prometheus") || !needs_program(name, "chromium") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("app.lock");
    let agent = HostAgent::start(&scene, "hot_after = '1s'");
    let server = Prometheus::start(&scene, agent.address(), &[&repository("contrib/prometheus/lockwatch-alerts.yml")]);
    until("Prometheus has scraped", || server.values("up{job=\"lockwatch\"} == 1").first().map(drop));
    let is_firing = || {
        let alerts = server.ask("/api/v1/alerts");
        items(&alerts["alerts"]).iter().any(|alert| {
            alert["labels"]["alertname"] == "LockwatchHotLock"
                && alert["labels"]["instance"] == agent.address().to_string()
                && alert["state"] == "firing"
        })
    };
    assert!(!is_firing(), "{:#}", server.ask("/api/v1/alerts"));

    let mut browser = Browser::start(&scene);
    let size = json!({ "width": 1000, "height": 1060, "deviceScaleFactor": 1, "mobile": false });
    browser.call("Emulation.setDeviceMetricsOverride", size);
    browser.open(&format!("http://{}/", agent.address()));
    browser.wait("document.getElementById('link').textContent.startsWith('Live.')");
    browser.wait(ALL_CLEAR);
    // A reload would take this away.
    browser.evaluate("window.here = true");

    let (_, heir) = ghost(&scene, &path);
    let mut waiter = opened(&scene, &path);
    let wait = waiter.wait_for(&path, "flock 9 ex");
    until("the alert fires", || is_firing().then_some(()));
    browser.wait("document.querySelector('.word').textContent.includes('HOT')");
    let story = "[...document.querySelectorAll('#hot article')].find(a => a.textContent.includes('/app.lock'))";
    browser.wait(&format!("!!({story})"));
    browser.wait("!!document.querySelector('#graph svg')");
    picture(&mut browser, &scene);

    // What stands there is what is typed.
    let next = browser.evaluate(&format!("({story}).querySelector('.next code').textContent"));
    let typed: Vec<_> = next.as_str().unwrap().split(' ').collect();
    assert_eq!((typed.len(), &typed[..2]), (3, &["lockwatch", "clear"][..]), "{next}");
    let clear = |more: &[&str]| -> Run {
        let mut command = lockwatch_command();
        command.args(&typed[1..]).args(["--json", "--settle", "0s", "--audit-log"]).arg(scene.path("audit.jsonl"));
        run(command.args(more))
    };
    let plan = said(&clear(&[]), 4);
    let cleared = said(&clear(&["--confirm", plan["plan"]["code"].as_str().unwrap()]), 0);
    assert_eq!(cleared["outcome"], "cleared", "{cleared:#}");
    waiter.granted(wait);

    until("the alert is resolved", || (!is_firing()).then_some(()));
    browser.wait(ALL_CLEAR);
    browser.wait(&format!("!({story})"));
    assert_eq!(browser.evaluate("window.here"), true);
    assert_eq!(browser.complaints(), [json!(null); 0]);
    assert!(heir.lives(), "nobody was ended for it");
    assert_eq!(proc_locks_of(&path).len(), 1, "the waiter has it");
}

const ALL_CLEAR: &str = "document.querySelector('.word').textContent.includes('ALL CLEAR')";

fn said(run: &Run, code: i32) -> Value {
    assert_eq!(run.code, Some(code), "{} {}", run.text(), run.stderr);
    serde_json::from_slice(&run.stdout).unwrap()
}

fn picture(browser: &mut Browser, scene: &Scene) {
    let made = scene.path("page.png");
    browser.screenshot(&made);
    let picture = fs::read(&made).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "{} bytes", picture.len());
    if env::var_os("UPDATE_PICTURES").is_some() {
        assert!(picture.len() < 150_000, "{} bytes", picture.len());
        fs::copy(&made, repository("docs/pictures/page.png")).unwrap();
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
