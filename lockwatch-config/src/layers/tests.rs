use std::{fs, time::Duration};

use lockwatch_core::{
    clear::Method,
    lock::Kind,
    policy::{Action, Stage},
    report::Cause,
};

use super::*;

/// What several files say together.
fn of(texts: &[&str]) -> Result<Effective, Problems> {
    let mut sayings = Sayings::default();
    for (n, text) in texts.iter().enumerate() {
        take(parse(Path::new(&format!("/etc/{n}.toml")), text), &mut sayings);
    }
    settle(sayings, Vec::new())
}

fn words(result: Result<Effective, Problems>) -> String {
    result.map(|effective| effective.config).unwrap_err().to_string()
}

/// What holds of a key and where that was said.
fn shown(effective: &Effective, name: &str) -> String {
    let tables = effective.tables();
    let found = tables
        .iter()
        .flat_map(|table| table.entries.iter().filter(|entry| format!("{}.{}", table.name, entry.key) == name));
    let entry = found.last().expect(name);
    let origins: Vec<String> = entry.origins.iter().map(ToString::to_string).collect();
    let value = entry.value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
    format!("{value} ({})", origins.join(", "))
}

#[test]
fn later_layers_win_and_protection_adds_up() {
    let usual = Config::default();
    assert_eq!(of(&[]).unwrap().config, usual);
    assert_eq!(of(&["", "[control]"]).unwrap().config, usual);
    let first = "[control]\napprovals = 2\nprotect = ['dpkg', '/srv/db/*']\nsettle = '2s'\naudit_log = '/a/b'";
    let second =
        "[control]\napprovals = 1\nprotect = ['mydb']\nprotect_defaults = false\nhold_max = '1m'\ngrace = '1s'";
    let group = "[control.group]\nmethods = ['release', 'kill']\npaths = ['/srv/*']\nhold = true";
    let both = of(&[first, second, group]).unwrap();
    let control = &both.config.control;
    assert_eq!((control.approvals, control.settle), (1, Duration::from_secs(2)));
    assert_eq!(control.protection().entries, ["dpkg", "/srv/db/*", "mydb"]);
    assert_eq!((control.hold_max, control.grace), (Duration::from_secs(60), Duration::from_secs(1)));
    assert_eq!(control.audit_log, Path::new("/a/b"));
    let expect = crate::control::Group {
        methods: vec![Method::Release, Method::Kill],
        paths: Some(vec!["/srv/*".into()]),
        hold: true,
    };
    assert_eq!(control.group, expect);
    let check = |name: &str, expect: &str| assert_eq!(shown(&both, name), expect, "{name}");
    check("control.approvals", "1 (/etc/1.toml:2)");
    check("control.settle", "\"2s\" (/etc/0.toml:4)");
    check("control.protect", "[\"dpkg\", \"/srv/db/*\", \"mydb\"] (/etc/0.toml:3, /etc/1.toml:3)");
    check("control.group.hold", "true (/etc/2.toml:4)");
    check("agent.hot_after", "\"5s\" (default)");
    check("agent.api_socket_group", "nothing (default)");
}

