//! What was typed. What it means is [`crate::request`]'s business.

pub mod about;
pub mod help;
#[cfg(test)]
mod papers;
mod since;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use lockwatch_config::time_span;
use lockwatch_control::{audit::Phase, document::Outcome};
use lockwatch_core::{clear::Method, lock::Kind, report::Verdict, time::Timestamp};

use crate::{
    output::{column::Column, graph::Form, schema::Schema, sort::Sort},
    sources::SourceChoice,
    terminal::Colour,
};

/// Who took a file lock, how that process died, who really keeps the lock, and who waits for it.
#[derive(Debug, Parser)]
#[command(name = "lockwatch", version, propagate_version = true, after_long_help = help::section(""))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Colour the output.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Colour,
    /// Say what is being done; twice: everything, the probes' own messages included.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands, in the order in which a tired human needs them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show only orphaned and hot locks.
    #[command(after_long_help = help::section("orphans"))]
    Orphans(Orphans),
    /// Tell the whole story of one lock, and what can be done about it.
    #[command(after_long_help = help::section("explain"))]
    Explain(Explain),
    /// Show every lock: what, where, who took it, who holds it, who waits.
    #[command(after_long_help = help::section("list"))]
    List(List),
    /// Draw who waits for whom, deadlocks marked.
    #[command(after_long_help = help::section("graph"))]
    Graph(Graph),
    /// Clear an orphaned lock: planned, confirmed, checked again, verified, and on record.
    #[command(after_long_help = help::section("clear"))]
    Clear(Clear),
    /// Follow lock operations as they happen.
    #[command(after_long_help = help::section("trace"))]
    Trace(Trace),
    /// Confirm, as a second person, what somebody else has planned and confirmed.
    #[command(after_long_help = help::section("approve"))]
    Approve(Approve),
    /// Clear locks for users who are not root: one request, on a connected unix socket that is its stdin.
    #[command(after_long_help = help::section("control"))]
    Control {
        /// Listen at this path instead, and start a process of its own for each request.
        #[arg(long, value_name = "PATH")]
        listen: Option<PathBuf>,
        /// Whose members may ask there, besides root.
        #[arg(long, value_name = "NAME", default_value = "lockwatch", requires = "listen")]
        group: String,
        /// Read this configuration instead of /etc/lockwatch/config.toml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Watch this host: Prometheus metrics, HOT and ALL CLEAR, and quick answers for the other commands.
    #[command(after_long_help = help::section("agent"))]
    Agent(Agent),
    /// Check this host for a monitoring system: one status line with performance data.
    #[command(after_long_help = help::section("check"))]
    Check(Check),
    /// Print what one look tells as Prometheus metrics, for hosts without an agent.
    #[command(after_long_help = help::section("metrics"))]
    Metrics {
        /// Write lockwatch.prom into this directory instead, whole or not at all.
        #[arg(long, value_name = "DIR")]
        textfile: Option<PathBuf>,
        /// Where to look.
        #[command(flatten)]
        look: Look,
    },
    /// Look at locks for `lockwatch control`: a question a line on stdin, an answer a line on stdout.
    #[command(hide = true)]
    Eyes(Look),
    /// Check the configuration, or show what holds and who says so.
    #[command(after_long_help = help::section("config"))]
    Config {
        /// What to do with it.
        #[command(subcommand)]
        what: Configuration,
    },
    /// Show the record of every clear: planned, refused, done.
    #[command(after_long_help = help::section("audit"))]
    Audit(Audit),
    /// Tell what works on this host, what does not, and how to mend it.
    #[command(after_long_help = help::section("doctor"))]
    Doctor(Doctor),
    /// Print the JSON Schema of an output.
    #[command(after_long_help = help::section("schema"))]
    Schema {
        /// Of which output.
        #[arg(value_enum, default_value_t)]
        of: Schema,
    },
    /// Print the completion script for a shell.
    #[command(after_long_help = help::section("completions"))]
    Completions {
        /// For which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print a manual page.
    #[command(after_long_help = help::section("man"))]
    Man {
        /// Of which command, or config.toml; without it, of lockwatch itself.
        command: Option<String>,
    },
}

/// `lockwatch list`.
#[derive(Args, Debug)]
pub struct List {
    /// Only locks on these files, by whatever name they go.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Shared with the other listings.
    #[command(flatten)]
    pub listing: Listing,
}

/// `lockwatch orphans`.
#[derive(Args, Debug)]
pub struct Orphans {
    /// Only locks on these files, by whatever name they go.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Go on and print a line whenever something changes: ORPHANED, HOT, CLEARED, ALL CLEAR.
    #[arg(long, conflicts_with_all = ["json", "exit_code", "columns", "sort"])]
    pub watch: bool,
    /// End with 10 if a lock is orphaned and with 11 if one is hot.
    #[arg(long)]
    pub exit_code: bool,
    /// Shared with the other listings.
    #[command(flatten)]
    pub listing: Listing,
}

/// `lockwatch explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// A lock's ID, or the beginning of one, or the path of a locked file, or of a lock file.
    #[arg(value_name = "ID|PATH")]
    pub what: OsString,
    /// Then stay, and print what happens to it, until it is gone.
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Print the JSON document (schema lockwatch.locks/1) with this lock only.
    #[arg(long)]
    pub json: bool,
    /// Where to look.
    #[command(flatten)]
    pub look: Look,
}

