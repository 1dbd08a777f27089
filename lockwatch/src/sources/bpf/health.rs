//! Whether the probes still run: their links are asked for, and our own heartbeat must come by.

use std::thread;

use anyhow::{Context, Result};
use aya::Ebpf;
use lockwatch_common::counter;

use super::{Bpf, load::Hook, missed};

/// What was known when somebody asked last.
#[derive(Default)]
pub struct Pulse {
    /// Ends of our own threads that had come by, once one must have.
    exits: Option<u64>,
    /// For tests: when it was asked first.
    #[cfg(debug_assertions)]
    since: Option<std::time::Instant>,
}

/// The tracepoints that a heartbeat goes through, with its counter.
const FLOCK: (&str, u32) = ("flock_lock_inode", counter::BEAT_FLOCK);
const FCNTL: (&str, u32) = ("posix_lock_inode", counter::BEAT_FCNTL);
const EXIT: &str = "sched_process_exit";

impl Bpf {
    /// Asks after every probe that is attached, and names the tracepoints of those that are gone or do not run. Once a
    /// second is often enough. Costs a few system calls and a thread that ends at once.
    pub fn silent(&mut self) -> Result<Vec<&'static str>> {
        let Some(attached) = &self.attached else { return Ok(Vec::new()) };
        #[cfg(debug_assertions)]
        fault::strike(attached, &mut self.pulse.since);
        let mut silent: Vec<_> = attached.hooks.iter().filter(|hook| !hook.is_there()).map(Hook::point).collect();
        let mut is_silent = |point| {
            if !silent.contains(&point) {
                silent.push(point);
            }
        };
        // The kernel tells of a thread's end before or after whoever waits for it hears of it (kernel/exit.c do_exit,
        // 5.17 and 6.18): what must have come by is the end of the thread of last time.
        let before = self.counted()?;
        if self.pulse.exits == Some(before.sum(counter::BEAT_EXIT)) {
            is_silent(EXIT);
        }
        self.pulse.exits = Some(before.sum(counter::BEAT_EXIT));
        self.walker.anchor().beat_once()?;
        thread::scope(|scope| scope.spawn(|| ()).join()).ok().context("the heartbeat's thread panicked")?;
        let after = self.counted()?;
        for (point, counter) in [FLOCK, FCNTL] {
            if after.sum(counter) == before.sum(counter) {
                is_silent(point);
            }
        }
        Ok(silent)
    }

    /// Attaches again what is gone, and what does not run. What cannot be attached is silent the next time, too. The
    /// next look forgets what went without a word meanwhile.
    pub fn reattach(&mut self, silent: &[&'static str]) -> Result<()> {
        let Some(attached) = &mut self.attached else { return Ok(()) };
        self.pulse.exits = None;
        self.distrusted = true;
        let mut result = Ok(());
        for hook in attached.hooks.iter_mut().filter(|hook| silent.contains(&hook.point())) {
            let renewed = hook.renew(&mut self.ebpf);
            result = result.and(renewed.with_context(|| format!("attach the probe {} again", hook.point())));
        }
        result
    }

    /// How many runs the kernel has left out so far, of all probes that are attached.
    pub(super) fn missed(&self) -> u64 {
        let hooks = self.attached.iter().flat_map(|attached| &attached.hooks);
        hooks.filter_map(|hook| missed_of(&self.ebpf, hook)).sum()
    }
}

fn missed_of(ebpf: &Ebpf, hook: &Hook) -> Option<u64> {
    missed::of(ebpf.program(hook.program())?.fd().ok()?)
}

/// For a test of what happens when somebody detaches a probe: debug builds only.
#[cfg(debug_assertions)]
mod fault {
    use std::time::{Duration, Instant};

    use crate::sources::bpf::load::Attached;

    /// Detaches the probe that `LOCKWATCH_FAULT_DETACH` names, once, two seconds after it was first asked for, by
    /// closing its link's descriptor as somebody with a debugger would.
    pub fn strike(attached: &Attached, since: &mut Option<Instant>) {
        let Ok(point) = std::env::var("LOCKWATCH_FAULT_DETACH") else { return };
        let Some(hook) = attached.hooks.iter().find(|hook| hook.point() == point) else { return };
        let first = since.get_or_insert_with(Instant::now);
        // A year later nobody asks any more.
        if first.elapsed() < Duration::from_secs(2) {
            return;
        }
        *first += Duration::from_secs(365 * 24 * 3600);
        log::warn!("detaching {point}, as LOCKWATCH_FAULT_DETACH asks");
        hook.cut();
    }
}
