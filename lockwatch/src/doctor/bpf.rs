//! The BPF programs, really loaded and attached, and gone again.

use super::Check;
use crate::sources::bpf::{
    Bpf, Depth,
    load::{Purpose, Way, built},
    sizes::Sizes,
};

/// A look, and each way of watching. Nothing to try in a build without the programs.
pub(super) fn checks() -> Vec<Check> {
    if !built() {
        return Vec::new();
    }
    vec![look(), search(), watch()]
}

fn look() -> Check {
    match Bpf::for_a_look().and_then(|mut bpf| bpf.look(Depth::Usual)) {
        Ok(picture) => {
            let all = if picture.exact { "all" } else { "not all" };
            Check::ok("look", format!("{} locks found in the kernel's own list, {all} of them", picture.locks.len()))
        }
        Err(error) => Check::degraded(
            "look",
            format!("{error:#}: lists come from /proc, which holds up every lock user for a moment"),
            "run as root on Linux 5.17 or newer, or grant CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE",
        ),
    }
}

/// Where a lock may hide that no descriptor keeps.
fn search() -> Check {
    let name = "search";
    match Bpf::for_a_look().map(|mut bpf| bpf.obstacles()) {
        Ok(obstacles) if obstacles.is_empty() => Check::ok(
            name,
            "memory mappings, messages in unix sockets and io_uring can be searched for locks without a descriptor",
        ),
        Ok(obstacles) => Check::degraded(
            name,
            format!("{}: a lock without a descriptor may stay unexplained", obstacles.join("; ")),
            "run a kernel that lockwatch knows, 5.17 or newer, with its BTF",
        ),
        Err(error) => Check::degraded(
            name,
            format!("{error:#}: what keeps a lock without a descriptor is looked for in /proc"),
            "run as root on Linux 5.17 or newer, or grant CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE",
        ),
    }
}

/// The first way that works is the one that a watcher takes.
fn watch() -> Check {
    let mut refused = Vec::new();
    for way in [Way::Typed, Way::Raw, Way::Classic] {
        match Bpf::for_watching(Purpose::Watch, Some(way), Sizes::default()) {
            Ok(bpf) => {
                let without = bpf.attached().map(|(_, without)| without.join("; ")).unwrap_or_default();
                let less = if without.is_empty() { String::new() } else { format!(", without {without}") };
                return Check::ok("watch", format!("probes attach as {}{less}", way.name()));
            }
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    Check::degraded(
        "watch",
        format!("{}: orphans --watch and trace cannot work", refused.join("; ")),
        "run as root, or grant CAP_BPF and CAP_PERFMON; mount -t tracefs tracefs /sys/kernel/tracing",
    )
}
