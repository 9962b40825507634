//! Whether a sandbox takes work, now or soon.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{
    Components, Data, ErrorResponse, Readiness, ReadinessDetail, ReadinessStatus, Time,
};
use emberbox_store::SandboxRecord;
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use tokio::time::Instant;

use super::auth::{StreamTarget, Target};
use super::sse;
use crate::control::Control;

/// How long the stream waits before it says `timeout` (`client-contract.md`,
/// section 4.2).
const STREAM_WAIT: Duration = Duration::from_secs(30);

/// Is it ready?
#[utoipa::path(get, path = "/sandboxes/{id}/readiness", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<Readiness>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(target: Target) -> Json<Data<Readiness>> {
    Json(Data {
        data: show(target.record),
    })
}

/// Tell me when it is ready
#[utoipa::path(get, path = "/sandboxes/{id}/readiness/stream", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, content_type = "text/event-stream",
            description = "`event: ready` with `ready_at`, or `event: timeout` with `reason`"),
        (status = 404, body = ErrorResponse)))]
pub(super) async fn stream(
    State(control): State<Arc<Control>>,
    StreamTarget(target): StreamTarget,
) -> Response {
    let opening = Event::default().comment("waiting for the sandbox");
    let waiting = Arc::clone(&control);
    let Target { caller, record } = target;
    let answer = async move { answer(&waiting, record).await };
    let events = stream::once(async { opening }).chain(stream::once(answer));
    sse::respond(&control, caller, events)
}

async fn answer(control: &Control, record: SandboxRecord) -> Event {
    let deadline = Instant::now() + STREAM_WAIT;
    let settled = |record: &SandboxRecord| record.is_ready() || !record.state.is_live();
    let (name, data) = match control.wait_for(record, deadline, settled).await {
        Ok(record) if record.is_ready() => {
            let ready_at = record.ready_at.map(Time);
            ("ready", json!({ "ready_at": ready_at }))
        }
        Ok(record) if record.state.is_live() => {
            let reason = format!("still {} after {} s", record.state, STREAM_WAIT.as_secs());
            ("timeout", json!({ "reason": reason }))
        }
        Ok(record) => {
            let reason = format!("the sandbox is in the state {}", record.state);
            ("timeout", json!({ "reason": reason }))
        }
        Err(failure) => {
            tracing::error!(error = failure.chain(), "readiness could not be read");
            ("timeout", json!({ "reason": failure.message }))
        }
    };
    sse::event(name, &data)
}

fn show(record: SandboxRecord) -> Readiness {
    let ready = record.is_ready();
    let status = if ready {
        ReadinessStatus::Ready
    } else {
        ReadinessStatus::Pending
    };
    Readiness {
        sandbox_id: record.id,
        state: record.state,
        ready,
        status,
        ready_at: record.ready_at.map(Time),
        readiness: ReadinessDetail {
            status,
            components: Components::all(status),
        },
    }
}