/// `lockwatch graph`.
#[derive(Args, Debug)]
pub struct Graph {
    /// Only what is connected with locks on these files, by whatever name they go.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// In which form: text on a terminal, dot elsewhere, unless you say.
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<Form>,
    /// Print one JSON document (schema lockwatch.graph/1), like --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Locks for which nobody waits, too.
    #[arg(long)]
    pub all: bool,
    /// Whose connections to show.
    #[command(flatten)]
    pub selection: Selection,
    /// Where to look.
    #[command(flatten)]
    pub look: Look,
}

/// `lockwatch trace`.
#[derive(Args, Debug)]
pub struct Trace {
    /// Only what this process does.
    #[arg(long, value_name = "N")]
    pub pid: Option<u32>,
    /// Only what processes of this command name do.
    #[arg(long, value_name = "NAME")]
    pub comm: Option<OsString>,
    /// Only what happens to this file; may be given more than once.
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only these kinds of lock.
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = kinds())]
    pub kinds: Vec<Kind>,
    /// Print one JSON object a line (schema lockwatch.event/1).
    #[arg(long)]
    pub ndjson: bool,
    /// Where to look.
    #[command(flatten)]
    pub look: Look,
}

/// `lockwatch audit`.
#[derive(Args, Debug)]
pub struct Audit {
    /// Read this log, which may be a pipe, instead of the configured one (/var/log/lockwatch/audit.jsonl).
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Only records of locks whose ID begins so.
    #[arg(long, value_name = "PREFIX")]
    pub id: Option<String>,
    /// Only records of these phases.
    #[arg(long = "phase", value_name = "PHASE", value_delimiter = ',', value_parser = phases())]
    pub phases: Vec<Phase>,
    /// Only records with these outcomes.
    #[arg(long = "outcome", value_name = "OUTCOME", value_delimiter = ',', value_parser = outcomes())]
    pub outcomes: Vec<Outcome>,
    /// Only records since then: 2h, "3 days", 2026-11-22, "2026-11-22 03:00" (local time), 2026-11-22T03:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = since::parse)]
    pub since: Option<Timestamp>,
    /// Only records of what this user asked for or confirmed.
    #[arg(long, value_name = "N")]
    pub uid: Option<u32>,
    /// Print no record, only whether the log is as it was written. That is checked in any case.
    #[arg(long)]
    pub verify: bool,
    /// Print one JSON document (schema lockwatch.records/1).
    #[arg(long, conflicts_with = "ndjson")]
    pub json: bool,
    /// Print one JSON object a line (schema lockwatch.audit/1).
    #[arg(long)]
    pub ndjson: bool,
}

