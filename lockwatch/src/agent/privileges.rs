//! Giving up what an agent does not need, once it is attached and before it has a second thread.

use anyhow::{Context, Result};
use lockwatch_control::confine::{self, CapabilitySet};

/// What looking at other users' processes takes: CAP_SYS_PTRACE for their descriptors and mappings,
/// CAP_DAC_READ_SEARCH to try whether a path leads to the locked file.
const ALWAYS: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);

/// What the bpf(2) calls of a look took before Linux 5.19, even on programs and maps that are loaded, wherever
/// `kernel.unprivileged_bpf_disabled` is set (kernel/bpf/syscall.c `__sys_bpf`); and perf_event_open(2) of a classic
/// tracepoint that is hung up anew.
const FOR_BPF: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// Leaves this process with the capabilities that a look takes, and without a way to any other. `look` says whether one
/// works: it is tried without those for BPF first, and where that fails they are kept.
///
/// # Errors
///
/// There are other threads, or a capability is missing.
pub fn drop(needs_perf: bool, mut look: impl FnMut() -> Result<()>) -> Result<CapabilitySet> {
    let kept = if needs_perf {
        ALWAYS | FOR_BPF
    } else {
        match confine::without(FOR_BPF, &mut look).context("try a look without the capabilities for BPF")? {
            Ok(()) => ALWAYS,
            Err(error) => {
                log::info!("CAP_BPF and CAP_PERFMON are kept: {error:#}");
                ALWAYS | FOR_BPF
            }
        }
    };
    confine::keep_only(kept).context("give up what an agent does not need")?;
    Ok(kept)
}
