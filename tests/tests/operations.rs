//! What an operator installs from `contrib/` works with the programs that it is for, and means what the agent says.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lockwatch_tests::{
    HostAgent, Prometheus, Scene, ask_tcp, items, lockwatch, needs_bpf, needs_program, plain, run, until,
};
use serde_json::Value;

const ALERTS: &str = "contrib/prometheus/lockwatch-alerts.yml";
const RECORDING: &str = "contrib/prometheus/lockwatch-recording.yml";
const DASHBOARDS: [&str; 2] = ["contrib/grafana/host.json", "contrib/grafana/fleet.json"];

/// Where the package has what is in the repository's root.
const INSTALLED: &str = "usr/share/doc/lockwatch";

#[test]
fn promtool_finds_no_fault() {
    let name = "promtool_finds_no_fault";
    if !needs_program(name, "promtool") {
        return;
    }
    succeeds("promtool", &["check", "rules", ALERTS, RECORDING]);
    succeeds("promtool", &["check", "config", "contrib/prometheus/prometheus.yml"]);
    let tests = "contrib/prometheus/tests";
    succeeds("promtool", &["test", "rules", &format!("{tests}/alerts.yml"), &format!("{tests}/recording.yml")]);
    let tested = read(&format!("{tests}/alerts.yml"));
    for (alert, _) in alerts() {
        let of = format!("alertname: {alert}\n");
        let silent = format!("{of}        exp_alerts: []");
        let (all, quiet) = (tested.matches(&of).count(), tested.matches(&silent).count());
        assert!(quiet >= 1 && all > quiet, "{alert}: no test that it fires, or none that it does not");
    }
}

#[test]
fn alerts_reach_who_they_are_for() {
    let name = "alerts_reach_who_they_are_for";
    if !needs_program(name, "amtool") {
        return;
    }
    let config = "contrib/prometheus/alertmanager.yml";
    succeeds("amtool", &["check-config", config]);
    let check = |labels: &[&str], expect: &str| {
        let file = format!("--config.file={config}");
        let args = ["config", "routes", "test", &file, &format!("--verify.receivers={expect}")];
        succeeds("amtool", &[&args[..], labels].concat());
    };
    check(&["alertname=LockwatchHotLock", "severity=critical"], "pager");
    check(&["alertname=LockwatchOrphanOld", "severity=warning"], "morning");
}

/// Every query is understood, names only what is there, and finds something unless it looks for trouble.
#[test]
fn every_query_means_what_the_agent_says() {
    let name = "every_query_means_what_the_agent_says";
    if !needs_bpf(name) || !needs_program(name, "prometheus") {
        return;
    }
    let scene = Scene::new();
    // Without a policy there are no metrics of policies.
    let agent = HostAgent::start(&scene, "[[policy]]\nname = 'stale'\nmatch.paths = ['/nowhere/*']");
    let server = Prometheus::start(&scene, agent.address(), &[&at(ALERTS), &at(RECORDING)]);

    let page = ask_tcp(agent.address(), "GET /metrics", &[]).body;
    let exposed = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    let mut known: BTreeSet<String> = exposed.map(str::to_owned).chain(["up".to_owned()]).collect();
    let rules = until("the rules have been evaluated", || {
        let groups = server.ask("/api/v1/rules");
        let rules: Vec<Value> =
            items(&groups["groups"]).iter().flat_map(|group| items(&group["rules"]).to_vec()).collect();
        let evaluated = |rule: &Value| rule["health"] != "unknown";
        (!rules.is_empty() && rules.iter().all(evaluated)).then_some(rules)
    });
    let failed: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let recorded = rules.iter().filter(|rule| rule["type"] == "recording");
    known.extend(recorded.filter_map(|rule| rule["name"].as_str()).map(str::to_owned));

    let mut queries: Vec<String> = rules.iter().filter_map(|rule| rule["query"].as_str()).map(str::to_owned).collect();
    assert!(queries.len() > 20, "{queries:#?}");
    let of_rules = queries.len();
    let filled = |query: &str| {
        query
            .replace("$job", "lockwatch")
            .replace("$instance", &agent.address().to_string())
            .replace("$__rate_interval", "1m")
            .replace("$__interval", "1m")
    };
    queries.extend(DASHBOARDS.iter().flat_map(|dashboard| queries_of(dashboard)).map(|query| filled(&query)));
    assert!(queries.len() > of_rules + 30, "{queries:#?}");
    for query in &queries {
        let names = metrics_of(query);
        assert!(!names.is_empty(), "{query}: it asks for nothing");
        let unknown: Vec<_> = names.iter().filter(|name| !known.contains(*name)).collect();
        assert!(unknown.is_empty(), "{query}: the agent and the rules have no {unknown:?}");
        assert!(!query.contains('$'), "{query}: a variable that the dashboard does not have");
        let looks_for_trouble = [" > ", " == ", "absent("].iter().any(|sign| query.contains(sign));
        until(&format!("{query} finds something"), || {
            let found = server.query(query).unwrap_or_else(|why| panic!("{why}"));
            (looks_for_trouble || !found.is_empty()).then_some(())
        });
    }
}

