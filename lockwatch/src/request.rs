//! What the typed words mean here: defaults filled in, the terminal asked, nothing left to guess.

use std::{
    env,
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap_complete::Shell;
use lockwatch_config::Layers;
use lockwatch_control::{audit, protocol};
use lockwatch_core::{lock::Kind, report::Verdict, text::Text};

use crate::{
    cli::{self, Clear, Cli, Command, Configuration, Listing, Look, Selection},
    output::{Format, Options, Scope, graph::Form, schema::Schema, sort::Sort},
    sources::SourceChoice,
    terminal::Terminal,
};

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Show every lock.
    List(Request),
    /// Show orphaned and hot locks.
    Orphans {
        /// Which, and how.
        request: Request,
        /// Whether the exit code tells what was found.
        exit_code: bool,
    },
    /// Follow orphaned and hot locks.
    Watch(Request),
    /// Tell the story of a lock.
    Explain {
        /// Where to look, and how to print.
        request: Request,
        /// An ID, the beginning of one, or a path.
        what: OsString,
        /// Whether to stay and tell what happens to it.
        watch: bool,
    },
    /// Draw who waits for whom.
    Graph {
        /// Whose connections.
        request: Request,
        /// In which form.
        form: Form,
        /// Whether locks for which nobody waits are drawn too.
        all: bool,
    },
    /// Follow lock operations.
    Trace(Request),
    /// Clear a lock, or confirm what somebody else wants to clear.
    Clear(Errand),
    /// Act for those who ask.
    Control {
        /// Where to listen; on stdin if nowhere.
        listen: Option<PathBuf>,
        /// Whose members may ask.
        group: String,
        /// Which configuration; the usual one if it is not said.
        config: Option<PathBuf>,
    },
    /// Watch this host.
    Agent(AgentRequest),
    /// Look for the one who acts.
    Eyes(Request),
    /// Show the record of every clear.
    Audit(AuditRequest),
    /// Check the configuration.
    CheckConfig(Option<PathBuf>),
    /// Show the configuration.
    ShowConfig {
        /// Which file; the usual one if it is not said.
        file: Option<PathBuf>,
        /// With where each value was said.
        origin: bool,
        /// As JSON.
        json: bool,
    },
    /// Check the host for a monitoring system.
    Check {
        /// Where to look.
        request: Request,
        /// When it is time to say something.
        limits: Limits,
    },
    /// Print metrics, or write them into this directory.
    Metrics {
        /// Where to look.
        request: Request,
        /// Into which directory.
        textfile: Option<PathBuf>,
    },
    /// Check the host.
    Doctor {
        /// As JSON.
        json: bool,
        /// With colours.
        colour: bool,
    },
    /// Print a JSON Schema.
    Schema(Schema),
    /// Print a completion script.
    Completions(Shell),
    /// Print the manual page of a command, or of lockwatch.
    Man(Option<String>),
}

/// One look at the world: where to look, what to keep of it, how to print that.
#[derive(Clone, Debug)]
pub struct Request {
    /// Only locks on these files; every file if empty.
    pub paths: Vec<PathBuf>,
    /// Which locks or events to keep.
    pub filter: Filter,
    /// Where an agent may be asked instead of looking; `None` if none shall be.
    pub agent: Option<PathBuf>,
    /// Whom to ask.
    pub source: SourceChoice,
    /// Where /proc is.
    pub proc_root: PathBuf,
    /// In which format to print.
    pub format: Format,
    /// How to print.
    pub options: Options,
    /// Whether somebody would see a progress line.
    pub progress: bool,
}

/// When `check` says something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// WARNING if an orphan is older, or of an age that nobody knows; any orphan without it.
    pub warning: Option<Duration>,
    /// CRITICAL if one is older.
    pub critical: Option<Duration>,
    /// WARNING if more wait.
    pub waiters_warn: Option<u64>,
    /// CRITICAL if more wait.
    pub waiters_crit: Option<u64>,
}

/// How to watch this host.
#[derive(Clone, Debug)]
pub struct AgentRequest {
    /// Where it is said how; read again at every reload.
    pub layers: Layers,
    /// How to print what changes.
    pub options: Options,
}

/// One look at the record of every clear.
#[derive(Clone, Debug)]
pub struct AuditRequest {
    /// Which log; the usual one if it is not said.
    pub log: Option<PathBuf>,
    /// Which records to show.
    pub filter: audit::Filter,
    /// Whether to show none, and only verify.
    pub verify: bool,
    /// In which format to print.
    pub format: Format,
    /// With colours.
    pub colour: bool,
    /// The terminal's width; without one nothing is cut.
    pub width: Option<usize>,
}

/// What is asked of control, and how its answer is printed.
#[derive(Debug)]
pub struct Errand {
    /// What is asked.
    pub request: protocol::Request,
    /// Where control listens, for users who are not root.
    pub socket: PathBuf,
    /// In which format to print.
    pub format: Format,
    /// How to print.
    pub options: Options,
}

