//! The way through an agent: where one runs, it has the answer and the history already.
//!
//! Its documents are read back into what they were written from, so that everything behind a look goes on as if we had
//! looked. An agent that does not answer, hangs, ends in the middle or speaks of things that we do not know is told in
//! one line, and we look for ourselves.

mod connection;
mod document;
mod event;
mod lock;
mod person;
mod words;

use std::{io::Read, path::Path};

use anyhow::{Context, Result};
use lockwatch_core::{report::Report, text::Text};

use self::connection::{Absent, Connection};
pub use self::event::{Feed, Told};
use crate::request::Request;

/// Everything that is, as the agent sees it; `None` where we must look for ourselves.
pub fn report(request: &Request) -> Option<Report> {
    ask(request, locks)
}

/// What happens from now on, behind everything that is; `None` where we must watch for ourselves. Must be called within a
/// runtime that has its drivers on.
pub fn events(request: &Request, operations: bool) -> Option<(Feed, Report)> {
    let page = if operations { "/api/v1/events?operations=1" } else { "/api/v1/events" };
    ask(request, |socket| {
        // What happens between the two is told twice rather than not at all.
        let feed = Feed::open(Connection::open(socket, page)?)?;
        Ok((feed, locks(socket)?))
    })
}

/// Says that an agent has failed us.
pub fn warn(request: &Request, why: &anyhow::Error) {
    let Some(socket) = &request.agent else { return };
    let shown = Text::new(socket.as_os_str().as_encoded_bytes());
    log::warn!("the agent at {shown} does not answer ({why:#}): looked without it");
}

fn ask<T>(request: &Request, question: impl FnOnce(&Path) -> Result<T>) -> Option<T> {
    let socket = request.agent.as_deref()?;
    match question(socket) {
        Ok(answer) => Some(answer),
        Err(error) if error.is::<Absent>() => None,
        Err(error) => {
            warn(request, &error);
            None
        }
    }
}

fn locks(socket: &Path) -> Result<Report> {
    let mut text = Vec::new();
    Connection::open(socket, "/api/v1/locks")?.read_to_end(&mut text).context("read its answer")?;
    document::read(&text)
}
