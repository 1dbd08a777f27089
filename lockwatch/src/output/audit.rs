//! The record of every clear: a table with the newest last, or JSON. What is wrong with the log itself comes first.

mod object;

use std::{
    io::{self, Write},
    path::Path,
};

use anstyle::Style;
use lockwatch_control::{
    audit::{Actor, Entry, Phase, Reading, Record},
    document::Outcome,
};
use lockwatch_core::text::Text;

use self::object::{Document, RecordObject};
use super::{
    Format,
    document::rfc3339,
    explain,
    layout::{self, Give},
    style::{self, STRONG, paint},
    to_json, words,
};

/// More breaks than these are only counted: one would do.
const MOST_BREAKS: usize = 5;

/// A log that was read, and which of its records to show.
pub struct Audit<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// All of it.
    pub reading: &'a Reading,
    /// Those to show.
    pub entries: Vec<&'a Entry>,
    /// Whether only its chain is of interest.
    pub verify: bool,
}

/// Prints it in the wanted format; `width` is the terminal's.
pub fn write(
    audit: &Audit<'_>,
    format: Format,
    colour: bool,
    width: Option<usize>,
    out: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Text => human(audit, colour, width, out),
        Format::Json => {
            to_json(&Document::of(audit), out)?;
            writeln!(out)
        }
        Format::Ndjson => {
            // The lines have no room for it.
            audit.reading.breaks.iter().for_each(|it| log::error!("the log is broken: {it}"));
            audit.reading.notes.iter().for_each(|note| log::warn!("{note}"));
            audit.entries.iter().try_for_each(|entry| {
                to_json(&RecordObject::of(entry), out)?;
                writeln!(out)
            })
        }
    }
}

fn human(audit: &Audit<'_>, colour: bool, width: Option<usize>, out: &mut impl Write) -> io::Result<()> {
    let Reading { breaks, notes, lines, .. } = audit.reading;
    let wrap = |text: &str, indent| explain::layout(&words::sentence(text), indent, width);
    if !breaks.is_empty() {
        let broken = paint(colour, style::HOT, "BROKEN");
        writeln!(out, "{broken}: {} is not as it was written.", shown(audit.path))?;
        for it in breaks.iter().take(MOST_BREAKS) {
            writeln!(out, "  {}", wrap(&it.to_string(), 2))?;
        }
        if breaks.len() > MOST_BREAKS {
            writeln!(out, "  and {} more", breaks.len() - MOST_BREAKS)?;
        }
    }
    for note in notes {
        writeln!(out, "{}", wrap(&format!("Note: {note}."), 0))?;
    }
    if !(breaks.is_empty() && notes.is_empty() || audit.entries.is_empty()) {
        writeln!(out)?;
    }
    table(&audit.entries, colour, width, out)?;
    let end = match (audit.verify, *lines) {
        // The notes say why, or it is a new one.
        (_, 0) if !notes.is_empty() => return Ok(()),
        (_, 0) => "The log is empty: nothing was cleared yet.".to_owned(),
        (true, _) => verified(audit.reading),
        (false, _) => summary(audit),
    };
    writeln!(out, "{}", wrap(&end, 0))?;
    match breaks.first() {
        // The line before is as likely the one that was changed.
        Some(it) => {
            let lines = format!("{},{}p", it.line.saturating_sub(1).max(1), it.line + 1);
            let path = words::shell_word(&Text::new(audit.path.as_os_str().as_encoded_bytes()));
            path.map_or(Ok(()), |path| writeln!(out, "Next: sed -n {lines} {path}"))
        }
        None => match audit.entries.iter().rfind(|entry| entry.unfinished) {
            Some(entry) => writeln!(out, "Next: lockwatch explain {}", words::sentence(&entry.record.id)),
            None => Ok(()),
        },
    }
}

