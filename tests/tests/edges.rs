//! Bad input and odd hosts: what lockwatch does when it is asked for the wrong thing, or may not see everything.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

use std::{
    ffi::OsStr,
    io::Read,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Stdio,
};

use lockwatch_tests::{
    Run, Scene, ghost, items, lockwatch, lockwatch_command, needs_root, only, plain, run, sources, taken,
};
use serde_json::Value;

#[test]
fn a_missing_path_is_named() {
    let scene = Scene::new();
    let path = scene.path("nowhere");
    for command in ["list", "orphans"] {
        let run = lockwatch([OsStr::new(command), path.as_os_str()]);
        assert_eq!(run.code, Some(1), "{command}: {}", run.stderr);
        assert!(run.stderr.contains(path.to_str().unwrap()), "{command}: {}", run.stderr);
        assert!(run.stdout.is_empty(), "{command}: {}", run.text());
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [&["lsit"][..], &["list", "--kind", "flok"], &["list", "--json", "--ndjson"], &["explain"]] {
        let run = lockwatch(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_closed_pipe_is_quiet() {
    let scene = Scene::new();
    let path = scene.file("lock");
    let _locker = taken(&scene, &path, "flock 9 ex");
    for args in [&["list"][..], &["list", "--json"], &["list", "--ndjson"], &["doctor"]] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        let mut child =
            lockwatch_command().args(args).stdout(Stdio::from(write)).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(stderr, "", "{args:?}");
        assert_eq!(status.code(), Some(0), "{args:?}: {status}");
    }
}

/// Names that disturb a terminal, a table or a parser.
const HOSTILE: &[&[u8]] = &[
    b"new\nline",
    b"escape\x1b[31mred",
    "bidi\u{202e}gpj.exe".as_bytes(),
    "zero\u{200b}width".as_bytes(),
    b"invalid\xff\xfeutf8",
    b"back\\slash \"quote\"",
    b" leading and trailing ",
    b"tab\there",
    b"1: FLOCK  ADVISORY  WRITE 1 00:01:1 0 EOF",
];

#[test]
fn hostile_names_disturb_nothing() {
    for source in sources("hostile_names_disturb_nothing") {
        for name in HOSTILE {
            let scene = Scene::new();
            let path = scene.file(OsStr::from_bytes(name));
            let _locker = taken(&scene, &path, "flock 9 ex");

            let bytes = path.as_os_str().as_bytes();
            let file = only(source, &path)["file"].clone();
            assert_eq!(file["path"], String::from_utf8_lossy(bytes).as_ref(), "{source}");
            let expect = if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
                Value::Null
            } else {
                Value::from(base64(bytes))
            };
            assert_eq!(file["path_base64"], expect, "{source}: {file}");

            for args in [&["list", "--no-headers"][..], &["explain"]] {
                let args =
                    args.iter().map(OsStr::new).chain([OsStr::new("--source"), OsStr::new(source), path.as_os_str()]);
                let run = lockwatch(args);
                assert_eq!(run.code, Some(0), "{source}: {}", run.stderr);
                let bad: Vec<_> = run.text().chars().filter(|c| *c != '\n' && disturbs(*c)).collect();
                assert!(bad.is_empty(), "{source}: {bad:?} in {:?}", run.text());
            }
        }
    }
}

fn disturbs(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// RFC 4648 section 4, by arithmetic on one long number of bits.
fn base64(bytes: &[u8]) -> String {
    let digits: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let bits: Vec<usize> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| usize::from(b >> i & 1))).collect();
    let mut out: String =
        bits.chunks(6).map(|six| digits[(0..6).fold(0, |n, i| n << 1 | six.get(i).unwrap_or(&0))]).collect();
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

/// An ordinary user's run, of a copy of the program that this user can reach.
fn as_nobody(scene: &Scene, args: &[&OsStr]) -> Run {
    run(plain(scene.lockwatch()).uid(65534).gid(65534).args(args))
}

#[test]
fn an_ordinary_user_is_told_what_is_hidden() {
    if !needs_root("an_ordinary_user_is_told_what_is_hidden") {
        return;
    }
    let scene = Scene::new();
    let path = scene.file("lock");
    let (acquirer, _heir) = ghost(&scene, &path);

    let args = [OsStr::new("list"), OsStr::new("--json"), path.as_os_str()];
    let document = as_nobody(&scene, &args).document();
    assert_eq!(document["exact"], false, "{document:#}");
    assert!(!items(&document["warnings"]).is_empty(), "nothing says why: {document:#}");
    let bpf = items(&document["sources"]).iter().find(|source| source["name"] == "bpf").unwrap();
    assert_eq!(bpf["state"], "unavailable", "{bpf:#}");
    assert!(bpf["reason"].is_string(), "{bpf:#}");
    let lock = &items(&document["locks"])[0];
    assert_eq!(lock["acquirer"]["pid"], acquirer, "{lock:#}");
    assert_eq!(lock["holders_complete"], false, "{lock:#}");
    assert_eq!(lock["verdict"], "unknown", "who cannot see the holders cannot judge: {lock:#}");
}

#[test]
fn a_source_that_was_asked_for_and_is_denied_is_a_failure() {
    if !needs_root("a_source_that_was_asked_for_and_is_denied_is_a_failure") {
        return;
    }
    let scene = Scene::new();
    let run = as_nobody(&scene, &["list", "--source", "bpf"].map(OsStr::new));
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(!run.stderr.is_empty() && run.stdout.is_empty(), "{}", run.stderr);
}

#[test]
fn doctor_speaks_json() {
    let run = lockwatch(["doctor", "--json"]);
    assert_eq!(run.json()["schema"], "lockwatch.doctor/1", "{}", run.text());
}
