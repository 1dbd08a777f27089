//! What no descriptor tells, asked once a second: what was lost, whether the probes still run, whether too much is
//! remembered.

use anyhow::Result;
use lockwatch_core::observation::Event;

use super::{Engine, Happened, MOST_GROWTH, RESYNC_PAUSE, losses::Reason};
use crate::sources::clock::Clock;

impl Engine {
    /// Once a second: what was lost, and whether the probes still run.
    pub(super) fn check_losses(&mut self) -> Result<()> {
        let silent = self.bpf.silent()?;
        if !silent.is_empty() {
            self.losses.note(Reason::Detached, silent.len() as u64);
            match self.bpf.reattach(&silent) {
                Ok(()) => log::warn!("probes were detached, and are attached again: {}", silent.join(", ")),
                Err(error) if silent != self.silent => log::error!("probes are detached: {error:#}"),
                Err(_) => {} // as a second ago
            }
        }
        self.silent = silent;
        self.count_losses()?;
        self.losses.second_is_over();
        let at = Clock::read().now();
        if let Some(count) = self.losses.tell(at) {
            self.table.apply(&Event::Lost { at, count });
            self.happened.push_back(Happened::Lost { at, count });
        }
        self.look_due |= self.losses.is_due(at);
        self.look_due |= self.growth() > MOST_GROWTH && self.looked.0.elapsed() >= RESYNC_PAUSE;
        Ok(())
    }

    /// Asks what went missing in the kernel since it was last asked.
    pub(super) fn count_losses(&mut self) -> Result<()> {
        let now = self.bpf.losses()?;
        let then = std::mem::replace(&mut self.lost, now);
        let reasons = [
            (Reason::Ring, now.ring, then.ring),
            (Reason::Held, now.held, then.held),
            (Reason::Processes, now.processes, then.processes),
            (Reason::Waits, now.waits, then.waits),
            (Reason::Watched, now.watched, then.watched),
            (Reason::Missed, now.missed, then.missed),
        ];
        for (reason, now, then) in reasons {
            self.losses.note(reason, now.saturating_sub(then));
        }
        match now.traced.saturating_sub(then.traced) {
            0 => {}
            count if self.tracing => self.happened.push_back(Happened::Missed { at: Clock::read().now(), count }),
            count => self.losses.note_untold(count), // a trace that is told everything
        }
        Ok(())
    }
}
