//! Examples and exit codes: once as data, shown by `--help` and by the manual pages.

use crate::exit::{Exit, WRONG_USAGE};

/// What one command's help ends with.
pub struct Help {
    /// The command's name; empty for lockwatch itself.
    pub command: &'static str,
    /// Lines to type, and what they do.
    pub examples: &'static [(&'static str, &'static str)],
    /// Exit codes beyond those that all share.
    pub codes: &'static [(u8, &'static str)],
}

/// Exit codes of every command.
pub const CODES: [(u8, &str); 3] = [
    (Exit::Done.code(), "done"),
    (Exit::Failed.code(), "failed; the reason is on stderr"),
    (WRONG_USAGE, "wrong usage"),
];

/// What became of a clear.
const CLEARED: &[(u8, &str)] = &[
    (Exit::Refused.code(), "refused: the reason is said, and nothing was done"),
    (Exit::Unconfirmed.code(), "the plan waits for its code, or for a second person"),
    (Exit::StillHeld.code(), "everything was done, and the lock is still there"),
    (Exit::Changed.code(), "the world is not as it was planned for, and nothing was done"),
];

/// The help of every command.
pub const ALL: &[Help] = &[
    Help {
        command: "",
        examples: &[
            ("lockwatch orphans", "who is dead and still locks others out"),
            ("lockwatch explain f3k9", "the whole story of that lock, and what to do"),
            ("lockwatch doctor", "what lockwatch can and cannot see on this host"),
        ],
        codes: &[],
    },
    Help {
        command: "list",
        examples: &[
            ("lockwatch list", "every lock on this host"),
            ("lockwatch list /var/lib/dpkg/lock", "who has this file locked"),
            ("lockwatch list --pid 4711 --kind posix,ofd", "byte ranges that a process has to do with"),
            ("lockwatch list --json | jq '.locks[] | select(.hot)'", "for scripts"),
        ],
        codes: &[],
    },
    Help {
        command: "orphans",
        examples: &[
            ("lockwatch orphans", "locks whose owner is gone"),
            ("lockwatch orphans --watch", "a line for every change, until Ctrl-C"),
            ("lockwatch orphans --exit-code >/dev/null", "for scripts: 0, 10 or 11"),
        ],
        codes: &[
            (Exit::Orphaned.code(), "with --exit-code: a lock is orphaned"),
            (Exit::Hot.code(), "with --exit-code: somebody has been waiting too long for one"),
        ],
    },
    Help {
        command: "explain",
        examples: &[
            ("lockwatch explain f3k9-27qd", "by ID, which may be cut short"),
            ("lockwatch explain /run/app.lock", "every lock on that file"),
            ("lockwatch explain /run/app.pid", "a lock file: who wrote it, and whether that process lives"),
            ("lockwatch explain f3k9 --watch", "then what happens to it, until it is gone"),
        ],
        codes: &[],
    },
    Help {
        command: "graph",
        examples: &[
            ("lockwatch graph", "who waits for whom, in words; in a pipe: as DOT"),
            ("lockwatch graph --format svg > graph.svg", "a picture that every browser opens"),
            ("lockwatch graph | dot -Tpdf > graph.pdf", "drawn by Graphviz"),
            ("lockwatch graph --format mermaid", "to paste into an issue or a chat"),
            ("lockwatch graph --pid 4711", "only what that process has to do with, however far it leads"),
        ],
        codes: &[],
    },
    Help {
        command: "agent",
        examples: &[
            ("lockwatch agent", "watch in the foreground, with a line for every change"),
            ("lockwatch agent --listen none --log json", "for other programs: NDJSON on stdout, no TCP"),
            ("lockwatch orphans", "asks the agent while one runs, and so knows what happened before"),
        ],
        codes: &[],
    },
    Help {
        command: "check",
        examples: &[
            ("lockwatch check", "WARNING if a lock is orphaned, CRITICAL if one is hot or deadlocked"),
            ("lockwatch check -w 60s -c 10m", "only orphans that are older, and CRITICAL by age too"),
            ("lockwatch check --waiters-warn 5 --waiters-crit 50", "also when many wait, for whatever lock"),
        ],
        codes: &[
            (Exit::Done.code(), "OK"),
            (Exit::Warning.code(), "WARNING"),
            (Exit::Critical.code(), "CRITICAL"),
            (Exit::Unknown.code(), "UNKNOWN: not everything could be seen, or it failed, or wrong usage"),
        ],
    },
    Help {
        command: "metrics",
        examples: &[
            ("lockwatch metrics", "what one look tells, as Prometheus reads it"),
            (
                "lockwatch metrics --textfile /var/lib/prometheus/node-exporter",
                "from cron, for node_exporter's textfile collector, where no agent runs",
            ),
        ],
        codes: &[],
    },
    Help {
        command: "clear",
        examples: &[
            ("lockwatch clear f3k9", "shows the plan, and asks for its code"),
            ("lockwatch clear f3k9 --dry-run", "shows the plan only"),
            (
                "lockwatch clear f3k9 --confirm 07xk-23mt --reason ticket-4711",
                "for scripts: the code of a plan seen before",
            ),
            ("lockwatch clear f3k9 --method terminate", "asks those who keep it to end"),
            ("lockwatch clear f3k9 --hold updater.service", "and holds others still meanwhile"),
        ],
        codes: CLEARED,
    },
    Help {
        command: "approve",
        examples: &[(
            "lockwatch approve f3k9 --code 07xk-23mt",
            "what a colleague wants to clear, where two must agree",
        )],
        codes: CLEARED,
    },
    Help {
        command: "control",
        examples: &[(
            "lockwatch control --listen /run/lockwatch/control.sock",
            "where no systemd starts lockwatch-control.socket",
        )],
        codes: &[],
    },
    Help {
        command: "trace",
        examples: &[
            ("lockwatch trace --path /run/app.lock", "who comes and goes at that file"),
            ("lockwatch trace --comm postgres --ndjson", "for scripts"),
        ],
        codes: &[],
    },
    Help {
        command: "config",
        examples: &[
            ("lockwatch config check", "before a restart or a reload: would it hold?"),
            ("lockwatch config check - < new.toml", "and of a file that is not in place yet"),
            ("lockwatch config show --origin", "what holds, and which file, variable or flag says so"),
            ("lockwatch config show --json | jq '.values[]|select(.key==\"agent.listen\")'", "for scripts"),
        ],
        codes: &[(Exit::Failed.code(), "failed, or something is wrong with the configuration: it says what")],
    },
    Help {
        command: "audit",
        examples: &[
            ("lockwatch audit", "who cleared what, when and why; the newest last"),
            ("lockwatch audit --since 2h --outcome still_held", "what was done and did not help"),
            ("lockwatch audit --verify", "has anybody changed the record?"),
            ("lockwatch audit --audit-log audit.jsonl.1", "a log that was rotated away"),
            ("lockwatch audit --ndjson | jq 'select(.actor.uid==1000)'", "for scripts"),
        ],
        codes: &[(Exit::Failed.code(), "failed, or the log is not as it was written")],
    },
    Help {
        command: "doctor",
        examples: &[("lockwatch doctor", "every check with its fix"), ("lockwatch doctor --json", "for scripts")],
        codes: &[(Exit::Failed.code(), "something that lockwatch needs is missing")],
    },
    Help {
        command: "schema",
        examples: &[("lockwatch schema", "of list --json"), ("lockwatch schema event", "of trace --ndjson")],
        codes: &[],
    },
    Help {
        command: "completions",
        examples: &[(
            "lockwatch completions bash > /etc/bash_completion.d/lockwatch",
            "for every user of bash on this host",
        )],
        codes: &[],
    },
    Help {
        command: "man",
        examples: &[
            ("lockwatch man | man -l -", "read the page"),
            ("lockwatch man explain > lockwatch-explain.1", "keep the page of a command"),
        ],
        codes: &[],
    },
];

