//! What has been frozen, and letting it go.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, ensure};

use super::{
    guardian::{Guardian, Quiet},
    hierarchy::Group,
    target::{Target, Way},
};
use crate::fault;

/// What this process and its guardian both know.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) guardian: Guardian,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What we have frozen and not thawed.
    ours: Vec<Arc<Target>>,
    /// The guardian has ended: nothing more may be frozen.
    over: bool,
}

impl Keep {
    /// Starts the guardian, and the thread that thaws if that one cannot.
    pub(super) fn start(limit: Duration) -> anyhow::Result<(Arc<Self>, JoinHandle<()>)> {
        // The thread gets no signal either: those of this process are for the thread that has handlers for them.
        let quiet = Quiet::new()?;
        let keep = Arc::new(Self { guardian: Guardian::start(limit, &quiet)?, state: Mutex::default() });
        let watched = Arc::clone(&keep);
        match thread::Builder::new().spawn(move || watched.watch()) {
            Ok(watch) => Ok((keep, watch)),
            Err(error) => {
                keep.guardian.dismiss(true);
                Err(error).context("start a thread")
            }
        }
    }

    /// Whether the guardian has ended, and everybody goes on.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Lets everybody go on, and the guardian end.
    pub(super) fn thaw(&self) -> anyhow::Result<()> {
        let thawed = self.lock().thaw();
        self.guardian.dismiss(thawed.is_ok());
        thawed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the order to be still, once the guardian knows of it; nothing, if somebody else has given it before.
    pub(super) fn freeze(&self, target: &Arc<Target>, group: Option<&Group>) -> anyhow::Result<()> {
        if target.is_frozen_by_others(group)? {
            return Ok(());
        }
        let mut state = self.lock();
        ensure!(!state.over, "the guardian has ended");
        self.guardian.tell(target)?;
        fault::point(11);
        state.ours.push(Arc::clone(target));
        target.freeze().with_context(|| match target.way() {
            Way::Freezer2 => "write cgroup.freeze".to_owned(),
            Way::Freezer1 => "write freezer.state".to_owned(),
            Way::Signal => format!("send SIGSTOP to pid {}", target.pid()),
        })?;
        fault::point(12);
        Ok(())
    }

    /// Thaws as soon as the guardian has ended, for whatever reason.
    fn watch(&self) {
        self.guardian.wait();
        let mut state = self.lock();
        state.over = true;
        let _ = state.thaw();
    }
}

impl State {
    /// The last that was frozen goes on first, as is proper for what is inside of something else.
    fn thaw(&mut self) -> anyhow::Result<()> {
        let mut problem = Ok(());
        while let Some(target) = self.ours.pop() {
            if let Err(error) = target.thaw() {
                problem = Err(error).context("let everybody go on");
            }
        }
        problem
    }
}
