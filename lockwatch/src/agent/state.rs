//! What the agent knows, and whom it tells: the engine's listener.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::Result;
use lockwatch_config::{Config, agent::Tables};
use lockwatch_core::{
    id::LockId,
    policy::Decision,
    report::{Report, Settings, Verdict},
    time::Timestamp,
    timeline::Timelines,
};
use tokio::sync::{broadcast, oneshot};

use super::{
    clears::Clears,
    herald::Herald,
    hub::{Answer, Ask, Hub},
    manager,
    numbers::{Judged, Numbers, ProcessNumbers, cause_name},
    policies::Policies,
    vitals,
};
use crate::{
    alarms::{Alarms, Change},
    engine::{Concern, Engine, Happened},
    memory,
    output::event::{self, Event},
    sources::{
        bpf::{sizes::Sizes, tracing::Throttled},
        clock::Clock,
        names::Names,
    },
};

/// By how many bytes this process may grow before it gives back what it does not need.
const MUCH_MEMORY: u64 = 8 << 20;

/// Whoever has asked for a look.
type Asker = oneshot::Sender<Result<Arc<Answer>, String>>;

/// The agent, but for its doors.
pub struct State {
    engine: Engine,
    hub: Hub,
    herald: Herald,
    config: Config,
    reloaded: bool,
    policies: Policies,
    /// When the policies last saw a look.
    evaluated: Instant,
    clears: Clears,
    alarms: Alarms,
    timelines: Timelines,
    judged: Judged,
    detected: BTreeMap<&'static str, u64>,
    /// Since when each orphan is known to be one.
    orphaned_since: HashMap<LockId, Timestamp>,
    process: ProcessNumbers,
    /// How large this process was when it last gave back what it did not need.
    settled_bytes: u64,
    /// For traced operations.
    names: Names,
    announced: bool,
    /// Whether the service manager is to be told how things are.
    changed: bool,
}

impl State {
    /// With an engine that has started.
    pub fn new(mut engine: Engine, hub: Hub, herald: Herald, config: Config) -> Self {
        engine.resync_after(config.agent.resync_min);
        let (policies, clears) = (Policies::new(&config), Clears::from_now(&config.control.audit_log));
        Self {
            engine,
            hub,
            herald,
            config,
            reloaded: true,
            policies,
            evaluated: Instant::now(),
            clears,
            alarms: Alarms::default(),
            timelines: Timelines::default(),
            judged: Judged::default(),
            detected: BTreeMap::new(),
            orphaned_since: HashMap::new(),
            process: ProcessNumbers::default(),
            settled_bytes: 0,
            names: Names::new("/proc".as_ref()),
            announced: false,
            changed: false,
        }
    }

