//! Changing a sandbox that is there: pause, resume, stop, extend, edit.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use emberbox_api::{Data, ErrorResponse, ExtendSandbox, Sandbox, SetTags, UpdateSandbox};
use emberbox_core::SandboxState;
use emberbox_store::Edit;

use super::{parse, show};
use crate::Failure;
use crate::control::Control;
use crate::http::auth::Target;
use crate::http::json::JsonBody;
use crate::http::once::{IdempotencyKey, Once};

/// Pause a running sandbox: its memory goes to disk, nothing of it runs
#[utoipa::path(post, path = "/sandboxes/{id}/pause", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey),
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(in crate::http) async fn pause(
    State(control): State<Arc<Control>>,
    target: Target,
    once: Once,
) -> Result<Response, Failure> {
    let tenant = target.caller.tenant;
    let domain = control.preview_domain(&tenant).await?;
    let (pausing, id, of) = (Arc::clone(&control), target.record.id, tenant.clone());
    once.answer(&control, &tenant, async move |_before| {
        let paused = pausing.pause(of, id).await?;
        Ok((StatusCode::OK, Json(show(&pausing, &domain, paused))))
    })
    .await
}

/// Resume a paused sandbox: its processes go on
#[utoipa::path(post, path = "/sandboxes/{id}/resume", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey),
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(in crate::http) async fn resume(
    State(control): State<Arc<Control>>,
    target: Target,
    once: Once,
) -> Result<Response, Failure> {
    let tenant = target.caller.tenant;
    let domain = control.preview_domain(&tenant).await?;
    let (resuming, id, of) = (Arc::clone(&control), target.record.id, tenant.clone());
    once.answer(&control, &tenant, async move |_before| {
        let resumed = resuming.resume(of, id).await?;
        Ok((StatusCode::OK, Json(show(&resuming, &domain, resumed))))
    })
    .await
}

/// Stop a sandbox so that it can go on later: the same as pause
#[utoipa::path(post, path = "/sandboxes/{id}/stop", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey),
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(in crate::http) async fn stop(
    state: State<Arc<Control>>,
    target: Target,
    once: Once,
) -> Result<Response, Failure> {
    pause(state, target, once).await
}

/// Move a sandbox's end: that many seconds from now
#[utoipa::path(post, path = "/sandboxes/{id}/extend", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")), request_body = ExtendSandbox,
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn extend(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<ExtendSandbox>,
) -> Result<Json<Sandbox>, Failure> {
    let seconds = parse::extension(body, &target.record, &control.limits(&target.caller))?;
    let domain = control.preview_domain(&target.caller.tenant).await?;
    let extended = control
        .store()
        .extend_sandbox(&target.caller.tenant, &target.record.id, seconds)
        .await?;
    let extended = extended.ok_or_else(|| Failure::not_running(&target.record))?;
    control.times_changed();
    Ok(Json(show(&control, &domain, extended)))
}

/// Change what is known of a sandbox; what is absent stays
#[utoipa::path(patch, path = "/sandboxes/{id}", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")), request_body = UpdateSandbox,
    responses((status = 200, body = Sandbox), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn update(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<UpdateSandbox>,
) -> Result<Json<Sandbox>, Failure> {
    let edit = parse::update(body, &control.limits(&target.caller))?;
    edited(&control, target, edit).await.map(Json)
}

/// Replace a sandbox's tags
#[utoipa::path(patch, path = "/sandboxes/{id}/tags", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")), request_body = SetTags,
    responses((status = 200, body = Data<Sandbox>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn set_tags(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<SetTags>,
) -> Result<Json<Data<Sandbox>>, Failure> {
    let edit = parse::update(
        UpdateSandbox {
            tags: Some(body.tags),
            ..UpdateSandbox::default()
        },
        &control.limits(&target.caller),
    )?;
    let data = edited(&control, target, edit).await?;
    Ok(Json(Data { data }))
}

async fn edited(control: &Control, target: Target, edit: Edit) -> Result<Sandbox, Failure> {
    if target.record.state == SandboxState::Destroyed {
        return Err(Failure::not_running(&target.record));
    }
    let domain = control.preview_domain(&target.caller.tenant).await?;
    let edited = control
        .store()
        .edit_sandbox(&target.caller.tenant, &target.record.id, &edit)
        .await?;
    let edited = edited.ok_or_else(Failure::sandbox_not_found)?;
    control.previews_changed();
    control.times_changed();
    Ok(show(control, &domain, edited))
}
