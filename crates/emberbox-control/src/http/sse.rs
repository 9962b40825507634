//! Server-sent events: what every stream has in common.
//!
//! A comment at least every 15 s, an end when the server ends, and headers
//! that keep proxies from holding events back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use emberbox_store::Caller;
use futures_util::stream::{Stream, StreamExt};
use serde::Serialize;
use serde_json::json;

use crate::Failure;
use crate::control::Control;

/// Time between heartbeats; the clients give up after 60 s of silence
/// (`client-contract.md`, section 4.3).
const HEARTBEAT: Duration = Duration::from_secs(15);

/// nginx and those who copy it buffer answers unless they are told.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The answer that carries `events` until they end, the server does, or the
/// caller may not see them any longer.
pub(super) fn respond(
    control: &Arc<Control>,
    caller: Caller,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    let closing = control.closing().clone();
    let over = Arc::clone(control).until_over(caller);
    let events = events
        .take_until(closing.cancelled_owned())
        .take_until(over)
        .map(Ok::<_, Infallible>);
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let mut response = sse.into_response();
    response
        .headers_mut()
        .insert(UNBUFFERED, HeaderValue::from_static("no"));
    response
}

/// An event with JSON in it.
pub(super) fn event(name: &str, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("events are maps with text as keys");
    Event::default().event(name).data(data)
}

/// The event that says why a stream cannot go on.
pub(super) fn error(failure: &Failure) -> Event {
    let data = json!({ "type": "error", "code": failure.code, "message": failure.message });
    event("error", &data)
}
