//! What an agent tells Prometheus.

use std::net::SocketAddr;

use super::http::ask_tcp;

/// One scrape.
#[derive(Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Asks for `/metrics`.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn of(address: SocketAddr) -> Self {
        let answer = ask_tcp(address, "GET /metrics", &[]);
        assert_eq!(answer.status, 200, "scrape {address}: {}", answer.body);
        Self { text: answer.body }
    }

    /// All series of a metric together.
    pub fn sum(&self, name: &str) -> f64 {
        let series = self.text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
        series.filter_map(|(_, value)| value.trim().parse::<f64>().ok()).sum()
    }

    /// The value of a series, written as it is exposed: `lockwatch_state_exact`, `lockwatch_events_lost_total{stage="ring"}`.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn get(&self, series: &str) -> f64 {
        let value = self.text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {series} in:\n{}", self.text));
        value.trim().parse().unwrap_or_else(|_| panic!("{series}: {value:?} is no number"))
    }
}
