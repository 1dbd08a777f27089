//! The story of a lock, as a colleague would tell it: the conclusion first, the next command last.

pub mod timeline;

use std::io::{self, Write};

use lockwatch_core::{
    lock::Breaking,
    observation::Via,
    process::{Life, Process},
    report::{Cause, Holder, LockReport, Report, Verdict, Waiter},
    time::Timestamp,
};

use super::{
    Options, style,
    style::{STRONG, paint},
    ways, words,
};

/// Tells the story of every lock of the report.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    for (i, lock) in report.locks.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        story(lock, report.taken_at, options, out)?;
    }
    Ok(())
}

fn story(lock: &LockReport, now: Timestamp, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let wrap = |text: &str, indent| layout(text, indent, options.width);
    let head = words::verdict(lock);
    let conclusion = wrap(&format!("{head}: {}", conclusion(lock, now)), 0);
    let rest = conclusion.get(head.len()..).unwrap_or_default();
    writeln!(out, "{}{rest}\n", paint(options.colour, style::of(lock), &head))?;
    for (label, text) in facts(lock, now) {
        writeln!(out, "  {label:<9} {}", wrap(&text, 12))?;
    }
    if !lock.evidence.is_empty() {
        writeln!(out, "\n{}", paint(options.colour, STRONG, "Why"))?;
        for sentence in &lock.evidence {
            writeln!(out, "  - {}", wrap(&words::sentence(sentence), 4))?;
        }
    }
    let ways = ways::ways(lock);
    if !ways.is_empty() {
        writeln!(out, "\n{}", paint(options.colour, STRONG, "What you can do"))?;
    }
    for way in &ways {
        match &way.command {
            Some(command) => {
                writeln!(out, "  {}\n      {}", paint(options.colour, STRONG, command), wrap(&way.what, 6))?
            }
            None => writeln!(out, "  {}", wrap(&way.what, 2))?,
        }
    }
    writeln!(out, "\nNext: {}", ways::next(lock, &ways))
}

/// The answer in a sentence or two.
fn conclusion(lock: &LockReport, now: Timestamp) -> String {
    let file = words::file(lock.file, &lock.file_seen);
    let taker = match &lock.acquirer {
        Some(process) => process.to_string(),
        None => "somebody whom nobody saw".to_owned(),
    };
    let keepers = keepers(lock);
    let mut text = match (lock.verdict, lock.cause) {
        (Verdict::Held, _) if lock.acquirer.is_none() => format!("{keepers} the lock on {file}."),
        (Verdict::Held, _) => format!("{taker} took the lock on {file} and still holds it."),
        (Verdict::HandedOver, Some(Cause::Borrowed)) => {
            format!("{taker} took the lock on {file} for somebody who had the file open already, and {keepers} it now.")
        }
        (Verdict::HandedOver, Some(Cause::Daemonized)) => {
            format!("{taker} took the lock on {file} and left it to its own daemon: {keepers} it now.")
        }
        (Verdict::HandedOver, _) => format!("{taker} took the lock on {file} and passed it on: {keepers} it now."),
        (Verdict::Orphaned, cause) => {
            format!(
                "nobody will release the lock on {file}. {}, and {}.",
                took_and_died(lock, &taker),
                orphan_keepers(cause, lock)
            )
        }
        (Verdict::Unknown, _) => {
            format!(
                "it cannot be said whether anybody will release the lock on {file}. {}; {keepers} it now.",
                took_and_died(lock, &taker)
            )
        }
    };
    if lock.deadlock {
        text += " It is part of a circle in which everybody waits for another: none of them can go on.";
    }
    match (lock.waiters.len(), lock.waiters.iter().filter_map(|w| w.since).min()) {
        (0, _) => text += " Nobody waits for it.",
        (n, since) => {
            let verb = if n == 1 { "waits" } else { "wait" };
            let wait = since.map(|at| format!(", the longest for {}", words::duration(now.since(at))));
            text += &format!(" {} {verb} for it{}.", words::count(n, "request"), wait.unwrap_or_default());
        }
    }
    text
}

