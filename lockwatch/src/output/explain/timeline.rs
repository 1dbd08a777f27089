//! What has happened to a lock, one line each: time, what, who.

use std::io::{self, Write};

use lockwatch_core::{
    id::LockId,
    process::{Death, Life, Process},
    timeline::{Moment, What},
};

use crate::output::{
    Options,
    document::rfc3339,
    style::{self, paint},
    words,
};

/// Prints moments. `id` stands before each where there are several locks.
pub fn write(moments: &[Moment], id: Option<&LockId>, options: &Options, out: &mut impl Write) -> io::Result<()> {
    for moment in moments {
        let word = moment.what.name().replace('_', "-");
        let style = match moment.what {
            What::Hot => style::HOT,
            What::Orphaned | What::OwnerDied => style::BAD,
            _ => style::PLAIN,
        };
        let word = paint(options.colour, style, format!("{word:<16}"));
        let id = id.map(|id| format!("{id} ")).unwrap_or_default();
        writeln!(out, "  {} {word} {id}{}", rfc3339(moment.at, 3), text(moment))?;
    }
    Ok(())
}

fn text(moment: &Moment) -> String {
    let who = moment.who.as_deref().map_or_else(|| "somebody whom nobody saw".to_owned(), Process::to_string);
    let waited = moment.waited.map(|waited| format!(", after {}", words::duration(waited))).unwrap_or_default();
    match moment.what {
        What::Taken => format!("{who} took it"),
        What::Found => format!("it was there already, taken by {who}"),
        What::Waiting => format!("{who} asks for it, and waits"),
        What::Granted => format!("{who} has a lock now{waited}"),
        What::WaitEnded => format!("{who} waits no more{waited}"),
        What::PassedOn => format!("{who} keeps it alive, too"),
        What::LetGo => format!("{who} keeps it alive no more"),
        What::OwnerDied => match moment.who.as_deref().map(|process| &process.life) {
            Some(Life::Dead(Death { exit: Some(exit), .. })) => format!("{who} {exit}"),
            _ => format!("{who} is gone; nobody saw how"),
        },
        What::ReleasedInPart => "some of its bytes were unlocked".to_owned(),
        What::Orphaned => "nobody who knows of it is left".to_owned(),
        What::Hot => "somebody has been waiting for it too long".to_owned(),
        What::Released => match &moment.who {
            Some(_) => format!("it is gone: {who} unlocked it, or closed the file"),
            None => "it is gone".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use expect_test::expect;
    use lockwatch_core::process::Exit;

    use super::*;
    use crate::fixture::{self, ago};

    #[test]
    fn every_moment_has_its_line() {
        let hostile = fixture::hostile();
        let evil = hostile.locks[0].acquirer.clone();
        let moment = |seconds, what, who, waited: Option<u64>| Moment {
            at: ago(seconds),
            what,
            who,
            waited: waited.map(Duration::from_secs),
            number: 0,
        };
        let some = || Some(Arc::new(fixture::process(4800, "updater")));
        let dead = Some(Arc::new(fixture::dead(4711, "locksmith", Some(Exit::Code(3)))));
        let moments = [
            moment(9, What::Taken, dead.clone(), None),
            moment(9, What::Found, None, None),
            moment(8, What::Waiting, some(), None),
            moment(7, What::Granted, some(), Some(3)),
            moment(6, What::WaitEnded, evil, Some(4)),
            moment(5, What::PassedOn, some(), None),
            moment(5, What::LetGo, some(), None),
            moment(4, What::OwnerDied, dead, None),
            moment(4, What::ReleasedInPart, some(), None),
            moment(3, What::Orphaned, None, None),
            moment(2, What::Hot, None, None),
            moment(1, What::Released, some(), None),
            moment(1, What::Released, None, None),
        ];
        let options = fixture::options();
        let id = &hostile.locks[0].id;
        let text = fixture::written(|out| write(&moments[1..], None, &options, out));
        let named = fixture::written(|out| write(&moments[..1], Some(id), &options, out));
        fixture::assert_harmless(&text);
        expect![[r#"
            Timeline
              2026-11-22T03:11:58.123Z taken            f3k9-27qd pid 4711 (locksmith) took it
              2026-11-22T03:11:58.123Z found            it was there already, taken by somebody whom nobody saw
              2026-11-22T03:11:59.123Z waiting          pid 4800 (updater) asks for it, and waits
              2026-11-22T03:12:00.123Z granted          pid 4800 (updater) has a lock now, after 3 s
              2026-11-22T03:12:01.123Z wait-ended       pid 4711 (\x1b]0;x\x07\r\xfe) waits no more, after 4 s
              2026-11-22T03:12:02.123Z passed-on        pid 4800 (updater) keeps it alive, too
              2026-11-22T03:12:02.123Z let-go           pid 4800 (updater) keeps it alive no more
              2026-11-22T03:12:03.123Z owner-died       pid 4711 (locksmith) exited with code 3
              2026-11-22T03:12:03.123Z released-in-part some of its bytes were unlocked
              2026-11-22T03:12:04.123Z orphaned         nobody who knows of it is left
              2026-11-22T03:12:05.123Z hot              somebody has been waiting for it too long
              2026-11-22T03:12:06.123Z released         it is gone: pid 4800 (updater) unlocked it, or closed the file
              2026-11-22T03:12:06.123Z released         it is gone
        "#]]
        .assert_eq(&format!("Timeline\n{named}{text}"));
    }
}