/// Which locks or events to keep; what is empty keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Kinds of lock.
    pub kinds: Vec<Kind>,
    /// Verdicts.
    pub verdicts: Vec<Verdict>,
    /// A process, in any role.
    pub pid: Option<u32>,
    /// A systemd unit, in any role.
    pub unit: Option<Text>,
    /// A command name; for `trace`.
    pub comm: Option<Text>,
}

impl Cli {
    /// Gives the typed words their meaning in front of this terminal.
    pub fn resolve(self, terminal: &Terminal) -> Action {
        let colour = terminal.colour(self.color);
        let base = |look: Look, paths, filter, format, scope| Request {
            paths,
            filter,
            agent: look.agent(),
            source: look.source,
            proc_root: look.proc_root,
            format,
            options: Options { scope, ..plain_options(terminal, colour) },
            progress: terminal.stderr,
        };
        let listing = |paths, listing: Listing, scope| {
            let format = Format::of(listing.json, listing.ndjson);
            let mut request = base(listing.look, paths, Filter::of(listing.selection), format, scope);
            request.options.columns = listing.columns;
            request.options.sort = listing.sort;
            request.options.headers = !listing.no_headers;
            request
        };
        match self.command {
            Command::List(list) => Action::List(listing(list.paths, list.listing, Scope::All)),
            Command::Orphans(orphans) => {
                let request = listing(orphans.paths, orphans.listing, Scope::Orphans { unjudged: 0 });
                match orphans.watch {
                    true => Action::Watch(request),
                    false => Action::Orphans { request, exit_code: orphans.exit_code },
                }
            }
            Command::Explain(explain) => {
                let format = if explain.json { Format::Json } else { Format::Text };
                let request = base(explain.look, Vec::new(), Filter::default(), format, Scope::All);
                Action::Explain { request, what: explain.what, watch: explain.watch }
            }
            Command::Graph(graph) => {
                let usual = if terminal.width.is_some() { Form::Text } else { Form::Dot };
                let form = if graph.json { Form::Json } else { graph.format.unwrap_or(usual) };
                // Only JSON carries its warnings.
                let format = if form == Form::Json { Format::Json } else { Format::Text };
                let request = base(graph.look, graph.paths, Filter::of(graph.selection), format, Scope::All);
                Action::Graph { request, form, all: graph.all }
            }
            Command::Trace(trace) => {
                let format = if trace.ndjson { Format::Ndjson } else { Format::Text };
                let filter =
                    Filter { kinds: trace.kinds, pid: trace.pid, comm: trace.comm.map(text), ..Filter::default() };
                Action::Trace(base(trace.look, trace.paths, filter, format, Scope::All))
            }
            Command::Clear(clear) => Action::Clear(errand(clear, terminal, colour)),
            Command::Approve(approve) => Action::Clear(Errand {
                request: protocol::Request::Approve(protocol::Approve { id: approve.id, code: approve.code }),
                socket: approve.control_socket,
                format: if approve.json { Format::Json } else { Format::Text },
                options: plain_options(terminal, colour),
            }),
            Command::Control { listen, group, config } => Action::Control { listen, group, config },
            Command::Agent(cli::Agent { config, listen, api_socket, log }) => {
                let layers = Layers::files(config.as_deref())
                    .environment(env::vars_os())
                    .flag("--listen", "agent.listen", listen.as_deref())
                    .flag("--api-socket", "agent.api_socket", api_socket.as_deref())
                    .flag("--log", "agent.log", log.as_deref());
                Action::Agent(AgentRequest { layers, options: plain_options(terminal, colour) })
            }
            Command::Check(cli::Check { warning, critical, waiters_warn, waiters_crit, look }) => {
                let request = base(look, Vec::new(), Filter::default(), Format::Text, Scope::All);
                Action::Check { request, limits: Limits { warning, critical, waiters_warn, waiters_crit } }
            }
            Command::Metrics { textfile, look } => {
                let request = base(look, Vec::new(), Filter::default(), Format::Text, Scope::All);
                Action::Metrics { request, textfile }
            }
            Command::Config { what: Configuration::Check { file } } => Action::CheckConfig(file),
            Command::Config { what: Configuration::Show { origin, json, config: file } } => {
                Action::ShowConfig { file, origin, json }
            }
            Command::Eyes(look) => Action::Eyes(base(look, Vec::new(), Filter::default(), Format::Text, Scope::All)),
            Command::Audit(audit) => {
                let format = Format::of(audit.json, audit.ndjson);
                let cli::Audit { audit_log: log, id, phases, outcomes, since, uid, verify, .. } = audit;
                let filter = audit::Filter { id, phases, outcomes, since, uid };
                Action::Audit(AuditRequest { log, filter, verify, format, colour, width: terminal.width })
            }
            Command::Doctor(doctor) => Action::Doctor { json: doctor.json, colour },
            Command::Schema { of } => Action::Schema(of),
            Command::Completions { shell } => Action::Completions(shell),
            Command::Man { command } => Action::Man(command),
        }
    }
}

