//! `[agent]`: how the agent runs.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    Config,
    control::{path, time},
    key::Key,
    value::Value,
};

/// Where the agent listens for other commands unless somebody says otherwise.
pub const API_SOCKET: &str = "/run/lockwatch/agent.sock";

/// Where `lockwatch control` listens unless somebody says otherwise.
pub const CONTROL_SOCKET: &str = "/run/lockwatch/control.sock";

/// How the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Where it answers HTTP over TCP; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// Where it answers other commands.
    pub api_socket: PathBuf,
    /// Whose members may ask there, besides root; `None` for nobody.
    pub api_socket_group: Option<String>,
    /// Whether `/api/v1/` is also answered over TCP, to whoever can connect.
    pub api_on_tcp: bool,
    /// Whether the status page names files and processes over TCP.
    pub page: bool,
    /// How many connections it serves at once.
    pub max_connections: u32,
    /// How long somebody must have waited for an orphaned or deadlocked lock to be hot.
    pub hot_after: Duration,
    /// Between two looks that are not asked for, at least.
    pub resync_min: Duration,
    /// Between two evaluations of the policies without an event.
    pub interval: Duration,
    /// In which form it writes its log.
    pub log: LogForm,
    /// Where policies that clear ask for it.
    pub control_socket: PathBuf,
    /// How many lock operations a second of one control group are traced.
    pub trace_limit: u32,
    /// How large the tables in the kernel are.
    pub tables: Tables,
}

/// How large the tables in the kernel are. They are allocated when the agent starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Locks of which taker and time are known.
    pub held: u32,
    /// Blocked requests.
    pub waits: u32,
    /// Processes that took locks, and their offspring.
    pub processes: u32,
    /// Processes of whose death the agent wants to hear.
    pub watched: u32,
    /// Bytes of news on their way to the agent: a power of two. The kernel gives whole pages, at least one.
    pub ring: u32,
}

/// In which form the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// To the journal if stderr leads there, else as text.
    Auto,
    /// Lines for people.
    Text,
    /// JSON objects, one a line.
    Json,
    /// To the journal, with fields.
    Journal,
}

impl LogForm {
    /// All of them.
    pub const ALL: [LogForm; 4] = [LogForm::Auto, LogForm::Text, LogForm::Json, LogForm::Journal];

    /// The configuration's word for it.
    pub fn name(self) -> &'static str {
        match self {
            LogForm::Auto => "auto",
            LogForm::Text => "text",
            LogForm::Json => "json",
            LogForm::Journal => "journal",
        }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9954))),
            api_socket: API_SOCKET.into(),
            api_socket_group: None,
            api_on_tcp: false,
            page: true,
            max_connections: 64,
            hot_after: Duration::from_secs(5),
            resync_min: Duration::from_secs(5),
            interval: Duration::from_secs(60),
            log: LogForm::Auto,
            control_socket: CONTROL_SOCKET.into(),
            trace_limit: 10_000,
            tables: Tables::default(),
        }
    }
}

