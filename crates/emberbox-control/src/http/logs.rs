//! What happened to a sandbox and what its app wrote.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{Data, ErrorResponse, Logs, Time};
use emberbox_core::app::LOGS_PATH;
use emberbox_guest::client::{ExecCall, ExecEvent};
use emberbox_store::{EventKind, EventRecord, SandboxRecord};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::auth::{StreamTarget, Target};
use super::exec::Lines;
use super::json::QueryString;
use super::sse;
use crate::Failure;
use crate::control::Control;
use crate::control::app;

/// Lines when nobody says how many.
const LINES: u32 = 200;

/// Most lines of one answer; the file itself is the place for more.
const LINES_MAX: u32 = 10_000;

/// How the logs may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// How many of the last lines; 200 when absent, at most 10000.
    lines: Option<String>,
}

/// Read the last lines of the log
#[utoipa::path(get, path = "/sandboxes/{id}/logs", tag = "apps",
    params(("id" = String, Path, description = "Sandbox id"), LogsQuery),
    responses((status = 200, body = Data<Logs>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    target: Target,
    QueryString(query): QueryString<LogsQuery>,
) -> Result<Json<Data<Logs>>, Failure> {
    let wanted = count(query.lines.as_deref())?;
    let mut lines = lifecycle(&control, &target.record).await?;
    // Of a sandbox that does not run only its own history is left.
    if target.record.is_ready() {
        let guest = control.guest(&target.record)?;
        lines.extend(app::tail(&guest, wanted).await?);
    }
    let skipped = lines.len().saturating_sub(wanted as usize);
    lines.drain(..skipped);
    Ok(Json(Data {
        data: Logs {
            sandbox_id: target.record.id,
            logs: lines.iter().map(|line| format!("{line}\n")).collect(),
            lines,
            logs_path: LOGS_PATH.to_owned(),
        },
    }))
}

/// Follow the log
#[utoipa::path(get, path = "/sandboxes/{id}/logs/stream", tag = "apps",
    params(("id" = String, Path, description = "Sandbox id"), LogsQuery,
        ("ticket" = Option<String>, Query, description = "In place of the key, see `/auth/sse-ticket`")),
    responses((status = 200, content_type = "text/event-stream",
            description = "`log` with `line`; ends with the sandbox"),
        (status = 404, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn stream(
    State(control): State<Arc<Control>>,
    StreamTarget(target): StreamTarget,
    QueryString(query): QueryString<LogsQuery>,
) -> Result<Response, Failure> {
    let wanted = count(query.lines.as_deref())?;
    let history = lifecycle(&control, &target.record).await?;
    let call = if target.record.is_ready() {
        let guest = control.guest(&target.record)?;
        Some(guest.exec(app::follow_spec(wanted)).await?)
    } else {
        None
    };
    let following = Following {
        call,
        lines: Lines::default(),
        waiting: history.iter().map(|text| line(text)).collect(),
    };
    Ok(sse::respond(&control, target.caller, events(following)))
}

/// Dropping it drops the call, which ends `tail` in the guest.
struct Following {
    call: Option<ExecCall>,
    lines: Lines,
    waiting: VecDeque<Event>,
}

fn events(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(following, async |mut following| {
        loop {
            if let Some(event) = following.waiting.pop_front() {
                return Some((event, following));
            }
            // The sandbox's end is the log's.
            let lines = match following.call.as_mut()?.next().await {
                Ok(ExecEvent::Output(_, data)) => following.lines.push(&data),
                Ok(ExecEvent::Exited(_)) | Err(_) => return None,
            };
            following
                .waiting
                .extend(lines.iter().map(|part| line(&part.text)));
        }
    })
}

fn line(text: &str) -> Event {
    sse::event("log", &json!({ "type": "log", "line": text }))
}

/// What happened to the sandbox, a line each.
async fn lifecycle(control: &Control, record: &SandboxRecord) -> Result<Vec<String>, Failure> {
    let events = control.store().sandbox_events(&record.id, 0).await?;
    Ok(events.iter().map(tell).collect())
}

fn tell(event: &EventRecord) -> String {
    let at = Time(event.at);
    match &event.kind {
        EventKind::StateChanged { state, .. } => format!("{at} sandbox is {state}"),
        EventKind::Error { message } => format!("{at} error: {message}"),
    }
}

fn count(text: Option<&str>) -> Result<u32, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(LINES);
    };
    let legal = text.parse().ok();
    legal
        .filter(|lines| (1..=LINES_MAX).contains(lines))
        .ok_or_else(|| {
            Failure::invalid_field("lines", format!("must be between 1 and {LINES_MAX}"))
        })
}
