//! `audit`: reads the record of every clear, and says first if somebody has changed it.

use std::{io::ErrorKind, path::Path};

use anyhow::Context;
use lockwatch_config::Config;
use lockwatch_control::audit::Reading;
use lockwatch_core::text::Text;

use super::print;
use crate::{
    exit::Exit,
    output::{self, audit::Audit},
    request::AuditRequest,
};

/// Prints the wanted records. Fails, without another message, if the log is not as it was written.
pub fn run(request: &AuditRequest) -> anyhow::Result<Exit> {
    let path = match &request.log {
        Some(path) => path.clone(),
        None => Config::load(None).context("find the audit log (--audit-log FILE names it)")?.control.audit_log,
    };
    let reading = match Reading::open(&path) {
        // Where nothing was ever cleared there is no log.
        Err(error) if error.kind() == ErrorKind::NotFound && request.log.is_none() => nothing(&path),
        reading => reading.with_context(|| format!("read the audit log {}", shown(&path)))?,
    };
    let entries = reading.entries.iter().filter(|entry| !request.verify && request.filter.keeps(entry)).collect();
    let audit = Audit { path: &path, reading: &reading, entries, verify: request.verify };
    print(|out| output::audit::write(&audit, request.format, request.colour, request.width, out))?;
    Ok(if reading.breaks.is_empty() { Exit::Done } else { Exit::Failed })
}

fn nothing(path: &Path) -> Reading {
    let path = shown(path);
    let note = format!("there is no {path}: nothing was cleared on this host, or somebody took the log away");
    Reading { notes: vec![note], ..Reading::default() }
}

fn shown(path: &Path) -> Text {
    Text::new(path.as_os_str().as_encoded_bytes())
}
