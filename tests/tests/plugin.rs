//! `check` and `metrics`: what a monitoring system gets to see.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use lockwatch_tests::{Run, Scene, in_flight, lockwatch, lockwatch_command, needs_bpf, needs_program, run};

/// One line, with words and with performance data.
fn status(run: &Run) -> (&str, &str) {
    let line = run.text().strip_suffix('\n').unwrap_or_else(|| panic!("no line: {run:?}"));
    assert!(!line.contains('\n'), "{line}");
    line.split_once(" | ").unwrap_or((line, ""))
}

fn metric(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn an_orphan_is_a_warning_and_a_gauge() {
    if !needs_bpf("an_orphan_is_a_warning_and_a_gauge") {
        return;
    }
    let scene = Scene::new();
    let count = || {
        let page = lockwatch(["metrics"]);
        assert_eq!(metric(page.text(), "lockwatch_state_exact"), Some(1.0), "{page:?}");
        metric(page.text(), "lockwatch_orphaned_locks{cause=\"in_flight\"}").unwrap_or_else(|| panic!("{page:?}"))
    };
    let before = count();
    let _receiver = in_flight(&scene, &scene.file("lock"));
    assert_eq!(count(), before + 1.0);
    let check = lockwatch(["check"]);
    let (words, data) = status(&check);
    // Somebody else on this host may be in deadlock.
    assert!(matches!(check.code, Some(1 | 2)), "{check:?}");
    assert!(words.starts_with("LOCKWATCH WARNING - ") || words.starts_with("LOCKWATCH CRITICAL - "), "{words}");
    assert!(words.contains("orphaned"), "{words}");
    let orphans = data.split(' ').find_map(|part| part.strip_prefix("orphans=")?.split(';').next()?.parse().ok());
    assert!(orphans >= Some(1), "{data}");
}

#[test]
fn what_cannot_be_said_is_unknown() {
    let check = |args: &[&str], expect: &str| {
        let run = lockwatch(args);
        assert_eq!((run.code, &*run.stderr), (Some(3), ""), "{args:?}");
        let (words, _) = status(&run);
        assert!(words.starts_with("LOCKWATCH UNKNOWN - ") && words.contains(expect), "{words}");
    };
    check(&["check", "--proc-root", "/nonexistent", "--source", "procfs"], "/nonexistent");
    check(&["check", "-w", "soon"], "soon");
    check(&["check", "--waiters", "1"], "--waiters");
    assert_eq!(lockwatch(["check", "--help"]).code, Some(0));
    assert_eq!(lockwatch(["list", "--nonsense"]).code, Some(2));
}

#[test]
fn a_text_file_is_what_prometheus_reads() {
    let name = "a_text_file_is_what_prometheus_reads";
    let scene = Scene::new();
    let dir = scene.path("textfile");
    fs::create_dir(&dir).unwrap();
    let run_ = run(lockwatch_command().args(["metrics", "--textfile"]).arg(&dir));
    assert_eq!((run_.code, run_.text()), (Some(0), ""), "{run_:?}");
    let page = fs::read_to_string(dir.join("lockwatch.prom")).unwrap();
    assert!(metric(&page, "lockwatch_hot_locks").is_some(), "{page}");
    if !needs_program(name, "promtool") {
        return;
    }
    let mut promtool = Command::new("promtool");
    let mut child = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.success(), &*String::from_utf8_lossy(&output.stderr)), (true, ""), "{page}");
}
