//! The table in README is what lockwatch and the other tools of this host really say.
//!
//! Alone in its file: one of the locks turns the kernel's counter of process numbers back.

use std::{fs, path::Path};

use lockwatch_tests::{compare, left_out, needs_bpf};

#[test]
fn readme_compares_truly() {
    let name = "readme_compares_truly";
    if !needs_bpf(name) {
        return;
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let findings = compare::run(&[]).unwrap();
    let (differences, unchecked) = findings.differences(&readme).unwrap();
    for reason in unchecked {
        left_out(name, &reason);
    }
    assert!(differences.is_empty(), "cargo xtask compare writes it anew:\n{}", differences.join("\n"));
}
