//! What happens to all of a tenant's sandboxes, as it happens.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{ErrorResponse, Time};
use emberbox_core::{SandboxId, TenantId};
use emberbox_store::{EventKind, EventRecord};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast;
use utoipa::IntoParams;

use super::auth::StreamAuth;
use super::json::QueryString;
use super::sse;
use crate::Failure;
use crate::control::Control;

/// What can be told apart.
const STATE_CHANGED: &str = "sandbox.state_changed";
const ERROR: &str = "sandbox.error";

/// Most patterns of one stream.
const PATTERNS_MAX: usize = 50;

/// How the stream may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only these types, separated by commas; `sandbox.*` is all of a kind.
    types: Option<String>,
}

/// Follow what happens to all sandboxes, from now on
#[utoipa::path(get, path = "/events/stream", tag = "sandboxes", params(EventsQuery,
    ("Last-Event-ID" = Option<String>, Header, description = "Where to read on"),
    ("ticket" = Option<String>, Query, description = "In place of the key, see `/auth/sse-ticket`")),
    responses((status = 200, content_type = "text/event-stream",
            description = "`sandbox.state_changed`, `sandbox.error`; their data repeats the type"),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn stream(
    State(control): State<Arc<Control>>,
    StreamAuth(caller): StreamAuth,
    QueryString(query): QueryString<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wanted = Wanted::parse(query.types.as_deref())?;
    // Before it is known where to begin: nothing in between is missed.
    let changes = control.changes();
    let position = match headers.get("last-event-id") {
        Some(last) => {
            let last = last.to_str().ok().and_then(|text| text.parse().ok());
            last.ok_or_else(|| Failure::invalid_field("Last-Event-ID", "is none of this stream"))?
        }
        None => control.store().newest_event().await?,
    };
    let following = Following {
        control: Arc::clone(&control),
        changes,
        tenant: caller.tenant.clone(),
        wanted,
        position,
        waiting: VecDeque::new(),
    };
    Ok(sse::respond(&control, caller, events(following)))
}

/// Which types are told.
struct Wanted(Vec<String>);

impl Wanted {
    fn parse(text: Option<&str>) -> Result<Self, Failure> {
        let patterns = text.unwrap_or_default().split(',').map(str::trim);
        let patterns: Vec<_> = patterns
            .filter(|pattern| !pattern.is_empty())
            .map(str::to_owned)
            .collect();
        if patterns.len() > PATTERNS_MAX {
            let message = format!("must be at most {PATTERNS_MAX}");
            return Err(Failure::invalid_field("types", message));
        }
        Ok(Self(patterns))
    }

    fn includes(&self, name: &str) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|pattern| match pattern.strip_suffix('*') {
                    Some(start) => name.starts_with(start),
                    None => name == pattern,
                })
    }
}

struct Following {
    control: Arc<Control>,
    changes: broadcast::Receiver<SandboxId>,
    tenant: TenantId,
    wanted: Wanted,
    position: i64,
    waiting: VecDeque<Event>,
}

fn events(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(following, async |mut following| {
        loop {
            if let Some(event) = following.waiting.pop_front() {
                return Some((event, following));
            }
            let store = following.control.store();
            let news = store.tenant_events(&following.tenant, following.position);
            match news.await {
                Ok(news) if news.is_empty() => following.changed().await,
                Ok(news) => following.take(news),
                Err(error) => {
                    // The client comes back with the last id it has.
                    let error = Failure::from(error).chain();
                    tracing::error!(error, "events cannot be read");
                    return None;
                }
            }
        }
    })
}

impl Following {
    /// Resolves when some sandbox changed, or may have.
    async fn changed(&mut self) {
        // Control owns the sender, and this holds control.
        let _some_change = self.changes.recv().await;
    }

    fn take(&mut self, news: Vec<(SandboxId, EventRecord)>) {
        for (sandbox, record) in news {
            self.position = record.id;
            let timestamp = Time(record.at);
            let (name, data) = match record.kind {
                EventKind::StateChanged { state, previous } => {
                    let data = json!({
                        "type": STATE_CHANGED,
                        "sandbox_id": sandbox,
                        "state": state,
                        "previous_state": previous,
                        "timestamp": timestamp,
                    });
                    (STATE_CHANGED, data)
                }
                EventKind::Error { message } => {
                    let data = json!({
                        "type": ERROR,
                        "sandbox_id": sandbox,
                        "message": message,
                        "timestamp": timestamp,
                    });
                    (ERROR, data)
                }
            };
            if self.wanted.includes(name) {
                let event = sse::event(name, &data).id(record.id.to_string());
                self.waiting.push_back(event);
            }
        }
    }
}
