//! The status page, and what has changed on it, as server-sent events (the HTML standard, section 9.2): each event is a
//! section, made anew. However many watch and reload, there is one look for all of them, at most once a second; and where
//! looks are slow, a page begins with what the last one has shown.

use std::{
    collections::HashMap,
    sync::{self, Arc, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use lockwatch_core::{report::Report, time::Timestamp};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    sync::{Mutex, broadcast::error::RecvError, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    House, Way,
    answer::{self, Content, words},
    closed,
};
use crate::agent::{
    hub::{Ask, Door},
    last::Glance,
    numbers::Numbers,
    page::{Page, Seen},
};

/// Between two looks for the page, at least; and so much longer than the last one took, so that looking for pages is
/// never more than a part of what the agent does.
const GAP: Duration = Duration::from_secs(1);
const TIMES_AS_LONG: u32 = 4;
/// How often a page hears how things are where nothing was told: who merely waits is no news.
const AT_LEAST_EVERY: Duration = Duration::from_secs(2);
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Whether somebody wants a document to look at, not words for a terminal.
pub fn is_wanted<B>(request: &Request<B>) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The document.
pub async fn document(house: &House, way: Way) -> Response<Content> {
    let mut bytes = [0; 16];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(16) => {}
        _ => return words(StatusCode::SERVICE_UNAVAILABLE, "the kernel gives no random number for the page's policy"),
    }
    let nonce: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let views = house.page.soon(&house.door).await;
    let document = views.of(house, way).document(&nonce);
    let mut response = answer::of(StatusCode::OK, "text/html; charset=utf-8", Content::Whole(Some(document.into())));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

/// What changes on it.
pub fn stream<B>(house: &Arc<House>, way: Way, request: &Request<B>) -> Response<Content> {
    let content = if *request.method() == Method::HEAD {
        Content::Whole(None)
    } else {
        let (to, from) = mpsc::channel(1);
        tokio::spawn(tell(Arc::clone(house), way, to));
        Content::Events(from)
    };
    let mut response = answer::of(StatusCode::OK, "text/event-stream", content);
    response.headers_mut().insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

async fn tell(house: Arc<House>, way: Way, to: mpsc::Sender<Bytes>) {
    let mut changes = house.door.changes();
    let mut tick = interval(AT_LEAST_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    let mut shown = HashMap::new();
    let mut wanted = Instant::now().checked_sub(GAP);
    loop {
        let views = tokio::select! {
            views = house.page.since(wanted, &house.door) => views,
            () = closed(house.closing.clone()) => return,
            () = to.closed() => return,
        };
        let piece = news(views.of(&house, way), &mut shown);
        if to.send(piece.into()).await.is_err() {
            return;
        }
        tokio::select! {
            // What was told is not in a look from before.
            heard = changes.recv() => match heard {
                Ok(_) | Err(RecvError::Lagged(_)) => wanted = Some(Instant::now()),
                Err(RecvError::Closed) => return,
            },
            _ = tick.tick() => wanted = Instant::now().checked_sub(GAP),
            () = closed(house.closing.clone()) => return,
            () = to.closed() => return,
        }
        while changes.try_recv().is_ok() {}
    }
}

/// The sections that are not as they were shown.
fn news(page: &Page, shown: &mut HashMap<&'static str, u64>) -> String {
    let mut piece = String::new();
    for section in &page.sections {
        if shown.insert(section.name, section.print) != Some(section.print) {
            let data = section.html.replace('\n', "\ndata: ");
            piece += &format!("event: {}\ndata: {data}\n\n", section.name);
        }
    }
    match page.at {
        Some(at) => piece + &format!("event: seen\ndata: {}\n\n", at.0 / 1_000_000),
        None => piece + ":\n\n",
    }
}

/// The last look, for all who watch.
#[derive(Debug, Default)]
pub struct Shared {
    last: sync::Mutex<Option<Arc<Look>>>,
    /// Whoever has this looks for all others.
    looking: Mutex<()>,
}

#[derive(Debug)]
struct Look {
    began: Instant,
    took: Duration,
    views: Arc<Views>,
}

impl Look {
    /// How long after it there is no other.
    fn pause(&self) -> Duration {
        GAP.max(self.took * TIMES_AS_LONG)
    }
}

/// The page for those who may know names, and for others.
#[derive(Debug)]
pub struct Views {
    full: Page,
    numbers: Page,
}

impl Views {
    fn of(&self, house: &House, way: Way) -> &Page {
        match way == Way::Unix || house.on_tcp.names {
            true => &self.full,
            false => &self.numbers,
        }
    }

    /// What a new look shows.
    async fn look(door: &Door) -> Result<Self, String> {
        let answer = door.ask(Ask::Look, LOOK_WITHIN).await?;
        let numbers = door.ask(Ask::Numbers, LOOK_WITHIN).await?;
        let report = &answer.report;
        Ok(Self::new(door, report, report.locks.len(), report.taken_at, &numbers))
    }

    /// What the last look has shown.
    async fn last(door: &Door, glance: &Glance) -> Result<Self, String> {
        let numbers = door.ask(Ask::Numbers, LOOK_WITHIN).await?;
        Ok(Self::new(door, &glance.report, glance.locks, numbers.at, &numbers))
    }

    fn new(door: &Door, report: &Report, locks: usize, now: Timestamp, numbers: &Numbers) -> Self {
        let (since, recent) = door.recent.all();
        let seen = Seen { report, locks, now, numbers, since, recent: &recent };
        Self { full: Page::full(&seen), numbers: Page::numbers(&seen) }
    }

    fn or_trouble(views: Result<Self, String>) -> Arc<Self> {
        Arc::new(views.unwrap_or_else(|why| Self { full: Page::trouble(&why), numbers: Page::trouble(&why) }))
    }
}

impl Shared {
    /// What there is without a look that takes long: nobody waits longer for a page, on however large a host.
    async fn soon(&self, door: &Door) -> Arc<Views> {
        // While somebody watches, there is another look as soon as this one is over.
        match self.last().filter(|look| look.began.elapsed() < look.pause() + look.took) {
            Some(look) => Arc::clone(&look.views),
            None => match door.last.get() {
                Some(glance) => Views::or_trouble(Views::last(door, &glance).await),
                None => self.since(Instant::now().checked_sub(GAP), door).await,
            },
        }
    }

    /// A look that began at that time or later, or one that was too slow to be made anew.
    async fn since(&self, wanted: Option<Instant>, door: &Door) -> Arc<Views> {
        loop {
            let rest = {
                let _looking = self.looking.lock().await;
                match self.last().map(|look| (look.pause(), look.began.elapsed(), look)) {
                    Some((.., look)) if wanted.is_some_and(|wanted| look.began >= wanted) => {
                        return Arc::clone(&look.views);
                    }
                    Some((pause, age, look)) if age < pause => {
                        if pause > GAP {
                            return Arc::clone(&look.views);
                        }
                        pause - age
                    }
                    _ => {
                        let began = Instant::now();
                        let views = Views::or_trouble(Views::look(door).await);
                        let look = Look { began, took: began.elapsed(), views: Arc::clone(&views) };
                        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(look));
                        return views;
                    }
                }
            };
            sleep(rest).await;
        }
    }

    fn last(&self) -> Option<Arc<Look>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
