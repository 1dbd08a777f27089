//! Telling what changes: a line for whoever watches the agent's output, a record for the journal, an object for programs.

use std::{
    io::{self, Write},
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use anyhow::{Context, Result};
use lockwatch_config::agent::LogForm;
use lockwatch_core::{policy::Decision, report::LockReport, text::Text};
use log::{Level, Record, kv};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::output::{
    Format, Options,
    event::{self, Event},
};

/// In which form changes are told.
pub enum Herald {
    /// Lines on stdout, for people or as NDJSON.
    Stdout(Format, Options),
    /// Records with fields, in the journal.
    Journal(JournalLog),
}

impl Herald {
    /// As is configured. By itself it goes to the journal if stderr leads there (systemd.exec(5), `JOURNAL_STREAM`).
    ///
    /// # Errors
    ///
    /// The journal is wanted and there is none (systemd-journald.service(8)).
    pub fn of(form: LogForm, options: &Options) -> Result<Self> {
        Ok(match form {
            LogForm::Auto if connected_to_journal() => Self::in_journal()?,
            LogForm::Auto | LogForm::Text => Self::Stdout(Format::Text, options.clone()),
            LogForm::Json => Self::Stdout(Format::Ndjson, options.clone()),
            LogForm::Journal => Self::in_journal()?,
        })
    }

    fn in_journal() -> Result<Self> {
        let log = JournalLog::empty().context("reach the journal at /run/systemd/journal/socket")?;
        Ok(Self::Journal(log.with_syslog_identifier("lockwatch".to_owned())))
    }

    /// Tells a human who watches where the rest is to be had.
    ///
    /// # Errors
    ///
    /// As [`Herald::tell`].
    pub fn greet(&self, address: Option<SocketAddr>, socket: &Path) -> Result<()> {
        let Self::Stdout(Format::Text, _) = self else { return Ok(()) };
        let socket = Text::new(socket.as_os_str().as_bytes());
        let page = address.map(|address| format!("http://{address}/ and ")).unwrap_or_default();
        let mut out = io::stdout().lock();
        writeln!(out, "lockwatch answers at {page}{socket}").and_then(|()| out.flush()).context("write to stdout")
    }

    /// Tells it.
    ///
    /// # Errors
    ///
    /// It cannot be written. An agent goes on all the same: its metrics and its stream say it too.
    pub fn tell(&self, event: &Event<'_>) -> Result<()> {
        match self {
            Self::Stdout(format, options) => {
                let mut out = io::stdout().lock();
                event::write(event, *format, options, &mut out).and_then(|()| out.flush()).context("write to stdout")
            }
            Self::Journal(log) => send(log, event).context("write to the journal"),
        }
    }
}

/// The line that a human would see is the message; what programs look for stands in fields of its own.
fn send(log: &JournalLog, event: &Event<'_>) -> io::Result<()> {
    let message = event::sentence(event);
    let lock = event.lock();
    let fields = fields(event, lock);
    let fields: Vec<(&str, kv::Value<'_>)> =
        fields.iter().map(|(name, value)| (*name, kv::Value::from(value.as_str()))).collect();
    let level = match event {
        Event::Hot { .. } | Event::Policy { decision: Decision::Frozen { .. }, .. } => Level::Error,
        Event::Orphaned { .. } | Event::Lost { .. } => Level::Warn,
        _ => Level::Info,
    };
    let arguments = format_args!("{message}");
    log.journal_send(
        &Record::builder().level(level).target("lockwatch").args(arguments).key_values(&fields.as_slice()).build(),
    )
}

/// Fields of the journal, as systemd.journal-fields(7) wants them: capitals, and a prefix of our own.
fn fields(event: &Event<'_>, lock: Option<&LockReport>) -> Vec<(&'static str, String)> {
    let mut fields = vec![("LOCKWATCH_EVENT", event.name().to_owned())];
    if let Event::Policy { decision, .. } = event {
        fields.push(("LOCKWATCH_POLICY", decision.policy().to_owned()));
        fields.push(("LOCKWATCH_DECISION", decision.name().to_owned()));
        fields.extend(decision.lock().map(|lock| ("LOCKWATCH_ID", lock.id.to_string())));
        fields.extend(decision.lock().map(|lock| ("LOCKWATCH_FILE", lock.file.clone())));
    }
    let Some(lock) = lock else { return fields };
    fields.push(("LOCKWATCH_ID", lock.id.to_string()));
    fields.push(("LOCKWATCH_VERDICT", lock.verdict.name().to_owned()));
    fields.push(("LOCKWATCH_KIND", lock.kind.name().to_owned()));
    fields.push(("LOCKWATCH_WAITERS", lock.waiters.len().to_string()));
    fields.extend(lock.cause.map(|cause| ("LOCKWATCH_CAUSE", cause.name().to_owned())));
    fields.extend(lock.file_seen.path.as_ref().map(|path| ("LOCKWATCH_FILE", path.to_string())));
    fields.extend(lock.acquirer.as_ref().map(|taker| ("LOCKWATCH_ACQUIRER_PID", taker.id.pid.to_string())));
    if !matches!(event, Event::Cleared { .. }) {
        fields.push(("LOCKWATCH_STORY", lock.evidence.join("; ")));
        fields.push(("LOCKWATCH_NEXT", format!("lockwatch explain {}", lock.id)));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, NOW};

    #[test]
    fn the_journal_gets_what_is_looked_for() {
        let ghost = fixture::ghost();
        let check = |event: Event<'_>, expect: &[(&str, &str)]| {
            let found = fields(&event, event.lock());
            for (name, value) in expect {
                assert!(found.iter().any(|(n, v)| n == name && v == value), "{name} {value}: {found:?}");
            }
            assert!(found.iter().all(|(_, value)| !value.contains('\n')), "{found:?}");
        };
        check(
            Event::Hot { at: NOW, lock: &ghost, history: &[] },
            &[
                ("LOCKWATCH_EVENT", "hot"),
                ("LOCKWATCH_ID", "f3k9-27qd"),
                ("LOCKWATCH_FILE", "/etc/aim/aim_lock.conf"),
                ("LOCKWATCH_NEXT", "lockwatch explain f3k9-27qd"),
            ],
        );
        check(Event::Cleared { at: NOW, lock: &ghost }, &[("LOCKWATCH_EVENT", "cleared")]);
        check(Event::AllClear { at: NOW }, &[("LOCKWATCH_EVENT", "all_clear")]);
    }
}