impl Help {
    /// The help of a command.
    pub fn of(command: &str) -> Option<&'static Help> {
        ALL.iter().find(|help| help.command == command)
    }

    /// Its exit codes, those of all commands first; its own meaning of a code wins.
    pub fn codes(&self) -> Vec<(u8, &'static str)> {
        let shared = CODES.into_iter().filter(|(code, _)| !self.codes.iter().any(|(own, _)| own == code));
        let mut codes: Vec<_> = shared.chain(self.codes.iter().copied()).collect();
        codes.sort_by_key(|(code, _)| *code);
        codes
    }
}

/// The end of `--help`.
pub fn section(command: &str) -> String {
    let Some(help) = Help::of(command) else { return String::new() };
    let mut text = String::from("Examples:\n");
    for (line, what) in help.examples {
        text += &format!("  {line}\n          {what}\n");
    }
    text += "\nExit status:\n";
    for (code, what) in help.codes() {
        text += &format!("  {code:>2}  {what}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_its_help() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(Help::of(command.get_name()).is_some(), "{}", command.get_name());
        }
    }

    #[test]
    fn every_help_has_examples_and_belongs_to_a_command() {
        let root = Cli::command();
        for help in ALL {
            assert!(!help.examples.is_empty(), "{}", help.command);
            assert!(help.command.is_empty() || root.find_subcommand(help.command).is_some(), "{}", help.command);
        }
    }

    #[test]
    fn every_example_is_a_command_that_parses() {
        for (line, _) in ALL.iter().flat_map(|help| help.examples) {
            assert!(line.starts_with("lockwatch "), "{line}");
            let typed = line.split(['|', '>', '<']).next().unwrap_or(line);
            assert!(Cli::try_parse_from(typed.split_whitespace()).is_ok(), "{line}");
        }
    }
}
