//! Which question gets which answer.

use std::{sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderValue},
};

use super::{
    House, Way,
    answer::{self, Content, words},
    events, host,
    locks::Pieces,
    page,
};
use crate::agent::{
    hub::{Ask, Door},
    metrics::{self, Form},
};

/// An engine that has not turned for so long hangs: it does at least once a second, and the longest look takes a few.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// How long the engine may take for an answer.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
const COUNT_WITHIN: Duration = Duration::from_secs(8);

const ROUTES: &str = "lockwatch agent: who took a file lock, how that process died, who keeps the lock, who waits.

/                for browsers: the state of this host, live
/metrics         for Prometheus
/healthz         whether the agent works
/readyz          whether its first picture is complete
/api/v1/locks    every lock, as JSON (schema lockwatch.locks/1)
/api/v1/events   what happens, as it happens, as NDJSON or server-sent events (schema lockwatch.event/1);
                 ?operations=1 for every lock operation

Nothing can be changed here. On a terminal: lockwatch orphans";

/// Answers one request.
pub async fn answer<B>(house: &Arc<House>, way: Way, request: &Request<B>) -> Response<Content> {
    if way == Way::Tcp
        && let Err(why) = host::check(&house.name, request.uri(), request.headers())
    {
        return words(StatusCode::FORBIDDEN, why);
    }
    let path = request.uri().path();
    if !matches!(path, "/" | "/page/stream" | "/metrics" | "/healthz" | "/readyz" | "/api/v1/locks" | "/api/v1/events")
    {
        return words(StatusCode::NOT_FOUND, "there is no such page (/ names all)");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = words(StatusCode::METHOD_NOT_ALLOWED, "nothing can be changed here: GET and HEAD only");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if path.starts_with("/api/") && way == Way::Tcp && !house.on_tcp.api {
        return words(
            StatusCode::FORBIDDEN,
            "the API names processes and files, and is only on the agent's unix socket unless its configuration says so",
        );
    }
    match path {
        "/metrics" => metrics(house, request).await,
        "/healthz" => healthz(house.door.pulse.silent_for()),
        "/readyz" => readyz(&house.door),
        "/api/v1/locks" => locks(house).await,
        "/api/v1/events" => events::answer(house, request).await,
        "/page/stream" => page::stream(house, way, request),
        _ if page::is_wanted(request) => page::document(house, way).await,
        _ => words(StatusCode::OK, ROUTES),
    }
}

fn healthz(silent: Duration) -> Response<Content> {
    if silent < HANGS_AFTER {
        return words(StatusCode::OK, "ok");
    }
    let text = format!("the engine has not turned for {} s (its log tells what it was about)", silent.as_secs());
    words(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn readyz(door: &Door) -> Response<Content> {
    match door.pulse.is_ready() {
        true => healthz(door.pulse.silent_for()),
        false => words(StatusCode::SERVICE_UNAVAILABLE, "the first picture is not complete yet"),
    }
}

async fn metrics<B>(house: &House, request: &Request<B>) -> Response<Content> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = Form::preferred(accept);
    let page = match house.door.ask(Ask::Numbers, COUNT_WITHIN).await {
        Ok(numbers) => metrics::page(numbers, house.numbers(), form).map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    match page {
        Ok(page) => answer::of(StatusCode::OK, form.content_type(), Content::Whole(Some(page.into()))),
        Err(why) => words(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn locks(house: &House) -> Response<Content> {
    let pieces = match house.door.ask(Ask::Look, LOOK_WITHIN).await {
        Ok(all) => Pieces::of(all).map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    match pieces {
        Ok(pieces) => answer::of(StatusCode::OK, "application/json", Content::Locks(pieces)),
        Err(why) => words(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_hangs_is_not_healthy() {
        let check = |seconds, expect: StatusCode| {
            assert_eq!(healthz(Duration::from_secs(seconds)).status(), expect, "{seconds}");
        };
        check(0, StatusCode::OK);
        check(9, StatusCode::OK);
        check(10, StatusCode::SERVICE_UNAVAILABLE);
        check(1000, StatusCode::SERVICE_UNAVAILABLE);
    }
}
