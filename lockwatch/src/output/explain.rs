//! The story of a lock, as a colleague would tell it: the conclusion first, the next command last.

mod conclusion;
mod facts;
pub mod timeline;

use std::io::{self, Write};

use lockwatch_core::{
    report::{LockReport, Report},
    time::Timestamp,
};

pub(crate) use self::conclusion::judgement;
pub(super) use self::facts::person;
use self::{conclusion::conclusion, facts::facts};
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
    if !lock.history.is_empty() {
        writeln!(out, "\n{}", paint(options.colour, STRONG, "What has happened"))?;
        timeline::write(&lock.history, None, options, out)?;
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
                  lockwatch clear f3k9-27qd
                      releases it and ends nobody: those who keep the file open go on, without the lock. It shows its plan first and asks; what is in doubt is refused.
                  kill 4720
                      asks pid 4720 (sleep) to end, and the kernel drops the lock. Lost: what it did not write yet, and every other lock and connection it had. A process that ignores SIGTERM needs `kill -9`, and cannot clean up.
                  Do not delete or replace the file: whoever opens it afterwards locks another file, and two will work at once.

                Next: lockwatch clear f3k9-27qd
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
                  lockwatch clear f3m2-8x0c
                      releases it and ends nobody: those who keep the file open go on, without
                      the lock. It shows its plan first and asks; what is in doubt is refused.
                  kill 5001 5002
                      asks pid 5001 (worker) and pid 5002 (worker) to end; all of them must go,
                      and the kernel drops the lock. Lost: what they did not write yet, and
                      every other lock and connection they had. A process that ignores SIGTERM
                      needs `kill -9`, and cannot clean up.
                  Do not delete or replace the file: whoever opens it afterwards locks another
                  file, and two will work at once.

                Next: lockwatch clear f3m2-8x0c
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
                  lockwatch clear f3k9-27qd
                      releases it and ends nobody: those who keep the file open go on, without the lock. It shows its plan first and asks; what is in doubt is refused.
                  kill 4720
                      asks pid 4720 (\x1b]0;x\x07\r\xfe) to end, and the kernel drops the lock. Lost: what it did not write yet, and every other lock and connection it had. A process that ignores SIGTERM needs `kill -9`, and cannot clean up.
                  Do not delete or replace the file: whoever opens it afterwards locks another file, and two will work at once.

                Next: lockwatch clear f3k9-27qd
            "#]],
        );
    }
}