/// `lockwatch config`.
#[derive(Debug, Subcommand)]
pub enum Configuration {
    /// Say what is wrong with the configuration, by file and line, or that nothing is.
    Check {
        /// This file and its drop-ins instead of /etc/lockwatch/config.toml; - for what comes on stdin.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show what holds, as a configuration that says it.
    Show {
        /// And which file, variable or flag says so, or that it is the default.
        #[arg(long)]
        origin: bool,
        /// Print one JSON document (schema lockwatch.config/1).
        #[arg(long)]
        json: bool,
        /// Read this file and its drop-ins instead of /etc/lockwatch/config.toml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// `lockwatch clear`.
#[derive(Args, Debug)]
pub struct Clear {
    /// The lock's ID, or the beginning of it.
    pub id: String,
    /// In this way only; the least force that applies if it is not said.
    #[arg(long, value_name = "METHOD", value_parser = methods())]
    pub method: Option<Method>,
    /// Only show the plan.
    #[arg(long, conflicts_with = "confirm")]
    pub dry_run: bool,
    /// The plan's code, as a run without it has printed it.
    #[arg(long, value_name = "CODE")]
    pub confirm: Option<String>,
    /// Hold these still meanwhile, so that they do not grab the lock in mid-operation; may be given more than once.
    #[arg(long, value_name = "UNIT|PID|CGROUP")]
    pub hold: Vec<String>,
    /// Hold them no longer than this.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub hold_max: Option<Duration>,
    /// How long to wait between the two looks that must agree.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub settle: Option<Duration>,
    /// How long holders have to end after SIGTERM.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub grace: Option<Duration>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Clear it although the file or its holders are on the protect list (root only).
    #[arg(long)]
    pub override_protection: bool,
    /// Keep the record in this file (root only).
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Print one JSON document (schema lockwatch.clear/1).
    #[arg(long)]
    pub json: bool,
    /// Where `lockwatch control` listens, for users who are not root.
    #[arg(long, value_name = "PATH", env = "LOCKWATCH_CONTROL_SOCKET", default_value = "/run/lockwatch/control.sock")]
    pub control_socket: PathBuf,
}

/// `lockwatch agent`.
#[derive(Args, Debug)]
pub struct Agent {
    /// Read this configuration instead of /etc/lockwatch/config.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where /metrics and the status page are, by HTTP; none for no TCP at all [default: 127.0.0.1:9954].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where the other commands get their answers [default: /run/lockwatch/agent.sock].
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<String>,
    /// How changes are told: text, json, journal; auto is the journal if stderr leads there, else text [default: auto].
    #[arg(long, value_name = "FORM")]
    pub log: Option<String>,
}

/// `lockwatch check`.
#[derive(Args, Debug)]
pub struct Check {
    /// WARNING if the oldest orphaned lock has been one for longer, or nobody knows for how long [default: any].
    #[arg(short, long = "warning", value_name = "AGE", value_parser = time_span)]
    pub warning: Option<Duration>,
    /// CRITICAL if the oldest orphaned lock has been one for longer. A hot or deadlocked lock is CRITICAL in any case.
    #[arg(short, long = "critical", value_name = "AGE", value_parser = time_span)]
    pub critical: Option<Duration>,
    /// WARNING if more requests wait for locks.
    #[arg(long, value_name = "N")]
    pub waiters_warn: Option<u64>,
    /// CRITICAL if more requests wait for locks.
    #[arg(long, value_name = "N")]
    pub waiters_crit: Option<u64>,
    /// Where to look.
    #[command(flatten)]
    pub look: Look,
}

/// `lockwatch approve`.
#[derive(Args, Debug)]
pub struct Approve {
    /// The lock's ID, or the beginning of it.
    pub id: String,
    /// The plan's code, as the first person got it.
    #[arg(long, value_name = "CODE")]
    pub code: String,
    /// Print one JSON document (schema lockwatch.clear/1).
    #[arg(long)]
    pub json: bool,
    /// Where `lockwatch control` listens, for users who are not root.
    #[arg(long, value_name = "PATH", env = "LOCKWATCH_CONTROL_SOCKET", default_value = "/run/lockwatch/control.sock")]
    pub control_socket: PathBuf,
}

/// `lockwatch doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Print one JSON document (schema lockwatch.doctor/1).
    #[arg(long)]
    pub json: bool,
}

/// What every listing takes.
#[derive(Args, Debug)]
pub struct Listing {
    /// Print one JSON document (schema lockwatch.locks/1).
    #[arg(long, conflicts_with = "ndjson")]
    pub json: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub ndjson: bool,
    /// The table's columns, separated by commas.
    #[arg(long, value_enum, value_name = "A,B", value_delimiter = ',', conflicts_with_all = ["json", "ndjson"])]
    pub columns: Vec<Column>,
    /// The order of rows.
    #[arg(long, value_enum, value_name = "ORDER", default_value_t)]
    pub sort: Sort,
    /// Only rows: no header, no summary.
    #[arg(long)]
    pub no_headers: bool,
    /// Which locks.
    #[command(flatten)]
    pub selection: Selection,
    /// Where to look.
    #[command(flatten)]
    pub look: Look,
}

/// Which locks to show.
#[derive(Args, Debug)]
pub struct Selection {
    /// Only these kinds of lock.
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = kinds())]
    pub kinds: Vec<Kind>,
    /// Only locks with these verdicts.
    #[arg(long = "verdict", value_name = "VERDICT", value_delimiter = ',', value_parser = verdicts())]
    pub verdicts: Vec<Verdict>,
    /// Only locks that this process took, holds or waits for.
    #[arg(long, value_name = "N")]
    pub pid: Option<u32>,
    /// Only locks that a process of this systemd unit, or of the container with this id, took, holds or waits for.
    #[arg(long, value_name = "NAME")]
    pub unit: Option<OsString>,
}

