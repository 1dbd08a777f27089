//! A real Prometheus server scrapes a running agent.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use lockwatch_tests::{HostAgent, Process, Scene, ask_tcp, free_port, ghost, items, needs_bpf, needs_program, until};
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
    let server = Prometheus::start(&scene, agent.address());

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

/// A server with a place and a port of its own; it ends when this does.
struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    fn start(scene: &Scene, target: SocketAddr) -> Self {
        let (config, address) = (scene.path("prometheus.yml"), free_port());
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs: [{{ job_name: lockwatch, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        fs::write(&config, text).unwrap_or_else(|e| panic!("write {}: {e}", config.display()));
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", scene.path("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("start prometheus: {e}"));
        let server = Self { address, _process: Process::of_child(child) };
        until("Prometheus listens", || TcpStream::connect(address).ok().map(drop));
        server
    }

    fn ask(&self, page: &str) -> Value {
        let answer = ask_tcp(self.address, &format!("GET {page}"), &[]);
        let mut json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        json["data"].take()
    }

    /// What a query finds now.
    fn values(&self, query: &str) -> Vec<Value> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let query: String = query.bytes().map(escape).collect();
        items(&self.ask(&format!("/api/v1/query?query={query}"))["result"]).to_vec()
    }
}
