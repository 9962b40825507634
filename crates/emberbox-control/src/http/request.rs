//! The id of a request: given by the client if it is sane, made up otherwise,
//! in every log line, every error body and every answer's `x-request-id`.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::metrics;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a client: twice a UUID's length, short in a log line.
const LONGEST: usize = 72;

/// What previews are called where requests are counted.
pub(crate) const PREVIEW: &str = "preview";

tokio::task_local! {
    static ID: String;
}

/// The id of the request this task works on.
pub(crate) fn id() -> Option<String> {
    ID.try_with(Clone::clone).ok()
}

/// Runs a request of the API under its id and reports how it went.
pub(super) async fn scope(request: Request, next: Next) -> Response {
    // Never the raw path: the metrics' label set and the log must not grow
    // with what clients make up.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    scope_as(request, route, |request| next.run(request)).await
}

/// When a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came(pub(crate) Instant);

/// Runs a request under its id and reports how it went, as one of `route`.
pub(crate) async fn scope_as<A: Future<Output = Response>>(
    mut request: Request,
    route: String,
    answer: impl FnOnce(Request) -> A,
) -> Response {
    let id = given(&request).unwrap_or_else(generate);
    let method = request.method().clone();
    let span = tracing::info_span!("request", request_id = %id, %method, route);
    let header = HeaderValue::from_str(&id);
    let started = Instant::now();
    request.extensions_mut().insert(Came(started));
    ID.scope(id, async move {
        let mut response = answer(request).await;
        let took = started.elapsed();
        let status = response.status().as_u16();
        let took_ms = took.as_secs_f64() * 1e3;
        if route == PREVIEW {
            // The users' apps' traffic, not the server's own.
            tracing::debug!(status, took_ms, "answered");
        } else {
            tracing::info!(status, took_ms, "answered");
        }
        metrics::answered(method.as_str(), &route, status, took);
        if let Ok(header) = header {
            // An answer from inside a sandbox may have its own.
            response.headers_mut().entry(HEADER).or_insert(header);
        }
        response
    })
    .instrument(span)
    .await
}

fn given(request: &Request) -> Option<String> {
    let id = request.headers().get(HEADER)?.to_str().ok()?;
    let sane = !id.is_empty()
        && id.len() <= LONGEST
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    sane.then(|| id.to_owned())
}

fn generate() -> String {
    let ulid = ulid::Ulid::generate().to_string().to_ascii_lowercase();
    format!("req_{ulid}")
}
