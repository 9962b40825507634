//! Builds of a tenant's own templates.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    BASE_PATH, BuiltImage, CreateBuild, Data, ErrorCode, ErrorResponse, TemplateBuild, Time,
};
use emberbox_core::{BuildId, BuildState};
use emberbox_store::{BuildRecord, Caller};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Auth, PathText};
use super::json::{JsonBody, QueryString};
use super::sandboxes::parse::wait;
use super::templates::{self, show_spec};
use crate::Failure;
use crate::control::Control;
use crate::control::template::platform;

pub(super) mod log;

/// Queue a build
#[utoipa::path(post, path = "/sandbox-templates/{id}/builds", tag = "templates",
    params(("id" = String, Path, description = "Template id or slug")),
    request_body = CreateBuild,
    responses((status = 201, body = Data<TemplateBuild>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<CreateBuild>,
) -> Result<(StatusCode, Json<Data<TemplateBuild>>), Failure> {
    let template = templates::own(&control, &caller.tenant, &id).await?;
    if platform::is_of_platform(&template) {
        let message = "the platform's templates are built from the specs the server brings: \
                       POST /admin/sandbox-templates/{id}/builds";
        return Err(Failure::new(ErrorCode::Forbidden, message));
    }
    let new = templates::parse::build(template.id, body, &templates::limits(&control, &caller))?;
    let data = show(control.create_build(&caller, new).await?);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Build a template of the platform from the spec the server brings
#[utoipa::path(post, path = "/admin/sandbox-templates/{id}/builds", tag = "admin",
    params(("id" = String, Path, description = "Template id or alias")),
    responses((status = 201, body = Data<TemplateBuild>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn seed(
    State(control): State<Arc<Control>>,
    Auth(operator): Auth,
    PathText(id): PathText,
) -> Result<(StatusCode, Json<Data<TemplateBuild>>), Failure> {
    let limits = templates::limits(&control, &operator);
    let new = templates::parse::template(platform::seed(&id)?, &limits)?;
    let data = show(control.seed_template(&operator, new).await?);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// The builds of a template, newest first
#[utoipa::path(get, path = "/sandbox-templates/{id}/builds", tag = "templates",
    params(("id" = String, Path, description = "Template id or slug")),
    responses((status = 200, body = Data<Vec<TemplateBuild>>),
        (status = 404, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Vec<TemplateBuild>>>, Failure> {
    let template = templates::own(&control, &caller.tenant, &id).await?;
    let builds = control.store().builds(&caller.tenant, &template.id).await?;
    let data = builds.into_iter().map(show).collect();
    Ok(Json(Data { data }))
}

/// How a build may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GetQuery {
    /// How long to wait until it is over: seconds, `true` or `false`.
    wait: Option<String>,
}

/// How a build stands
#[utoipa::path(get, path = "/sandbox-template-builds/{id}", tag = "templates",
    params(("id" = String, Path, description = "Build id"), GetQuery),
    responses((status = 200, body = Data<TemplateBuild>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    QueryString(query): QueryString<GetQuery>,
) -> Result<Json<Data<TemplateBuild>>, Failure> {
    let wait = match query.wait.as_deref() {
        None => Duration::ZERO,
        asked => wait(asked, control.settings())?,
    };
    let id = parse_id(&id)?;
    let build = control.wait_for_build(&caller.tenant, &id, wait).await?;
    Ok(Json(Data { data: show(build) }))
}

/// End a build
#[utoipa::path(post, path = "/sandbox-template-builds/{id}/cancel", tag = "templates",
    params(("id" = String, Path, description = "Build id")),
    responses((status = 200, body = Data<TemplateBuild>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn cancel(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<TemplateBuild>>, Failure> {
    let id = to_change(&control, &caller, &id).await?;
    let data = show(control.cancel_build(&caller, &id).await?);
    Ok(Json(Data { data }))
}

/// Try a build again that failed or was cancelled
#[utoipa::path(post, path = "/sandbox-template-builds/{id}/retry", tag = "templates",
    params(("id" = String, Path, description = "Build id")),
    responses((status = 200, body = Data<TemplateBuild>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn retry(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<TemplateBuild>>, Failure> {
    let id = to_change(&control, &caller, &id).await?;
    let data = show(control.retry_build(&caller, &id).await?);
    Ok(Json(Data { data }))
}

/// The build of this id, if the caller may change it.
async fn to_change(control: &Control, caller: &Caller, id: &str) -> Result<BuildId, Failure> {
    let id = parse_id(id)?;
    let build = control.store().build(&caller.tenant, &id).await?;
    let build = build.ok_or_else(Failure::build_not_found)?;
    templates::own_to_change(control, caller, build.template.as_str()).await?;
    Ok(id)
}

fn show(build: BuildRecord) -> TemplateBuild {
    let state = build.state.as_str();
    // One that was cancelled at the last moment has one too, for a while.
    let image = build.image.filter(|_| build.state == BuildState::Ready);
    let (error_code, error_message) = build.error.unzip();
    let duration = build.started_at.zip(build.finished_at);
    TemplateBuild {
        sandbox_template_id: build.template.clone(),
        template_id: build.template,
        version: build.version,
        attempt: build.attempt,
        source_type: "build_spec".to_owned(),
        state: state.to_owned(),
        status: state.to_owned(),
        image_id: image.as_ref().map(|image| image.image.clone()),
        snapshot_manifest: image.map(|image| BuiltImage {
            image_id: image.image,
            digest: image.digest,
            size_bytes: image.size_bytes,
            layers: image.layers,
            cached_steps: image.cached_steps,
            app_running: image.app_running,
        }),
        log_url: format!("{BASE_PATH}/sandbox-template-builds/{}/logs", build.id),
        error_code: error_code.map(|code| code.to_string()),
        error_message,
        started_at: build.started_at.map(Time),
        finished_at: build.finished_at.map(Time),
        duration_ms: duration.map(|(from, to)| to.as_millisecond() - from.as_millisecond()),
        build_spec: show_spec(&build.spec),
        metadata: build.metadata,
        created_at: Time(build.created_at),
        inserted_at: Time(build.created_at),
        updated_at: Time(build.updated_at),
        id: build.id,
    }
}

/// What is no identifier names nothing, like one that nobody has.
fn parse_id(text: &str) -> Result<BuildId, Failure> {
    text.parse().map_err(|_| Failure::build_not_found())
}
