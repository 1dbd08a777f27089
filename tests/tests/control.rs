//! The control socket: who comes in, what is heard, and what the process that serves has left of its rights.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use lockwatch_tests::{
    Door, PATIENCE, Run, Scene, User, becomes_free, in_flight, items, needs_bpf, needs_program, needs_root, only,
    plain, run, until,
};
use serde_json::{Value, json};

/// Quick, and for members of the group below a directory of the scene's.
fn usual(scene: &Scene) -> Door {
    let allowed = scene.path("allowed");
    fs::create_dir(&allowed).unwrap_or_else(|e| panic!("make {}: {e}", allowed.display()));
    Door::open(scene, &format!("settle = '0s'\n[control.group]\npaths = ['{}/*']", allowed.display()))
}

fn id_of(path: &Path) -> String {
    only("auto", path)["id"].as_str().unwrap_or_else(|| panic!("no id")).to_owned()
}

fn said(run: &Run) -> Value {
    serde_json::from_slice(&run.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", run.text(), run.stderr))
}

fn request(id: &str, more: &Value) -> String {
    let mut clear = more.clone();
    clear["id"] = id.into();
    format!("{}\n", json!({ "clear": clear }))
}

fn is_ready(name: &str) -> bool {
    needs_root(name) && needs_bpf(name)
}

#[test]
fn a_member_clears_what_the_policy_lets_it_and_nothing_else() {
    if !is_ready("a_member_clears_what_the_policy_lets_it_and_nothing_else") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let allowed = scene.file("allowed/lock");
    let other = scene.file("other");
    let _receiver = in_flight(&scene, &allowed);
    let _other_receiver = in_flight(&scene, &other);
    let (id, other_id) = (id_of(&allowed), id_of(&other));

    let check = |args: &[&str], code: i32, words: &str| {
        let run = door.lockwatch(User::ANN, &[&["clear"], args].concat());
        assert_eq!(run.code, Some(code), "{args:?}: {} {}", run.text(), run.stderr);
        let all = format!("{}{}", run.text(), run.stderr);
        assert!(all.contains(words), "{args:?}: {all}");
    };
    check(&[&other_id], 3, "the configuration does not let you clear locks on");
    check(&[&id, "--method", "kill"], 3, "the configuration does not let you kill it");
    check(&[&id, "--hold", "1"], 3, "the configuration does not let you hold others still");
    check(&[&id, "--override-protection"], 3, "only root may override the protect list");
    check(&[&id, "--grace", "1s"], 3, "the configuration lets only root give less grace than 5s");
    check(&[&id, "--audit-log", "/tmp/theirs"], 1, "only root says where the record is kept");
    check(&[&id, "--confirm", "0000-0000"], 6, "is not this plan's code");
    check(&["nosuchid"], 6, "there is no such lock");

    let planned = said(&door.lockwatch(User::ANN, &["clear", &id]));
    assert_eq!(planned["outcome"], "planned", "{planned:#}");
    let code = planned["plan"]["code"].as_str().unwrap();
    let run = door.lockwatch(User::ANN, &["clear", &id, "--confirm", code, "--reason", "ticket 7"]);
    assert_eq!((run.code, said(&run)["verified"].as_bool()), (Some(0), Some(true)), "{} {}", run.text(), run.stderr);
    becomes_free(&allowed);
    assert_eq!(only("auto", &other)["verdict"], "orphaned", "the other one is as it was");

    let records = door.records();
    let last = records.last().unwrap();
    assert_eq!(
        (&last["phase"], &last["outcome"], &last["reason"]),
        (&json!("outcome"), &json!("cleared"), &json!("ticket 7"))
    );
    for record in &records {
        assert_eq!(record["actor"]["uid"], User::ANN.uid(), "{record}");
        assert_eq!(record["actor"]["comm"], "lockwatch", "{record}");
    }
}

#[test]
fn who_is_no_member_cannot_connect() {
    if !needs_root("who_is_no_member_cannot_connect") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let run = door.lockwatch(User::EVE, &["clear", "f3k9"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("is only for members of its group; as root: usermod"), "{}", run.stderr);
    assert_eq!(door.try_call(User::EVE).hung_up(), [""; 0]);
    // Not even if somebody has opened the socket to everybody by mistake.
    fs::set_permissions(door.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let mut eve = door.call(User::EVE);
    eve.say(request("f3k9", &json!({})));
    assert_eq!(eve.hung_up(), [""; 0]);
    assert!(door.says(|line| line.contains("is open to everybody (chmod o-rwx")));
}

#[test]
fn whatever_is_no_request_is_turned_away_counted_and_not_recorded() {
    if !needs_root("whatever_is_no_request_is_turned_away_counted_and_not_recorded") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let valid = request("f3k9", &json!({ "interactive": true }));
    let mut counted = String::new();
    let mut check = |bytes: &[u8], stays: bool, letter: &str| {
        let mut caller = door.call(User::ANN);
        caller.say(bytes);
        if !stays {
            caller.be_silent();
        }
        assert_eq!(caller.hung_up(), [""; 0], "{}", bytes.escape_ascii());
        counted += letter;
        until("it is counted", || (door.turned_away().len() >= counted.len()).then_some(()));
        assert_eq!(door.turned_away(), counted, "{}", bytes.escape_ascii());
    };
    check(b"", false, "");
    check(b"\n", true, "m");
    check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, "x");
    check(b"\xff\xfe\x00\n", true, "m");
    check(valid.trim_end().as_bytes(), false, "m");
    check(b"{\"clear\":{\"id\":\"f3k9\",\"uid\":0}}\n", true, "m");
    check(b"{\"clear\":{\"id\":\"f3k9\",\"pid\":1}}\n", true, "m");
    check(b"{\"clear\":{\"id\":\"f3k9\\nzzzz\"}}\n", true, "m");
    check("[".repeat(4095).as_bytes(), false, "m");
    check("[".repeat(100_000).as_bytes(), true, "o");
    check(format!("{valid}{}", r#"{"confirm":"0000-0000"}"#).as_bytes(), true, "x");
    let began = Instant::now();
    check(valid.trim_end().as_bytes(), true, "s");
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(door.records(), [Value::Null; 0]);
    assert!(door.says(|line| line.contains("(caller) of uid 61001: the request is malformed: not what is asked for")));
    // And the next one is served.
    let run = door.lockwatch(User::ANN, &["clear", "nosuchid"]);
    assert_eq!(run.code, Some(6), "{}", run.stderr);
}

#[test]
fn nobody_keeps_all_the_others_out() {
    if !needs_root("nobody_keeps_all_the_others_out") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let idle: Vec<_> = (0..4).map(|_| door.call(User::ANN)).collect();
    until("they are served", || (door.serving().len() == 4).then_some(()));
    let refused = door.call(User::ANN).answer();
    assert_eq!(refused, json!({ "error": "uid 61001 is being served 4 times already" }));
    let run = door.lockwatch(User::BOB, &["clear", "nosuchid"]);
    assert_eq!(run.code, Some(6), "{}", run.stderr);
    idle.into_iter().for_each(|caller| assert_eq!(caller.hung_up(), [""; 0]));
    until("they are counted", || (door.turned_away() == "ssss").then_some(()));
    let run = door.lockwatch(User::ANN, &["clear", "nosuchid"]);
    assert_eq!(run.code, Some(6), "{}", run.stderr);
}

#[test]
fn many_are_served_some_at_a_time() {
    if !needs_root("many_are_served_some_at_a_time") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let callers: Vec<_> = (0..50).map(|_| door.call(User::ROOT)).collect();
    let mut most = 0;
    until("there is no more room", || {
        most = most.max(door.serving().len());
        (most >= 16).then_some(())
    });
    for mut caller in callers {
        caller.say("nonsense\n");
        most = most.max(door.serving().len());
        assert_eq!(caller.hung_up(), [""; 0]);
    }
    assert_eq!(most, 16);
    until("they are counted", || (door.turned_away().len() == 50).then_some(()));
    until("nobody is served any more", || door.serving().is_empty().then_some(()));
}

#[test]
fn who_serves_has_two_capabilities_and_a_filter() {
    if !needs_root("who_serves_has_two_capabilities_and_a_filter") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let _idle = door.call(User::ANN);
    let status = until("it is confined", || {
        let pid = *door.serving().first()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.contains("Seccomp:\t2").then_some(status)
    });
    let (none, both) = ("0000000000000000", format!("{:016x}", 1 << 5 | 1 << 19));
    for (key, expect) in [
        ("CapInh", none),
        ("CapPrm", &both),
        ("CapEff", &both),
        ("CapBnd", &both),
        ("CapAmb", none),
        ("NoNewPrivs", "1"),
    ] {
        let line = format!("{key}:\t{expect}\n");
        assert!(status.contains(&line), "{key} {expect} not in {status}");
    }
}

#[test]
fn a_code_is_asked_for_and_nothing_done_without() {
    if !is_ready("a_code_is_asked_for_and_nothing_done_without") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let path = scene.file("allowed/lock");
    let _receiver = in_flight(&scene, &path);
    let ask = request(&id_of(&path), &json!({ "interactive": true }));
    let asked = || {
        let mut caller = door.call(User::ANN);
        caller.say(&ask);
        let plan = caller.answer();
        let code = plan["plan"]["plan"]["code"].as_str().unwrap_or_else(|| panic!("no code in {plan:#}")).to_owned();
        (caller, code)
    };
    let still = || only("auto", &path)["verdict"] == "orphaned";

    let (mut caller, _) = asked();
    caller.say("{\"confirm\":null}\n");
    assert_eq!(caller.answer()["done"]["outcome"], "planned");
    let (mut caller, _) = asked();
    caller.say("{\"confirm\":\"0000-0000\"}\n");
    assert_eq!(caller.answer()["done"]["outcome"], "changed");
    let (mut caller, _) = asked();
    caller.be_silent();
    assert_eq!(caller.hung_up(), [""; 0]);
    let (mut caller, _) = asked();
    caller.say("yes\n");
    assert_eq!(caller.hung_up(), [""; 0]);
    assert!(still());
    assert!(door.records().iter().all(|record| record["phase"] != "intent"), "{:#?}", door.records());

    let (mut caller, code) = asked();
    caller.say(format!("{{\"confirm\":\"{code}\"}}\n"));
    assert_eq!(caller.answer()["done"]["outcome"], "cleared");
    becomes_free(&path);
}

#[test]
fn where_two_must_agree_one_is_not_enough() {
    if !is_ready("where_two_must_agree_one_is_not_enough") {
        return;
    }
    let scene = Scene::new();
    let door = Door::open(&scene, "settle = '0s'\napprovals = 2");
    let path = scene.file("lock");
    let _receiver = in_flight(&scene, &path);
    let id = id_of(&path);
    let planned = said(&door.lockwatch(User::ANN, &["clear", &id]));
    let code = planned["plan"]["code"].as_str().unwrap().to_owned();

    let check = |user, args: &[&str], code: i32, by: &[u32]| {
        let run = door.lockwatch(user, args);
        assert_eq!(run.code, Some(code), "{args:?}: {} {}", run.text(), run.stderr);
        let document = said(&run);
        let approvals: Vec<_> = items(&document["approvals"]["by"]).iter().filter_map(Value::as_u64).collect();
        assert_eq!(approvals, by.iter().map(|uid| u64::from(*uid)).collect::<Vec<_>>(), "{document:#}");
        document
    };
    check(User::BOB, &["approve", &id, "--code", &code], 6, &[]);
    check(User::ANN, &["clear", &id, "--confirm", &code], 4, &[User::ANN.uid()]);
    check(User::ANN, &["approve", &id, "--code", &code], 4, &[User::ANN.uid()]);
    check(User::BOB, &["approve", &id, "--code", "0000-0000"], 6, &[]);
    assert_eq!(only("auto", &path)["verdict"], "orphaned");
    let cleared = door.lockwatch(User::BOB, &["approve", &id, "--code", &code]);
    assert_eq!(
        (cleared.code, said(&cleared)["verified"].as_bool()),
        (Some(0), Some(true)),
        "{} {}",
        cleared.text(),
        cleared.stderr
    );
    becomes_free(&path);
    check(User::BOB, &["approve", &id, "--code", &code], 6, &[]);
    let records = door.records();
    let last = records.last().unwrap();
    assert_eq!((&last["actor"]["uid"], &last["outcome"]), (&json!(User::BOB.uid()), &json!("cleared")), "{last}");
    assert_eq!(last["approved_by"][0]["uid"], User::ANN.uid(), "{last}");
}

#[test]
fn a_configuration_that_others_can_write_clears_nothing() {
    if !needs_root("a_configuration_that_others_can_write_clears_nothing") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let check = |expect: &str| {
        let run = door.lockwatch(User::ANN, &["clear", "f3k9"]);
        assert_eq!(run.code, Some(1), "{}", run.text());
        assert!(run.stderr.contains(expect), "{}", run.stderr);
    };
    let text = fs::read_to_string(door.config()).unwrap();
    fs::write(door.config(), text.replace("settle", "setle")).unwrap();
    check("config.toml:4: unknown key setle (did you mean settle?)");
    fs::write(door.config(), text).unwrap();
    fs::set_permissions(door.config(), fs::Permissions::from_mode(0o666)).unwrap();
    check("others than root can write to");
    assert_eq!(door.records(), [Value::Null; 0]);
}

#[test]
fn nothing_hangs_when_the_door_is_shut() {
    if !needs_root("nothing_hangs_when_the_door_is_shut") {
        return;
    }
    let scene = Scene::new();
    let door = usual(&scene);
    let socket = door.socket();
    drop(door);
    assert!(socket.exists(), "it was killed");
    let began = Instant::now();
    let run = run(plain(scene.path("lockwatch")).args(["control"]));
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("stdin is for the control socket alone"), "{}", run.stderr);
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// As far as systemd can tell without running them.
#[test]
fn the_units_are_sound() {
    if !needs_program("the_units_are_sound", "systemd-analyze") {
        return;
    }
    let scene = Scene::new();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/systemd");
    for (name, instance) in [
        ("lockwatch-control.socket", "lockwatch-control.socket"),
        ("lockwatch-control@.service", "lockwatch-control@1.service"),
    ] {
        // Whether it is installed is not the question.
        let text = fs::read_to_string(units.join(name)).unwrap().replace("/usr/bin/lockwatch", "/bin/true");
        [name, instance].into_iter().for_each(|name| fs::write(scene.path(name), &text).unwrap());
    }
    let check = |args: &[&str], units: &[&str]| {
        let mut command = plain("systemd-analyze");
        let run = run(command.args(args).args(units.iter().map(|unit| scene.path(unit))));
        assert_eq!(run.code, Some(0), "{args:?}: {} {}", run.text(), run.stderr);
    };
    check(&["verify", "--man=no"], &["lockwatch-control.socket", "lockwatch-control@1.service"]);
    // Exposure of at most 3.0 of 10.
    check(&["security", "--offline=true", "--threshold=30"], &["lockwatch-control@1.service"]);
}
