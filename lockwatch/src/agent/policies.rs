//! Standing orders, carried out: what a policy wants cleared is asked of `lockwatch control`, like what a human wants, and
//! stands in the same record. The agent itself never clears.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lockwatch_config::{Config, Control};
use lockwatch_control::{
    audit::{Phase, Record, Tail},
    client::Client,
    document::{self, Document},
    listen,
    protocol::{Clear, Request},
};
use lockwatch_core::{
    clear,
    id::LockId,
    policy::{About, Act, Decision, Ended, Now, Numbers, Order, Orders, Outcome},
    report::Report,
    time::Timestamp,
};
use tokio::sync::mpsc;

use crate::sources::clock::Clock;

/// How long control takes at most, besides the times that its configuration sets.
const PATIENCE: Duration = Duration::from_secs(120);

/// So much of the record's end is read at the start: some thousand lines.
const RECALLED: u64 = 1 << 20;

/// What a policy did up to so long before the start counts.
const BEFORE: Duration = Duration::from_secs(3600);

/// The agent's standing orders.
pub struct Policies {
    orders: Orders,
    errand: Errand,
    began: Instant,
    armed: bool,
    tell: mpsc::UnboundedSender<Outcome>,
    told: mpsc::UnboundedReceiver<Outcome>,
}

/// Whom to ask, and how long to wait for an answer.
#[derive(Clone)]
struct Errand {
    socket: std::path::PathBuf,
    patience: Duration,
}

impl Policies {
    /// Those of this configuration. They only watch until they are armed.
    pub fn new(config: &Config) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let orders = Orders::new(config.policies.clone(), rights(config));
        Self { orders, errand: Errand::of(config), began: Instant::now(), armed: false, tell, told }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers().is_empty()
    }

    /// Takes over what the record tells of the time before this start, so that no restart gives a policy another hour's
    /// worth. `changed` is when the configuration was.
    pub fn recall(&mut self, audit_log: &Path, changed: Option<SystemTime>) -> Vec<Decision> {
        let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let changed = changed.map(|at| Timestamp(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)));
        let now = self.now();
        let mut acts = Vec::new();
        let read = Tail::before_end(audit_log, RECALLED).and_then(|mut tail| {
            tail.read(|line| acts.extend(line.and_then(|(at, record)| act(at, &record, now.wall, changed))))
        });
        if let Err(error) = read {
            log::warn!("what policies did before is not known: read {}: {error}", audit_log.display());
        }
        self.orders.remember(&acts, now)
    }

    /// From here on they act: the agent has only the rights that it keeps, and may have a thread more.
    pub fn arm(&mut self) {
        self.armed = true;
    }

    /// Says and does what follows from a look.
    pub fn on_report(&mut self, report: &Report) -> Vec<Decision> {
        let now = self.now();
        if !self.armed {
            self.orders.watch(report, now);
            return Vec::new();
        }
        let decisions = self.orders.see(report, now);
        for decision in &decisions {
            if let Decision::Clear(order) = decision {
                self.carry_out(order.clone());
            }
        }
        decisions
    }

    /// Waits for the end of what was begun, and says what follows from it. Whoever stops waiting misses nothing.
    pub async fn ended(&mut self) -> Vec<Decision> {
        match self.told.recv().await {
            Some(outcome) => self.orders.end(outcome, self.now()),
            // We have a sender ourselves.
            None => Vec::new(),
        }
    }

    /// Goes on with another configuration. A human has had it read, so nothing is frozen any more.
    pub fn reload(&mut self, config: &Config) {
        self.errand = Errand::of(config);
        self.orders.reload(config.policies.clone(), rights(config));
    }

    /// What metrics show, in the order of the configuration.
    pub fn numbers(&self) -> Vec<Numbers> {
        self.orders.numbers()
    }

    /// On a thread of its own: a clear takes as long as its looks and its settling do.
    fn carry_out(&self, order: Order) {
        let (errand, tell) = (self.errand.clone(), self.tell.clone());
        let run = move || drop(tell.send(errand.run(&order)));
        if let Err(error) = thread::Builder::new().name("policy".to_owned()).spawn(run) {
            let words = format!("start a thread: {error}");
            let _ = self.tell.send(Outcome { ended: Ended::Unreachable, words });
        }
    }

    fn now(&self) -> Now {
        Now { wall: now(), running: BEFORE + self.began.elapsed() }
    }
}

impl Errand {
    fn of(config: &Config) -> Self {
        let Control { settle, grace, .. } = config.control;
        Self { socket: config.agent.control_socket.clone(), patience: PATIENCE + settle + grace }
    }