fn took_and_died(lock: &LockReport, taker: &str) -> String {
    match lock.acquirer.as_deref().map(|p| &p.life) {
        Some(Life::Dead(death)) => match &death.exit {
            Some(exit) => format!("{taker} took it and {exit}"),
            None => format!("{taker} took it and is dead"),
        },
        _ => format!("{taker} took it"),
    }
}

/// `pid 4720 (sleep) has`, `3 processes have`.
fn keepers(lock: &LockReport) -> String {
    let names: Vec<String> = processes(&lock.holders).map(Process::to_string).collect();
    match names.len() {
        0 if lock.holders.is_empty() && !lock.holders_complete => "nobody that lockwatch may see holds".to_owned(),
        0 if lock.holders.is_empty() => "nobody that lockwatch can name holds".to_owned(),
        0 => format!("the {} holds", lock.holders.first().map_or("kernel", |h| h.via.name())),
        1 => format!("{} holds", names.concat()),
        2 | 3 => format!("{} hold", words::list(&names)),
        n => format!("{n} processes hold"),
    }
}

/// Each process once.
fn processes(holders: &[Holder]) -> impl Iterator<Item = &Process> {
    let mut seen = Vec::new();
    holders.iter().filter_map(|h| h.process.as_deref()).filter(move |p| {
        let new = !seen.contains(&p.id);
        seen.push(p.id);
        new
    })
}

fn orphan_keepers(cause: Option<Cause>, lock: &LockReport) -> String {
    let names: Vec<String> = processes(&lock.holders).map(Process::to_string).collect();
    let (who, s) = match names.len() {
        0 => ("something that lockwatch cannot see".to_owned(), "s"),
        1 => (names.concat(), "s"),
        2 | 3 => (words::list(&names), ""),
        n => (format!("{n} processes"), ""),
    };
    match cause {
        Some(Cause::Child) => format!("{who}, left behind by it, keep{s} the lock alive"),
        Some(Cause::Leaked) => {
            format!("{who}, which only inherited the open file, keep{s} the lock alive without knowing")
        }
        Some(Cause::Mapped) => format!("a memory mapping of {who} keeps the lock alive"),
        Some(Cause::InFlight) => format!("a message that waits in a socket of {who} keeps the lock alive"),
        Some(Cause::IoUring) => format!("a file registered with io_uring by {who} keeps the lock alive"),
        Some(Cause::SharedFiles) => format!("{who}, which shared its table of open files, keep{s} the lock alive"),
        Some(Cause::Kernel) => "the kernel keeps the lock alive (a loop device or a swap file)".to_owned(),
        Some(Cause::Remote) => "it belongs to an NFS client that is gone".to_owned(),
        _ => format!("{who}, which inherited the open file, keep{s} the lock alive"),
    }
}

/// The facts, one line each: label and text.
fn facts(lock: &LockReport, now: Timestamp) -> Vec<(&'static str, String)> {
    let fs = lock.file_seen.fs.as_ref().map(|fs| format!(" on {fs}")).unwrap_or_default();
    let what = format!("{}: {} {} of {}", lock.id, lock.kind, lock.mode, words::range(lock.range));
    let mut facts = vec![("lock", format!("{what}, file {}{fs}", lock.file))];
    let when = |at: Timestamp| format!("{at}, {} ago", words::duration(now.since(at)));
    let taken = lock.acquired_at.map_or_else(|| "when is not known".to_owned(), when);
    match &lock.acquirer {
        None => facts.push(("taken by", format!("not known; {taken}"))),
        Some(taker) => {
            facts.push(("taken by", format!("{}; {taken}", person(taker))));
            match &taker.life {
                Life::Alive => {}
                Life::Unknown(reason) => facts.push(("alive?", format!("not known: {}", words::sentence(reason)))),
                Life::Dead(death) => {
                    let how = death.exit.as_ref().map(ToString::to_string);
                    let text = match (death.at.map(when), how) {
                        (Some(at), Some(how)) => format!("{at}: {how}"),
                        (Some(at), None) => format!("{at}; nobody saw how"),
                        (None, Some(how)) => format!("{how}; when is not known"),
                        (None, None) => "it is gone; nobody saw when or how".to_owned(),
                    };
                    let reused = death.number_reused_by.map(|_| "; its number belongs to another process now");
                    facts.push(("died", text + reused.unwrap_or_default()));
                }
            }
        }
    }
    facts.extend(lock.breaking.map(|breaking| ("breaking", being_broken(breaking, now))));
    facts.extend(lock.holders.iter().map(|holder| ("kept by", keeper(holder))));
    if !lock.holders_complete {
        facts.push(("kept by", "perhaps by others that lockwatch may not see".to_owned()));
    }
    facts.extend(lock.waiters.iter().map(|waiter| ("waiting", wait(waiter, now))));
    facts
}

