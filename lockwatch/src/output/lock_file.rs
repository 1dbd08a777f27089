//! The story of a file that carries no kernel lock: what it is instead, who wrote it, and whether that process lives.

use std::io::{self, Write};

use lockwatch_core::{
    lockfile::{LockFile, Writer},
    report::Report,
};

use super::{
    Options,
    explain::{layout, person},
    style::{STRONG, paint},
    words,
};

/// Tells the story.
pub fn write(file: &LockFile, report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let writer = file.writer(&report.host);
    let wrap = |text: &str, indent| layout(text, indent, options.width);
    writeln!(out, "{}\n", wrap(&conclusion(file, writer.as_ref()), 0))?;
    for (label, text) in facts(file, writer.as_ref(), report) {
        writeln!(out, "  {label:<9} {}", wrap(&text, 12))?;
    }
    let (ways, next) = ways(file, writer.as_ref());
    if !ways.is_empty() {
        writeln!(out, "\n{}", paint(options.colour, STRONG, "What you can do"))?;
    }
    for way in ways {
        writeln!(out, "  {}", wrap(&way, 2))?;
    }
    writeln!(out, "\nNext: {next}")
}

fn conclusion(file: &LockFile, writer: Option<&Writer>) -> String {
    let path = &file.path;
    let none = match &file.doubt {
        Some(why) => {
            format!("no kernel lock on {path} is seen from here, but there may be one: {}.", words::sentence(why))
        }
        None => format!("no kernel lock is on {path}."),
    };
    if !file.is_one() {
        return format!(
            "{none} If some program takes its mere existence for a lock, the kernel knows nothing of that."
        );
    }
    let pid = file.claim.as_ref().map_or(0, |claim| claim.pid);
    let fate = match writer {
        Some(Writer::Lives) => format!("It names pid {pid}, which lives."),
        Some(Writer::Gone) => format!("It names pid {pid}, which is gone: the file was left behind."),
        Some(Writer::Reused) => {
            format!("It names pid {pid}, but whoever wrote that is gone: the file was left behind.")
        }
        Some(Writer::Elsewhere) => format!("It names pid {pid} of another machine."),
        Some(Writer::Unknown(why)) => {
            format!("It names pid {pid}, and whether the writer lives is not known: {}.", words::sentence(why))
        }
        None if file.size == 0 && file.kind == "file" => {
            return format!(
                "{none} It is empty: programs that lock such a file through the kernel leave it lying about, and then it \
                 means nothing. For others it is a lock *file*, whose existence is the lock."
            );
        }
        None => "It does not say who wrote it.".to_owned(),
    };
    format!(
        "{none} It is a lock *file*: that it exists is the lock, for those programs that look, and nobody but its owner \
         takes it away. {fate}"
    )
}

fn facts(file: &LockFile, writer: Option<&Writer>, report: &Report) -> Vec<(&'static str, String)> {
    let on = file.fs.as_ref().map(|fs| format!(" on {fs}")).unwrap_or_default();
    let what = match file.kind {
        "file" => format!("of {}", words::count(usize::try_from(file.size).unwrap_or(usize::MAX), "byte")),
        kind => format!("({kind})"),
    };
    let mut facts = vec![("file", format!("{} {what}, {}{on}", file.path, file.file))];
    let owner = match &file.user {
        Some(user) => format!("{user} (uid {})", file.uid),
        None => format!("uid {}", file.uid),
    };
    let written = file.modified_at.map_or_else(
        || "when is not known".to_owned(),
        |at| format!("{at}, {} ago", words::duration(report.taken_at.since(at))),
    );
    facts.push(("written", format!("{written}; it belongs to {owner}")));
    if let Some(claim) = &file.claim {
        let host = claim.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        facts.push(("names", format!("pid {}{host}", claim.pid)));
    }
    if let Some(why) = &file.unread {
        facts.push(("names", format!("its text was not read: {}", words::sentence(why))));
    }
    let who = file.process.as_deref();
    let started = || match who.and_then(|process| process.started_at) {
        Some(at) => format!("started {at}"),
        None => "when it started is not known".to_owned(),
    };
    match (writer, who) {
        (Some(Writer::Lives), Some(process)) => facts.push((
            "writer",
            format!("{}; {}, before the file was written: it may be the writer", person(process), started()),
        )),
        (Some(Writer::Reused), Some(process)) => facts.push((
            "writer",
            format!(
                "is gone; its number now belongs to {}, which {}, after the file was written",
                person(process),
                started()
            ),
        )),
        (Some(Writer::Gone), _) => facts.push(("writer", "is gone: no process has that number".to_owned())),
        _ => {}
    }
    facts.extend(file.open_by.iter().map(|(process, fd)| ("open in", format!("{}, as fd {fd}", person(process)))));
    match (file.open_by.is_empty(), file.open_by_complete) {
        (true, true) => facts.push(("open in", "nobody has it open now".to_owned())),
        (true, false) => facts.push(("open in", "nobody whom lockwatch may look into".to_owned())),
        (false, false) => facts.push(("open in", "perhaps others that lockwatch may not look into".to_owned())),
        (false, true) => {}
    }
    facts
}

