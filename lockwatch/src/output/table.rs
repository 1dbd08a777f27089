//! The table: what matters first, as wide as the terminal, one line of summary below.

use std::io::{self, Write};

use lockwatch_core::report::{LockReport, Report, Verdict};

use super::{
    Options, Scope,
    column::{Column, USUAL},
    layout, sort,
    style::{self, STRONG, paint},
    words,
};

/// Prints the rows of a report.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let locks = sort::sorted(&report.locks, options.sort);
    let columns = columns(&locks, options);
    let rows: Vec<Vec<String>> =
        locks.iter().map(|lock| columns.iter().map(|c| c.cell(lock, report.taken_at)).collect()).collect();
    let mut widths = natural_widths(&columns, &rows, options.headers);
    let gives: Vec<_> = columns.iter().map(|c| c.give()).collect();
    if let Some(room) = options.width {
        layout::fit(&mut widths, &gives, room);
    }
    let line = |out: &mut dyn Write, cells: &[String], style_of: &dyn Fn(usize) -> anstyle::Style| {
        for (i, cell) in cells.iter().enumerate() {
            let cell = layout::cut(cell, widths[i], gives[i]);
            let last = i + 1 == cells.len();
            let fill = if last { 0 } else { widths[i].saturating_sub(layout::width(&cell)) + layout::GAP };
            write!(out, "{}{:fill$}", paint(options.colour, style_of(i), cell), "")?;
        }
        writeln!(out)
    };
    if options.headers && !rows.is_empty() {
        let headers: Vec<String> = columns.iter().map(|c| c.header().to_owned()).collect();
        line(out, &headers, &|_| STRONG)?;
    }
    for (lock, cells) in locks.iter().zip(&rows) {
        let style_of = |i: usize| if columns[i] == Column::Verdict { style::of(lock) } else { style::PLAIN };
        line(out, cells, &style_of)?;
    }
    match options.headers {
        true => writeln!(out, "{}", summary(report, options.scope)),
        false => Ok(()),
    }
}

/// The columns asked for, or the usual ones; of those, what says nothing goes first when a terminal is too narrow.
fn columns(locks: &[&LockReport], options: &Options) -> Vec<Column> {
    if !options.columns.is_empty() {
        return options.columns.clone();
    }
    let roomy = options.width.is_none_or(|width| width >= 120);
    USUAL.into_iter().filter(|c| roomy || !locks.iter().all(|lock| c.is_dull(lock))).collect()
}

fn natural_widths(columns: &[Column], rows: &[Vec<String>], headers: bool) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|c| if headers { layout::width(c.header()) } else { 0 }).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = layout::width(cell).max(*width);
        }
    }
    widths
}

