//! The graph in sentences: deadlocks first, then every queue under the lock that it waits for.

use std::io::{self, Write};

use lockwatch_core::graph::{Cycle, Graph};

use super::{Drawn, lock, party, state};
use crate::output::{Options, style, style::paint, words};

/// Waiters of one lock that are told one by one.
const SHOWN: usize = 8;
/// How far a chain is followed to the right of the screen.
const DEPTH: usize = 12;

/// Prints what waits for what, and the next command to type.
pub fn write(drawn: &Drawn<'_>, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let graph = drawn.graph;
    let deadlock = !graph.cycles.is_empty();
    let tone = if deadlock { style::HOT } else { style::STRONG };
    writeln!(out, "{}.", paint(options.colour, tone, drawn.headline()))?;
    let mut tree = Tree { drawn, options, told: vec![false; graph.locks.len()] };
    for cycle in &graph.cycles {
        writeln!(out)?;
        circle(drawn, cycle, out)?;
    }
    // Who waits beside a circle stands under the lock that it waits for.
    let beside = |lock: usize| graph.waits.iter().any(|wait| wait.lock == lock && wait.cycle.is_none());
    let on_cycle = |lock: usize| graph.locks[lock].cycle.is_some();
    for lock in (0..graph.locks.len()).filter(|&lock| on_cycle(lock) && beside(lock)) {
        writeln!(out)?;
        tree.lock(lock, 0, out)?;
    }
    // Whatever nobody else stands before: its holders do not wait. Then what is left, if a report is of two minds.
    let waits = |party: usize| graph.waits.iter().any(|wait| wait.party == party);
    let root = |lock: usize| !graph.holds.iter().any(|hold| hold.lock == lock && waits(hold.party));
    let roots: Vec<usize> = (0..graph.locks.len()).filter(|&lock| root(lock)).chain(0..graph.locks.len()).collect();
    for lock in roots.into_iter().filter(|&lock| !on_cycle(lock)) {
        if !tree.told[lock] {
            writeln!(out)?;
            tree.lock(lock, 0, out)?;
        }
    }
    let next = match graph.locks.first() {
        Some(node) => format!("lockwatch explain {}", node.lock.id),
        None => "lockwatch list".to_owned(),
    };
    writeln!(out, "\nNext: {next}")?;
    if !graph.locks.is_empty() {
        writeln!(out, "A picture: lockwatch graph --format svg > graph.svg")?;
    }
    Ok(())
}

/// One step a line, so that the eye can go round.
fn circle(drawn: &Drawn<'_>, cycle: &Cycle, out: &mut impl Write) -> io::Result<()> {
    let graph = drawn.graph;
    for (step, &(from, on)) in cycle.circle.iter().enumerate() {
        let node = &graph.locks[on];
        let (holder, _) = cycle.circle[(step + 1) % cycle.circle.len()];
        let since = graph.waits.iter().find(|w| (w.party, w.lock) == (from, on)).and_then(|w| w.waiter.since);
        let long = since.map(|at| format!(" {}", words::duration(drawn.report.taken_at.since(at))));
        let (who, long) = (party(graph.parties[from].who), long.unwrap_or_default());
        writeln!(out, "  {who} waits{long} for {} ({}),", file(graph, on), lock(node.lock))?;
        let end = if step + 1 == cycle.circle.len() { "." } else { ", and" };
        writeln!(out, "    which is held by {}{end}", party(graph.parties[holder].who))?;
    }
    match cycle.parties.len().checked_sub(cycle.circle.len()) {
        Some(more @ 1..) => writeln!(out, "  {} more in the same deadlock.", words::count(more, "process")),
        _ => Ok(()),
    }
}

fn file(graph: &Graph<'_>, lock: usize) -> String {
    let lock = graph.locks[lock].lock;
    words::file(lock.file, &lock.file_seen)
}

/// What has been told is not told again: a process may stand before several others.
struct Tree<'a> {
    drawn: &'a Drawn<'a>,
    options: &'a Options,
    told: Vec<bool>,
}