fn errand(clear: Clear, terminal: &Terminal, colour: bool) -> Errand {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let request = protocol::Clear {
        id: clear.id,
        method: clear.method.map(|method| method.name().to_owned()),
        reason: clear.reason,
        hold: clear.hold,
        hold_max_ms: clear.hold_max.map(milliseconds),
        settle_ms: clear.settle.map(milliseconds),
        grace_ms: clear.grace.map(milliseconds),
        dry_run: clear.dry_run,
        confirm: clear.confirm,
        // A document is for programs, and they are not asked.
        interactive: terminal.stdin && terminal.width.is_some() && !clear.json,
        override_protection: clear.override_protection,
        // Whoever writes it works elsewhere.
        audit_log: clear.audit_log.map(|path| std::path::absolute(&path).unwrap_or(path)),
    };
    Errand {
        request: protocol::Request::Clear(request),
        socket: clear.control_socket,
        format: if clear.json { Format::Json } else { Format::Text },
        options: plain_options(terminal, colour),
    }
}

fn plain_options(terminal: &Terminal, colour: bool) -> Options {
    Options {
        scope: Scope::All,
        columns: Vec::new(),
        sort: Sort::default(),
        headers: true,
        colour,
        width: terminal.width,
    }
}

impl Look {
    /// An agent knows what is on this host, by its own way of looking.
    fn agent(&self) -> Option<PathBuf> {
        let any = self.source == SourceChoice::Auto && self.proc_root == Path::new("/proc");
        (any && !self.no_agent).then(|| self.api_socket.clone())
    }
}

impl Filter {
    fn of(selection: Selection) -> Self {
        let Selection { kinds, verdicts, pid, unit } = selection;
        Self { kinds, verdicts, pid, unit: unit.map(text), comm: None }
    }
}

fn text(typed: OsString) -> Text {
    Text::new(typed.into_vec())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::output::column::Column;

    fn resolve(line: &str, terminal: &Terminal) -> Action {
        Cli::try_parse_from(line.split(' ')).expect(line).resolve(terminal)
    }

    #[test]
    fn a_terminal_sets_width_and_colour() {
        let tty = Terminal { width: Some(100), stderr: true, ..Terminal::default() };
        let Action::List(request) = resolve("lockwatch list", &tty) else { panic!("list") };
        assert_eq!((request.options.width, request.options.colour, request.progress), (Some(100), true, true));
        let Action::List(request) = resolve("lockwatch list --color never", &Terminal::default()) else {
            panic!("list")
        };
        assert_eq!((request.options.width, request.options.colour, request.progress), (None, false, false));
    }

    #[test]
    fn a_graph_is_text_for_people_and_dot_for_programs() {
        let check = |line: &str, width, expect| {
            let Action::Graph { form, .. } = resolve(line, &Terminal { width, ..Terminal::default() }) else {
                panic!("graph")
            };
            assert_eq!(form, expect, "{line}");
        };
        check("lockwatch graph", Some(80), Form::Text);
        check("lockwatch graph", None, Form::Dot);
        check("lockwatch graph --json", Some(80), Form::Json);
        check("lockwatch graph --format svg --all /a", None, Form::Svg);
    }

    #[test]
    fn an_agent_is_asked_unless_somebody_wants_to_look() {
        let check = |line: &str, expect: Option<&str>| {
            let Action::List(request) = resolve(line, &Terminal::default()) else { panic!("list") };
            assert_eq!(request.agent, expect.map(PathBuf::from), "{line}");
        };
        check("lockwatch list --api-socket /a", Some("/a"));
        check("lockwatch list --api-socket /a --source auto --proc-root /proc", Some("/a"));
        check("lockwatch list --api-socket /a --no-agent", None);
        check("lockwatch list --api-socket /a --source bpf", None);
        check("lockwatch list --api-socket /a --proc-root /p", None);
    }

    #[test]
    fn options_reach_the_request() {
        let line = "lockwatch orphans /a /b --columns id,file --kind flock,ofd --verdict orphaned --unit x.service \
                    --no-headers --source procfs --proc-root /p --exit-code";
        let Action::Orphans { request, exit_code: true } = resolve(line, &Terminal::default()) else {
            panic!("orphans")
        };
        assert_eq!(request.paths, ["/a", "/b"].map(PathBuf::from));
        assert_eq!(request.options.columns, [Column::Id, Column::File]);
        assert_eq!(request.filter.kinds, [Kind::Flock, Kind::Ofd]);
        assert_eq!(request.filter.verdicts, [Verdict::Orphaned]);
        assert_eq!(request.filter.unit, Some(Text::from("x.service")));
        assert_eq!((request.source, request.proc_root), (SourceChoice::Procfs, PathBuf::from("/p")));
        assert!(!request.options.headers);
        let watch = resolve("lockwatch orphans --watch --ndjson", &Terminal::default());
        assert!(matches!(watch, Action::Watch(Request { format: Format::Ndjson, .. })));
    }
}
