//! By what name a client may call this agent.
//!
//! A web page whose own name suddenly leads to 127.0.0.1 (DNS rebinding) may have a browser on this host read what the
//! agent says, for the browser believes that it speaks to the page's own server. But it says so: in `Host`. So an answer
//! on TCP is only for those who call the agent by an address, by `localhost`, or by this machine's name. On the unix
//! socket there are no browsers.

use std::net::IpAddr;

use hyper::{HeaderMap, Uri, header};

/// What this machine calls itself.
pub fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a request may be answered; if not, why.
///
/// The machine's name with a domain behind it passes, too, as Prometheus calls its targets. Whoever sets up a domain for
/// an attack must know that name.
pub fn check(own: &str, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
    let written = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?")),
    };
    // No browser leaves it out.
    let Some(written) = written else { return Ok(()) };
    let called = host_of(written);
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_own = !own.is_empty() && (called.eq_ignore_ascii_case(own) || short(called) == short(own));
    if called.parse::<IpAddr>().is_ok() || called.eq_ignore_ascii_case("localhost") || is_own {
        return Ok(());
    }
    Err(format!(
        "this agent was asked for by the name {:?}, which is not this machine's ({own}): a web page may be behind it (DNS \
         rebinding). Ask by address, by localhost, or by the machine's name",
        called.chars().take(100).collect::<String>()
    ))
}

/// Without the port, and without the brackets of an IPv6 address.
fn host_of(written: &str) -> &str {
    if let Some((address, _)) = written.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match written.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.contains(':') => host,
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_this_machines_name_pass() {
        let check = |host: &str, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(check("node-7.lan", &Uri::from_static("/"), &headers).is_ok(), expect, "{host}");
        };
        check("127.0.0.1:9954", true);
        check("10.1.2.3", true);
        check("[::1]:9954", true);
        check("[::1]", true);
        check("localhost:9954", true);
        check("LOCALHOST", true);
        check("Node-7:9954", true);
        check("node-7.example.com:9954", true);
        check("node-7.lan", true);
        check("evil.example.com:9954", false);
        check("evil.example.com", false);
        check("127.0.0.1.evil.example.com", false);
        check("localhost.evil.example.com", false);
        check("", false);
        check("[evil.example.com]", false);
        check("user@127.0.0.1", false);
    }

    #[test]
    fn a_whole_address_in_the_request_counts() {
        let uri = |text| Uri::from_static(text);
        assert!(check("node-7", &uri("http://evil.example.com/metrics"), &HeaderMap::new()).is_err());
        assert!(check("node-7", &uri("/metrics"), &HeaderMap::new()).is_ok());
        assert!(check("", &uri("http://x/metrics"), &HeaderMap::new()).is_err());
    }
}