#[test]
fn files_then_variables_then_flags() {
    let variables = |all: &[(&str, &str)]| {
        let mut sayings =
            parse(Path::new("/etc/x.toml"), "[agent]\nhot_after = '1s'\nmax_connections = 3\nlog = 'text'");
        for (name, value) in all {
            read_variable(&OsString::from(name), &OsString::from(value), &mut sayings);
        }
        sayings
    };
    let mut sayings = variables(&[
        ("LOCKWATCH_AGENT_LISTEN", "[::1]:1"),
        ("LOCKWATCH_AGENT_HOT_AFTER", "2s"),
        ("LOCKWATCH_AGENT_TABLES_HELD", "64"),
        ("LOCKWATCH_AGENT_API_ON_TCP", "true"),
        ("LOCKWATCH_AGENT_LOG", ""),
        ("LOCKWATCH_API_SOCKET", "/a/b"),
        ("LOCKWATCH_CONTROL_SOCKET", "/a/c"),
        ("LOCKWATCH_PROBES", "tp_btf"),
        ("LOCKWATCH_FAULT", "7"),
        ("PATH", "/bin"),
    ]);
    sayings.said.extend(Layers::default().flag("--listen", "agent.listen", Some("none")).flags);
    sayings.said.extend(Layers::default().flag("--api-socket", "agent.api_socket", None).flags);
    let effective = settle(sayings, Vec::new()).unwrap();
    let check = |name: &str, expect: &str| assert_eq!(shown(&effective, name), expect, "{name}");
    check("agent.listen", "\"none\" (--listen)");
    check("agent.hot_after", "\"2s\" (LOCKWATCH_AGENT_HOT_AFTER)");
    check("agent.max_connections", "3 (/etc/x.toml:3)");
    check("agent.log", "\"text\" (/etc/x.toml:4)");
    check("agent.tables.held", "64 (LOCKWATCH_AGENT_TABLES_HELD)");
    check("agent.api_on_tcp", "true (LOCKWATCH_AGENT_API_ON_TCP)");
    check("agent.api_socket", "\"/a/b\" (LOCKWATCH_API_SOCKET)");
    check("agent.control_socket", "\"/a/c\" (LOCKWATCH_CONTROL_SOCKET)");
    assert_eq!(effective.config.agent.listen, None);
    let wrong = |name, value, expect: &str| assert_eq!(words(settle(variables(&[(name, value)]), Vec::new())), expect);
    wrong(
        "LOCKWATCH_AGENT_LISTN",
        "x",
        "LOCKWATCH_AGENT_LISTN: unknown variable (did you mean LOCKWATCH_AGENT_LISTEN?)",
    );
    wrong(
        "LOCKWATCH_AGENT_HOT_AFTER",
        "soon",
        "LOCKWATCH_AGENT_HOT_AFTER: hot_after: \"soon\" is no length of time; write it like 500ms, 90s or 1m30s",
    );
    // A guard is not to be had from the environment, and whoever tries must know it.
    let mine = words(settle(variables(&[("LOCKWATCH_CONTROL_APPROVALS", "1")]), Vec::new()));
    assert!(mine.starts_with("LOCKWATCH_CONTROL_APPROVALS: unknown variable ("), "{mine}");
}

