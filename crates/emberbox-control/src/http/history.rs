//! The snapshots of all sandboxes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    BulkOutcome, Data, DeleteSnapshots, DeletedSnapshot, ErrorResponse, ForkSandbox,
    HistorySnapshot, Part, Sandbox, SnapshotDetail, SnapshotGroup, SnapshotGroupPage, SnapshotPage,
    SnapshotResource, Time,
};
use emberbox_core::{SandboxId, SandboxState, SnapshotId, TenantId};
use emberbox_store::{Caller, HistoryFilter, HistoryRecord};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::auth::{Auth, PathText};
use super::bulk;
use super::json::{JsonBody, QueryString};
use super::once::{IdempotencyKey, Keyed, Once};
use super::part::{self, PartQuery};
use super::sandboxes::{parse, show};
use super::snapshots::{FORK_WAIT, not_found, parse_id, show_snapshot};
use crate::Failure;
use crate::control::{Control, NewFork};

/// Entries of one part unless told otherwise, and at most
/// (`client-contract.md`).
const LIMIT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// Longest text that is searched for: longer than any name.
const TEXT_MAX: usize = 255;

/// How snapshots may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Of this sandbox.
    resource_id: Option<String>,
    /// Of sandboxes of this workspace.
    workspace_id: Option<String>,
    /// With this in the sandbox's name or id, or in the snapshot's id.
    q: Option<String>,
    /// Most entries; 50 when absent, at most 200.
    limit: Option<String>,
    /// Entries left out at the beginning.
    offset: Option<String>,
}

/// List the snapshots of all sandboxes that no name keeps, newest first
#[utoipa::path(get, path = "/snapshots", tag = "snapshots", params(HistoryQuery),
    responses((status = 200, body = SnapshotPage), (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<HistoryQuery>,
) -> Result<Json<SnapshotPage>, Failure> {
    let filter = filter(query)?;
    let (records, total) = control
        .store()
        .snapshot_history(&caller.tenant, &filter)
        .await?;
    Ok(Json(SnapshotPage {
        data: records.into_iter().map(show_history).collect(),
        page: page_of(&filter, total),
    }))
}

/// The same by sandbox
#[utoipa::path(get, path = "/snapshots/groups", tag = "snapshots", params(HistoryQuery),
    responses((status = 200, body = SnapshotGroupPage), (status = 422, body = ErrorResponse)))]
pub(super) async fn groups(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<HistoryQuery>,
) -> Result<Json<SnapshotGroupPage>, Failure> {
    let filter = filter(query)?;
    let (groups, total) = control
        .store()
        .snapshot_groups(&caller.tenant, &filter)
        .await?;
    let data = groups.into_iter().map(|group| SnapshotGroup {
        resource: resource(
            group.sandbox,
            group.sandbox_name,
            group.sandbox_state,
            group.workspace,
        ),
        snapshot_count: group.count,
        size_bytes: group.size_bytes,
        latest_at: Time(group.latest_at),
    });
    Ok(Json(SnapshotGroupPage {
        data: data.collect(),
        page: page_of(&filter, total),
    }))
}

