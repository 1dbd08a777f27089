//! A real Prometheus server scrapes a running agent.

use lockwatch_tests::{HostAgent, Prometheus, Scene, ghost, needs_bpf, needs_program, until};
use serde_json::Value;

#[test]
fn prometheus_has_what_the_agent_says() {
    let name = "prometheus_has_what_the_agent_says";
    if !needs_bpf(name) || !needs_program(name, "prometheus") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let agent = HostAgent::start(&scene, "");
    let (_, _heir) = ghost(&scene, &path);
    agent.watcher().wait_about("orphaned", &path);
    let server = Prometheus::start(&scene, agent.address(), &[]);

    until("it has scraped", || server.values("up{job=\"lockwatch\"} == 1").first().map(drop));
    let target = server.ask("/api/v1/targets")["activeTargets"][0].clone();
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target:#}");
    let value = |query: &str| {
        let values = server.values(query);
        let number = values.first().and_then(|value| value["value"][1].as_str()?.parse::<f64>().ok());
        number.unwrap_or_else(|| panic!("{query}: {values:#?}"))
    };
    assert!(value("sum(lockwatch_orphaned_locks{cause=\"leaked\"})") >= 1.0);
    assert!(value("sum(lockwatch_acquisitions_total)") >= 1.0);
    assert_eq!(value("lockwatch_state_exact"), 1.0);
    assert_eq!(value("count(lockwatch_wait_seconds_bucket{le=\"+Inf\"})"), 5.0);
    assert_eq!(value("count(lockwatch_build_info{aya!=\"\",bpf!=\"\",version!=\"\"})"), 1.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    let types = server.ask("/api/v1/metadata");
    let of = |name: &str| types[name][0]["type"].clone();
    assert_eq!(
        [of("lockwatch_hold_seconds"), of("lockwatch_locks")],
        ["histogram", "gauge"].map(Value::from),
        "{types:#}"
    );
}