/// What becomes of a lease that somebody opens the file against.
fn being_broken(breaking: Breaking, now: Timestamp) -> String {
    let to = match breaking.to {
        Some(mode) => format!("become a {mode} lease"),
        None => "go".to_owned(),
    };
    let end = match breaking.deadline {
        Some(at) if at > now => format!(
            "; whoever waits gets in at the latest at {at}, in {} (fs.lease-break-time)",
            words::duration(at.since(now))
        ),
        Some(at) => format!("; its time was over at {at}, and the next who opens the file takes it away"),
        None => "; how long the kernel waits is in /proc/sys/fs/lease-break-time".to_owned(),
    };
    format!("somebody opens or truncates the file, so the lease must {to}{end}")
}

/// `pid 4711 (locksmith) /usr/bin/locksmith, locksmith.service, uid 0`.
pub(super) fn person(process: &Process) -> String {
    let mut text = process.to_string();
    if let Some(exe) = &process.exe {
        text += &format!(" {exe}");
    }
    if let Some(inner) = process.inner_pid {
        text += &format!(", pid {inner} in its own pid namespace");
    }
    // A unit lies in its slice; where there is none, the slice is all that is known.
    let slice = process.slice.as_ref().filter(|_| process.unit.is_none());
    let engine = process.runtime.map(|runtime| format!("{} ", runtime.name())).unwrap_or_default();
    let container = format!("{engine}container ");
    let places = [
        ("", process.unit.as_ref()),
        ("", slice),
        ("user unit ", process.user_unit.as_ref()),
        (&container, process.container.as_ref()),
        ("Kubernetes pod ", process.pod.as_ref()),
    ];
    for (label, name) in places {
        if let Some(name) = name {
            text += &format!(", {label}{name}");
        }
    }
    match process.uid {
        Some(uid) => text + &format!(", uid {uid}"),
        None => text,
    }
}

fn keeper(holder: &Holder) -> String {
    let who = holder.process.as_deref().map_or_else(|| format!("the {}", holder.via.name()), person);
    let means = match (holder.via, holder.fd) {
        (Via::Fd, Some(fd)) => format!("fd {fd}"),
        (Via::Fd, None) => "a descriptor".to_owned(),
        (Via::Mapping, _) => "a memory mapping".to_owned(),
        (Via::Message, _) => "a message in a socket".to_owned(),
        (Via::IoUring, _) => "a file registered with io_uring".to_owned(),
        (Via::Kernel | Via::Remote, _) => String::new(),
    };
    let cloexec = match holder.cloexec {
        Some(true) => "closes on exec",
        Some(false) => "survives exec",
        None => "",
    };
    let detail = holder.detail.as_deref().map(words::sentence).unwrap_or_default();
    let parts: Vec<&str> = [means.as_str(), cloexec, &detail].into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { who } else { format!("{who}, by {}", parts.join(", ")) }
}