    /// Asks control to clear, and confirms its plan: the policy stands in a file that only root can have written, and that
    /// is the confirmation.
    fn run(&self, order: &Order) -> Outcome {
        let client = match connect(&self.socket, self.patience) {
            Ok(client) => client,
            Err(error) => return Outcome { ended: Ended::Unreachable, words: format!("{error:#}") },
        };
        let answer = client.ask(&request(order), |plan| Ok(code(order, plan)));
        answer.map_or_else(
            |error| Outcome { ended: Ended::Failed, words: format!("{error:#}") },
            |document| judge(&document),
        )
    }
}

/// What the control socket lets this process do; nothing more is planned. It must not be more than any policy of root's
/// file may want: protection is never overridden.
fn rights(config: &Config) -> clear::Policy {
    let agent = listen::user(&config.control.agent_user).unwrap_or_else(|error| {
        log::warn!("nobody is the agent's user (control.agent_user): {error:#}");
        None
    });
    config.plans_of(rustix::process::geteuid().as_raw(), agent)
}

fn connect(socket: &Path, patience: Duration) -> anyhow::Result<Client> {
    Client::connect(socket)?.within(patience)
}

fn request(order: &Order) -> Request {
    Request::Clear(Clear {
        id: order.lock.id.to_string(),
        method: Some(order.method.name().to_owned()),
        reason: Some(reason(&order.policy)),
        interactive: true,
        ..Clear::default()
    })
}

/// How the record names a policy.
fn reason(policy: &str) -> String {
    format!("policy {policy}")
}

/// What a record tells, if it is the end of something that a policy of this user's agent wanted.
fn act(at: Timestamp, record: &Record, now: Timestamp, changed: Option<Timestamp>) -> Option<Act> {
    let policy = record.reason.as_deref()?.strip_prefix(&reason(""))?.to_owned();
    let is_ours = record.actor.uid == rustix::process::geteuid().as_raw();
    let is_end = matches!(record.phase, Phase::Refused | Phase::Outcome);
    let ended = short(record.outcome.filter(|_| is_ours && is_end)?, true);
    let file = record.file.clone().unwrap_or_default();
    let lock = About { id: LockId(record.id.clone()), file };
    Some(Act {
        policy,
        lock,
        ended,
        ago: now.since(at),
        is_of_this_configuration: changed.is_some_and(|changed| at >= changed),
    })
}

/// The plan's code, if it is the plan of what was ordered.
fn code(order: &Order, plan: &Document) -> Option<String> {
    let about = plan.id == order.lock.id.0;
    let plan = plan.plan.as_ref().filter(|plan| about && plan.method.as_deref() == Some(order.method.name()))?;
    plan.code.clone()
}

fn judge(document: &Document) -> Outcome {
    let ended = short(document.outcome, document.verified);
    let refusals = document.plan.iter().flat_map(|plan| &plan.refusals);
    let words: Vec<&str> = refusals.chain(&document.notes).map(String::as_str).collect();
    let words = match (words.is_empty(), ended) {
        (false, _) => words.join("; "),
        (true, Ended::Waiting) => "somebody else must confirm it (control.approvals)".to_owned(),
        (true, _) => format!("its outcome was {}", document.outcome.name()),
    };
    Outcome { ended, words }
}

/// Only what was verified is a success.
fn short(outcome: document::Outcome, verified: bool) -> Ended {
    match outcome {
        document::Outcome::Cleared if verified => Ended::Cleared,
        document::Outcome::Cleared | document::Outcome::StillHeld => Ended::StillHeld,
        document::Outcome::Changed => Ended::Changed,
        document::Outcome::Refused => Ended::Refused,
        document::Outcome::Planned => Ended::Waiting,
    }
}