#[test]
fn errors_name_file_line_and_what_was_meant() {
    let check = |text: &str, expect: &str| assert_eq!(words(of(&[text])), format!("/etc/0.toml:{expect}"), "{text}");
    check("[control]\naprovals = 2", "2: unknown key aprovals (did you mean approvals?)");
    check("\n\n[contrl]", "3: unknown key contrl (did you mean control?)");
    check("[control]\ngroup.hodl = true", "2: unknown key hodl (did you mean hold?)");
    check("[control.group]\nuser = []", "2: unknown key user (there are: methods, paths, hold)");
    check("[agent.table]\nheld = 64", "1: unknown key table (did you mean tables?)");
    check("[agent.tables]\nhelt = 64", "2: unknown key helt (did you mean held?)");
    check("agent = 3", "1: agent is a table: write [agent]");
    check("[agent]\ntables = 64", "2: agent.tables is a table: write [agent.tables]");
    check("[agent]\nlisten.port = 4", "2: listen: a table is no text; write it in quotation marks");
    check("[control]\n\napprovals = 3", "3: approvals: 3 is not between 1 and 2");
    check("[control]\napprovals = \"2\"", "2: approvals: \"2\" is no number");
    check("[control]\nprotect = ['']", "2: protect: an empty entry protects nothing");
    check(
        "[control]\nprotect = [\n  'a',\n  'srv/*' ]",
        "2: protect: \"srv/*\" can be no file's path: it begins neither with / nor with *",
    );
    check(
        "[control.group]\nmethods = ['releese']",
        "2: methods: no method is called \"releese\" (there are: release, terminate, kill, expire-client)",
    );
    check("[control]\naudit_log = 'a.log'", "2: audit_log: \"a.log\" is no path from the root");
    check("[control]\nsettle = '1'", "2: settle: \"1\" is no length of time; write it like 500ms, 90s or 1m30s");
    check("[control]\nsettle = '1s'\nsettle = '2s'", "3: duplicate key");
    check("[control", "1: unclosed table, expected `]`");
    check(
        "[agent]\nlisten = 'localhost'",
        "2: listen: \"localhost\" is no address with a port, like 127.0.0.1:9954 or [::1]:9954, and not none",
    );
    check("[agent.tables]\nring = 5000", "2: ring: 5000 is no power of two");
    check("[agent.tables]\nheld = 63", "2: held: 63 is not between 64 and 8388608");
    check("[agent]\nmax_connections = 99999999999999999999", "2: max_connections: a number this large is no number");
    check("policy = 3", "1: policies are a list of tables: write [[policy]] above each");
    check("[policy]\nname = 'x'", "1: policies are a list of tables: write [[policy]] above each");
    check(
        "\n[[policy]]\nnam = 'x'",
        "2: a policy without a name\n/etc/0.toml:2: policy matches nothing in particular: say match.paths = [\"*\"] if \
         you mean every orphaned lock\n/etc/0.toml:3: unknown key nam (did you mean name?)",
    );
    check(
        "[[policy]]\nname = 'x'\nmatch.path = ['*']",
        "1: policy x matches nothing in particular: say match.paths = [\"*\"] if you mean every orphaned lock\n\
         /etc/0.toml:3: unknown key path (did you mean paths?)",
    );
    check("[[policy]]\nname = 'a b'", "2: name: \"a b\" is no name: up to 64 of a-z, A-Z, 0-9, - _ .");
    check(
        "[[policy]]\nname = 'a'\nmatch.paths = []",
        "3: paths: an empty list fits nothing: leave the line out for all",
    );
    check(
        "[[policy]]\nname = 'a'\nmatch.cause = ['borrowed']",
        "3: cause: no cause is called \"borrowed\" (there are: child, leaked, inherited, mapped, in_flight, io_uring, shared_files, kernel, remote)",
    );
    check(
        "[[policy]]\nname = 'a'\nmatch.kind = ['flock']\nstage = 'enforced'",
        "4: stage: no stage is called \"enforced\" (there are: observe, canary, enforce)",
    );
    check(
        "[[policy]]\nname = 'a'\nmatch.kind = ['flock']\n[[policy]]\nname = 'a'\nmatch.kind = ['ofd']",
        "4: there is a policy a already, at /etc/0.toml:1",
    );
    check(
        &format!("{POLICY}[control]\napprovals = 2"),
        "1: two people must confirm a clear (control.approvals), and a policy is none: say stage = \"observe\"",
    );
    // Everything at once, in the order of lines.
    check(
        "[control]\nsettel = '1s'\n[agent]\nlog = 'xml'\n[agnt]",
        "2: unknown key settel (did you mean settle?)\n/etc/0.toml:4: log: no form is called \"xml\" (there are: auto, \
         text, json, journal)\n/etc/0.toml:5: unknown key agnt (did you mean agent?)",
    );
}

const POLICY: &str = "[[policy]]
name = 'stale'
min_age = '5m'
needs_waiters = true
action = 'clear'
stage = 'canary'
canary = 3
max_per_hour = 20
methods = ['release', 'terminate']
[policy.match]
paths = ['/srv/*', '*.lock']
unit = 'app*.service'
cause = ['leaked', 'child']
kind = ['flock']
";