fn wait(waiter: &Waiter, now: Timestamp) -> String {
    let who = waiter.process.as_deref().map_or_else(|| "somebody whom nobody saw".to_owned(), person);
    let since = match waiter.since {
        Some(at) => format!("since {at}, for {}", words::duration(now.since(at))),
        None => "since when is not known".to_owned(),
    };
    let behind: Vec<String> = waiter.behind.iter().map(|pid| format!("pid {pid}")).collect();
    let behind = if behind.is_empty() { String::new() } else { format!("; behind {}", words::list(&behind)) };
    format!("{who}, to {} {}, {since}{behind}", waiter.mode, words::range(waiter.range))
}

/// Words in lines no longer than the terminal; what follows is indented.
pub(super) fn layout(text: &str, indent: usize, width: Option<usize>) -> String {
    let Some(room) = width.map(|width| width.saturating_sub(indent).max(24)) else { return text.to_owned() };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if super::layout::width(line) + 1 + super::layout::width(word) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join(&format!("\n{:indent$}", ""))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture;

    fn check(locks: Vec<LockReport>, width: Option<usize>, expect: Expect) {
        let report = Report { locks, ..fixture::report() };
        let text = fixture::written(|out| write(&report, &Options { width, ..fixture::options() }, out));
        fixture::assert_harmless(&text);
        expect.assert_eq(&text);
    }

    #[test]
    fn the_ghost() {
        check(
            vec![fixture::ghost()],
            None,
            expect![[r#"
            HOT orphaned: nobody will release the lock on /etc/aim/aim_lock.conf. pid 4711 (locksmith) took it and was killed by SIGKILL from pid 1 (systemd), and pid 4720 (sleep), which only inherited the open file, keeps the lock alive without knowing. 1 request waits for it, the longest for 42 s.

              lock      f3k9-27qd: flock write of the whole file, file fe:00:10010672 on ext4
              taken by  pid 4711 (locksmith) /usr/bin/locksmith, locksmith.service, uid 0; 2026-11-22 03:10:07 UTC, 2 min ago
              died      2026-11-22 03:11:07 UTC, 1 min ago: was killed by SIGKILL from pid 1 (systemd)
              kept by   pid 4720 (sleep) /usr/bin/sleep, uid 0, by fd 9, survives exec
              waiting   pid 4800 (updater) /usr/bin/updater, uid 0, to write the whole file, since 2026-11-22 03:11:25 UTC, for 42 s

            Why
              - pid 4711 (locksmith) was killed by SIGKILL from pid 1 (systemd) at 2026-11-22 03:11:07 UTC
              - pid 4720 (sleep) still has the file open as fd 9, inherited without O_CLOEXEC

            What you can do
              kill 4720
                  asks pid 4720 (sleep) to end, and the kernel drops the lock. Lost: what it did not write yet, and every other lock and connection it had. A process that ignores SIGTERM needs `kill -9`, and cannot clean up.
              Do not delete or replace the file: whoever opens it afterwards locks another file, and two will work at once.

            Next: kill 4720
        "#]],
        );
    }

    #[test]
    fn wraps_on_a_terminal() {
        check(
            fixture::report().locks[1..2].to_vec(),
            Some(80),
            expect![[r#"
            orphaned: nobody will release the lock on /var/lib/queue/db. pid 5000 (worker)
            took it and exited with code 1, and pid 5001 (worker) and pid 5002 (worker),
            left behind by it, keep the lock alive. 1 request waits for it.

              lock      f3m2-8x0c: ofd write of bytes 100 to 199, file fe:00:10010672 on
                        ext4
              taken by  pid 5000 (worker) /usr/bin/worker, uid 0; 2026-11-22 03:10:07 UTC, 2
                        min ago
              died      2026-11-22 03:11:07 UTC, 1 min ago: exited with code 1
              kept by   pid 5001 (worker) /usr/bin/worker, uid 0, by fd 4, survives exec
              kept by   pid 5002 (worker) /usr/bin/worker, uid 0, by fd 4, survives exec
              waiting   somebody whom nobody saw, to read the whole file, since when is not
                        known; behind pid 5009

            What you can do
              kill 5001 5002
                  asks pid 5001 (worker) and pid 5002 (worker) to end; all of them must go,
                  and the kernel drops the lock. Lost: what they did not write yet, and
                  every other lock and connection they had. A process that ignores SIGTERM
                  needs `kill -9`, and cannot clean up.
              Do not delete or replace the file: whoever opens it afterwards locks another
              file, and two will work at once.

            Next: kill 5001 5002
        "#]],
        );
    }

    #[test]
    fn a_healthy_and_an_unknown_one() {
        check(
            fixture::report().locks[2..].to_vec(),
            None,
            expect![[r#"
            held: pid 900 (app) took the lock on /var/lib/app/data.db and still holds it. Nobody waits for it.

              lock      7a1b-cd42: posix read of bytes 0 to 99, file fe:00:10010672 on ext4
              taken by  pid 900 (app) /usr/bin/app, uid 0; when is not known
              kept by   pid 900 (app) /usr/bin/app, uid 0, by fd 3, survives exec

            Next: lockwatch trace --path /var/lib/app/data.db

            unknown: it cannot be said whether anybody will release the lock on file fe:00:10010672. somebody whom nobody saw took it; nobody that lockwatch may see holds it now. Nobody waits for it.

              lock      9zzz-0001: ofd write of the whole file, file fe:00:10010672
              taken by  not known; when is not known
              kept by   perhaps by others that lockwatch may not see

            What you can do
              lockwatch doctor
                  tells what lockwatch cannot see here, and how to mend it. Do not end anybody on a guess.

            Next: lockwatch doctor
        "#]],
        );
    }

    #[test]
    fn hostile_names_tell_no_lies() {
        check(
            fixture::hostile().locks,
            None,
            expect![[r#"
                HOT orphaned: nobody will release the lock on /tmp/a\nb\x1b[2J\u{202e}\xff"\\ (deleted). pid 4711 (\x1b]0;x\x07\r\xfe) took it and was killed by SIGTERM from pid 7 (\n\xff), core dumped, and pid 4720 (\x1b]0;x\x07\r\xfe), which only inherited the open file, keeps the lock alive without knowing. 1 request waits for it, the longest for 42 s.

                  lock      f3k9-27qd: flock write of the whole file, file fe:00:10010672 on /tmp/a\nb\x1b[2J\u{202e}\xff"\\
                  taken by  pid 4711 (\x1b]0;x\x07\r\xfe) /tmp/a\nb\x1b[2J\u{202e}\xff"\\, a;rm -rf b\u{202e}.service, container \x9b31m, uid 0; 2026-11-22 03:10:07 UTC, 2 min ago
                  died      2026-11-22 03:11:07 UTC, 1 min ago: was killed by SIGTERM from pid 7 (\n\xff), core dumped
                  kept by   pid 4720 (\x1b]0;x\x07\r\xfe) /tmp/a\nb\x1b[2J\u{202e}\xff"\\, a;rm -rf b\u{202e}.service, container \x9b31m, uid 0, by fd 9, survives exec, seen twice
                  waiting   pid 4800 (\x1b]0;x\x07\r\xfe) /tmp/a\nb\x1b[2J\u{202e}\xff"\\, a;rm -rf b\u{202e}.service, container \x9b31m, uid 0, to write the whole file, since 2026-11-22 03:11:25 UTC, for 42 s

                Why
                  - a sentence

                What you can do
                  kill 4720
                      asks pid 4720 (\x1b]0;x\x07\r\xfe) to end, and the kernel drops the lock. Lost: what it did not write yet, and every other lock and connection it had. A process that ignores SIGTERM needs `kill -9`, and cannot clean up.
                  Do not delete or replace the file: whoever opens it afterwards locks another file, and two will work at once.

                Next: kill 4720
            "#]],
        );
    }
}
