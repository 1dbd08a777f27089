//! What a host must have for a test, and saying loudly when it has not.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
    sync::OnceLock,
};

use super::program::lockwatch;

/// Says that a test was left out and why: on standard output, and in the file that `LOCKWATCH_LEFT_OUT` names, so
/// that whoever ran the tests can list it at the end.
pub fn left_out(name: &str, reason: &str) {
    println!("LEFT OUT: {name}: {reason}");
    let Some(path) = env::var_os("LOCKWATCH_LEFT_OUT") else { return };
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{name}: {reason}\n").as_bytes()));
    written.unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// Whether this is root; says so if not.
pub fn needs_root(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        left_out(name, "needs root");
    }
    root
}

/// Whether lockwatch can use BPF here; says why not.
pub fn needs_bpf(name: &str) -> bool {
    static PROBLEM: OnceLock<Option<String>> = OnceLock::new();
    match PROBLEM.get_or_init(bpf_problem) {
        None => true,
        Some(problem) => {
            left_out(name, problem);
            false
        }
    }
}

/// Whether loop devices can be made here; says so if not.
pub fn needs_loop(name: &str) -> bool {
    if !needs_root(name) {
        return false;
    }
    // Without the module the node may be there all the same, and opening it says ENODEV or ENXIO.
    match OpenOptions::new().read(true).write(true).open("/dev/loop-control") {
        Ok(_) => true,
        Err(e) => {
            left_out(name, &format!("needs /dev/loop-control: {e}"));
            false
        }
    }
}

/// Whether a program is in `PATH`; says so if not.
pub fn needs_program(name: &str, program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        left_out(name, &format!("needs {program}"));
    }
    found
}

/// The sources that a test is to be run with: `procfs`, and `bpf` where it works.
pub fn sources(name: &str) -> Vec<&'static str> {
    if needs_bpf(&format!("{name} with --source bpf")) { vec!["procfs", "bpf"] } else { vec!["procfs"] }
}

/// The sources that can judge here: `/proc` cannot if some process may not be looked into, even by root.
pub fn sources_that_see_all(name: &str) -> Vec<&'static str> {
    let denied = pids().into_iter().find(|pid| {
        fs::read_dir(format!("/proc/{pid}/fdinfo")).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    });
    let mut sources = sources(name);
    if let Some(pid) = denied {
        left_out(&format!("{name} with --source procfs"), &format!("not even root may look into pid {pid}"));
        sources.retain(|source| *source != "procfs");
    }
    sources
}

/// Whether process numbers have begun again since boot: then they no longer tell who is older.
pub fn numbers_have_wrapped() -> bool {
    let start = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse::<u64>().ok()
    };
    let mut births: Vec<_> = pids().iter().filter_map(|pid| Some((start(pid)?, *pid))).collect();
    births.sort_unstable();
    births.windows(2).any(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1)
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn bpf_problem() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs BPF, and so root".into());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("needs BPF, and the kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
    }
    let run = lockwatch(["list", "--json", "--source", "bpf", "/dev/null"]);
    if run.code != Some(0) {
        return Some(format!("needs BPF, and lockwatch says: {}", run.stderr.trim()));
    }
    let document = run.json();
    let bpf = document["sources"].as_array()?.iter().find(|source| source["name"] == "bpf");
    match bpf {
        Some(bpf) if bpf["state"] == "ok" => None,
        Some(bpf) => {
            Some(format!("needs BPF, and lockwatch says: {}", bpf["reason"].as_str().unwrap_or("it is not ok")))
        }
        None => Some(format!("needs BPF, and lockwatch lists no such source: {}", document["sources"])),
    }
}