impl Tree<'_> {
    fn lock(&mut self, on: usize, depth: usize, out: &mut impl Write) -> io::Result<()> {
        self.told[on] = true;
        let (graph, now) = (self.drawn.graph, self.drawn.report.taken_at);
        let node = &graph.locks[on];
        let holders: Vec<String> =
            graph.holds.iter().filter(|h| h.lock == on).map(|h| party(graph.parties[h.party].who)).collect();
        let keepers = match holders.len() {
            0 => "nobody that lockwatch can see".to_owned(),
            1..=3 => words::list(&holders),
            n => format!("{n} holders"),
        };
        let indent = depth * 4;
        let state = paint(self.options.colour, style::of(node.lock), state(node.lock, now));
        let (file, lock) = (file(graph, on), lock(node.lock));
        writeln!(out, "{:indent$}{file} ({lock}), held by {keepers}: {state}", "")?;
        let waits: Vec<_> = graph.waits.iter().filter(|wait| wait.lock == on).collect();
        for wait in waits.iter().take(SHOWN) {
            let words = super::wait(wait, node.lock, now).join(" ").replace(" behind ", ", behind ");
            let who = party(graph.parties[wait.party].who);
            let cycle = if wait.cycle.is_some() { " (in the deadlock)" } else { "" };
            writeln!(out, "{:indent$}  {who} {words}{cycle}", "")?;
            let behind: Vec<usize> =
                graph.holds.iter().filter(|hold| hold.party == wait.party).map(|hold| hold.lock).collect();
            for lock in behind {
                if graph.locks[lock].cycle.is_none() && !self.told[lock] && depth < DEPTH {
                    self.lock(lock, depth + 1, out)?;
                }
            }
        }
        match waits.len().checked_sub(SHOWN) {
            Some(more @ 1..) => writeln!(out, "{:indent$}  and {more} more", ""),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use lockwatch_core::report::Report;

    use super::super::{Form, sample};
    use crate::fixture;

    fn check(report: &Report, expect: Expect) {
        let text = sample::written(Form::Text, report);
        fixture::assert_harmless(&text);
        expect.assert_eq(&text);
    }

    #[test]
    fn deadlocks_come_first() {
        check(
            &sample::report(),
            expect![[r#"
                Deadlock: 3 processes wait for each other in a circle.

                  pid 103 (mailer) waits 40 s for /srv/demo/orders.lock (flock write),
                    which is held by pid 101 (billing), and
                  pid 101 (billing) waits 42 s for /srv/demo/stock.db (posix write 0-99),
                    which is held by pid 102 (stock), and
                  pid 102 (stock) waits 41 s for /srv/demo/mail.spool (ofd write),
                    which is held by pid 103 (mailer).

                /srv/demo/orders.lock (flock write), held by pid 101 (billing): DEADLOCK held, 2 wait, the longest for 40 s
                  pid 103 (mailer) waits 40 s to write (in the deadlock)
                  pid 104 (report) waits 12 s to write, behind pid 103
                    /srv/demo/report.pid (flock write), held by pid 104 (report): held, 1 waits for 3 s
                      pid 105 (cron) waits 3 s to write

                /etc/aim/aim_lock.conf (flock write), held by pid 4720 (sleep): HOT orphaned, 1 waits for 42 s
                  pid 4800 (updater) waits 42 s to write

                Next: lockwatch explain aaaa-0001
                A picture: lockwatch graph --format svg > graph.svg
            "#]],
        );
    }

    #[test]
    fn nothing_is_told_too() {
        check(
            &Report { locks: Vec::new(), ..sample::report() },
            expect![[r#"
            Nobody waits for a lock.

            Next: lockwatch list
        "#]],
        );
    }

    #[test]
    fn a_crowd_is_counted() {
        check(
            &sample::crowd(40),
            expect![[r#"
                40 requests wait for 1 lock, no deadlock.

                /srv/demo/hub (flock write), held by pid 1 (hub): held, 40 wait, the longest for 1 min 30 s
                  pid 1000 (worker) waits 1 min 30 s to write
                  pid 1001 (worker) waits 1 min 30 s to write, behind pid 1000
                  pid 1002 (worker) waits 1 min 30 s to write, behind pid 1001 and 1 more
                  pid 1003 (worker) waits 1 min 30 s to write, behind pid 1002 and 2 more
                  pid 1004 (worker) waits 1 min 30 s to write, behind pid 1003 and 3 more
                  pid 1005 (worker) waits 1 min 30 s to write, behind pid 1004 and 4 more
                  pid 1006 (worker) waits 1 min 30 s to write, behind pid 1005 and 5 more
                  pid 1007 (worker) waits 1 min 30 s to write, behind pid 1006 and 6 more
                  and 32 more

                Next: lockwatch explain dddd-0001
                A picture: lockwatch graph --format svg > graph.svg
            "#]],
        );
    }

    #[test]
    fn hostile_names_tell_no_lies() {
        fixture::assert_harmless(&sample::written(Form::Text, &sample::hostile()));
    }
}
