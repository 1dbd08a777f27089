//! The systemd units: systemd knows every line of them, and they let nobody do more than is needed.

use std::{fs, path::Path, process::Command};

use lockwatch_tests::{Run, Scene, lockwatch_path, needs_program, run};

/// Units that can be installed, and how exposed they may be, in tenths.
const UNITS: [(&str, Option<u32>); 4] = [
    ("lockwatch.service", Some(20)),
    ("lockwatch-control@.service", Some(27)),
    ("lockwatch.socket", None),
    ("lockwatch-control.socket", None),
];

/// Copies the units, with the program where it is here.
fn units() -> Scene {
    let scene = Scene::new();
    for (name, _) in UNITS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/systemd").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let text = text.replace("/usr/bin/lockwatch", &lockwatch_path().display().to_string());
        let path = scene.path(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }
    scene
}

fn analyze(args: &[&str], scene: &Scene, unit: &str) -> Run {
    run(Command::new("systemd-analyze").args(args).arg(scene.path(unit)).env("SYSTEMD_COLORS", "0"))
}

#[test]
fn systemd_finds_nothing_to_say() {
    if !needs_program("systemd_finds_nothing_to_say", "systemd-analyze") {
        return;
    }
    let scene = units();
    for (unit, _) in UNITS {
        let run = analyze(&["verify", "--man=no", "--recursive-errors=no"], &scene, unit);
        assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{unit}");
    }
}

#[test]
fn units_are_no_more_exposed_than_they_must_be() {
    if !needs_program("units_are_no_more_exposed_than_they_must_be", "systemd-analyze") {
        return;
    }
    let scene = units();
    for (unit, tenths) in UNITS {
        let Some(tenths) = tenths else { continue };
        // An instance of a template is not a file, and the template will do.
        let run = analyze(&["security", "--offline=true", &format!("--threshold={tenths}")], &scene, unit);
        assert_eq!(run.code, Some(0), "{unit}: {}{}", run.text(), run.stderr);
    }
}
