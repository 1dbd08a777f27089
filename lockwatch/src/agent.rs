//! The host agent: watches from boot, answers Prometheus and the command line, raises HOT and ALL CLEAR.
//!
//! Its life: load and attach, look, open the doors, give up every right that a look does not take, and only then have a
//! second thread. One thread turns the engine, one serves the doors, one carries out what policies want.

#![allow(dead_code, reason = "its rooms are being built")]

pub mod herald;
pub mod hub;
pub mod numbers;
pub mod privileges;
pub mod state;
pub mod vitals;

use std::{path::Path, thread};

use anyhow::{Context, Result, bail};
use lockwatch_core::report::Settings;
use sd_notify::NotifyState;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use self::{herald::Herald, hub::Door, state::State};
use crate::{engine::Engine, exit::Exit, request::AgentRequest, sources::bpf::load::Purpose};

/// How many turns in a row may fail before it is better to end, and to be started anew.
const MOST_FAILURES: u32 = 5;

/// Runs until it is told to end.
pub fn run(request: &AgentRequest) -> Result<Exit> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the event loop")?;
    runtime.block_on(live(request))
}

async fn live(request: &AgentRequest) -> Result<Exit> {
    let settings = Settings::default();
    // Whoever must end before it is ready is heard, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (hub, door) = hub::open();
    let engine = Engine::start(Purpose::Watch, settings, Path::new("/proc"))?;
    let needs_perf = engine.probes() == "tracepoint";
    let mut state =
        State::new(engine, hub, Herald::on_stdout(crate::output::Format::Text, request.options.clone()), settings);
    let doors = Doors::bind(request)?;
    privileges::drop(needs_perf, || state.look().map(drop))?;
    state.look().context("look for the first time")?;
    let doors = doors.open(door)?;
    state.set_ready();
    notify(&[NotifyState::Ready, NotifyState::Status(&status(&state))]);
    let mut failures = 0;
    loop {
        let turned = tokio::select! {
            turned = state.turn() => turned,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        match turned {
            Ok(()) => failures = 0,
            Err(error) if failures == MOST_FAILURES => return Err(error),
            Err(error) => {
                failures += 1;
                log::error!("{error:#}");
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    drop(state);
    doors.close()?;
    Ok(Exit::Done)
}

/// The places where others are answered, bound while that is still allowed.
struct Doors {}

/// A thread that serves them.
struct Served {
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Doors {
    fn bind(_request: &AgentRequest) -> Result<Self> {
        Ok(Self {})
    }

    fn open(self, door: Door) -> Result<Served> {
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("doors".to_owned()).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the doors")?;
            runtime.block_on(async {
                let _ = ended.await;
                drop(door);
            });
            Ok(())
        });
        Ok(Served { end, thread: thread.context("start the thread of the doors")? })
    }
}

impl Served {
    /// Gives open answers a moment, and ends.
    fn close(self) -> Result<()> {
        let _ = self.end.send(());
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the thread of the doors panicked"),
        }
    }
}

/// `1 orphaned, 0 hot of 40 locks`: for `systemctl status`.
fn status(state: &State) -> String {
    let (orphaned, hot) = state.counts();
    format!("{orphaned} orphaned, {hot} hot of {} locks", state.locks())
}

/// Tells the service manager, if there is one (sd_notify(3)).
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("tell the service manager: {error}");
    }
}