/// `4 locks: 2 orphaned, 1 hot. Next: lockwatch explain f3k9-27qd`.
fn summary(report: &Report, scope: Scope) -> String {
    let number = |keep: fn(&LockReport) -> bool| report.locks.iter().filter(|lock| keep(lock)).count();
    let orphaned = number(|l| l.verdict == Verdict::Orphaned);
    let counts = [
        (orphaned, "orphaned"),
        (number(|l| l.hot), "hot"),
        (number(|l| l.deadlock), "in a deadlock"),
        (number(|l| l.verdict == Verdict::Unknown), "cannot be judged"),
    ];
    let mut found: Vec<String> =
        counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let mut text = match scope {
        Scope::All if report.locks.is_empty() => "No locks".to_owned(),
        Scope::All => {
            if orphaned == 0 {
                found.insert(0, "none orphaned".to_owned());
            }
            format!("{}: {}", words::count(report.locks.len(), "lock"), found.join(", "))
        }
        Scope::Orphans { unjudged } => {
            if found.is_empty() {
                found.push("No orphaned locks".to_owned());
            }
            if unjudged > 0 {
                found.push(format!(
                    "{} cannot be judged (lockwatch list --verdict unknown)",
                    words::count(unjudged, "other")
                ));
            }
            found.join(", ")
        }
    };
    if !report.exact {
        text += "; not exact, some may be missing (lockwatch doctor)";
    }
    let urgent = |l: &&LockReport| l.hot || l.deadlock;
    let worst =
        report.locks.iter().find(urgent).or_else(|| report.locks.iter().find(|l| l.verdict == Verdict::Orphaned));
    match worst {
        Some(lock) => format!("{text}. Next: lockwatch explain {}", lock.id),
        None => text + ".",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture;

    fn check(report: &Report, options: &Options, expect: Expect) {
        let text = fixture::written(|out| write(report, options, out));
        fixture::assert_harmless(&text);
        if let Some(width) = options.width {
            let table = text.lines().take(report.locks.len() + 1);
            assert!(table.clone().all(|l| layout::width(l) <= width), "{text}");
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn without_a_terminal_nothing_is_cut() {
        check(
            &fixture::report(),
            &fixture::options(),
            expect![[r#"
                VERDICT       FILE                    LOCK         RANGE    TAKEN BY                 HELD BY              WAITING  ID
                HOT orphaned  /etc/aim/aim_lock.conf  flock write  all      4711 locksmith, SIGKILL  4720 sleep fd 9      1, 42 s  f3k9-27qd
                orphaned      /var/lib/queue/db       ofd write    100-199  5000 worker, exit 1      5001 worker fd 4 +1  1        f3m2-8x0c
                held          /var/lib/app/data.db    posix read   0-99     900 app                  900 app fd 3         -        7a1b-cd42
                unknown       file fe:00:10010672     ofd write    all      -                        ?                    -        9zzz-0001
                4 locks: 2 orphaned, 1 hot, 1 cannot be judged. Next: lockwatch explain f3k9-27qd
            "#]],
        );
    }

    #[test]
    fn fits_the_terminal() {
        check(
            &fixture::report(),
            &Options { width: Some(110), ..fixture::options() },
            expect![[r#"
                VERDICT       FILE               LOCK         RANGE    TAKEN BY           HELD BY           WAITING  ID
                HOT orphaned  /etc/aim…ock.conf  flock write  all      4711 locksmith, …  4720 sleep fd 9   1, 42 s  f3k9-27qd
                orphaned      /var/lib/queue/db  ofd write    100-199  5000 worker, exi…  5001 worker fd …  1        f3m2-8x0c
                held          /var/lib…/data.db  posix read   0-99     900 app            900 app fd 3      -        7a1b-cd42
                unknown       file fe:…10010672  ofd write    all      -                  ?                 -        9zzz-0001
                4 locks: 2 orphaned, 1 hot, 1 cannot be judged. Next: lockwatch explain f3k9-27qd
            "#]],
        );
        let ghost = Report { locks: vec![fixture::ghost()], ..fixture::report() };
        check(
            &ghost,
            &Options { width: Some(80), ..fixture::options() },
            expect![[r#"
            VERDICT       FILE        LOCK         TAKEN BY    HELD BY    WAITING  ID
            HOT orphaned  /etc….conf  flock write  4711 lock…  4720 sle…  1, 42 s  f3k9-27qd
            1 lock: 1 orphaned, 1 hot. Next: lockwatch explain f3k9-27qd
        "#]],
        );
    }

    #[test]
    fn columns_and_headers_are_a_choice() {
        let columns = vec![Column::Id, Column::Cause, Column::Pid, Column::Age, Column::Dev, Column::Inode];
        check(
            &fixture::report(),
            &Options { columns, headers: false, ..fixture::options() },
            expect![[r#"
            f3k9-27qd  leaked  4711  2 min  fe:00  10010672
            f3m2-8x0c  child   5000  2 min  fe:00  10010672
            7a1b-cd42  -       900   -      fe:00  10010672
            9zzz-0001  -       -     -      fe:00  10010672
        "#]],
        );
    }

    #[test]
    fn hostile_names_stay_in_their_cells() {
        check(
            &fixture::hostile(),
            &fixture::options(),
            expect![[r#"
            VERDICT       FILE                                       LOCK         RANGE  TAKEN BY                          HELD BY                       WAITING  ID
            HOT orphaned  /tmp/a\nb\x1b[2J\u{202e}\xff"\\ (deleted)  flock write  all    4711 \x1b]0;x\x07\r\xfe, SIGTERM  4720 \x1b]0;x\x07\r\xfe fd 9  1, 42 s  f3k9-27qd
            1 lock: 1 orphaned, 1 hot. Next: lockwatch explain f3k9-27qd
        "#]],
        );
    }

    #[test]
    fn nothing_found_is_said_with_care() {
        let none = |exact| Report { locks: Vec::new(), exact, ..fixture::report() };
        let orphans = |unjudged| Options { scope: Scope::Orphans { unjudged }, ..fixture::options() };
        check(
            &none(true),
            &fixture::options(),
            expect![[r#"
            No locks.
        "#]],
        );
        check(
            &none(true),
            &orphans(0),
            expect![[r#"
            No orphaned locks.
        "#]],
        );
        check(
            &none(false),
            &orphans(2),
            expect![[r#"
                No orphaned locks, 2 others cannot be judged (lockwatch list --verdict unknown); not exact, some may be missing (lockwatch doctor).
            "#]],
        );
    }

    #[test]
    fn only_the_verdict_has_a_colour() {
        let one = Report { locks: vec![fixture::ghost()], ..fixture::report() };
        let columns = vec![Column::Verdict, Column::Id];
        let text = fixture::written(|out| write(&one, &Options { colour: true, columns, ..fixture::options() }, out));
        expect![[r#""\u{1b}[1mVERDICT\u{1b}[0m       \u{1b}[1mID\u{1b}[0m\n\u{1b}[1m\u{1b}[31mHOT orphaned\u{1b}[0m  f3k9-27qd\n1 lock: 1 orphaned, 1 hot. Next: lockwatch explain f3k9-27qd\n""#]].assert_eq(&format!("{text:?}"));
    }
}