fn table(entries: &[&Entry], colour: bool, width: Option<usize>, out: &mut impl Write) -> io::Result<()> {
    const HEADERS: [&str; 7] = ["WHEN", "WHAT", "LOCK", "FILE", "METHOD", "BY", "WHY"];
    const GIVES: [Give; 7] =
        [Give::Never, Give::Never, Give::Never, Give::Middle(10), Give::Never, Give::End(6), Give::End(10)];
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = entries.iter().map(|entry| cells(entry)).collect();
    let mut widths = HEADERS.map(layout::width);
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = layout::width(cell).max(*width));
    }
    if let Some(room) = width {
        layout::fit(&mut widths, &GIVES, room);
    }
    let line = |out: &mut dyn Write, cells: &[String; 7], style_of: &dyn Fn(usize) -> Style| {
        for (i, cell) in cells.iter().enumerate() {
            let cell = layout::cut(cell, widths[i], GIVES[i]);
            let last = i + 1 == cells.len();
            let fill = if last { 0 } else { widths[i].saturating_sub(layout::width(&cell)) + layout::GAP };
            write!(out, "{}{:fill$}", paint(colour, style_of(i), cell), "")?;
        }
        writeln!(out)
    };
    line(out, &HEADERS.map(str::to_owned), &|_| STRONG)?;
    for (entry, cells) in entries.iter().zip(&rows) {
        line(out, cells, &|i| if i == 1 { style_of(entry) } else { style::PLAIN })?;
    }
    Ok(())
}

fn cells(entry: &Entry) -> [String; 7] {
    let Record { id, file, method, reason, notes, .. } = &entry.record;
    let or_dash =
        |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| words::sentence(text).into_owned());
    let why: Vec<_> = reason.iter().chain(notes).map(|text| words::sentence(text).into_owned()).collect();
    [
        rfc3339(entry.at, 0),
        what(entry).to_owned(),
        words::sentence(id).into_owned(),
        or_dash(file.as_ref()),
        or_dash(method.as_ref()),
        by(&entry.record),
        or_dash(Some(&why.join("; ")).filter(|why| !why.is_empty())),
    ]
}

/// What a record says in a word or two.
fn what(entry: &Entry) -> &'static str {
    match (entry.record.phase, entry.record.outcome) {
        (Phase::Planned, _) => "planned",
        (Phase::Intent, _) if entry.unfinished => "BEGAN, no end",
        (Phase::Intent, _) => "began",
        (Phase::Outcome, None) => "ended",
        (Phase::Refused, None) | (_, Some(Outcome::Refused)) => "refused",
        (_, Some(Outcome::Planned)) => "not confirmed",
        (_, Some(Outcome::Changed)) => "changed, not done",
        (_, Some(Outcome::Cleared)) => "cleared",
        (_, Some(Outcome::StillHeld)) => "STILL HELD",
    }
}

fn style_of(entry: &Entry) -> Style {
    match what(entry) {
        "STILL HELD" | "BEGAN, no end" => style::HOT,
        "cleared" => style::GOOD,
        "refused" | "changed, not done" => style::DOUBT,
        _ => style::PLAIN,
    }
}

/// `uid 0 (bash, pts/3), uid 1000`.
fn by(record: &Record) -> String {
    let person = |actor: &Actor| {
        let seen: Vec<_> = actor.comm.iter().chain(&actor.tty).map(|text| words::sentence(text)).collect();
        let seen = if seen.is_empty() { String::new() } else { format!(" ({})", seen.join(", ")) };
        format!("uid {}{seen}", actor.uid)
    };
    let all: Vec<_> = std::iter::once(&record.actor).chain(&record.approved_by).map(person).collect();
    all.join(", ")
}

/// `6 records: 2 cleared, 1 refused. The chain of 9 lines is whole.`
fn summary(audit: &Audit<'_>) -> String {
    let lines = audit.reading.lines;
    let chain = if audit.reading.breaks.is_empty() {
        format!(" The chain of {} is whole.", words::count(lines, "line"))
    } else {
        String::new()
    };
    if audit.entries.is_empty() {
        return format!("No record fits, of {} in the log.{chain}", audit.reading.entries.len());
    }
    let counts: Vec<_> = ["cleared", "refused", "changed, not done", "STILL HELD", "BEGAN, no end"]
        .into_iter()
        .map(|word| (audit.entries.iter().filter(|entry| what(entry) == word).count(), word.to_lowercase()))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join("; ")) };
    format!("{}{counts}.{chain}", words::count(audit.entries.len(), "record"))
}