fn now() -> Timestamp {
    Clock::read().now()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        os::unix::net::UnixListener,
    };

    use lockwatch_control::audit::Actor;
    use lockwatch_control::{
        document::PlanObject,
        protocol::{Answer, Confirmation},
    };
    use lockwatch_core::clear::Method;

    use super::*;

    fn order() -> Order {
        let lock = About { id: LockId("f3k9-27qd".into()), file: "/srv/x".into() };
        Order { policy: "stale".into(), lock, method: Method::Release }
    }

    fn document(outcome: document::Outcome) -> Document {
        let plan = PlanObject {
            code: Some("07xk-23mt".into()),
            hash: "0".into(),
            method: Some("release".into()),
            alternatives: Vec::new(),
            effects: Vec::new(),
            refusals: Vec::new(),
            lock: String::new(),
            file: None,
            acquirer: None,
            holders: Vec::new(),
            waiters: Vec::new(),
            evidence: Vec::new(),
        };
        Document { plan: Some(plan), ..Document::new("f3k9-27qd", outcome) }
    }

    #[test]
    fn only_the_plan_that_was_ordered_is_confirmed() {
        let check = |plan: Document, expect: Option<&str>| {
            assert_eq!(code(&order(), &plan).as_deref(), expect);
        };
        let usual = || document(document::Outcome::Planned);
        let with = |change: fn(&mut PlanObject)| {
            let mut document = usual();
            change(document.plan.as_mut().unwrap());
            document
        };
        check(usual(), Some("07xk-23mt"));
        check(Document { id: "f3k9-27qx".into(), ..usual() }, None);
        check(Document { plan: None, ..usual() }, None);
        check(with(|plan| plan.method = Some("kill".into())), None);
        check(with(|plan| plan.method = None), None);
        check(with(|plan| plan.code = None), None);
    }

    #[test]
    fn nothing_but_a_verified_end_is_a_success() {
        let check = |document: Document, expect: Ended, words: &str| {
            assert_eq!(judge(&document), Outcome { ended: expect, words: words.into() });
        };
        use document::Outcome::*;
        let cleared = || Document { verified: true, notes: vec!["a".into(), "b".into()], ..document(Cleared) };
        check(cleared(), Ended::Cleared, "a; b");
        check(Document { verified: false, ..cleared() }, Ended::StillHeld, "a; b");
        check(document(StillHeld), Ended::StillHeld, "its outcome was still_held");
        check(document(Changed), Ended::Changed, "its outcome was changed");
        check(document(Planned), Ended::Waiting, "somebody else must confirm it (control.approvals)");
        let mut refused = document(Refused);
        refused.plan.as_mut().unwrap().refusals = vec!["protected".into()];
        check(refused, Ended::Refused, "protected");
    }

    #[test]
    fn a_record_tells_what_a_policy_did() {
        let now = Timestamp(100_000_000_000);
        let record = |reason: &str, phase, outcome| Record {
            actor: Actor { uid: rustix::process::geteuid().as_raw(), pid: 1, comm: None, tty: None },
            approved_by: Vec::new(),
            id: "f3k9".into(),
            file: Some("/srv/x".into()),
            method: None,
            reason: Some(reason.into()),
            phase,
            outcome,
            plan_hash: None,
            notes: Vec::new(),
        };
        let check = |record: &Record, expect: Option<(&str, Ended, bool)>| {
            let act = act(Timestamp(40_000_000_000), record, now, Some(Timestamp(50_000_000_000)));
            assert!(act.as_ref().is_none_or(|act| act.ago == Duration::from_secs(60)));
            let found = act.as_ref().map(|act| (act.policy.as_str(), act.ended, act.is_of_this_configuration));
            assert_eq!(found, expect, "{record:?}");
        };
        use document::Outcome::*;
        check(&record("policy p", Phase::Outcome, Some(Cleared)), Some(("p", Ended::Cleared, false)));
        check(&record("policy p", Phase::Refused, Some(Refused)), Some(("p", Ended::Refused, false)));
        check(&record("policy p", Phase::Intent, None), None);
        check(&record("ticket 7", Phase::Outcome, Some(Cleared)), None);
        let theirs = record("policy p", Phase::Outcome, Some(Cleared));
        check(&Record { actor: Actor { uid: 4711, ..theirs.actor.clone() }, ..theirs }, None);
    }

    /// What comes of an order if control says these things, one after another; and what was said to it.
    fn run(answers: Vec<Answer>) -> (Outcome, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let control = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut heard = vec![lines.next().unwrap().unwrap()];
            for answer in answers {
                writeln!(&stream, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
                if matches!(answer, Answer::Plan(_)) {
                    heard.push(lines.next().unwrap().unwrap());
                }
            }
            heard
        });
        let outcome = Errand { socket, patience: Duration::from_secs(20) }.run(&order());
        (outcome, control.join().unwrap())
    }

    #[test]
    fn control_is_asked_like_a_human_asks() {
        if !rustix::process::geteuid().is_root() {
            println!("LEFT OUT: needs root");
            return;
        }
        let cleared = Document { verified: true, ..document(document::Outcome::Cleared) };
        let (outcome, heard) = run(vec![Answer::Plan(document(document::Outcome::Planned)), Answer::Done(cleared)]);
        assert_eq!(outcome.ended, Ended::Cleared);
        let asked = Request::read(heard[0].as_bytes()).unwrap();
        assert_eq!(asked, request(&order()));
        let Request::Clear(clear) = asked else { panic!("a clear") };
        assert_eq!((clear.reason.as_deref(), clear.override_protection), (Some("policy stale"), false));
        assert_eq!(Confirmation::read(heard[1].as_bytes()).unwrap().confirm.as_deref(), Some("07xk-23mt"));
        let (outcome, _) = run(vec![Answer::Error("no record, no act".into())]);
        assert_eq!(outcome, Outcome { ended: Ended::Failed, words: "no record, no act".into() });
        let (outcome, _) = run(vec![]);
        assert_eq!(outcome.ended, Ended::Failed, "{}", outcome.words);
        let nobody = Errand { socket: "/nonexistent/socket".into(), patience: Duration::from_secs(1) }.run(&order());
        assert_eq!(nobody.ended, Ended::Unreachable, "{}", nobody.words);
    }
}
