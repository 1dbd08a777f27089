//! The status page, in a real browser.

use std::path::Path;

use lockwatch_tests::{
    Browser, HostAgent, Locker, Process, Scene, ask_tcp, ghost, needs_bpf, needs_program, opened, until,
};
use serde_json::json;

const HTML: &str = "Accept: text/html";

fn needs_chromium(name: &str) -> bool {
    needs_bpf(name) && needs_program(name, "chromium")
}

#[test]
fn it_is_one_document_with_a_strict_policy() {
    if !needs_bpf("it_is_one_document_with_a_strict_policy") {
        return;
    }
    let scene = Scene::new();
    let agent = HostAgent::start(&scene, "");
    let get = || ask_tcp(agent.address(), "GET /", &[HTML]);
    let page = get();
    assert_eq!(page.status, 200);
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(page.head.contains(header), "no {header} in {}", page.head);
    }
    assert!(!page.head.contains("unsafe"), "{}", page.head);
    let nonce = |head: &str| head.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let once = nonce(&page.head);
    assert_eq!((once.len(), page.body.matches(&format!("nonce=\"{once}\"")).count()), (32, 2));
    assert_ne!(nonce(&get().head), once);
    for outside in
        ["<script src", "<img", "<iframe", "<object", "rel=\"stylesheet\"", "@import", "href=\"http", "url(h"]
    {
        assert!(!page.body.contains(outside), "{outside} in the page");
    }
    assert!(page.body.contains("ALL CLEAR") || page.body.contains("HOT"), "it says nothing without a script");
    // On a terminal there are words.
    assert!(ask_tcp(agent.address(), "GET /", &[]).head.contains("text/plain"));
    assert_eq!(ask_tcp(agent.address(), "POST /page/stream", &[]).status, 405);
}

#[test]
fn where_strangers_come_it_has_numbers_only() {
    if !needs_bpf("where_strangers_come_it_has_numbers_only") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let agent = HostAgent::start(&scene, "page = false");
    let (_, _heir) = ghost(&scene, &path);
    agent.watcher().wait_about("orphaned", &path);
    let page = until("the page counts it", || {
        let page = ask_tcp(agent.address(), "GET /", &[HTML]);
        (!page.body.contains("<dt>orphaned</dt><dd>0</dd>")).then_some(page)
    });
    assert!(page.body.contains("Numbers only"), "{}", page.body);
    assert!(!page.body.contains(path.to_str().unwrap()), "{}", page.body);
}

#[test]
fn a_hot_lock_comes_and_goes_without_a_reload() {
    let name = "a_hot_lock_comes_and_goes_without_a_reload";
    if !needs_chromium(name) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("<img src=x onerror=\"document.title='harm'\">\n'&");
    let agent = HostAgent::start(&scene, "hot_after = '200ms'");
    let mut browser = Browser::start(&scene);
    browser.open(&format!("http://{}/", agent.address()));
    browser.wait("document.getElementById('link').textContent.startsWith('Live.')");
    // A reload would take this away.
    browser.evaluate("window.here = true");
    // Other tests have locks at the same time.
    let rows = |list: &str| {
        format!("[...document.querySelectorAll('{list}')].filter(row => row.textContent.includes('onerror='))")
    };
    let (story, waiters) = (rows("#hot article"), rows("#waiters tbody tr"));
    assert_eq!(browser.evaluate(&format!("{story}.length")), 0);

    let (_, mut heir) = ghost(&scene, &path);
    let mut waiter = opened(&scene, &path);
    let wait = waiter.wait_for(&path, "flock 9 ex");
    browser.wait("document.querySelector('.word').textContent.includes('HOT')");
    browser.wait(&format!("{story}.length === 1 && {waiters}.length === 1"));
    browser.wait(&format!("{story}[0].querySelector('.next code').textContent.startsWith('lockwatch clear ')"));
    browser.wait("document.querySelector('#graph svg').getBoundingClientRect().height > 100");
    browser.wait("document.querySelector('#events').textContent.includes('HOT')");
    browser.wait("document.title.startsWith('HOT')");
    assert_eq!(browser.evaluate("document.querySelectorAll('main img').length"), 0);
    // Ages go on by themselves, from one that was there.
    browser.evaluate(&format!("window.first = {waiters}[0].querySelector('.age').textContent"));
    browser.wait(&format!("{waiters}[0].querySelector('.age').textContent !== window.first"));
    // What is focused stays so, whatever is replaced meanwhile.
    browser.evaluate("document.getElementById('waiters-table').focus()");
    let mut second = opened(&scene, &path);
    let wait_too = second.wait_for(&path, "flock 9 ex");
    browser.wait(&format!("{waiters}.length === 2"));
    assert_eq!(browser.evaluate("document.activeElement.id"), "waiters-table");

    heir.kill();
    waiter.granted(wait);
    waiter.tell("unflock 9");
    second.granted(wait_too);
    browser.wait("document.querySelector('.word').textContent.includes('ALL CLEAR')");
    browser.wait(&format!("{story}.length === 0 && {waiters}.length === 0"));
    assert_eq!(browser.evaluate("window.here"), true);
    assert_eq!(browser.complaints(), [json!(null); 0]);

    // An agent that is gone is no all clear.
    drop(agent);
    browser.wait(
        "document.body.className === 'stale' && document.getElementById('link').textContent.startsWith('NOT LIVE')",
    );
}

#[test]
fn a_narrow_and_dark_screen_has_it_all() {
    let name = "a_narrow_and_dark_screen_has_it_all";
    if !needs_chromium(name) {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let agent = HostAgent::start(&scene, "hot_after = '200ms'");
    let _hot = Hot::new(&scene, &path, &agent);
    let mut browser = Browser::start(&scene);
    let size = json!({ "width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", size);
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.call("Emulation.setEmulatedMedia", dark);
    // Without a script it is all there, too.
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.open(&format!("http://{}/", agent.address()));
    browser.wait("document.querySelector('.word').textContent.includes('HOT')");
    browser.wait("document.querySelectorAll('#hot article').length >= 1");
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= 360"), true);
    assert_eq!(browser.evaluate("getComputedStyle(document.body).backgroundColor"), "rgb(13, 17, 23)");
    browser.wait("document.querySelector('.next').getBoundingClientRect().top < 700");
}

/// A hot lock, as long as this lives.
struct Hot {
    _heir: Process,
    _waiter: Locker,
}

impl Hot {
    fn new(scene: &Scene, path: &Path, agent: &HostAgent) -> Self {
        let (_, heir) = ghost(scene, path);
        let mut waiter = opened(scene, path);
        let _wait = waiter.wait_for(path, "flock 9 ex");
        agent.watcher().wait_about("hot", path);
        Self { _heir: heir, _waiter: waiter }
    }
}
