//! A new configuration for an agent that runs: all of it, or nothing.

use anyhow::{Result, ensure};
use lockwatch_config::{Agent, Config, Layers};

/// Reads it, if an agent that runs with `now` can take it.
///
/// # Errors
///
/// It is wrong: everything that is; or it changes what only a start can: which keys.
pub fn read(layers: &Layers, now: &Config) -> Result<Config> {
    let new = layers.read()?.config;
    let fixed = fixed(&now.agent, &new.agent);
    ensure!(fixed.is_empty(), "{} can only change with a restart", fixed.join(", "));
    Ok(new)
}

/// Keys that differ and are bound to what was opened or allocated at the start.
fn fixed(now: &Agent, new: &Agent) -> Vec<&'static str> {
    let differ = [
        ("agent.listen", now.listen != new.listen),
        ("agent.api_socket", now.api_socket != new.api_socket),
        ("agent.api_socket_group", now.api_socket_group != new.api_socket_group),
        ("agent.api_on_tcp", now.api_on_tcp != new.api_on_tcp),
        ("agent.page", now.page != new.page),
        ("agent.max_connections", now.max_connections != new.max_connections),
        ("agent.log", now.log != new.log),
        ("agent.tables", now.tables != new.tables),
        ("agent.trace_limit", now.trace_limit != new.trace_limit),
    ];
    differ.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_opened_stays_as_it_is() {
        let usual = Agent::default();
        let check = |new: Agent, expect: &[&str]| assert_eq!(fixed(&usual, &new), expect);
        check(usual.clone(), &[]);
        check(Agent { hot_after: Duration::from_secs(1), ..usual.clone() }, &[]);
        check(Agent { interval: Duration::from_secs(1), resync_min: Duration::from_secs(1), ..usual.clone() }, &[]);
        check(Agent { listen: None, api_on_tcp: true, ..usual.clone() }, &["agent.listen", "agent.api_on_tcp"]);
    }
}
