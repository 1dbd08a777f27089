//! What happens, as it happens: as NDJSON, or as server-sent events for browsers (the HTML standard, section 9.2).
//!
//! A reader that is behind misses some and is told how many; one that does not read at all is cut off. Now and then it
//! gets an empty line, so that one that is gone is found: by us, and we by it.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::{Method, Request, Response, StatusCode, body::Bytes, header};
use tokio::{
    sync::{
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
        mpsc,
    },
    time::{Instant, interval_at},
};

use super::{
    House,
    answer::{self, Content, words},
    closed,
};
use crate::{
    agent::hub::{Ask, Line},
    output::event::{self, Event},
    sources::clock::Clock,
};

/// How often a reader hears that we are there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long the engine may take until it tells operations.
const BEGIN_WITHIN: Duration = Duration::from_secs(8);
/// How much may wait for a reader here: pieces, and bytes of each.
const MOST_PIECES: usize = 4;
const LARGEST_PIECE: usize = 64 << 10;

/// Opens a stream.
pub async fn answer<B>(house: &Arc<House>, request: &Request<B>) -> Response<Content> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let form = if accept.contains("text/event-stream") { Form::Sse } else { Form::Ndjson };
    if *request.method() == Method::HEAD {
        return answer::of(StatusCode::OK, form.content_type(), Content::Whole(None));
    }
    let wants_operations = request.uri().query().is_some_and(|query| query.split('&').any(|q| q == "operations=1"));
    let changes = house.door.changes();
    let operations = wants_operations.then(|| house.door.operations());
    if wants_operations && let Err(why) = house.door.ask(Ask::Operations, BEGIN_WITHIN).await {
        return words(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    let (to, from) = mpsc::channel(MOST_PIECES);
    tokio::spawn(Stream { house: Arc::clone(house), form, to }.run(changes, operations));
    answer::of(StatusCode::OK, form.content_type(), Content::Events(from))
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Ndjson,
    Sse,
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Form::Ndjson => "application/x-ndjson",
            Form::Sse => "text/event-stream",
        }
    }

    fn push(self, line: &str, piece: &mut String) {
        let (before, after) = match self {
            Form::Ndjson => ("", "\n"),
            Form::Sse => ("data: ", "\n\n"),
        };
        piece.extend([before, line, after]);
    }

    /// Nothing, said aloud.
    fn heartbeat(self) -> &'static str {
        match self {
            Form::Ndjson => "\n",
            Form::Sse => ":\n\n",
        }
    }
}

struct Stream {
    house: Arc<House>,
    form: Form,
    to: mpsc::Sender<Bytes>,
}

impl Stream {
    async fn run(self, mut changes: Receiver<Line>, mut operations: Option<Receiver<Line>>) {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let mut piece = String::new();
        // The number of locks is not in it, so nobody need be asked.
        self.own(&Event::Watching { at: Clock::read().now(), locks: 0, orphaned: 0, hot: 0 }, &mut piece);
        loop {
            if self.to.send(std::mem::take(&mut piece).into()).await.is_err() {
                return;
            }
            let goes_on = tokio::select! {
                heard = changes.recv() => self.hear(heard, &mut piece),
                heard = next(operations.as_mut()) => self.hear(heard, &mut piece),
                _ = heartbeat.tick() => {
                    piece.push_str(self.form.heartbeat());
                    true
                }
                () = closed(self.house.closing.clone()) => false,
                () = self.to.closed() => false,
            };
            if !goes_on {
                return;
            }
            // What else is there goes with it.
            for source in [Some(&mut changes), operations.as_mut()].into_iter().flatten() {
                while piece.len() < LARGEST_PIECE {
                    match source.try_recv() {
                        Ok(line) => self.form.push(&line, &mut piece),
                        Err(TryRecvError::Lagged(count)) => self.missed(count, &mut piece),
                        Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                    }
                }
            }
        }
    }

    /// Says whether there may be more.
    fn hear(&self, heard: Result<Line, RecvError>, piece: &mut String) -> bool {
        match heard {
            Ok(line) => self.form.push(&line, piece),
            Err(RecvError::Lagged(count)) => self.missed(count, piece),
            Err(RecvError::Closed) => return false,
        }
        true
    }

    fn missed(&self, count: u64, piece: &mut String) {
        self.house.missed.fetch_add(count, Ordering::Relaxed);
        self.own(&Event::Lost { at: Clock::read().now(), count }, piece);
    }

    fn own(&self, event: &Event<'_>, piece: &mut String) {
        self.form.push(&event::object(event), piece);
    }
}

async fn next(operations: Option<&mut Receiver<Line>>) -> Result<Line, RecvError> {
    match operations {
        Some(operations) => operations.recv().await,
        None => pending().await,
    }
}