/// As they are built into the BPF programs.
impl Default for Tables {
    fn default() -> Self {
        Self { held: 1 << 17, waits: 1 << 13, processes: 1 << 14, watched: 1 << 14, ring: 1 << 20 }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_millis(100);

/// Its keys.
pub const KEYS: &[Key<Config>] = &[
    Key {
        name: "agent.listen",
        about: "Where /metrics and the status page are, by HTTP; \"none\" for no TCP at all. Under systemd lockwatch.socket says \
                it",
        set: |c, value| listen(value).map(|address| c.agent.listen = address),
        get: |c| Some(Value::Text(c.agent.listen.map_or("none".to_owned(), |address| address.to_string()))),
    },
    Key {
        name: "agent.api_socket",
        about: "Where `lockwatch list` and its like get their answers from the agent. Under systemd likewise",
        set: |c, value| value.path().map(|path| c.agent.api_socket = path),
        get: |c| Some(path(&c.agent.api_socket)),
    },
    Key {
        name: "agent.api_socket_group",
        about: "Whose members may ask there, besides root; without this line, nobody. Under systemd likewise",
        set: |c, value| group(value).map(|name| c.agent.api_socket_group = Some(name)),
        get: |c| c.agent.api_socket_group.clone().map(Value::Text),
    },
    Key {
        name: "agent.api_on_tcp",
        about: "Whether /api/v1/ is answered over TCP too, to whoever can connect: it names paths and processes",
        set: |c, value| value.truth().map(|truth| c.agent.api_on_tcp = truth),
        get: |c| Some(Value::Truth(c.agent.api_on_tcp)),
    },
    Key {
        name: "agent.page",
        about: "Whether the status page names paths and processes to whoever can connect over TCP (beyond this host only with api_on_tcp); if not, it has numbers only",
        set: |c, value| value.truth().map(|truth| c.agent.page = truth),
        get: |c| Some(Value::Truth(c.agent.page)),
    },
    Key {
        name: "agent.max_connections",
        about: "How many connections are served at once",
        set: |c, value| value.number(1..=4096).map(|count| c.agent.max_connections = count),
        get: |c| Some(Value::Number(c.agent.max_connections.into())),
    },
    Key {
        name: "agent.hot_after",
        about: "How long somebody must have waited for an orphaned or deadlocked lock to be HOT",
        set: |c, value| value.span(Duration::ZERO..=HOUR).map(|time| c.agent.hot_after = time),
        get: |c| Some(time(c.agent.hot_after)),
    },
    Key {
        name: "agent.resync_min",
        about: "Between two looks at all locks that a loss of events makes necessary, at least",
        set: |c, value| value.span(SHORTEST..=HOUR).map(|time| c.agent.resync_min = time),
        get: |c| Some(time(c.agent.resync_min)),
    },
    Key {
        name: "agent.interval",
        about: "How often policies are evaluated where nothing happens",
        set: |c, value| value.span(SHORTEST..=HOUR).map(|time| c.agent.interval = time),
        get: |c| Some(time(c.agent.interval)),
    },
    Key {
        name: "agent.log",
        about: "How the log is written: auto (to the journal under systemd, else text), text, json or journal",
        set: |c, value| value.named("form", &LogForm::ALL, LogForm::name).map(|form| c.agent.log = form),
        get: |c| Some(Value::Text(c.agent.log.name().to_owned())),
    },
    Key {
        name: "agent.control_socket",
        about: "Where `lockwatch control` listens, whom policies ask to clear",
        set: |c, value| value.path().map(|path| c.agent.control_socket = path),
        get: |c| Some(path(&c.agent.control_socket)),
    },
    Key {
        name: "agent.trace_limit",
        about: "How many lock operations a second of one control group are traced, while somebody traces",
        set: |c, value| value.number(1..=10_000_000).map(|count| c.agent.trace_limit = count),
        get: |c| Some(Value::Number(c.agent.trace_limit.into())),
    },
    Key {
        name: "agent.tables.held",
        about: "For how many locks taker and time are noted in the kernel",
        set: |c, value| value.number(64..=1 << 23).map(|count| c.agent.tables.held = count),
        get: |c| Some(Value::Number(c.agent.tables.held.into())),
    },
    Key {
        name: "agent.tables.waits",
        about: "For how many blocked requests, likewise",
        set: |c, value| value.number(64..=1 << 20).map(|count| c.agent.tables.waits = count),
        get: |c| Some(Value::Number(c.agent.tables.waits.into())),
    },
    Key {
        name: "agent.tables.processes",
        about: "For how many processes that took locks, and their offspring, likewise",
        set: |c, value| value.number(64..=1 << 20).map(|count| c.agent.tables.processes = count),
        get: |c| Some(Value::Number(c.agent.tables.processes.into())),
    },
    Key {
        name: "agent.tables.watched",
        about: "How many processes are watched for their death",
        set: |c, value| value.number(64..=1 << 20).map(|count| c.agent.tables.watched = count),
        get: |c| Some(Value::Number(c.agent.tables.watched.into())),
    },
    Key {
        name: "agent.tables.ring",
        about: "How many bytes of news may wait for the agent: a power of two, and at least a page (4096)",
        set: |c, value| ring(value).map(|bytes| c.agent.tables.ring = bytes),
        get: |c| Some(Value::Number(c.agent.tables.ring.into())),
    },
];

fn listen(value: &Value) -> Result<Option<SocketAddr>, String> {
    match value.text()?.as_str() {
        "none" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("{value} is no address with a port, like 127.0.0.1:9954 or [::1]:9954, and not none")),
    }
}

fn group(value: &Value) -> Result<String, String> {
    let name = value.text()?;
    if name.trim().is_empty() { Err("a group without a name".to_owned()) } else { Ok(name) }
}

fn ring(value: &Value) -> Result<u32, String> {
    let bytes = value.number(4096..=1 << 28)?;
    if bytes.is_power_of_two() { Ok(bytes) } else { Err(format!("{value} is no power of two")) }
}
