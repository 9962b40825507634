//! Previews: which ports are shown, to whom, under which address.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    CreatePreview, Data, ErrorCode, ErrorResponse, ExposeRequest, Exposed, Preview, Time,
};
use emberbox_core::PreviewId;
use emberbox_store::{Exposed as Shown, NewPreview, PREVIEWS_MAX, PreviewRecord, SandboxRecord};
use jiff::Timestamp;
use serde_json::Value;

use super::auth::{SecondPathText, Target};
use super::json::JsonBody;
use super::port;
use crate::Failure;
use crate::control::Control;

mod parse;
pub(super) mod share;

/// Expose a preview port
#[utoipa::path(post, path = "/sandboxes/{id}/expose", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id")), request_body = ExposeRequest,
    responses((status = 200, body = Exposed), (status = 400, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn expose(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<ExposeRequest>,
) -> Result<Json<Exposed>, Failure> {
    let port = asked_port(&control, body.port.as_ref(), &target.record).await?;
    let (_, record) = show_port(&control, &target.record, &NewPreview::of(port)).await?;
    let url = control.port_url(&target.record, record.port).await?;
    Ok(Json(Exposed {
        preview_url: url.clone(),
        url,
    }))
}

/// Make a preview, or change the one the port has
#[utoipa::path(post, path = "/sandboxes/{id}/previews", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id")), request_body = CreatePreview,
    responses((status = 200, body = Data<Preview>), (status = 201, body = Data<Preview>),
        (status = 400, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<CreatePreview>,
) -> Result<(StatusCode, Json<Data<Preview>>), Failure> {
    let port = asked_port(&control, body.port.as_ref(), &target.record).await?;
    let new = parse::create(body, port)?;
    let (status, record) = show_port(&control, &target.record, &new).await?;
    let data = show(&control, &target.record, record).await?;
    Ok((status, Json(Data { data })))
}

/// List previews
#[utoipa::path(get, path = "/sandboxes/{id}/previews", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<Vec<Preview>>), (status = 404, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<Data<Vec<Preview>>>, Failure> {
    let mut data = Vec::new();
    for record in control.store().list_previews(&target.record.id).await? {
        data.push(show(&control, &target.record, record).await?);
    }
    Ok(Json(Data { data }))
}

/// Get a preview
#[utoipa::path(get, path = "/sandboxes/{id}/previews/{preview}", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id"),
        ("preview" = String, Path, description = "Preview id")),
    responses((status = 200, body = Data<Preview>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
) -> Result<Json<Data<Preview>>, Failure> {
    let record = find(&control, &target.record, &id).await?;
    let data = show(&control, &target.record, record).await?;
    Ok(Json(Data { data }))
}

/// Delete a preview: its port is shown to nobody until it is exposed again
#[utoipa::path(delete, path = "/sandboxes/{id}/previews/{preview}", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id"),
        ("preview" = String, Path, description = "Preview id")),
    responses((status = 200, body = Data<Preview>), (status = 404, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
) -> Result<Json<Data<Preview>>, Failure> {
    let id = read_id(&id)?;
    let closed = control
        .store()
        .close_preview(&target.record.id, &id)
        .await?;
    control.previews_changed();
    let data = show(&control, &target.record, closed.ok_or_else(unknown)?).await?;
    Ok(Json(Data { data }))
}

async fn show_port(
    control: &Control,
    sandbox: &SandboxRecord,
    new: &NewPreview,
) -> Result<(StatusCode, PreviewRecord), Failure> {
    if !sandbox.is_ready() {
        return Err(Failure::not_running(sandbox));
    }
    let exposed = control.store().expose(&sandbox.id, new).await?;
    control.previews_changed();
    match exposed {
        Shown::New(record) => Ok((StatusCode::CREATED, record)),
        Shown::Changed(record) => Ok((StatusCode::OK, record)),
        Shown::TooMany => Err(Failure::new(
            ErrorCode::PreviewLimitExceeded,
            format!("a sandbox may have at most {PREVIEWS_MAX} previews"),
        )),
    }
}

async fn find(
    control: &Control,
    sandbox: &SandboxRecord,
    id: &str,
) -> Result<PreviewRecord, Failure> {
    let found = control.store().preview(&sandbox.id, &read_id(id)?).await?;
    found.ok_or_else(unknown)
}

fn read_id(id: &str) -> Result<PreviewId, Failure> {
    id.parse().map_err(|_| unknown())
}

fn unknown() -> Failure {
    Failure::new(ErrorCode::NotFound, "preview not found")
}

/// A preview as its owner sees it.
async fn show(
    control: &Control,
    sandbox: &SandboxRecord,
    record: PreviewRecord,
) -> Result<Preview, Failure> {
    let state = if record.deleted_at.is_some() {
        "deleted"
    } else if record.has_expired(Timestamp::now()) {
        "expired"
    } else {
        "active"
    };
    Ok(Preview {
        url: control.port_url(sandbox, record.port).await?,
        state: state.to_owned(),
        id: record.id,
        sandbox_id: record.sandbox,
        port: record.port,
        visibility: record.visibility.to_string(),
        name: record.name,
        metadata: record.metadata,
        share_token_prefix: record.share_token_prefix,
        share_token_expires_at: record.share_token_expires_at.map(Time),
        expires_at: record.expires_at.map(Time),
        created_at: Time(record.created_at),
    })
}

/// The port asked for, or the app's own.
async fn asked_port(
    control: &Control,
    asked: Option<&Value>,
    sandbox: &SandboxRecord,
) -> Result<u16, Failure> {
    match asked {
        // What is no whole number is no port either.
        Some(asked) => port::check(asked.as_i64().unwrap_or(0)),
        None => control.app_port(sandbox).await?.ok_or_else(|| {
            Failure::new(
                ErrorCode::MissingParam,
                "port is required: the sandbox's template has no preview port",
            )
        }),
    }
}