#[test]
fn dashboards_can_be_imported() {
    for dashboard in DASHBOARDS {
        let json = json(dashboard);
        let panels = items(&json["panels"]);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert!(ids.len() == panels.len() && !panels.is_empty(), "{dashboard}: {ids:?}");
        assert!(json["schemaVersion"].as_u64() >= Some(36), "{dashboard}"); // Grafana 9, the first with these fields
        for panel in panels {
            let targets = items(&panel["targets"]);
            assert!(!targets.is_empty(), "{dashboard}: {panel:#}");
            for source in [&panel["datasource"], &targets[0]["datasource"]] {
                assert_eq!(source["uid"], "${datasource}", "{dashboard}: {panel:#}");
            }
        }
        for variable in items(&json["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
            let query = variable["definition"].as_str().unwrap_or_default();
            assert!(query.starts_with("label_values("), "{dashboard}: {query}");
        }
    }
}

#[test]
fn the_manifest_fits_the_schema() {
    let name = "the_manifest_fits_the_schema";
    if !needs_program(name, "kubernetes-validate") {
        return;
    }
    let manifest = "contrib/kubernetes/lockwatch.yaml";
    let kinds = read(manifest).lines().filter(|line| line.starts_with("kind: ")).count();
    for version in ["1.30", "1.34"] {
        let args = ["-k", version, "--strict", manifest];
        let run = run(plain("kubernetes-validate").args(args).current_dir(at("")));
        let passed = (run.text().to_owned() + &run.stderr).matches(" passed for resource ").count();
        assert_eq!((run.code, passed), (Some(0), kinds), "{version}:\n{}{}", run.text(), run.stderr);
    }
}

/// Each alert ends with a command, and so does its runbook begin.
#[test]
fn every_alert_says_what_to_type() {
    let all = alerts();
    assert!(!all.is_empty());
    for (alert, annotations) in &all {
        let said = |key: &str| annotations.iter().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        if let Some((_, command)) = said("description: ").trim_matches('"').rsplit_once("type: ") {
            is_a_command(command);
        }
        // Where the package puts docs (xtask/src/dist/tree.rs).
        let path = said("runbook_url: ").strip_prefix(&format!("file:///{INSTALLED}/"));
        let path = path.unwrap_or_else(|| panic!("{alert}: its runbook is not where the package puts it"));
        let page = read(path);
        let lines: Vec<_> = page.lines().take(5).collect();
        let [title, "", "```", command, "```"] = lines[..] else { panic!("{path}: it does not begin with a command") };
        assert_eq!(title, format!("# {alert}"), "{path}");
        is_a_command(command);
    }
    let pages = fs::read_dir(at("docs/runbooks")).unwrap_or_else(|e| panic!("read docs/runbooks: {e}"));
    assert_eq!(pages.count(), all.len(), "a runbook for each alert, and no other");
}

#[test]
fn the_package_has_the_runbooks_where_alerts_say() {
    let tree = read("xtask/src/dist/tree.rs");
    assert!(tree.contains(&format!("(\"docs\", \"{INSTALLED}/docs\")")), "docs go elsewhere now");
}

/// Of lockwatch's commands it is known whether they exist.
fn is_a_command(line: &str) {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("lockwatch") => {
            let run = lockwatch(words.chain(["--help"]));
            assert_eq!(run.code, Some(0), "{line}: {}", run.stderr);
        }
        program => assert!(program.is_some_and(|name| ["systemctl", "promtool"].contains(&name)), "{line}"),
    }
}

/// The alerts, each with the lines of its rule.
fn alerts() -> Vec<(String, Vec<String>)> {
    let text = read(ALERTS);
    let rules = text.split("- alert: ").skip(1).map(|rule| rule.lines().map(|line| line.trim().to_owned()));
    rules.filter_map(|mut lines| Some((lines.next()?, lines.collect()))).collect()
}

/// What a dashboard asks: its panels, and for its variables.
fn queries_of(dashboard: &str) -> Vec<String> {
    let json = json(dashboard);
    let panels = items(&json["panels"]).iter().flat_map(|panel| items(&panel["targets"]));
    let mut queries: Vec<_> = panels.filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect();
    for variable in items(&json["templating"]["list"]) {
        let inner = variable["definition"].as_str().and_then(|query| query.strip_prefix("label_values("));
        queries.extend(inner.and_then(|inner| inner.rsplit_once(", ")).map(|(selector, _)| selector.to_owned()));
    }
    queries
}

/// The names of the metrics in a query: all words that are neither labels, texts, functions nor operators.
fn metrics_of(query: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.';
    let mut names = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let closed_by = match first {
            '{' => Some('}'),
            '[' => Some(']'),
            '"' => Some('"'),
            _ => None,
        };
        if let Some(end) = closed_by {
            rest = rest[1..].split_once(end).map_or("", |(_, after)| after);
        } else if word(first) {
            let (name, after) = rest.split_at(rest.find(|c| !word(c)).unwrap_or(rest.len()));
            rest = after.trim_start();
            if ["by", "without", "on", "ignoring"].contains(&name) {
                rest = rest.split_once(')').map_or("", |(_, after)| after);
            } else if !["(", "by ", "without "].iter().any(|call| rest.starts_with(call))
                && !first.is_ascii_digit()
                && !["or", "and", "unless", "bool"].contains(&name)
            {
                names.push(name.to_owned());
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    names
}

#[test]
fn names_of_metrics_are_found_in_queries() {
    let check = |query: &str, expect: &[&str]| assert_eq!(metrics_of(query), expect, "{query}");
    check("up", &["up"]);
    check("a:b_c:sum{x=\"y\"} / d > 0.5", &["a:b_c:sum", "d"]);
    check("histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{l=~\"b|c\"}[5m])))", &["a_bucket"]);
    check("(up == 0) or (a == 0)", &["up", "a"]);
    check("sum(a) by (job) / on (job) b", &["a", "b"]);
    check("1 + 2", &[]);
}

/// Runs a program in the repository.
fn succeeds(program: &str, args: &[&str]) {
    let run = run(plain(program).args(args).current_dir(at("")));
    assert_eq!(run.code, Some(0), "{program} {args:?}:\n{}{}", run.text(), run.stderr);
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|e| panic!("read {path}: {e}"))
}

/// A path in the repository.
fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
