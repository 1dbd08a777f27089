//! What this kernel and this host offer.

use std::{fs, path::Path};

use lockwatch_control::hold::{self, Ways};
use rustix::process::{Resource, getrlimit};

use super::{
    Check,
    privileges::{Capability, has},
};
use crate::sources::bpf::load;

/// Build, kernel, BTF, lockdown, memory limit, tracefs, /proc, pid namespace and freezers.
pub(super) fn checks() -> Vec<Check> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![
        ebpf_build(load::built()),
        kernel(&release),
        btf(Path::new("/sys/kernel/btf/vmlinux")),
        lockdown(fs::read_to_string("/sys/kernel/security/lockdown").ok().as_deref()),
        memlock(&release, getrlimit(Resource::Memlock).current, has(Capability::SysResource)),
        tracefs(&["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]),
        proc(fs::read_to_string("/proc/self/mountinfo").ok().as_deref(), has(Capability::SysPtrace)),
        pid_namespace(fs::read_link("/proc/self/ns/pid").ok().as_deref()),
        hold(hold::ways()),
    ]
}

fn ebpf_build(built: bool) -> Check {
    match built {
        true => Check::ok("eBPF build", "the programs are built in"),
        false => {
            let detail = "built without eBPF: there was no BPF toolchain when lockwatch was built";
            Check::missing("eBPF build", detail, "cargo xtask setup && cargo xtask run")
        }
    }
}

/// DESIGN section 3 was verified from 5.10 on.
fn kernel(release: &str) -> Check {
    match version(release) {
        Some(version) if version >= (5, 10) => Check::ok("kernel", release),
        Some(_) => Check::missing("kernel", format!("{release} is older than 5.10"), "run a kernel from 5.10 on"),
        None => Check::degraded(
            "kernel",
            format!("{release} is no version that lockwatch can read"),
            "run a kernel from 5.10 on",
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn btf(path: &Path) -> Check {
    match fs::File::open(path) {
        Ok(_) => Check::ok("BTF", format!("{} is readable", path.display())),
        Err(error) => Check::missing(
            "BTF",
            format!("{}: {error}; without it nobody knows where the kernel keeps its fields", path.display()),
            "run a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ),
    }
}

/// `none [integrity] confidentiality`: only the last forbids BPF to read the kernel's memory
/// (LOCKDOWN_BPF_READ_KERNEL, security/security.c, 6.18). Without the file there is no lockdown.
fn lockdown(state: Option<&str>) -> Check {
    let chosen = state.and_then(|s| s.split_once('[')?.1.split_once(']')).map_or("none", |(word, _)| word);
    match chosen {
        "confidentiality" => Check::missing(
            "lockdown",
            "confidentiality: the kernel forbids eBPF to read its memory",
            "boot with lockdown=integrity or without lockdown",
        ),
        other => Check::ok("lockdown", other),
    }
}

/// Since 5.11 BPF memory is charged to the cgroup, not to this limit (kernel/bpf/syscall.c, "bpf: Eliminate
/// rlimit-based memory accounting").
fn memlock(release: &str, limit: Option<u64>, can_raise: bool) -> Check {
    match limit {
        _ if version(release).is_some_and(|v| v >= (5, 11)) => {
            Check::ok("RLIMIT_MEMLOCK", "not used by this kernel's BPF")
        }
        None => Check::ok("RLIMIT_MEMLOCK", "unlimited"),
        Some(bytes) if can_raise => Check::ok("RLIMIT_MEMLOCK", format!("{bytes} bytes, and lockwatch may raise it")),
        Some(bytes) => Check::degraded(
            "RLIMIT_MEMLOCK",
            format!("{bytes} bytes: BPF maps may not fit"),
            "ulimit -l unlimited, as root, in the shell that starts lockwatch",
        ),
    }
}

fn tracefs(places: &[&str]) -> Check {
    let format = |place: &&&str| Path::new(place).join("events/filelock/flock_lock_inode/format").is_file();
    match places.iter().find(format) {
        Some(place) => Check::ok("tracefs", format!("mounted on {place}")),
        None => Check::degraded(
            "tracefs",
            "the description of the lock tracepoints cannot be read: classic tracepoints cannot be used",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

/// hidepid hides processes from whoever may not trace them (fs/proc/base.c `has_pid_permissions`, 6.18).
fn proc(mountinfo: Option<&str>, can_trace: bool) -> Check {
    let Some(mountinfo) = mountinfo else {
        return Check::missing("/proc", "it cannot be read", "mount -t proc proc /proc");
    };
    // The last mount on a directory is the one that is seen.
    let options = mountinfo.lines().rev().find(|line| line.split(' ').nth(4) == Some("/proc")).unwrap_or_default();
    let hidepid = options.split([' ', ',']).find_map(|option| option.strip_prefix("hidepid="));
    match hidepid {
        None | Some("0" | "off") => Check::ok("/proc", "mounted, hides nothing"),
        Some(level) if can_trace => Check::ok("/proc", format!("hidepid={level}, but not from this process")),
        Some(level) => Check::degraded(
            "/proc",
            format!("hidepid={level} hides other users' processes"),
            "run lockwatch as root (sudo lockwatch …)",
        ),
    }
}

/// The initial namespace's number is fixed: PROC_PID_INIT_INO of include/linux/proc_ns.h, 0xEFFFFFFC.
fn pid_namespace(link: Option<&Path>) -> Check {
    const NAME: &str = "pid namespace";
    const FIX: &str = "run lockwatch on the host itself, or in a container with --pid=host";
    match link.and_then(Path::to_str) {
        Some("pid:[4026531836]") => Check::ok(NAME, "the host's own"),
        Some(other) => {
            Check::degraded(NAME, format!("{other} is not the host's: processes outside it cannot be seen"), FIX)
        }
        None => Check::degraded(NAME, "/proc/self/ns/pid cannot be read", FIX),
    }
}

/// A single process can be stopped on every host; this is about units and control groups.
fn hold(ways: anyhow::Result<Ways>) -> Check {
    const NAME: &str = "clear --hold";
    const FIX: &str = "boot with control groups of version 2 only (systemd.unified_cgroup_hierarchy=1)";
    match ways {
        Ok(ways) if ways.best => Check::ok(NAME, ways.words),
        Ok(ways) => Check::degraded(NAME, ways.words, FIX),
        Err(error) => Check::degraded(NAME, format!("{error:#}"), "mount -t proc proc /proc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn kernels_from_5_10_on_will_do() {
        let check = |release, expect| assert_eq!(kernel(release).state, expect, "{release}");
        check("6.18.44-generic", State::Ok);
        check("5.10.0-30-amd64", State::Ok);
        check("5.9.16", State::Missing);
        check("4.19.0", State::Missing);
        check("next", State::Degraded);
    }

    #[test]
    fn only_confidentiality_stops_bpf() {
        let check = |state, expect| assert_eq!(lockdown(state).state, expect, "{state:?}");
        check(None, State::Ok);
        check(Some("[none] integrity confidentiality\n"), State::Ok);
        check(Some("none [integrity] confidentiality\n"), State::Ok);
        check(Some("none integrity [confidentiality]\n"), State::Missing);
    }

    #[test]
    fn the_memory_limit_matters_on_old_kernels_without_the_right_to_raise_it() {
        let check = |release, limit, can_raise, expect| assert_eq!(memlock(release, limit, can_raise).state, expect);
        check("6.1.0", Some(65536), false, State::Ok);
        check("5.10.1", Some(65536), false, State::Degraded);
        check("5.10.1", Some(65536), true, State::Ok);
        check("5.10.1", None, false, State::Ok);
    }

    #[test]
    fn hidepid_matters_to_those_who_may_not_trace() {
        let line = |options: &str| {
            format!("1 0 0:1 / / rw - ext4 x rw\n22 1 0:21 / /proc rw,nosuid shared:1 - proc proc rw{options}\n")
        };
        let check =
            |options, can_trace, expect| assert_eq!(proc(Some(&line(options)), can_trace).state, expect, "{options}");
        check("", false, State::Ok);
        check(",hidepid=invisible", false, State::Degraded);
        check(",hidepid=2,gid=5", false, State::Degraded);
        check(",hidepid=invisible", true, State::Ok);
        assert_eq!(proc(None, true).state, State::Missing);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(btf(Path::new("/nonexistent/btf")).state, State::Missing);
        assert_eq!(tracefs(&["/nonexistent"]).state, State::Degraded);
        assert_eq!(pid_namespace(Some(Path::new("pid:[4026531836]"))).state, State::Ok);
        assert_eq!(pid_namespace(Some(Path::new("pid:[4026532999]"))).state, State::Degraded);
        assert_eq!(pid_namespace(None).state, State::Degraded);
        assert_eq!(hold(Err(anyhow::anyhow!("read /proc/self/mountinfo"))).state, State::Degraded);
    }
}
