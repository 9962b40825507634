//! Snapshots: take, list, get, restore, delete, fork.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use emberbox_api::{
    CreateSnapshot, Data, ErrorCode, ErrorResponse, ForkSandbox, Sandbox, Snapshot, Time,
};
use emberbox_core::SnapshotId;
use emberbox_store::SnapshotRecord;

use super::auth::{SecondPathText, Target};
use super::once::{IdempotencyKey, Keyed, Once};
use super::sandboxes::{parse, show};
use crate::Failure;
use crate::control::{Control, NewFork, answer_lost};

/// Longest comment, in bytes: a line on a page.
const COMMENT_MAX: usize = 500;

/// How long a fork may take before it is answered as it is: under the clients'
/// 60 s.
pub(super) const FORK_WAIT: Duration = Duration::from_secs(50);

/// Take a snapshot of a running sandbox, which goes on
#[utoipa::path(post, path = "/sandboxes/{id}/snapshots", tag = "snapshots",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey), request_body = CreateSnapshot,
    responses((status = 201, body = Data<Snapshot>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    target: Target,
    Keyed { body, once }: Keyed<CreateSnapshot>,
) -> Result<Response, Failure> {
    if body.comment.as_ref().is_some_and(|c| c.len() > COMMENT_MAX) {
        let message = format!("must be at most {COMMENT_MAX} bytes");
        return Err(Failure::invalid_field("comment", message));
    }
    let Target { caller, record } = target;
    let (tenant, taking) = (caller.tenant.clone(), Arc::clone(&control));
    once.answer(&control, &tenant, async move |before| {
        let taken = match before.made {
            Some(id) => {
                let found = taking.store().snapshot(&record.id, &parse_id(&id)?).await?;
                found.ok_or_else(|| answer_lost(Some(&id)))?
            }
            None => {
                let taken = taking.take_snapshot(&caller, record, body.comment, before.once);
                taken.await?
            }
        };
        let data = show_snapshot(taken);
        Ok((StatusCode::CREATED, Json(Data { data })))
    })
    .await
}

/// The same under an older name
#[utoipa::path(post, path = "/sandboxes/{id}/snapshot", tag = "snapshots",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey), request_body = CreateSnapshot,
    responses((status = 201, body = Data<Snapshot>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create_one(
    state: State<Arc<Control>>,
    target: Target,
    body: Keyed<CreateSnapshot>,
) -> Result<Response, Failure> {
    create(state, target, body).await
}

/// List a sandbox's snapshots, newest first
#[utoipa::path(get, path = "/sandboxes/{id}/snapshots", tag = "snapshots",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<Vec<Snapshot>>), (status = 404, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<Data<Vec<Snapshot>>>, Failure> {
    let records = control.store().list_snapshots(&target.record.id).await?;
    let data = records.into_iter().map(show_snapshot).collect();
    Ok(Json(Data { data }))
}

/// Get a snapshot
#[utoipa::path(get, path = "/sandboxes/{id}/snapshots/{snapshot}", tag = "snapshots",
    params(("id" = String, Path, description = "Sandbox id"),
        ("snapshot" = String, Path, description = "Snapshot id")),
    responses((status = 200, body = Data<Snapshot>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
) -> Result<Json<Data<Snapshot>>, Failure> {
    let found = control
        .store()
        .snapshot(&target.record.id, &parse_id(&id)?)
        .await?;
    let record = found.ok_or_else(not_found)?;
    Ok(Json(Data {
        data: show_snapshot(record),
    }))
}

/// Delete a snapshot
#[utoipa::path(delete, path = "/sandboxes/{id}/snapshots/{snapshot}", tag = "snapshots",
    params(("id" = String, Path, description = "Sandbox id"),
        ("snapshot" = String, Path, description = "Snapshot id")),
    responses((status = 204), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
) -> Result<StatusCode, Failure> {
    let snapshot = parse_id(&id)?;
    control
        .delete_snapshot(&target.caller.tenant, &target.record.id, &snapshot)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bring a sandbox's files, memory and processes back to a snapshot
#[utoipa::path(post, path = "/sandboxes/{id}/restore/{snapshot}", tag = "snapshots",
    params(("id" = String, Path, description = "Sandbox id"),
        ("snapshot" = String, Path, description = "Snapshot id"), IdempotencyKey),
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn restore(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
    once: Once,
) -> Result<Response, Failure> {
    let (tenant, snapshot) = (target.caller.tenant, parse_id(&id)?);
    let domain = control.preview_domain(&tenant).await?;
    let (restoring, record) = (Arc::clone(&control), target.record);
    once.answer(&control, &tenant, async move |_before| {
        let restored = Box::pin(restoring.restore_snapshot(record, snapshot)).await?;
        Ok((StatusCode::OK, Json(show(&restoring, &domain, restored))))
    })
    .await
}

/// Make a sandbox that goes on from where this one is, or from its snapshot
#[utoipa::path(post, path = "/sandboxes/{id}/fork", tag = "snapshots",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey),
    request_body = ForkSandbox,
    responses((status = 201, body = Sandbox), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn fork(
    State(control): State<Arc<Control>>,
    target: Target,
    Keyed { mut body, once }: Keyed<ForkSandbox>,
) -> Result<(StatusCode, Json<Sandbox>), Failure> {
    let snapshot = body
        .snapshot_id
        .take()
        .map(|id| parse_id(&id))
        .transpose()?;
    let new = parse::fork(body, &target.record, &control.limits(&target.caller))?;
    let domain = control.preview_domain(&target.caller.tenant).await?;
    let fork = NewFork {
        once: once.of(&target.caller.tenant),
        source: target.record,
        snapshot,
        new,
    };
    let forked = control.fork(target.caller, fork, FORK_WAIT).await?;
    Ok((StatusCode::CREATED, Json(show(&control, &domain, forked))))
}

pub(super) fn parse_id(text: &str) -> Result<SnapshotId, Failure> {
    // What is no identifier names nothing, like one that nobody has.
    text.parse().map_err(|_| not_found())
}

pub(super) fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "snapshot not found")
}

pub(super) fn show_snapshot(record: SnapshotRecord) -> Snapshot {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sandbox does not stand still for centuries"
    )]
    let stopped_ms = record.stopped_us.unwrap_or(0) as f64 / 1000.0;
    Snapshot {
        snapshot_id: record.id.clone(),
        id: record.id,
        sandbox_id: record.sandbox,
        comment: record.comment,
        state: "ready".to_owned(),
        status: "ready".to_owned(),
        parent_id: record.parent,
        size_bytes: record.size_bytes.unwrap_or(0),
        stopped_ms,
        created_at: Time(record.created_at),
    }
}