/// Where to look.
#[derive(Args, Debug)]
pub struct Look {
    /// Who is asked: eBPF where it works, else /proc (auto), or one of them.
    #[arg(long, value_enum, default_value_t)]
    pub source: SourceChoice,
    /// Read this directory instead of /proc.
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc_root: PathBuf,
    /// Look for yourself even when an agent runs.
    #[arg(long)]
    pub no_agent: bool,
    /// Where the agent listens.
    #[arg(long, value_name = "PATH", env = "LOCKWATCH_API_SOCKET", default_value = "/run/lockwatch/agent.sock")]
    pub api_socket: PathBuf,
}

fn kinds() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(|name| by_name(&Kind::ALL, Kind::name, &name))
}

fn verdicts() -> impl TypedValueParser<Value = Verdict> {
    PossibleValuesParser::new(Verdict::ALL.map(Verdict::name))
        .try_map(|name| by_name(&Verdict::ALL, Verdict::name, &name))
}

fn phases() -> impl TypedValueParser<Value = Phase> {
    PossibleValuesParser::new(Phase::ALL.map(Phase::name)).try_map(|name| by_name(&Phase::ALL, Phase::name, &name))
}

fn outcomes() -> impl TypedValueParser<Value = Outcome> {
    PossibleValuesParser::new(Outcome::ALL.map(Outcome::name))
        .try_map(|name| by_name(&Outcome::ALL, Outcome::name, &name))
}

fn methods() -> impl TypedValueParser<Value = Method> {
    PossibleValuesParser::new(Method::ALL.map(Method::name)).try_map(|name| by_name(&Method::ALL, Method::name, &name))
}

fn by_name<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T, String> {
    all.iter().copied().find(|one| name_of(*one) == name).ok_or_else(|| format!("unknown name {name}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_ends_with_two_and_a_suggestion() {
        let check = |line: &str, hint: &str| {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), i32::from(crate::exit::WRONG_USAGE), "{line}");
            assert!(error.to_string().contains(hint), "{line}: {error}");
        };
        check("lockwatch list --columns fiel", "'file'");
        check("lockwatch list --kind flok", "'flock'");
        check("lockwatch list --verdict orphan", "'orphaned'");
        check("lockwatch list --json --ndjson", "cannot be used with");
        check("lockwatch orphans --watch --json", "cannot be used with");
        check("lockwatch list --pid x", "--pid");
        check("lockwatch graph --format jason", "'json'");
        check("lockwatch graph --json --format dot", "cannot be used with");
        check("lockwatch audit --phase intend", "'intent'");
        check("lockwatch audit --outcome clear", "'cleared'");
        check("lockwatch audit --since yesterday", "2026-11-22");
        check("lockwatch clear f3k9 --method kil", "'kill'");
        check("lockwatch clear f3k9 --settle 5", "500ms");
        check("lockwatch clear f3k9 --dry-run --confirm x", "cannot be used with");
        check("lockwatch lst", "'list'");
        check("lockwatch", "Usage");
    }

    #[test]
    fn the_agents_options_are_accepted_already() {
        assert!(Cli::try_parse_from(["lockwatch", "list", "--no-agent", "--api-socket", "/x"]).is_ok());
        assert!(Cli::try_parse_from(["lockwatch", "orphans", "-vv", "--color", "never"]).is_ok());
    }
}
