//! `config check` and `config show`: who says what, in files, in variables, and in whose hands.

use std::{fs, os::unix::fs::chown, path::Path};

use lockwatch_tests::{Run, Scene, items, lockwatch_command, needs_root, run};
use serde_json::{Value, json};

fn config(args: &[&str], file: &Path, variables: &[(&str, &str)]) -> Run {
    let mut command = lockwatch_command();
    command.env_remove("LOCKWATCH_API_SOCKET").envs(variables.iter().copied());
    run(command.arg("config").args(args).arg(file))
}

fn shown(document: &Value, key: &str) -> (Value, Value) {
    let value = items(&document["values"]).iter().find(|value| value["key"] == key);
    let value = value.unwrap_or_else(|| panic!("no {key} in {document:#}"));
    (value["value"].clone(), value["origins"].clone())
}

#[test]
fn every_value_tells_who_said_it() {
    if !needs_root("every_value_tells_who_said_it") {
        return;
    }
    let scene = Scene::new();
    let (main, drop_in) = (scene.path("c.toml"), scene.path("c.d/10-site.toml"));
    fs::create_dir(scene.path("c.d")).unwrap();
    fs::write(&main, "[agent]\nhot_after = '7s'\nmax_connections = 3\n[control]\nprotect = ['a']\n").unwrap();
    fs::write(&drop_in, "[control]\nprotect = ['b']\n\n[agent]\nmax_connections = 4\n").unwrap();
    let variables = [("LOCKWATCH_AGENT_HOT_AFTER", "8s"), ("LOCKWATCH_API_SOCKET", "/x/agent.sock")];
    let document = config(&["show", "--json", "--config"], &main, &variables).json();
    let file = |path: &Path, line: u32| json!({"kind": "file", "path": path, "line": line, "name": null});
    let variable = |name: &str| json!([{"kind": "variable", "path": null, "line": null, "name": name}]);
    let check = |key: &str, value: Value, origins: Value| assert_eq!(shown(&document, key), (value, origins), "{key}");
    check("agent.hot_after", json!("8s"), variable("LOCKWATCH_AGENT_HOT_AFTER"));
    check("agent.api_socket", json!("/x/agent.sock"), variable("LOCKWATCH_API_SOCKET"));
    check("agent.max_connections", json!(4), json!([file(&drop_in, 5)]));
    check("control.protect", json!(["a", "b"]), json!([file(&main, 5), file(&drop_in, 2)]));
    assert_eq!(shown(&document, "agent.listen").1[0]["kind"], "default");
    assert_eq!(document["files"], json!([main, drop_in]));

    // What is shown is a configuration that says the same.
    let again = scene.path("again.toml");
    fs::write(&again, config(&["show", "--origin", "--config"], &main, &variables).stdout).unwrap();
    let values = |document: &Value| -> Vec<_> {
        items(&document["values"]).iter().map(|value| (value["key"].clone(), value["value"].clone())).collect()
    };
    assert_eq!(values(&config(&["show", "--json", "--config"], &again, &[]).json()), values(&document));
}

#[test]
fn a_check_says_everything_that_is_wrong() {
    if !needs_root("a_check_says_everything_that_is_wrong") {
        return;
    }
    let scene = Scene::new();
    let path = scene.path("c.toml");
    let check = |text: &str, variables: &[(&str, &str)], code, expect: &[String]| {
        fs::write(&path, text).unwrap();
        let run = config(&["check"], &path, variables);
        assert_eq!(run.text().lines().collect::<Vec<_>>(), expect, "{}", run.stderr);
        assert_eq!(run.code, Some(code), "{text}");
    };
    let at = |line: u32, words: &str| format!("{}:{line}: {words}", path.display());
    check("", &[], 0, &[format!("ok: {}", path.display())]);
    check(
        "[agent]\nlisen = 'none'\n\n[contrl]\n",
        &[("LOCKWATCH_AGENT_HOTAFTER", "1s"), ("LOCKWATCH_PROBES", "raw_tracepoint")],
        1,
        &[
            at(2, "unknown key lisen (did you mean listen?)"),
            at(4, "unknown key contrl (did you mean control?)"),
            "LOCKWATCH_AGENT_HOTAFTER: unknown variable (did you mean LOCKWATCH_AGENT_HOT_AFTER?)".to_owned(),
        ],
    );
    let policy = "[[policy]]\nname = 'x'\nmatch.paths = ['*']\naction = 'clear'\nstage = 'enforce'\n";
    let promise = "policy x: clears locks that have been orphaned for 1m, at most 10 an hour, by release".to_owned();
    check(policy, &[], 0, &[format!("ok: {}", path.display()), promise]);
    chown(&path, Some(65534), None).unwrap();
    let run = config(&["check"], &path, &[]);
    assert_eq!((run.code, run.text()), (Some(1), &*format!("{} belongs to uid 65534, not to root\n", path.display())));
}

#[test]
fn a_file_may_be_named_from_where_one_is() {
    if !needs_root("a_file_may_be_named_from_where_one_is") {
        return;
    }
    let scene = Scene::new();
    fs::write(scene.path("mine.toml"), "[agent]\nhot_after = '7s'\n").unwrap();
    let mut command = lockwatch_command();
    command.current_dir(scene.path("mine.toml").parent().unwrap());
    let shown = run(command.args(["config", "show", "--origin", "--config", "mine.toml"]));
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.code == Some(0) && text.contains("7s") && text.contains("mine.toml:2"), "{shown:?}");
}
