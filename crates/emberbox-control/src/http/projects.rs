//! Projects.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    CreateProject, Data, ErrorCode, ErrorResponse, Page, Project, Reusable, Time, UpdateProject,
};
use emberbox_store::{Caller, NewPlace, PlaceEdit, PlaceError, Placed, ProjectRecord, ProjectSpot};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::auth::{Auth, PathText};
use super::json::{JsonBody, QueryString};
use super::page::PageQuery;
use super::sandboxes::parse::{Fields, PLACE_SLUG_MAX};
use super::workspaces;
use crate::Failure;
use crate::control::Control;

/// How `GET /projects` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ProjectQuery {
    /// Of this workspace.
    workspace_id: Option<String>,
}

/// List projects
#[utoipa::path(get, path = "/projects", tag = "tenancy", params(ProjectQuery, PageQuery),
    responses((status = 200, body = Page<Project>), (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<ProjectQuery>,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Project>>, Failure> {
    let workspace = query.workspace_id.map(|id| id.parse()).transpose();
    let workspace =
        workspace.map_err(|_| Failure::invalid_field("workspace_id", "must be a UUID"))?;
    let store = control.store();
    let records = store.list_projects(&caller.tenant, workspace).await?;
    let seen = records
        .into_iter()
        .filter(|record| caller.bounds.reach(record.workspace_id));
    Ok(Json(page.of(seen.map(show).collect())?))
}

/// List a workspace's projects
#[utoipa::path(get, path = "/workspaces/{id}/projects", tag = "tenancy",
    params(("id" = String, Path, description = "Workspace id"), PageQuery),
    responses((status = 200, body = Page<Project>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn of_workspace(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Project>>, Failure> {
    let known = workspaces::seen_by(&control, &caller, &id).await?;
    let store = control.store();
    let records = store.list_projects(&caller.tenant, Some(known.id)).await?;
    Ok(Json(page.of(records.into_iter().map(show).collect())?))
}

/// Create a project; an external id that is known gives what has it
#[utoipa::path(post, path = "/projects", tag = "tenancy", request_body = CreateProject,
    responses((status = 200, body = Reusable<Project>), (status = 201, body = Reusable<Project>),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<CreateProject>,
) -> Result<(StatusCode, Json<Reusable<Project>>), Failure> {
    let mut fields = Fields::default();
    let new = NewPlace {
        name: fields.text("name", Some(body.name)).unwrap_or_default(),
        slug: fields.slug("slug", body.slug, PLACE_SLUG_MAX),
        external_id: fields.text("external_project_id", body.external_project_id),
    };
    let new = fields.done(new)?;
    let workspace = match body.workspace_id {
        Some(id) => workspaces::seen_by(&control, &caller, &id).await?.id,
        None => caller.home,
    };
    let max = control.limits(&caller).max_projects;
    let store = control.store();
    let placed = store
        .create_project(&caller.tenant, workspace, &new, max)
        .await;
    let (status, record, reused) = match placed.map_err(failed)? {
        Placed::New(record) => (StatusCode::CREATED, record, false),
        Placed::Reused(record) => (StatusCode::OK, record, true),
    };
    let data = show(record);
    Ok((status, Json(Reusable { data, reused })))
}

/// Get a project
#[utoipa::path(get, path = "/projects/{id}", tag = "tenancy",
    params(("id" = String, Path, description = "Project id")),
    responses((status = 200, body = Data<Project>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Project>>, Failure> {
    let found = control.store().project(spot(&caller, &id)?).await?;
    let data = found.map(show).ok_or_else(not_found)?;
    Ok(Json(Data { data }))
}

/// Change a project; what is absent stays
#[utoipa::path(patch, path = "/projects/{id}", tag = "tenancy",
    params(("id" = String, Path, description = "Project id")), request_body = UpdateProject,
    responses((status = 200, body = Data<Project>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn update(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<UpdateProject>,
) -> Result<Json<Data<Project>>, Failure> {
    let at = spot(&caller, &id)?;
    let mut fields = Fields::default();
    let edit = PlaceEdit {
        name: fields.text("name", body.name),
        slug: fields.slug("slug", body.slug, PLACE_SLUG_MAX),
        external_id: body
            .external_project_id
            .map(|external_id| fields.text("external_project_id", external_id)),
    };
    let edit = fields.done(edit)?;
    let changed = control.store().change_project(at, &edit).await;
    let data = show(changed.map_err(failed)?);
    Ok(Json(Data { data }))
}

/// Delete a project that holds no sandboxes
#[utoipa::path(delete, path = "/projects/{id}", tag = "tenancy",
    params(("id" = String, Path, description = "Project id")),
    responses((status = 204), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<StatusCode, Failure> {
    let deleted = control.store().delete_project(spot(&caller, &id)?).await;
    deleted.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A project where the caller looks.
fn spot<'a>(caller: &'a Caller, id: &str) -> Result<ProjectSpot<'a>, Failure> {
    // What is no identifier names nothing, like one that nobody has.
    let id: Uuid = id.parse().map_err(|_| not_found())?;
    Ok(ProjectSpot {
        tenant: &caller.tenant,
        workspace: caller.bounds.workspace,
        id,
    })
}

fn show(record: ProjectRecord) -> Project {
    Project {
        id: record.id,
        workspace_id: record.workspace_id,
        slug: record.slug,
        name: record.name,
        external_project_id: record.external_id,
        is_default: record.is_default,
        created_at: Time(record.created_at),
    }
}

fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "project not found")
}

fn failed(error: PlaceError) -> Failure {
    match error {
        PlaceError::NotFound => not_found(),
        PlaceError::NameTaken => Failure::new(
            ErrorCode::NameTaken,
            "another project of the workspace has this name, slug or external id",
        ),
        PlaceError::IsDefault => Failure::new(
            ErrorCode::ResourceInUse,
            "a workspace's default project stays: sandboxes go there that name none",
        ),
        PlaceError::InUse(held) => Failure::new(
            ErrorCode::ResourceInUse,
            format!("the project holds {held} sandboxes"),
        ),
        PlaceError::Field { field, message } => Failure::invalid_field(field, message),
        PlaceError::TooMany(error) => error.into(),
        PlaceError::Store(error) => error.into(),
    }
}
