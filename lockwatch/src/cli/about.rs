//! What a manual page says of a command before its options: for somebody who reads it for the first time, at night.

/// Paragraphs about a command; of lockwatch itself for "".
pub fn about(command: &str) -> &'static [&'static str] {
    match command {
        "" => &[
            "A program takes a file lock and dies; the kernel still says that the file is locked, and everybody waits. \
             lockwatch says who took the lock and how that process died, who really keeps the lock alive now, and who waits \
             for it. It looks through eBPF, which disturbs nobody; where that does not work it reads /proc, and says so. What \
             it cannot know it calls unknown.",
            "Begin with lockwatch orphans: its last line is the next command to type. While lockwatch agent runs, the \
             answers come quicker and have the history besides. Looking needs root, or the rights that lockwatch doctor names.",
        ],
        "orphans" => &[
            "Shows the locks that need somebody. Orphaned: nobody who knows of the lock is left; only a child, or a program \
             that inherited the descriptor, keeps it. HOT: orphaned, or part of a deadlock, and somebody has been waiting for \
             more than five seconds.",
            "The worst is first, and each line ends with the ID that explain and clear take. If there are none it says so; \
             warnings above that tell what could not be seen.",
        ],
        "explain" => &[
            "Tells of one lock: who took it and how that process died, who keeps it and by what means, who waits and for how \
             long. Then why lockwatch thinks so, in sentences that can be checked by hand; then every way to clear it with \
             its risk, the gentlest first; and at the end the next command to type.",
            "Of a file whose mere existence is the lock (a pid file, *.lock) it tells who wrote it, and whether that process \
             lives.",
        ],
        "list" => &[
            "Shows every lock of this host, the worst first. PATH selects by file identity: any name of the file will do.",
            "VERDICT is held (by who took it), handed_over (on purpose, as far as one can see), orphaned (nobody will release \
             it) or unknown (it cannot be proven; explain says why).",
        ],
        "graph" => &[
            "Shows who waits for whom, over flock, POSIX and OFD locks together; the kernel by itself finds only circles of \
             POSIX locks. A circle is marked as a deadlock. On a terminal it is told in sentences, in a pipe as DOT.",
        ],
        "clear" => &[
            "Undoes an orphaned lock with the least force that works. It looks twice, shows a plan with a code, and does \
             nothing until the code is given. Then it checks everything again, acts, looks whether the lock is gone, and \
             writes each step to the audit log. If anything has changed meanwhile it does nothing, and ends with 6.",
            "The gentlest way, release, ends nobody; but whoever believed to have the lock is not told. Before you give the \
             code, ask yourself whether what the lock protects was left half done: the dead process did not finish.",
            "Only orphaned locks are cleared, and none of databases, package managers and systemd unless \
             --override-protection is given. Whatever is in doubt is refused, with the reason.",
        ],
        "trace" => &[
            "Follows lock operations as they happen: acquired, refused, waiting, granted, wait-ended, released, process-exit. \
             It needs eBPF. While it runs, each lock operation on this host costs its caller a little more; name the file or \
             the process that you are after.",
        ],
        "approve" => &[
            "Where control.approvals is 2, a plan that one user has confirmed is carried out when a second, different user \
             confirms it with the same code. Look at the lock first: lockwatch explain ID. Both users are on record.",
        ],
        "control" => &[
            "The only part of lockwatch that changes anything, for users who are not root. People do not type it; they type \
             lockwatch clear. systemd starts it for each connection to /run/lockwatch/control.sock (lockwatch-control.socket). \
             It gives up all rights but two before it reads what is asked, serves one request, and ends.",
            "What members of the group lockwatch may do is said by [control.group] in /etc/lockwatch/config.toml: release, \
             and no more, unless it says so.",
        ],
        "agent" => &[
            "Watches from the moment it starts, so that who died and how is known and not guessed. It tells what changes, \
             answers Prometheus at /metrics and browsers at / (127.0.0.1:9954), and gives the other commands their answers \
             through /run/lockwatch/agent.sock. It changes nothing by itself. SIGHUP makes it read its configuration anew: \
             all of it, or nothing if something is wrong.",
        ],
        "check" => &[
            "For Nagios, Icinga and their like: one line, performance data behind a bar, and their exit codes. Where an agent \
             runs it is asked, which costs next to nothing; --no-agent looks for itself.",
        ],
        "metrics" => &[
            "The numbers of one look, for hosts that run no agent. Counters and histograms need somebody who watches, and are \
             not among them. --textfile writes lockwatch.prom whole or not at all, for node_exporter's textfile collector.",
        ],
        "config" => &[
            "check says what is wrong with /etc/lockwatch/config.toml and its drop-ins (config.d/*.toml), by file and line, all \
             of it at once. show prints what holds, in the form of a configuration. Later layers win: defaults, the file, \
             drop-ins by name, environment variables, flags of lockwatch agent.",
        ],
        "audit" => &[
            "Shows what was planned, refused and done, the newest last. Whenever it reads it checks that the log is as it was \
             written, each line having the hash of the one before, and says first what is wrong.",
        ],
        "doctor" => &[
            "Checks what lockwatch needs of this host, a line each, with how to mend what is missing. Type it when an answer \
             is incomplete, or when the agent says that its state is not exact.",
        ],
        "schema" => &[
            "Prints the JSON Schema of what --json and --ndjson print. Fields may be added; none changes its meaning.",
        ],
        "completions" => {
            &["Prints a script that lets a shell complete lockwatch's commands and options. Packages bring it."]
        }
        "man" => &["Prints this manual, a page for each command. Packages bring them as lockwatch-COMMAND(1)."],
        _ => &[],
    }
}

/// Where things are, for the page of lockwatch itself.
pub const FILES: [(&str, &str); 5] = [
    ("/etc/lockwatch/config.toml, /etc/lockwatch/config.d/*.toml", "what is configured (lockwatch config show)"),
    ("/run/lockwatch/agent.sock", "where the agent answers the other commands"),
    ("/run/lockwatch/control.sock", "where lockwatch control is asked by users who are not root"),
    ("/var/log/lockwatch/audit.jsonl", "the record of every clear (lockwatch audit)"),
    ("/usr/share/doc/lockwatch", "runbooks, alerts, dashboards and more, if a package was installed"),
];

/// What is read from the environment.
pub const ENVIRONMENT: [(&str, &str); 5] = [
    ("LOCKWATCH_API_SOCKET", "where the agent answers, instead of /run/lockwatch/agent.sock"),
    ("LOCKWATCH_CONTROL_SOCKET", "where control is asked, instead of /run/lockwatch/control.sock"),
    ("LOCKWATCH_AGENT_*", "keys of the agent's configuration, such as LOCKWATCH_AGENT_LISTEN"),
    ("NO_COLOR", "if set and not empty: no colours, unless --color says otherwise"),
    ("CLICOLOR_FORCE", "if set and not 0: colours in pipes too"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help::ALL;

    #[test]
    fn every_command_is_told_of() {
        for help in ALL {
            let told = about(help.command).join(" ");
            assert!(told.ends_with('.') && told.len() > 80 && !told.contains("  "), "{}: {told}", help.command);
        }
    }
}
