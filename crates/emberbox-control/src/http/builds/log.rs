//! What happens in a build, as it happens and afterwards.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{BuildEvent, Data, ErrorResponse, Time};
use emberbox_core::{BuildErrorCode, BuildId};
use emberbox_store::{BuildEventKind, BuildEventRecord, BuildLine};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::broadcast;
use utoipa::IntoParams;

use super::parse_id;
use crate::Failure;
use crate::control::{Control, next_build_change};
use crate::http::auth::{Auth, PathText, StreamAuth};
use crate::http::json::QueryString;
use crate::http::sse;
use crate::http::usage::limit;

/// Events that are read at a time.
const PAGE: u32 = 500;

/// Most events of one answer: the longest log that is kept has fewer.
const EVENTS_MAX: u32 = 100_000;

/// How a build's log may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct LogsQuery {
    /// Only what came after the event of this id.
    after: Option<String>,
    /// Most events; all when absent.
    limit: Option<String>,
}

/// Read what happened in a build
#[utoipa::path(get, path = "/sandbox-template-builds/{id}/logs", tag = "templates",
    params(("id" = String, Path, description = "Build id"), LogsQuery),
    responses((status = 200, body = Data<Vec<BuildEvent>>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn logs(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    QueryString(query): QueryString<LogsQuery>,
) -> Result<Json<Data<Vec<BuildEvent>>>, Failure> {
    let after = match query.after.as_deref() {
        None => 0,
        Some(text) => parse_event("after", text)?,
    };
    let limit = limit(query.limit.as_deref(), EVENTS_MAX, EVENTS_MAX)?;
    let id = parse_id(&id)?;
    let build = control.store().build(&caller.tenant, &id).await?;
    let build = build.ok_or_else(Failure::build_not_found)?;
    let events = control
        .store()
        .build_events(&build.id, after, limit)
        .await?;
    let data = events.into_iter().map(show_event).collect();
    Ok(Json(Data { data }))
}

/// Follow a build until it is over
#[utoipa::path(get, path = "/sandbox-template-builds/{id}/logs/stream", tag = "templates",
    params(("id" = String, Path, description = "Build id"),
        ("Last-Event-ID" = Option<String>, Header, description = "Where to read on; without it what happened in this attempt comes first"),
        ("ticket" = Option<String>, Query, description = "In place of the key, see `/auth/sse-ticket`")),
    responses((status = 200, content_type = "text/event-stream",
            description = "`build_event`, each a BuildEvent; ends at ready, failed or cancelled"),
        (status = 404, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn stream(
    State(control): State<Arc<Control>>,
    StreamAuth(caller): StreamAuth,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id = parse_id(&id)?;
    // Before the first read: a change in between is seen either way.
    let changes = control.build_changes();
    let build = control.store().build(&caller.tenant, &id).await?;
    let build = build.ok_or_else(Failure::build_not_found)?;
    let position = match headers.get("last-event-id") {
        Some(last) => parse_event("Last-Event-ID", last.to_str().unwrap_or_default())?,
        None => {
            let store = control.store();
            store.before_build_attempt(&id, build.attempt).await?
        }
    };
    // Who has seen the last event waits for none.
    let stored = control.store().build_events(&id, position, 1).await?;
    let following = Following {
        over: build.state.is_over() && stored.is_empty(),
        control: Arc::clone(&control),
        changes,
        id,
        position,
        waiting: VecDeque::new(),
    };
    Ok(sse::respond(&control, caller, follow(following)))
}

struct Following {
    control: Arc<Control>,
    changes: broadcast::Receiver<BuildId>,
    id: BuildId,
    position: i64,
    waiting: VecDeque<Event>,
    over: bool,
}

fn follow(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(following, async |mut following| {
        while following.waiting.is_empty() && !following.over {
            following.advance().await;
        }
        let event = following.waiting.pop_front()?;
        Some((event, following))
    })
}

impl Following {
    /// Reads what is new, or waits for it.
    async fn advance(&mut self) {
        let store = self.control.store();
        let events = match store.build_events(&self.id, self.position, PAGE).await {
            Ok(events) => events,
            Err(error) => {
                // The client comes back with the last id it has.
                let error = Failure::from(error).chain();
                tracing::error!(error, "a build's log cannot be read");
                self.over = true;
                return;
            }
        };
        if events.is_empty() {
            // Its template may be deleted meanwhile, and its log with it.
            match store.build_of_sandbox(&self.id).await {
                Ok(Some(build)) if !build.state.is_over() => {
                    next_build_change(&mut self.changes, &self.id).await;
                }
                Ok(_) | Err(_) => self.over = !self.has_more().await,
            }
            return;
        }
        for event in events {
            self.position = event.id;
            // A later attempt goes on after the end of an earlier one.
            let is_state = matches!(event.kind, BuildEventKind::State { .. });
            self.over = is_state && event.state.is_over();
            let shown = show_event(event);
            let id = shown.id.to_string();
            self.waiting
                .push_back(sse::event("build_event", &shown).id(id));
            if self.over {
                return;
            }
        }
    }

    /// Whether something was stored since the last look.
    async fn has_more(&self) -> bool {
        let store = self.control.store();
        let events = store.build_events(&self.id, self.position, 1).await;
        events.is_ok_and(|events| !events.is_empty())
    }
}

fn show_event(record: BuildEventRecord) -> BuildEvent {
    let mut event = BuildEvent {
        id: record.id,
        event: record.state.as_str().to_owned(),
        state: record.state.as_str().to_owned(),
        attempt: record.attempt,
        at: Time(record.at),
        step: None,
        command: None,
        cached: None,
        line: None,
        message: None,
        error_code: None,
        error_message: None,
    };
    match record.kind {
        BuildEventKind::State { reason, error } => {
            event.error_code = error.map(|code: BuildErrorCode| code.to_string());
            event.error_message = reason.clone().filter(|_| error.is_some());
            event.message = reason;
        }
        BuildEventKind::Line(BuildLine::Step {
            index,
            command,
            cached,
        }) => {
            event.event = "step".to_owned();
            event.step = Some(index);
            event.command = Some(command);
            event.cached = Some(cached);
        }
        BuildEventKind::Line(BuildLine::Output { step, line }) => {
            event.event = "log".to_owned();
            event.step = step;
            event.line = Some(line);
        }
        BuildEventKind::Cut => {
            event.event = "log_cut".to_owned();
            event.message =
                Some("the log is over its limit; what came after is not kept".to_owned());
        }
    }
    event
}

fn parse_event(field: &str, text: &str) -> Result<i64, Failure> {
    let id = text.parse().ok().filter(|id| *id >= 0);
    id.ok_or_else(|| Failure::invalid_field(field, "is not the id of an event"))
}