fn verified(reading: &Reading) -> String {
    let end = reading.end.as_deref().unwrap_or_default();
    let when = |entry: Option<&Entry>| entry.map_or_else(|| "?".to_owned(), |entry| rfc3339(entry.at, 0));
    let (first, last) = (when(reading.entries.first()), when(reading.entries.last()));
    let from_to = format!("{}, {first} to {last}", words::count(reading.lines, "line"));
    match reading.breaks.is_empty() {
        true => format!(
            "The chain is whole: {from_to}. The last line's hash is {end}: kept elsewhere, it shows later that nothing was \
             cut off or written anew."
        ),
        false => format!("The chain is broken: {from_to}."),
    }
}

fn shown(path: &Path) -> Text {
    Text::new(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use lockwatch_control::audit::{Break, Damage, ZEROS};

    use super::*;
    use crate::{fixture, output::schema::Schema};

    fn entry(line: usize, phase: Phase, outcome: Option<Outcome>) -> Entry {
        let record = Record {
            actor: Actor { uid: 0, pid: 900, comm: Some("bash".into()), tty: Some("pts/3".into()) },
            approved_by: Vec::new(),
            id: "f3k9-27qd".into(),
            file: Some("/etc/aim/aim_lock.conf".into()),
            method: Some("release".into()),
            reason: Some("ticket 7".into()),
            phase,
            outcome,
            plan_hash: Some("ab".into()),
            notes: Vec::new(),
        };
        Entry { line, at: fixture::ago(60 - line as u64), record, previous: ZEROS.into(), unfinished: false }
    }

    fn reading() -> Reading {
        let mut approved = entry(3, Phase::Outcome, Some(Outcome::Cleared));
        approved.record.approved_by = vec![Actor { uid: 1000, pid: 901, comm: None, tty: None }];
        approved.record.notes = vec!["fd 9 of pid 4720 was unlocked".into()];
        let mut refused = entry(4, Phase::Refused, None);
        refused.record = Record {
            id: "7a1b-cd42".into(),
            file: None,
            method: None,
            reason: None,
            notes: vec!["its acquirer lives".into()],
            ..refused.record
        };
        Reading {
            entries: vec![
                entry(1, Phase::Planned, None),
                entry(2, Phase::Intent, None),
                approved,
                refused,
                Entry { unfinished: true, ..entry(5, Phase::Intent, None) },
                entry(6, Phase::Outcome, Some(Outcome::StillHeld)),
            ],
            lines: 6,
            end: Some("e".repeat(64)),
            ..Reading::default()
        }
    }

    fn told(reading: &Reading, verify: bool, width: Option<usize>) -> String {
        let entries = if verify { Vec::new() } else { reading.entries.iter().collect() };
        let audit = Audit { path: Path::new("/var/log/lockwatch/audit.jsonl"), reading, entries, verify };
        let text = fixture::written(|out| write(&audit, Format::Text, false, width, out));
        fixture::assert_harmless(&text);
        let json = fixture::written(|out| write(&audit, Format::Json, false, width, out));
        fixture::assert_harmless(&json);
        Schema::Records.assert_valid(&json);
        let lines = fixture::written(|out| write(&audit, Format::Ndjson, false, width, out));
        lines.lines().for_each(|line| Schema::Audit.assert_valid(line));
        let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(document["records"], serde_json::Value::Array(lines));
        text
    }

    fn check(reading: &Reading, verify: bool, expect: Expect) {
        expect.assert_eq(&told(reading, verify, None));
    }

    #[test]
    fn the_newest_is_last_and_what_went_wrong_is_loud() {
        check(
            &reading(),
            false,
            expect![[r#"
            WHEN                  WHAT           LOCK       FILE                    METHOD   BY                             WHY
            2026-11-22T03:11:08Z  planned        f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            2026-11-22T03:11:09Z  began          f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            2026-11-22T03:11:10Z  cleared        f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3), uid 1000  ticket 7; fd 9 of pid 4720 was unlocked
            2026-11-22T03:11:11Z  refused        7a1b-cd42  -                       -        uid 0 (bash, pts/3)            its acquirer lives
            2026-11-22T03:11:12Z  BEGAN, no end  f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            2026-11-22T03:11:13Z  STILL HELD     f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            6 records: 1 cleared; 1 refused; 1 still held; 1 began, no end. The chain of 6 lines is whole.
            Next: lockwatch explain f3k9-27qd
        "#]],
        );
        let text = told(&reading(), false, Some(100));
        let table = text.lines().take(7);
        assert!(table.clone().all(|line| layout::width(line) <= 100), "{text}");
    }

    #[test]
    fn a_broken_chain_is_told_first() {
        let breaks = vec![Break { line: 4, damage: Damage::Gap }];
        let broken = Reading { breaks, notes: vec!["a note".into()], ..reading() };
        check(
            &broken,
            false,
            expect![[r#"
            BROKEN: /var/log/lockwatch/audit.jsonl is not as it was written.
              line 4 does not follow line 3: line 3 was altered, or lines between them were taken out
            Note: a note.

            WHEN                  WHAT           LOCK       FILE                    METHOD   BY                             WHY
            2026-11-22T03:11:08Z  planned        f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            2026-11-22T03:11:09Z  began          f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            2026-11-22T03:11:10Z  cleared        f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3), uid 1000  ticket 7; fd 9 of pid 4720 was unlocked
            2026-11-22T03:11:11Z  refused        7a1b-cd42  -                       -        uid 0 (bash, pts/3)            its acquirer lives
            2026-11-22T03:11:12Z  BEGAN, no end  f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            2026-11-22T03:11:13Z  STILL HELD     f3k9-27qd  /etc/aim/aim_lock.conf  release  uid 0 (bash, pts/3)            ticket 7
            6 records: 1 cleared; 1 refused; 1 still held; 1 began, no end.
            Next: sed -n 3,5p /var/log/lockwatch/audit.jsonl
        "#]],
        );
        check(
            &broken,
            true,
            expect![[r#"
            BROKEN: /var/log/lockwatch/audit.jsonl is not as it was written.
              line 4 does not follow line 3: line 3 was altered, or lines between them were taken out
            Note: a note.
            The chain is broken: 6 lines, 2026-11-22T03:11:08Z to 2026-11-22T03:11:13Z.
            Next: sed -n 3,5p /var/log/lockwatch/audit.jsonl
        "#]],
        );
        let breaks = (1..=9).map(|line| Break { line, damage: Damage::Gap }).collect();
        let text = told(&Reading { breaks, ..reading() }, true, None);
        assert!(text.contains("\n  and 4 more\n") && text.contains("sed -n 1,2p"), "{text}");
    }

    #[test]
    fn a_whole_chain_is_told_with_its_end() {
        check(
            &reading(),
            true,
            expect![[r#"
            The chain is whole: 6 lines, 2026-11-22T03:11:08Z to 2026-11-22T03:11:13Z. The last line's hash is eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee: kept elsewhere, it shows later that nothing was cut off or written anew.
        "#]],
        );
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        check(
            &Reading::default(),
            false,
            expect![[r#"
            The log is empty: nothing was cleared yet.
        "#]],
        );
        check(
            &Reading { notes: vec!["there is no log".into()], ..Reading::default() },
            true,
            expect![[r#"
            Note: there is no log.
        "#]],
        );
        let audit = Audit { path: Path::new("/x"), reading: &reading(), entries: Vec::new(), verify: false };
        let text = fixture::written(|out| write(&audit, Format::Text, false, None, out));
        assert_eq!(text, "No record fits, of 6 in the log. The chain of 6 lines is whole.\n");
    }

    #[test]
    fn hostile_names_stay_in_their_cells() {
        let evil = || Some("a\nb\u{1b}[2J\u{202e}\u{85}".to_owned());
        let mut reading = reading();
        let record = &mut reading.entries[4].record;
        record.actor = Actor { uid: u32::MAX, pid: 1, comm: evil(), tty: evil() };
        record.id = evil().unwrap_or_default();
        (record.file, record.method, record.reason) = (evil(), evil(), evil());
        reading.notes = evil().into_iter().collect();
        assert_eq!(told(&reading, false, None).lines().count(), 11);
    }
}
