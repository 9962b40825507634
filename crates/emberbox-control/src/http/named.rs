//! Names that keep a snapshot.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use emberbox_api::{
    Data, ErrorResponse, FieldError, ForkSandbox, NameSnapshot, NamedSnapshot, NamedSnapshotDetail,
    RemovedName, Sandbox, Time,
};
use emberbox_core::{SandboxId, SnapshotId};
use emberbox_store::NamedRecord;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Auth, PathText};
use super::history::{fork_of, show_history};
use super::json::QueryString;
use super::once::{IdempotencyKey, Keyed};
use super::snapshots::parse_id;
use crate::Failure;
use crate::control::{Control, Kept};

/// Longest name: it stands in paths.
const NAME_MAX: usize = 128;

/// How names may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NamedQuery {
    /// Of sandboxes of this workspace.
    workspace_id: Option<String>,
}

/// List named snapshots, newest first
#[utoipa::path(get, path = "/named-snapshots", tag = "snapshots", params(NamedQuery),
    responses((status = 200, body = Data<Vec<NamedSnapshot>>), (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<NamedQuery>,
) -> Result<Json<Data<Vec<NamedSnapshot>>>, Failure> {
    let workspace = query.workspace_id.filter(|text| !text.is_empty());
    let workspace = workspace.map(|text| {
        let parsed = text.parse();
        parsed.map_err(|_| Failure::invalid_field("workspace_id", "must be a UUID"))
    });
    let records = control
        .store()
        .named_snapshots(&caller.tenant, workspace.transpose()?)
        .await?;
    let data = records.into_iter().map(show_named).collect();
    Ok(Json(Data { data }))
}

/// Keep a snapshot under a name, or take one to keep
#[utoipa::path(post, path = "/named-snapshots", tag = "snapshots", params(IdempotencyKey),
    request_body = NameSnapshot,
    responses((status = 201, body = Data<NamedSnapshot>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    Keyed { body, once }: Keyed<NameSnapshot>,
) -> Result<Response, Failure> {
    let (name, source) = parse(body)?;
    let (tenant, naming) = (caller.tenant.clone(), Arc::clone(&control));
    once.answer(&control, &tenant, async move |_before| {
        let named = match source {
            Source::Snapshot(id) => naming.name_snapshot(&caller.tenant, &name, &id).await?,
            Source::Sandbox(id) => naming.save_as(&caller, &name, &id).await?,
        };
        let data = show_named(named);
        Ok((StatusCode::CREATED, Json(Data { data })))
    })
    .await
}

/// Get a named snapshot
#[utoipa::path(get, path = "/named-snapshots/{name}", tag = "snapshots",
    params(("name" = String, Path, description = "The name")),
    responses((status = 200, body = NamedSnapshotDetail), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(name): PathText,
) -> Result<Json<NamedSnapshotDetail>, Failure> {
    let named = control.named_snapshot(&caller.tenant, &name).await?;
    let mut dependents = control.dependents(&named.kept).await?;
    // That it has this name needs no telling here.
    dependents.retain(|dependent| dependent.kind != "name");
    Ok(Json(NamedSnapshotDetail {
        data: show_named(named),
        dependents,
    }))
}

/// Take a name away; the snapshot goes too if its sandbox is gone
#[utoipa::path(delete, path = "/named-snapshots/{name}", tag = "snapshots",
    params(("name" = String, Path, description = "The name")),
    responses((status = 200, body = Data<RemovedName>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(name): PathText,
) -> Result<Json<Data<RemovedName>>, Failure> {
    let kept = control.remove_name(caller.tenant, name.clone()).await?;
    let outcome = match kept {
        Kept::Yes => "released",
        Kept::No => "deleted",
    };
    let outcome = outcome.to_owned();
    let data = RemovedName { name, outcome };
    Ok(Json(Data { data }))
}

/// Make a sandbox that goes on from a named snapshot
#[utoipa::path(post, path = "/named-snapshots/{name}/deploy", tag = "snapshots",
    params(("name" = String, Path, description = "The name"), IdempotencyKey),
    request_body = ForkSandbox,
    responses((status = 201, body = Data<Sandbox>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn deploy(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(name): PathText,
    Keyed { body, once }: Keyed<ForkSandbox>,
) -> Result<(StatusCode, Json<Data<Sandbox>>), Failure> {
    let named = control.named_snapshot(&caller.tenant, &name).await?;
    fork_of(&control, caller, &named.kept, body, &once).await
}

enum Source {
    Snapshot(SnapshotId),
    Sandbox(SandboxId),
}

fn parse(body: NameSnapshot) -> Result<(String, Source), Failure> {
    let mut errors = Vec::new();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let name = body.name;
    // `.` and `..` are no part of a path that arrives.
    let dots = name.bytes().all(|byte| byte == b'.');
    if dots || name.len() > NAME_MAX || !name.bytes().all(legal) {
        let message = format!("must be 1 to {NAME_MAX} of letters, digits, '.', '_' and '-'");
        errors.push(FieldError::new("name", message));
    }
    if body.snapshot_id.is_some() == body.sandbox_id.is_some() {
        let message = "or sandbox_id, exactly one of them";
        errors.push(FieldError::new("snapshot_id", message));
    }
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    let source = match (body.snapshot_id, body.sandbox_id) {
        (Some(id), _) => Source::Snapshot(parse_id(&id)?),
        (None, id) => {
            let id = id.unwrap_or_default().parse();
            Source::Sandbox(id.map_err(|_| Failure::sandbox_not_found())?)
        }
    };
    Ok((name, source))
}

fn show_named(record: NamedRecord) -> NamedSnapshot {
    NamedSnapshot {
        name: record.name,
        snapshot_id: record.kept.snapshot.id.clone(),
        state: "ready".to_owned(),
        snapshot: show_history(record.kept),
        created_at: Time(record.created_at),
    }
}
