//! Sandboxes: create, list, get, by name, destroy.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use emberbox_api::{
    BulkFilter, CreateSandbox, DestroyedSandbox, ErrorResponse, Part, Sandbox, SandboxList, Time,
};
use emberbox_core::SandboxState;
use emberbox_store::SandboxRecord;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Auth, PathText, Target};
use super::json::QueryString;
use super::once::{IdempotencyKey, Keyed};
use super::request::Came;
use crate::Failure;
use crate::control::{Asked, Control};

pub(super) mod change;
pub(super) mod filter;
pub(super) mod parse;
mod timing;

/// How `POST /sandboxes` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CreateQuery {
    /// How long to wait for the sandbox to be ready: seconds, `true` or
    /// `false`. Without it a short grace applies.
    wait: Option<String>,
}

/// How `GET /sandboxes` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this workspace.
    workspace_id: Option<String>,
    /// Of this project.
    project_id: Option<String>,
    /// Of this customer or account of yours.
    external_workspace_id: Option<String>,
    /// Of this end user of yours.
    external_user_id: Option<String>,
    /// Of this project or document of yours.
    external_project_id: Option<String>,
    /// In this state.
    state: Option<String>,
    /// With all of these tags, separated by commas.
    tags: Option<String>,
    /// Most sandboxes; all when neither this nor `offset` is given.
    limit: Option<String>,
    /// Sandboxes left out at the beginning.
    offset: Option<String>,
}

impl ListQuery {
    /// The same as a filter of many sandboxes says it.
    pub(super) fn of(filter: BulkFilter) -> Self {
        Self {
            workspace_id: filter.workspace_id,
            project_id: filter.project_id,
            external_workspace_id: filter.external_workspace_id,
            external_user_id: filter.external_user_id,
            external_project_id: filter.external_project_id,
            state: filter.state,
            tags: filter.tags.map(|tags| tags.join(",")),
            limit: None,
            offset: None,
        }
    }
}

/// Create a sandbox
#[utoipa::path(post, path = "/sandboxes", tag = "sandboxes", params(CreateQuery, IdempotencyKey),
    request_body = CreateSandbox,
    responses((status = 201, body = Sandbox, headers(("Server-Timing" = String,
            description = "Where the time of this create went, in milliseconds"))),
        (status = 400, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    Extension(Came(came)): Extension<Came>,
    QueryString(query): QueryString<CreateQuery>,
    Keyed { body, once }: Keyed<CreateSandbox>,
) -> Result<impl IntoResponse, Failure> {
    let read = came.elapsed();
    let wait = parse::wait(query.wait.as_deref(), control.settings())?;
    let once = once.of(&caller.tenant);
    let template = body.template_id.as_deref();
    let bootable = control.bootable(&caller.tenant, template).await?;
    let new = parse::create(body, bootable, &control.limits(&caller))?;
    let domain = control.preview_domain(&caller.tenant).await?;
    let Asked { record, timing } = control.create(caller, new, once, wait).await?;
    let timing = timing::header(read, timing.as_ref(), came.elapsed());
    let sandbox = show(&control, &domain, record);
    Ok((StatusCode::CREATED, timing, Json(sandbox)))
}

/// List sandboxes
#[utoipa::path(get, path = "/sandboxes", tag = "sandboxes", params(ListQuery),
    responses((status = 200, body = SandboxList), (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<ListQuery>,
) -> Result<Json<SandboxList>, Failure> {
    let mut filter = filter::parse(query)?;
    filter.bounds = caller.bounds.clone();
    let domain = control.preview_domain(&caller.tenant).await?;
    let records = control
        .store()
        .list_sandboxes(&caller.tenant, &filter)
        .await?;
    let page = match filter.page {
        Some((limit, offset)) => Some(Part {
            limit,
            offset,
            total: control
                .store()
                .count_matching(&caller.tenant, &filter)
                .await?,
        }),
        None => None,
    };
    Ok(Json(SandboxList {
        data: records
            .into_iter()
            .map(|record| show(&control, &domain, record))
            .collect(),
        page,
    }))
}

/// Get a sandbox
#[utoipa::path(get, path = "/sandboxes/{id}", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<Sandbox>, Failure> {
    let domain = control.preview_domain(&target.caller.tenant).await?;
    Ok(Json(show(&control, &domain, target.record)))
}

/// Get the newest sandbox of a name
#[utoipa::path(get, path = "/sandboxes/by-name/{name}", tag = "sandboxes",
    params(("name" = String, Path, description = "The sandbox's name")),
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse)))]
pub(super) async fn by_name(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(name): PathText,
) -> Result<Json<Sandbox>, Failure> {
    let record = control
        .store()
        .sandbox_by_name(&caller.tenant, &caller.bounds, &name)
        .await?;
    let record = record.ok_or_else(Failure::sandbox_not_found)?;
    let domain = control.preview_domain(&caller.tenant).await?;
    Ok(Json(show(&control, &domain, record)))
}

/// Destroy a sandbox
#[utoipa::path(delete, path = "/sandboxes/{id}", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = DestroyedSandbox), (status = 404, body = ErrorResponse)))]
pub(super) async fn destroy(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<DestroyedSandbox>, Failure> {
    let record = control.destroy(target.caller, target.record.id).await?;
    Ok(Json(DestroyedSandbox {
        total_runtime_sec: record.total_runtime_sec().unwrap_or(0),
        state: record.state,
        id: record.id,
    }))
}

/// Milliseconds of life left, never less than none; `None` when no end is set.
pub(super) fn timeout_remaining_ms(record: &SandboxRecord) -> Option<i64> {
    let left = record.timeout_remaining_ms(Timestamp::now());
    left.filter(|_| record.state.is_live())
}

/// A sandbox as its user sees it.
pub(super) fn show(control: &Control, domain: &str, record: SandboxRecord) -> Sandbox {
    let live = record.state.is_live();
    let preview_url = live.then(|| control.preview_url(&record.slug, None, domain));
    Sandbox {
        ready: record.is_ready(),
        timeout_remaining_ms: timeout_remaining_ms(&record),
        total_runtime_sec: record.total_runtime_sec(),
        error_message: record
            .error_message
            .filter(|_| record.state == SandboxState::Error),
        id: record.id,
        tenant_id: record.tenant,
        owner_id: record.owner,
        workspace_id: record.workspace_id,
        project_id: record.project_id,
        external_workspace_id: record.external.workspace,
        external_user_id: record.external.user,
        external_project_id: record.external.project,
        name: record.name,
        slug: record.slug,
        tags: record.tags,
        template_id: record.template_id,
        image_id: record.image_id,
        state: record.state,
        size: record.size,
        cpu_count: record.shape.vcpus,
        memory_mb: record.shape.memory_mib,
        disk_size_mb: record.shape.disk_mib,
        boot_path: record.boot_path,
        boot_ms: record.boot_ms,
        preview_url,
        timeout_sec: record.timeout_sec,
        idle_timeout_sec: record.idle_timeout_sec,
        always_on: record.always_on,
        persistent: record.persistent,
        auto_start: record.auto_start,
        metadata: record.metadata,
        created_at: Time(record.created_at),
        started_at: record.started_at.map(Time),
        ready_at: record.ready_at.map(Time),
        destroyed_at: record.destroyed_at.map(Time),
    }
}