    /// Waits for one thing that happens or is asked for, and deals with it. Whoever stops waiting misses nothing.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub async fn turn(&mut self) -> Result<()> {
        tokio::select! {
            happened = self.engine.next() => self.hear(happened?),
            Some(ask) = self.hub.asked.recv() => self.answer(ask),
            decisions = self.policies.ended() => {
                self.tell_decisions(Clock::read().now(), &decisions);
                // The next lock, if there is one, is not to wait.
                self.engine.look_soon();
            }
        }
        self.hub.pulse.beat();
        Ok(())
    }

    /// Looks, and tells what is new.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub fn look(&mut self) -> Result<Report> {
        let report = self.engine.look()?;
        self.see(&report);
        Ok(report)
    }

    /// The first picture is complete, and nothing keeps policies from acting. `changed` is when the configuration was.
    pub fn is_ready(&mut self, changed: Option<SystemTime>) {
        self.hub.pulse.beat();
        self.hub.pulse.set_ready();
        if !self.policies.is_empty() {
            let decisions = self.policies.recall(&self.config.control.audit_log, changed);
            self.tell_decisions(Clock::read().now(), &decisions);
            self.policies.arm();
            self.engine.look_soon();
        }
    }

    /// Has the next turn begin with a look: one has failed.
    pub fn look_again(&mut self) {
        self.engine.look_soon();
    }

    /// How it is set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Goes on with another configuration.
    pub fn adopt(&mut self, config: Config) {
        self.engine.judge_by(settings(&config));
        self.policies.reload(&config);
        if config.control.audit_log != self.config.control.audit_log {
            self.clears.follow(&config.control.audit_log);
        }
        self.engine.resync_after(config.agent.resync_min);
        self.config = config;
        self.reloaded = true;
    }

    /// Goes on as before: another configuration was no use.
    pub fn keep(&mut self) {
        self.reloaded = false;
    }

    /// How things are, for `systemctl status`.
    pub fn words(&self) -> String {
        let (orphaned, hot) = self.alarms.counts();
        format!("{orphaned} orphaned, {hot} hot")
    }

    fn hear(&mut self, happened: Happened) {
        match happened {
            Happened::Lock { event, held } => {
                if !event.remote {
                    self.timelines.note(&event);
                }
                if self.is_traced() {
                    let file = self.names.of(event.process.pid, event.file);
                    let held_ns = held.map(|held| u64::try_from(held.as_nanos()).unwrap_or(u64::MAX));
                    let line = Event::Lock { event: &event, file: Some(&file), process: None, id: None, held_ns };
                    publish(&self.hub.operations, &line);
                }
            }
            Happened::Died { at, process } => {
                if self.is_traced() {
                    publish(&self.hub.operations, &Event::ProcessExit { at, process: &process });
                }
            }
            Happened::Lost { at, count } => self.tell(&Event::Lost { at, count }),
            Happened::Missed { at, count } => publish(&self.hub.operations, &Event::Lost { at, count }),
            Happened::Throttled(Throttled { at, cgroup, origin, left_out }) => {
                publish(&self.hub.operations, &Event::Throttled { at, cgroup, origin: &origin, left_out });
            }
            Happened::Looked(report) => self.see(&report),
            Happened::Tick => self.tick(),
        }
    }

    fn answer(&mut self, ask: Ask) {
        let mut askers = Vec::new();
        let mut next = Some(ask);
        // One look is enough for all who are here before it begins.
        while let Some(ask) = next {
            match ask {
                Ask::Look(asker) => askers.push(asker),
                Ask::Numbers(asker) => drop(asker.send(self.numbers().map_err(|error| format!("{error:#}")))),
                Ask::Operations(asker) => drop(asker.send(self.trace())),
            }
            next = self.hub.asked.try_recv().ok();
        }
        if !askers.is_empty() {
            self.look_for(askers);
        }
    }

    fn look_for(&mut self, askers: Vec<Asker>) {
        let answer = self.look().map(|report| {
            let worth = report.locks.iter().map(|lock| (lock.id.clone(), self.timelines.of(&lock.id)));
            let histories = worth.filter(|(_, moments)| !moments.is_empty()).collect();
            Arc::new(Answer { report, histories })
        });
        let answer = answer.map_err(|error| format!("{error:#}"));
        for asker in askers {
            // Whoever has gone away meanwhile does not mind.
            let _ = asker.send(answer.clone());
        }
    }

    /// Tells what a look shows that is new.
    fn see(&mut self, report: &Report) {
        let at = report.taken_at;
        self.hub.last.note(report, self.engine.took());
        self.engine.mind(Concern::about(&report.locks, at, settings(&self.config)));
        self.timelines.see(report, |lock| lock.verdict != Verdict::Held || !lock.waiters.is_empty());
        let changes = self.alarms.update(report);
        self.changed |= !changes.is_empty();
        for change in changes {
            match &change {
                Change::Orphaned(lock) => {
                    *self.detected.entry(cause_name(lock.cause)).or_default() += 1;
                    self.orphaned_since.insert(lock.id.clone(), lock.acquirer_died().unwrap_or(at));
                }
                Change::Cleared(lock) => drop(self.orphaned_since.remove(&lock.id)),
                Change::Hot(_) | Change::AllClear => {}
            }
            let history = change.lock().map(|lock| self.timelines.of(&lock.id)).unwrap_or_default();
            self.tell(&Event::of(&change, at, &history));
        }
        self.judged = Judged::of(report, |lock| self.orphaned_since.get(&lock.id).copied().unwrap_or(at));
        self.evaluated = Instant::now();
        let decisions = self.policies.on_report(report);
        self.tell_decisions(at, &decisions);
        if !std::mem::replace(&mut self.announced, true) {
            let (orphaned, hot) = self.alarms.counts();
            self.tell(&Event::Watching { at, locks: report.locks.len(), orphaned, hot });
        }
    }

    fn tick(&mut self) {
        self.read_vitals();
        if self.process.resident_bytes > self.settled_bytes + MUCH_MEMORY {
            memory::give_back();
            self.read_vitals();
            self.settled_bytes = self.process.resident_bytes;
        }
        self.clears.read();
        if !self.policies.is_empty() && self.evaluated.elapsed() >= self.config.agent.interval {
            self.engine.look_soon();
        }
        if self.engine.is_tracing()
            && !self.is_traced()
            && let Err(error) = self.engine.trace(false)
        {
            log::warn!("{error:#}");
        }
        // The manager takes it as quickly as it likes, so it hears no more of us than this.
        match std::mem::take(&mut self.changed) {
            true => manager::alive_and(&self.words()),
            false => manager::alive(),
        }
    }

    fn read_vitals(&mut self) {
        match vitals::read() {
            Ok(process) => self.process = process,
            Err(error) => log::debug!("{error:#}"),
        }
    }

    fn numbers(&mut self) -> Result<Numbers> {
        Ok(Numbers {
            at: Clock::read().now(),
            probes: self.engine.probes(),
            kernel: self.engine.stats()?,
            census: self.engine.census()?,
            judged: self.judged.clone(),
            clears: self.clears.counts().clears.iter().map(|((m, o), n)| (((*m).into(), (*o).into()), *n)).collect(),
            bad_records: self.clears.counts().bad_lines,
            policies: self.policies.numbers(),
            detected: self.detected.clone(),
            resyncs: self.engine.resyncs().by_reason.clone(),
            last_resync: self.engine.resyncs().last,
            exact: self.engine.is_exact(),
            reloaded: self.reloaded,
            process: self.process,
        })
    }

    fn trace(&mut self) -> Result<(), String> {
        self.engine.trace(true).map_err(|error| format!("{error:#}"))
    }

    fn is_traced(&self) -> bool {
        self.hub.operations.receiver_count() > 0
    }

    fn tell_decisions(&self, at: Timestamp, decisions: &[Decision]) {
        decisions.iter().for_each(|decision| self.tell(&Event::Policy { at, decision }));
    }

    fn tell(&self, event: &Event<'_>) {
        self.hub.recent.note(event);
        publish(&self.hub.changes, event);
        if let Err(error) = self.herald.tell(event) {
            log::warn!("{error:#}");
        }
    }
}

/// For whoever reads the stream; nobody, if nobody does.
fn publish(to: &broadcast::Sender<Arc<str>>, event: &Event<'_>) {
    if to.receiver_count() > 0 {
        let _ = to.send(event::object(event).into());
    }
}

/// What judgements depend on.
pub fn settings(config: &Config) -> Settings {
    Settings { hot_after: config.agent.hot_after }
}

/// How much room the kernel-side tables get.
pub fn sizes(config: &Config) -> Sizes {
    let Tables { held, waits, processes, watched, ring } = config.agent.tables;
    Sizes { held, waits, processes, watched, ring_bytes: ring, traced_per_second: config.agent.trace_limit }
}