#[test]
fn policies_are_read_and_add_up() {
    let effective = of(&["[[policy]]\nname = 'first'\nmatch.paths = ['*']", POLICY]).unwrap();
    let [first, second] = &effective.config.policies[..] else { panic!("two policies") };
    assert_eq!((first.action, first.stage, first.min_age), (Action::Report, Stage::Observe, Duration::from_secs(60)));
    assert_eq!((first.canary, first.max_per_hour, first.needs_waiters), (1, 10, false));
    assert_eq!(first.methods, [Method::Release]);
    assert_eq!((second.action, second.stage, second.min_age), (Action::Clear, Stage::Canary, Duration::from_secs(300)));
    assert_eq!((second.canary, second.max_per_hour, second.needs_waiters), (3, 20, true));
    assert_eq!(second.methods, [Method::Release, Method::Terminate]);
    assert_eq!(second.matches.paths, ["/srv/*", "*.lock"]);
    assert_eq!(second.matches.unit.as_deref(), Some("app*.service"));
    assert_eq!(
        (&second.matches.causes[..], &second.matches.kinds[..]),
        (&[Cause::Leaked, Cause::Child][..], &[Kind::Flock][..])
    );
    assert_eq!(shown(&effective, "policy.stage"), "\"canary\" (/etc/1.toml:6)");
    assert_eq!(shown(&effective, "policy.match.unit"), "\"app*.service\" (/etc/1.toml:12)");
}

#[test]
fn what_is_shown_says_the_same() {
    let check = |texts: &[&str]| {
        let effective = of(texts).unwrap();
        for origins in [false, true] {
            let mut shown = Vec::new();
            effective.write_toml(origins, &mut shown).unwrap();
            let shown = String::from_utf8(shown).unwrap();
            assert_eq!(of(&[&shown]).unwrap().config, effective.config, "{shown}");
        }
    };
    check(&[]);
    check(&[POLICY, "[[policy]]\nname = 'b'\nmatch.paths = ['*']"]);
    check(&[
        "[control]\nprotect = ['a\"b\\\\', '/ä\\n#']\n[control.group]\npaths = ['*']\n[agent]\nlisten = 'none'\napi_socket_group = 'g'",
    ]);
}

#[test]
fn the_sample_says_what_holds_anyway_and_leaves_nothing_out() {
    const SAMPLE: &str = include_str!("../../../contrib/config.toml");
    assert_eq!(of(&[SAMPLE]).unwrap().config, Config::default());
    // What is commented out holds as well: keys without a default, and a policy.
    let whole: String = SAMPLE.lines().map(|line| format!("{}\n", line.strip_prefix("#: ").unwrap_or(line))).collect();
    let effective = of(&[&whole]).unwrap();
    for key in keys() {
        assert!(effective.tables().iter().any(|table| table.name == key.parts().0));
        let said = shown(&effective, key.name);
        assert!(!said.ends_with("(default)"), "contrib/config.toml does not say {}", key.name);
    }
    assert_eq!(effective.config.policies.len(), 1);
    for key in policies::KEYS {
        let said = shown(&effective, &format!("policy.{}", key.name));
        assert!(!said.ends_with("(default)"), "contrib/config.toml does not say policy.{}", key.name);
    }
}

#[test]
fn files_are_read_in_order_or_refused() {
    if !rustix_is_root() {
        println!("LEFT OUT: files_are_read_in_order_or_refused: needs root");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("config.toml");
    let load = || Layers::files(Some(&path)).read();
    assert_eq!(words(load()), format!("there is no {}", path.display()));
    fs::write(&path, "[control]\napprovals = 2\nsettle = '3s'").unwrap();
    fs::create_dir(temporary.path().join("config.d")).unwrap();
    let drop_in = |name: &str, text: &str| fs::write(temporary.path().join("config.d").join(name), text).unwrap();
    drop_in("20-b.toml", "[control]\nsettle = '5s'");
    drop_in("10-a.toml", "[control]\nsettle = '4s'");
    drop_in("30-c.toml.bak", "no TOML");
    drop_in(".hidden.toml", "no TOML");
    let effective = load().unwrap();
    assert_eq!((effective.config.control.approvals, effective.config.control.settle), (2, Duration::from_secs(5)));
    let last = temporary.path().join("config.d/20-b.toml");
    assert_eq!(shown(&effective, "control.settle"), format!("\"5s\" ({}:2)", last.display()));
    assert_eq!(effective.files, [path.clone(), temporary.path().join("config.d/10-a.toml"), last]);
    drop_in("40-d.toml", "no TOML");
    assert!(words(load()).contains("config.d/40-d.toml:1: "));
    let theirs = temporary.path().join("config.d/40-d.toml");
    std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
    assert!(words(load()).contains("40-d.toml belongs to uid 65534"));
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}
