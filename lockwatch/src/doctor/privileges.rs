//! What this process may do.

use super::Check;

/// One check for each capability that lockwatch uses.
pub(super) fn checks() -> Vec<Check> {
    let effective = effective();
    NEEDS.iter().map(|need| need.check(effective)).collect()
}

/// Whether one of these capabilities is effective; `false` where /proc cannot tell.
pub(super) fn has(capability: Capability) -> bool {
    effective().is_some_and(|set| set & (1 << capability as u32) != 0)
}

/// Numbers of include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug)]
pub(super) enum Capability {
    DacOverride = 1,
    DacReadSearch = 2,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    Perfmon = 38,
    Bpf = 39,
}

struct Need {
    name: &'static str,
    /// Any of these will do: the kernel takes CAP_SYS_ADMIN for the two that were split from it (bpf_capable and
    /// perfmon_capable of include/linux/capability.h, 5.8).
    any_of: [Capability; 2],
    without: &'static str,
}

const NEEDS: [Need; 4] = [
    Need {
        name: "CAP_BPF",
        any_of: [Capability::Bpf, Capability::SysAdmin],
        without: "eBPF programs cannot be loaded",
    },
    Need {
        name: "CAP_PERFMON",
        any_of: [Capability::Perfmon, Capability::SysAdmin],
        without: "eBPF programs cannot be attached to the kernel's tracepoints",
    },
    Need {
        name: "CAP_SYS_PTRACE",
        any_of: [Capability::SysPtrace, Capability::SysPtrace],
        without: "the open files of other users' processes cannot be seen, so holders will be missing",
    },
    Need {
        name: "CAP_DAC_READ_SEARCH",
        any_of: [Capability::DacReadSearch, Capability::DacOverride],
        without: "files and directories of other users cannot be looked up",
    },
];

impl Need {
    fn check(&self, effective: Option<u64>) -> Check {
        const FIX: &str = "run lockwatch as root (sudo lockwatch …)";
        match effective {
            None => Check::missing(self.name, "/proc/self/status does not tell", "mount -t proc proc /proc"),
            Some(set) if self.any_of.iter().any(|c| set & (1 << *c as u32) != 0) => Check::ok(self.name, "effective"),
            Some(_) => Check::missing(self.name, format!("not effective: {}", self.without), FIX),
        }
    }
}

/// The effective set; `None` where /proc cannot tell.
fn effective() -> Option<u64> {
    procfs::process::Process::myself().and_then(|me| me.status()).ok().map(|status| status.capeff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_only() {
        let states = |set| NEEDS.iter().map(|n| n.check(Some(set)).state).collect::<Vec<_>>();
        assert_eq!(states(0), [State::Missing; 4]);
        assert_eq!(states(u64::MAX), [State::Ok; 4]);
        assert_eq!(states(1 << 21), [State::Ok, State::Ok, State::Missing, State::Missing]);
    }
}