/// Get a snapshot of any sandbox, and what needs it
#[utoipa::path(get, path = "/snapshots/{id}", tag = "snapshots",
    params(("id" = String, Path, description = "Snapshot id")),
    responses((status = 200, body = SnapshotDetail), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<SnapshotDetail>, Failure> {
    let record = control
        .any_snapshot(&caller.tenant, &parse_id(&id)?)
        .await?;
    let dependents = control.dependents(&record).await?;
    Ok(Json(SnapshotDetail {
        data: show_history(record),
        dependents,
    }))
}

/// Delete a snapshot of any sandbox that nothing needs
#[utoipa::path(delete, path = "/snapshots/{id}", tag = "snapshots",
    params(("id" = String, Path, description = "Snapshot id")),
    responses((status = 200, body = Data<DeletedSnapshot>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<DeletedSnapshot>>, Failure> {
    let id = parse_id(&id)?;
    delete_one(&control, &caller.tenant, &id).await?;
    let data = DeletedSnapshot { id, deleted: true };
    Ok(Json(Data { data }))
}

/// Delete several snapshots, or all of one sandbox's history; each for itself
#[utoipa::path(post, path = "/snapshots/delete", tag = "snapshots", request_body = DeleteSnapshots,
    responses((status = 200, body = Data<BulkOutcome>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn delete_many(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<DeleteSnapshots>,
) -> Result<Json<Data<BulkOutcome>>, Failure> {
    let ids = match (body.ids, body.resource_id) {
        (Some(ids), None) => bulk::check_ids(ids)?,
        (None, Some(sandbox)) => {
            if body.all != Some(true) {
                return Err(Failure::invalid_field(
                    "all",
                    "must be true for a whole history",
                ));
            }
            if body.confirm.as_deref() != Some(&sandbox) {
                return Err(Failure::invalid_field("confirm", "must repeat resource_id"));
            }
            history_of(&control, &caller.tenant, &sandbox).await?
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Failure::invalid_field("ids", "or resource_id, one of them"));
        }
    };
    let mut data = BulkOutcome::default();
    for text in ids {
        let deleted = match parse_id(&text) {
            Ok(id) => delete_one(&control, &caller.tenant, &id).await,
            Err(failure) => Err(failure),
        };
        bulk::note(&mut data, text, deleted);
    }
    Ok(Json(Data { data }))
}

/// Make a sandbox that goes on from a snapshot of any sandbox
#[utoipa::path(post, path = "/snapshots/{id}/fork", tag = "snapshots",
    params(("id" = String, Path, description = "Snapshot id"), IdempotencyKey),
    request_body = ForkSandbox,
    responses((status = 201, body = Data<Sandbox>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn fork(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    Keyed { body, once }: Keyed<ForkSandbox>,
) -> Result<(StatusCode, Json<Data<Sandbox>>), Failure> {
    let record = control
        .any_snapshot(&caller.tenant, &parse_id(&id)?)
        .await?;
    fork_of(&control, caller, &record, body, &once).await
}

/// Makes a sandbox that goes on from this snapshot.
pub(super) async fn fork_of(
    control: &Arc<Control>,
    caller: Caller,
    record: &HistoryRecord,
    body: ForkSandbox,
    once: &Once,
) -> Result<(StatusCode, Json<Data<Sandbox>>), Failure> {
    let source = control.source_of(&caller.tenant, record).await?;
    let new = parse::fork(body, &source, &control.settings().limits)?;
    let domain = control.preview_domain(&caller.tenant).await?;
    let fork = NewFork {
        source,
        snapshot: Some(record.snapshot.id.clone()),
        new,
        once: once.of(&caller.tenant),
    };
    let forked = control.fork(caller, fork, FORK_WAIT).await?;
    let data = show(control, &domain, forked);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

pub(super) fn show_history(record: HistoryRecord) -> HistorySnapshot {
    HistorySnapshot {
        resource: resource(
            record.snapshot.sandbox.clone(),
            record.sandbox_name,
            record.sandbox_state,
            record.workspace,
        ),
        name: record.name,
        snapshot: show_snapshot(record.snapshot),
    }
}

fn resource(
    id: SandboxId,
    name: Option<String>,
    state: SandboxState,
    workspace_id: Uuid,
) -> SnapshotResource {
    SnapshotResource {
        kind: "sandbox".to_owned(),
        id,
        name,
        state,
        workspace_id,
    }
}

async fn delete_one(
    control: &Arc<Control>,
    tenant: &TenantId,
    id: &SnapshotId,
) -> Result<(), Failure> {
    let record = control.any_snapshot(tenant, id).await?;
    let sandbox = &record.snapshot.sandbox;
    control.delete_snapshot(tenant, sandbox, id).await
}

async fn history_of(
    control: &Control,
    tenant: &TenantId,
    sandbox: &str,
) -> Result<Vec<String>, Failure> {
    let id = sandbox.parse().map_err(|_| Failure::sandbox_not_found())?;
    let known = control.store().sandbox(tenant, &id).await?;
    known.ok_or_else(Failure::sandbox_not_found)?;
    let filter = HistoryFilter {
        sandbox: Some(id),
        limit: u32::MAX,
        ..HistoryFilter::default()
    };
    let (records, _) = control.store().snapshot_history(tenant, &filter).await?;
    let ids = records
        .into_iter()
        .map(|record| record.snapshot.id.to_string());
    Ok(ids.collect())
}

fn filter(query: HistoryQuery) -> Result<HistoryFilter, Failure> {
    let page = PartQuery {
        limit: query.limit,
        offset: query.offset,
    };
    let (limit, offset) = part::parse(&page, LIMIT, LIMIT_MAX)?;
    let workspace = query.workspace_id.filter(|text| !text.is_empty());
    let workspace = workspace.map(|text| {
        let parsed = text.parse();
        parsed.map_err(|_| Failure::invalid_field("workspace_id", "must be a UUID"))
    });
    let text = query.q.filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > TEXT_MAX) {
        let message = format!("must be at most {TEXT_MAX} bytes");
        return Err(Failure::invalid_field("q", message));
    }
    let sandbox = query.resource_id.filter(|text| !text.is_empty());
    let sandbox = sandbox.map(|text| text.parse().map_err(|_| not_found()));
    Ok(HistoryFilter {
        sandbox: sandbox.transpose()?,
        workspace: workspace.transpose()?,
        text,
        limit,
        offset,
    })
}

fn page_of(filter: &HistoryFilter, total: u32) -> Part {
    Part {
        limit: filter.limit,
        offset: filter.offset,
        total,
    }
}
