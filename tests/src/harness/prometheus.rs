//! A real Prometheus server.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{agent::free_port, http::ask_tcp, look::items, process::Process, scene::Scene, until::until};

/// A server with a place and a port of its own, which scrapes an agent each second as the job `lockwatch`; it ends when
/// this does.
pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one with these files of rules, evaluated each second.
    ///
    /// # Panics
    ///
    /// When it does not listen.
    pub fn start(scene: &Scene, target: SocketAddr, rules: &[&Path]) -> Self {
        let (config, address) = (scene.path("prometheus.yml"), free_port());
        let rules: Vec<_> = rules.iter().map(|path| format!("'{}'", path.display())).collect();
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{}]\n\
             scrape_configs: [{{ job_name: lockwatch, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            rules.join(", ")
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

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The data of a page of its API; null if it has none.
    pub fn ask(&self, page: &str) -> Value {
        self.answer(page)["data"].take()
    }

    /// What a query finds now; nothing if it fails.
    pub fn values(&self, query: &str) -> Vec<Value> {
        self.query(query).unwrap_or_default()
    }

    /// What a query finds now.
    ///
    /// # Errors
    ///
    /// What the server says of the query.
    pub fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let escaped: String = query.bytes().map(escape).collect();
        let answer = self.answer(&format!("/api/v1/query?query={escaped}"));
        match answer["status"].as_str() {
            Some("success") => Ok(items(&answer["data"]["result"]).to_vec()),
            _ => Err(format!("{query}: {answer}")),
        }
    }

    fn answer(&self, page: &str) -> Value {
        let answer = ask_tcp(self.address, &format!("GET {page}"), &[]);
        serde_json::from_str(&answer.body).unwrap_or_default()
    }
}
