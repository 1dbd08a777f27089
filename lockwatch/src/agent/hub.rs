//! Where the engine and the doors meet: questions one way, answers and events the other. They run on threads of their
//! own, so that a slow reader never holds up the engine, and a long look never the health check.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lockwatch_core::{id::LockId, report::Report, timeline::Moment};
use tokio::{
    sync::{
        broadcast,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::timeout,
};

use super::{last::Last, numbers::Numbers, recent::Recent};

/// How many questions may wait for the engine: more are turned away at once.
const MOST_QUESTIONS: usize = 256;
/// How many lines a reader of events may be behind before it misses some.
const MOST_BEHIND: usize = 4096;

/// What a door asks of the engine. The error is why it cannot be answered, in words.
#[derive(Debug)]
pub enum Ask {
    /// Everything that is, now: one fresh look answers all who have asked before it began.
    Look(oneshot::Sender<Result<Arc<Answer>, String>>),
    /// The numbers of a scrape. No look, no `/proc`.
    Numbers(oneshot::Sender<Result<Numbers, String>>),
    /// That lock operations be told too, as long as anybody reads [`Door::operations`]. The answer comes when they are.
    Operations(oneshot::Sender<Result<(), String>>),
}

/// Everything that is, and what the agent has seen happen to it.
#[derive(Debug)]
pub struct Answer {
    /// All locks.
    pub report: Report,
    /// The stories of those that are worth one: whatever is not plainly held, or waited for.
    pub histories: HashMap<LockId, Vec<Moment>>,
}

/// One event, as the line of NDJSON that readers get (schema lockwatch.event/1), without its end.
pub type Line = Arc<str>;

/// The engine's side.
#[derive(Debug)]
pub struct Hub {
    /// What is asked.
    pub asked: mpsc::Receiver<Ask>,
    /// Where changes of state are told: ORPHANED, HOT, CLEARED, ALL CLEAR, losses.
    pub changes: broadcast::Sender<Line>,
    /// Where lock operations and deaths are told, while anybody listens.
    pub operations: broadcast::Sender<Line>,
    /// How the engine is.
    pub pulse: Arc<Pulse>,
    /// What was told lately.
    pub recent: Arc<Recent>,
    /// What the last look has shown.
    pub last: Arc<Last>,
}

/// The doors' side; every door has one.
#[derive(Clone, Debug)]
pub struct Door {
    ask: mpsc::Sender<Ask>,
    changes: broadcast::Sender<Line>,
    operations: broadcast::Sender<Line>,
    /// How the engine is.
    pub pulse: Arc<Pulse>,
    /// What was told lately.
    pub recent: Arc<Recent>,
    /// What the last look has shown.
    pub last: Arc<Last>,
}

/// Both sides of a new meeting place.
pub fn open() -> (Hub, Door) {
    let (ask, asked) = mpsc::channel(MOST_QUESTIONS);
    let (changes, _) = broadcast::channel(MOST_BEHIND);
    let (operations, _) = broadcast::channel(MOST_BEHIND);
    let (pulse, recent, last) = (Arc::default(), Arc::default(), Arc::default());
    let door = Door {
        ask,
        changes: changes.clone(),
        operations: operations.clone(),
        pulse: Arc::clone(&pulse),
        recent: Arc::clone(&recent),
        last: Arc::clone(&last),
    };
    (Hub { asked, changes, operations, pulse, recent, last }, door)
}

impl Door {
    /// Asks the engine.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words.
    pub async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Ask,
        within: Duration,
    ) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        match self.ask.try_send(question(reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err("too many questions wait for the engine; ask again later".into()),
            Err(TrySendError::Closed(_)) => return Err("the agent is ending".into()),
        }
        match timeout(within, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the agent is ending".into()),
            Err(_) => Err(format!("the engine did not answer within {} s", within.as_secs())),
        }
    }

    /// Changes of state from now on.
    pub fn changes(&self) -> broadcast::Receiver<Line> {
        self.changes.subscribe()
    }

    /// Lock operations from now on, once they are asked for ([`Ask::Operations`], after this).
    pub fn operations(&self) -> broadcast::Receiver<Line> {
        self.operations.subscribe()
    }
}

/// Whether the engine turns. It beats at every turn, and so once a second at least.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    beat_ms: AtomicU64,
    ready: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: Instant::now(), beat_ms: AtomicU64::new(0), ready: AtomicBool::new(false) }
    }
}

impl Pulse {
    /// The engine turns.
    pub fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(now, Ordering::Relaxed);
    }

    /// How long ago it last did.
    pub fn silent_for(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Ordering::Relaxed)))
    }

    /// The first picture is complete.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
