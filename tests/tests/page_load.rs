//! The status page of a host with many locks, in a real browser that has the machine for itself.

use std::{iter, time::Duration};

use lockwatch_tests::{Browser, HostAgent, Scene, ghost, needs_bpf, needs_program, opened};
use serde_json::json;

const LOCKS: u32 = 10_000;
const ORPHANS: u32 = 500;
const MOST_BYTES: u64 = 50_000_000;

#[test]
fn many_locks_load_in_a_second() {
    let name = "many_locks_load_in_a_second";
    if !needs_bpf(name) || !needs_program(name, "chromium") {
        return;
    }
    let scene = Scene::new();
    let mut many = opened(&scene, &scene.file("many"));
    for start in 0..LOCKS {
        many.tell(&format!("posix 9 w {} 1", start * 2));
    }
    let _heirs: Vec<_> = (0..ORPHANS).map(|i| ghost(&scene, &scene.file(format!("orphan-{i}"))).1).collect();
    let agent = HostAgent::start(&scene, "");
    let mut browser = Browser::start(&scene);
    let blank = browser.page_bytes();

    // Nobody has asked this agent for a look before.
    let url = format!("http://{}/", agent.address());
    let first = browser.open(&url);
    browser.wait("document.getElementById('link').textContent.startsWith('Live.')");
    let locks = "[...document.querySelectorAll('.numbers div')].find(d => d.textContent.startsWith('locks'))";
    let locks = browser.evaluate(&format!("Number({locks}.querySelector('dd').textContent)"));
    assert!(locks.as_f64().is_some_and(|locks| locks >= f64::from(LOCKS + ORPHANS)), "{locks}");
    assert_eq!(browser.evaluate("document.querySelectorAll('#orphans tbody tr').length"), 200);

    // The longest that the page's thread was away for, while sections were replaced.
    let stuck = "new Promise(done => { let worst = 0, last = performance.now(), n = 0; const id = setInterval(() => { \
                 const now = performance.now(); worst = Math.max(worst, now - last); last = now; \
                 if (++n === 100) { clearInterval(id); done(worst) } }, 20) })";
    let worst = browser.evaluate(stuck).as_f64().unwrap();
    let heap = browser.call("Runtime.getHeapUsage", json!({}))["usedSize"].as_u64().unwrap();
    browser.call("HeapProfiler.collectGarbage", json!({}));
    let more = browser.page_bytes().saturating_sub(blank);
    // Something else may have the processor, but hardly each time.
    let loads: Vec<Duration> = iter::once(first).chain((0..3).map(|_| browser.open(&url))).collect();
    println!(
        "loaded in {loads:?}, the page's thread away for at most {worst:.0} ms; its scripts have {heap} bytes, its process \
         {more} more than with an empty page ({blank})"
    );
    assert!(loads.iter().any(|load| *load < Duration::from_secs(1)), "{loads:?}");
    assert!(heap < MOST_BYTES && more < MOST_BYTES && worst < 500.0, "{heap}, {more} bytes, {worst} ms");
}
