//! Workspaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    CreateWorkspace, Data, ErrorCode, ErrorResponse, Page, Reusable, Sandbox, Time,
    UpdateWorkspace, Workspace,
};
use emberbox_store::{
    Caller, NewPlace, PlaceEdit, PlaceError, Placed, SandboxFilter, WorkspaceRecord,
};
use uuid::Uuid;

use super::auth::{Auth, PathText};
use super::json::{JsonBody, QueryString};
use super::page::PageQuery;
use super::sandboxes;
use super::sandboxes::parse::{Fields, PLACE_SLUG_MAX};
use crate::Failure;
use crate::control::Control;

/// List workspaces
#[utoipa::path(get, path = "/workspaces", tag = "tenancy", params(PageQuery),
    responses((status = 200, body = Page<Workspace>), (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Workspace>>, Failure> {
    let records = control.store().list_workspaces(&caller.tenant).await?;
    let seen = records
        .into_iter()
        .filter(|record| caller.bounds.reach(record.id));
    Ok(Json(page.of(seen.map(show).collect())?))
}

/// Create a workspace; an external id that is known gives what has it
#[utoipa::path(post, path = "/workspaces", tag = "tenancy", request_body = CreateWorkspace,
    responses((status = 200, body = Reusable<Workspace>), (status = 201, body = Reusable<Workspace>),
        (status = 403, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<CreateWorkspace>,
) -> Result<(StatusCode, Json<Reusable<Workspace>>), Failure> {
    let new = parse(body)?;
    if !caller.bounds.are_open() {
        return Err(Failure::new(
            ErrorCode::Forbidden,
            "the key is bound to a workspace and makes no other",
        ));
    }
    let limits = control.limits(&caller);
    let store = control.store();
    let placed = store.create_workspace(&caller.tenant, &new, &limits).await;
    let (status, record, reused) = match placed.map_err(failed)? {
        Placed::New(record) => (StatusCode::CREATED, record, false),
        Placed::Reused(record) => (StatusCode::OK, record, true),
    };
    let data = show(record);
    Ok((status, Json(Reusable { data, reused })))
}

/// Get a workspace
#[utoipa::path(get, path = "/workspaces/{id}", tag = "tenancy",
    params(("id" = String, Path, description = "Workspace id")),
    responses((status = 200, body = Data<Workspace>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Workspace>>, Failure> {
    let record = seen_by(&control, &caller, &id).await?;
    Ok(Json(Data { data: show(record) }))
}

/// Change a workspace; what is absent stays
#[utoipa::path(patch, path = "/workspaces/{id}", tag = "tenancy",
    params(("id" = String, Path, description = "Workspace id")), request_body = UpdateWorkspace,
    responses((status = 200, body = Data<Workspace>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn update(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<UpdateWorkspace>,
) -> Result<Json<Data<Workspace>>, Failure> {
    let known = seen_by(&control, &caller, &id).await?;
    let mut fields = Fields::default();
    let edit = PlaceEdit {
        name: fields.text("name", body.name),
        slug: fields.slug("slug", body.slug, PLACE_SLUG_MAX),
        external_id: body
            .external_workspace_id
            .map(|external_id| fields.text("external_workspace_id", external_id)),
    };
    let edit = fields.done(edit)?;
    let store = control.store();
    let changed = store
        .change_workspace(&caller.tenant, known.id, &edit)
        .await;
    let data = show(changed.map_err(failed)?);
    Ok(Json(Data { data }))
}

/// Delete a workspace that holds no sandboxes, with its projects; keys that saw
/// nothing else are revoked
#[utoipa::path(delete, path = "/workspaces/{id}", tag = "tenancy",
    params(("id" = String, Path, description = "Workspace id")),
    responses((status = 204), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<StatusCode, Failure> {
    let known = seen_by(&control, &caller, &id).await?;
    let store = control.store();
    let deleted = store.delete_workspace(&caller.tenant, known.id).await;
    deleted.map_err(failed)?;
    control.keys_changed();
    Ok(StatusCode::NO_CONTENT)
}

/// List a workspace's sandboxes
#[utoipa::path(get, path = "/workspaces/{id}/sandboxes", tag = "tenancy",
    params(("id" = String, Path, description = "Workspace id"), PageQuery),
    responses((status = 200, body = Page<Sandbox>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn sandboxes(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Sandbox>>, Failure> {
    let known = seen_by(&control, &caller, &id).await?;
    let filter = SandboxFilter {
        workspace_id: Some(known.id),
        bounds: caller.bounds.clone(),
        ..SandboxFilter::default()
    };
    let domain = control.preview_domain(&caller.tenant).await?;
    let store = control.store();
    let records = store.list_sandboxes(&caller.tenant, &filter).await?;
    let shown = records
        .into_iter()
        .map(|record| sandboxes::show(&control, &domain, record));
    Ok(Json(page.of(shown.collect())?))
}

/// A workspace that is there for the caller.
pub(super) async fn seen_by(
    control: &Control,
    caller: &Caller,
    id: &str,
) -> Result<WorkspaceRecord, Failure> {
    // What is no identifier names nothing, like one that nobody has.
    let id: Uuid = id.parse().map_err(|_| not_found())?;
    let found = control.store().workspace(&caller.tenant, id).await?;
    let seen = found.filter(|record| caller.bounds.reach(record.id));
    seen.ok_or_else(not_found)
}

fn parse(body: CreateWorkspace) -> Result<NewPlace, Failure> {
    let mut fields = Fields::default();
    let external_id = body.external_workspace_id;
    let new = NewPlace {
        name: fields.text("name", Some(body.name)).unwrap_or_default(),
        slug: fields.slug("slug", body.slug, PLACE_SLUG_MAX),
        external_id: fields.text("external_workspace_id", external_id),
    };
    fields.done(new)
}

fn show(record: WorkspaceRecord) -> Workspace {
    Workspace {
        id: record.id,
        slug: record.slug,
        name: record.name,
        external_workspace_id: record.external_id,
        is_default: record.is_default,
        created_at: Time(record.created_at),
    }
}

fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "workspace not found")
}

fn failed(error: PlaceError) -> Failure {
    match error {
        PlaceError::NotFound => not_found(),
        PlaceError::NameTaken => Failure::new(
            ErrorCode::WorkspaceNameExists,
            "another workspace has this name, slug or external id",
        ),
        PlaceError::IsDefault => Failure::new(
            ErrorCode::ResourceInUse,
            "the default workspace stays: sandboxes go there that name none",
        ),
        PlaceError::InUse(held) => Failure::new(
            ErrorCode::ResourceInUse,
            format!("the workspace holds {held} sandboxes"),
        ),
        PlaceError::Field { field, message } => Failure::invalid_field(field, message),
        PlaceError::TooMany(error) => error.into(),
        PlaceError::Store(error) => error.into(),
    }
}