/// What can be done, and the next command.
fn ways(file: &LockFile, writer: Option<&Writer>) -> (Vec<String>, String) {
    let path = words::shell_word(&file.path);
    let look = |pids: &[String]| format!("ps -o pid,lstart,user,args -p {}", pids.join(","));
    let mut openers: Vec<String> = file.open_by.iter().map(|(process, _)| process.id.pid.to_string()).collect();
    openers.dedup();
    let remove = "Once you are sure that no program relies on it, removing the file frees the lock: rm -i asks first. A file \
                  that is removed while its program lives lets two work at once.";
    let left_behind = matches!(writer, Some(Writer::Gone | Writer::Reused)) && openers.is_empty();
    match (writer, &path) {
        (Some(Writer::Lives), _) => {
            let pid = file.process.as_ref().map_or(0, |process| process.id.pid).to_string();
            let what = "The program takes the file away when it ends. To free the lock, end the program in its own way \
                        (its unit, its own stop command), not by removing the file.";
            (vec![what.to_owned()], look(&[pid]))
        }
        (Some(Writer::Elsewhere), _) => {
            let claim = file.claim.as_ref();
            let host = claim.and_then(|claim| words::shell_word(claim.host.as_ref()?)).unwrap_or_default();
            let pid = claim.map_or(0, |claim| claim.pid);
            (vec!["Look on that machine whether the process lives.".to_owned()], format!("ssh {host} ps -fp {pid}"))
        }
        (_, Some(path)) if left_behind => (vec![remove.to_owned()], format!("rm -i {path}")),
        _ if !openers.is_empty() => (Vec::new(), look(&openers)),
        (_, Some(path)) if file.is_one() && file.size > 0 => {
            (vec![remove.to_owned()], format!("ls -l --full-time {path}"))
        }
        (_, Some(path)) => (Vec::new(), format!("lockwatch trace --path {path}")),
        (_, None) => (Vec::new(), "lockwatch list".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};
    use lockwatch_core::{
        lock::{Device, FileId},
        parse::lockfile::Claim,
        text::Text,
    };

    use super::*;
    use crate::{
        fixture,
        output::{json, schema::Schema},
    };

    fn file() -> LockFile {
        LockFile {
            path: "/run/app.pid".into(),
            file: FileId { device: Device { major: 0, minor: 24 }, inode: 7 },
            fs: Some("tmpfs".into()),
            kind: "file",
            size: 5,
            uid: 0,
            user: Some("root".into()),
            modified_at: Some(fixture::ago(3700)),
            named_like_one: true,
            claim: Some(Claim { pid: 4711, host: None }),
            unread: None,
            process: None,
            open_by: Vec::new(),
            open_by_complete: true,
            doubt: None,
        }
    }

    fn told(file: &LockFile) -> String {
        let report = Report { locks: Vec::new(), ..fixture::report() };
        Schema::Locks.assert_valid(&fixture::written(|out| json::write_lock_file(file, &report, out)));
        let text = fixture::written(|out| write(file, &report, &fixture::options(), out));
        fixture::assert_harmless(&text);
        text
    }

    fn check(file: LockFile, expect: Expect) {
        expect.assert_eq(&told(&file));
    }

    #[test]
    fn left_behind() {
        check(
            file(),
            expect![[r#"
            no kernel lock is on /run/app.pid. It is a lock *file*: that it exists is the lock, for those programs that look, and nobody but its owner takes it away. It names pid 4711, which is gone: the file was left behind.

              file      /run/app.pid of 5 bytes, 00:18:7 on tmpfs
              written   2026-11-22 02:10:27 UTC, 1 h 1 min ago; it belongs to root (uid 0)
              names     pid 4711
              writer    is gone: no process has that number
              open in   nobody has it open now

            What you can do
              Once you are sure that no program relies on it, removing the file frees the lock: rm -i asks first. A file that is removed while its program lives lets two work at once.

            Next: rm -i /run/app.pid
        "#]],
        );
    }

    #[test]
    fn a_number_given_away_again() {
        let process = Some(Arc::new(fixture::process(4711, "innocent")));
        let writer = "gone; its number now belongs to pid 4711 (innocent) /usr/bin/innocent, uid 0, which started \
                      2026-11-22 02:12:07 UTC, after the file was written";
        // All else is told of any file that was left behind.
        let expect = told(&file())
            .replace("pid 4711, which is gone", "pid 4711, but whoever wrote that is gone")
            .replace("gone: no process has that number", writer);
        assert_eq!(told(&LockFile { process, ..file() }), expect);
    }

    #[test]
    fn a_writer_that_lives() {
        let process = Arc::new(fixture::process(4711, "app"));
        let file = LockFile {
            modified_at: Some(fixture::ago(3599)),
            process: Some(process.clone()),
            open_by: vec![(process, 3)],
            ..file()
        };
        check(
            file,
            expect![[r#"
            no kernel lock is on /run/app.pid. It is a lock *file*: that it exists is the lock, for those programs that look, and nobody but its owner takes it away. It names pid 4711, which lives.

              file      /run/app.pid of 5 bytes, 00:18:7 on tmpfs
              written   2026-11-22 02:12:08 UTC, 59 min 59 s ago; it belongs to root (uid 0)
              names     pid 4711
              writer    pid 4711 (app) /usr/bin/app, uid 0; started 2026-11-22 02:12:07 UTC, before the file was written: it may be the writer
              open in   pid 4711 (app) /usr/bin/app, uid 0, as fd 3

            What you can do
              The program takes the file away when it ends. To free the lock, end the program in its own way (its unit, its own stop command), not by removing the file.

            Next: ps -o pid,lstart,user,args -p 4711
        "#]],
        );
    }

    #[test]
    fn next_is_a_command_that_helps() {
        let next = |file: LockFile| told(&file).rsplit_once("Next: ").unwrap().1.trim_end().to_owned();
        let silent = || LockFile { claim: None, ..file() };
        assert_eq!(next(silent()), "ls -l --full-time /run/app.pid");
        assert_eq!(next(LockFile { size: 0, ..silent() }), "lockwatch trace --path /run/app.pid");
        assert_eq!(next(LockFile { named_like_one: false, ..silent() }), "lockwatch trace --path /run/app.pid");
        let elsewhere = Claim { pid: 7, host: Some("node-8".into()) };
        assert_eq!(next(LockFile { claim: Some(elsewhere), ..file() }), "ssh node-8 ps -fp 7");
        let open_by = vec![(Arc::new(fixture::process(9, "x")), 3), (Arc::new(fixture::process(9, "x")), 4)];
        assert_eq!(next(LockFile { open_by, ..file() }), "ps -o pid,lstart,user,args -p 9");
        let evil = Text::new(b"/tmp/a\nb\x1b[2J\xff");
        assert_eq!(next(LockFile { path: evil, ..file() }), "lockwatch list");
    }

    #[test]
    fn what_is_not_seen_is_not_denied() {
        let text = told(&LockFile { doubt: Some("this is a pid namespace".into()), ..file() });
        assert!(text.starts_with("no kernel lock on /run/app.pid is seen from here, but there may be one"), "{text}");
    }
}
