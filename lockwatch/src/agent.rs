//! The host agent: watches from boot, answers Prometheus and the command line, raises HOT and ALL CLEAR.
//!
//! Its life: load and attach, open the doors, give up every right that a look does not take, look, and only then have a
//! second thread. One thread turns the engine, one serves the doors, one carries out what policies want.

pub mod clears;
pub mod doors;
pub mod herald;
pub mod hub;
pub mod last;
pub mod manager;
pub mod metrics;
pub mod numbers;
pub mod page;
pub mod policies;
pub mod privileges;
pub mod recent;
pub mod reload;
pub mod sockets;
pub mod state;
pub mod vitals;

use std::{path::Path, thread};

use anyhow::{Context, Result, bail};
use lockwatch_config::{Agent, Layers};
use lockwatch_control::confine;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use self::{
    doors::{Doors, OnTcp},
    herald::Herald,
    hub::Door,
    sockets::Sockets,
    state::State,
};
use crate::{engine::Engine, exit::Exit, request::AgentRequest, sources::bpf::load::Purpose};

/// How many turns in a row may fail before it is better to end, and to be started anew.
const MOST_FAILURES: u32 = 5;

/// Runs until it is told to end.
pub fn run(request: &AgentRequest) -> Result<Exit> {
    confine::pass_nothing_on()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the event loop")?;
    runtime.block_on(live(request))
}

async fn live(request: &AgentRequest) -> Result<Exit> {
    // Whoever must end before it is ready is heard, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let effective = request.layers.read()?;
    let changed = effective.changed();
    let config = effective.config;
    let herald = Herald::of(config.agent.log, &request.options)?;
    let doors = bind(&config.agent)?;
    herald.greet(doors.address(), doors.path())?;
    let (hub, door) = hub::open();
    let engine = Engine::start(Purpose::Agent, state::sizes(&config), state::settings(&config), Path::new("/proc"))?;
    let needs_perf = engine.probes() == "tracepoint";
    let mut state = State::new(engine, hub, herald, config);
    privileges::drop(needs_perf, || state.look().map(drop))?;
    state.look().context("look for the first time")?;
    let doors = open(doors, door)?;
    state.is_ready(changed);
    manager::ready(&state.words());
    let mut failures = 0;
    loop {
        let turned = tokio::select! {
            turned = state.turn() => turned,
            _ = hangup.recv() => {
                reload(&mut state, &request.layers);
                Ok(())
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        match turned {
            Ok(()) => failures = 0,
            Err(error) if failures == MOST_FAILURES => return Err(error),
            Err(error) => {
                failures += 1;
                log::error!("{error:#}");
                state.look_again();
            }
        }
    }
    manager::stopping();
    drop(state);
    doors.close()?;
    Ok(Exit::Done)
}

/// Takes all of the configuration as it is now, or nothing of it.
fn reload(state: &mut State, layers: &Layers) {
    manager::reloading();
    let now = reload::read(layers, state.config());
    let words = match &now {
        Ok(_) => "configuration reloaded".to_owned(),
        Err(error) => format!("not reloaded, and nothing has changed: {error:#}"),
    };
    match now {
        Ok(config) => {
            log::info!("{words}");
            state.adopt(config);
        }
        Err(_) => {
            log::error!("{words}");
            state.keep();
        }
    }
    manager::ready(&words);
}

/// A thread that serves the doors.
struct Served {
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

/// Makes the doors, while that is still allowed.
fn bind(config: &Agent) -> Result<Doors> {
    let sockets = Sockets::open(config)?;
    let on_tcp = OnTcp::of(config, sockets.address());
    let most = usize::try_from(config.max_connections).unwrap_or(usize::MAX);
    Ok(Doors::new(sockets, on_tcp, most))
}

/// Opens them.
fn open(doors: Doors, door: Door) -> Result<Served> {
    let (end, ended) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name("doors".to_owned()).spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the doors")?;
        runtime.block_on(doors.serve(door, async {
            let _ = ended.await;
        }))
    });
    Ok(Served { end, thread: thread.context("start the thread of the doors")? })
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
