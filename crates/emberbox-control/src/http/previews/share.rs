//! Links and tokens that open private previews.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    CreateShare, Data, ErrorCode, ErrorResponse, FieldError, PreviewToken, Share, SharePreview,
    SharedPreview, Time,
};
use emberbox_store::{NewShare, NewToken, SandboxRecord, ShareRecord, TokenKind};
use secrecy::ExposeSecret;

use super::parse;
use crate::Failure;
use crate::control::Control;
use crate::http::auth::{SecondPathText, Target};
use crate::http::json::JsonBody;

/// What every link allows: to see what is shown.
pub(super) const SCOPE: &str = "read";

/// How long a token lives when nobody says: an hour, as the official clients
/// ask for.
const LIFE_SEC: i64 = 3600;

/// Share a preview by a link; a new link replaces the old one
#[utoipa::path(post, path = "/sandboxes/{id}/previews/{preview}/share", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id"),
        ("preview" = String, Path, description = "Preview id")), request_body = SharePreview,
    responses((status = 201, body = Data<SharedPreview>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(crate) async fn share_preview(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
    JsonBody(body): JsonBody<SharePreview>,
) -> Result<(StatusCode, Json<Data<SharedPreview>>), Failure> {
    let life = body.ttl_seconds.or(Some(LIFE_SEC));
    let expires_at =
        parse::until("ttl_seconds", life).map_err(|error| Failure::invalid(&[error]))?;
    let sandbox = &target.record;
    let preview = super::find(&control, sandbox, &id).await?;
    let token = NewToken {
        kind: TokenKind::Preview(preview.id),
        expires_at,
    };
    let made = control
        .store()
        .create_preview_token(&sandbox.id, &token)
        .await?;
    let preview = super::find(&control, sandbox, &id).await?;
    let url = control.port_url(sandbox, preview.port).await?;
    let data = SharedPreview {
        share_url: link(&url, &made),
        preview_token: made.secret.expose_secret().to_owned(),
        preview: super::show(&control, sandbox, preview).await?,
    };
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Revoke the link of a preview
#[utoipa::path(delete, path = "/sandboxes/{id}/previews/{preview}/share", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id"),
        ("preview" = String, Path, description = "Preview id")),
    responses((status = 204), (status = 404, body = ErrorResponse)))]
pub(crate) async fn unshare_preview(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
) -> Result<StatusCode, Failure> {
    let preview = super::find(&control, &target.record, &id).await?;
    let store = control.store();
    // Repeating is safe: without a link it is what was asked for.
    store
        .revoke_preview_share(&target.record.id, &preview.id)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a link to all previews of a sandbox
#[utoipa::path(post, path = "/sandboxes/{id}/shares", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id")), request_body = CreateShare,
    responses((status = 201, body = Data<Share>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<CreateShare>,
) -> Result<(StatusCode, Json<Data<Share>>), Failure> {
    let expires_in = body.expires_in;
    let made = token(&control, &target.record, TokenKind::Share, body, expires_in).await?;
    let url = base_url(&control, &target.record).await?;
    let share_url = link(&url, &made);
    let mut data = show(made.record);
    data.share_url = Some(share_url);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// List the links to all previews of a sandbox
#[utoipa::path(get, path = "/sandboxes/{id}/shares", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<Vec<Share>>), (status = 404, body = ErrorResponse)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<Data<Vec<Share>>>, Failure> {
    let shares = control.store().list_shares(&target.record.id).await?;
    let data = shares.into_iter().map(show).collect();
    Ok(Json(Data { data }))
}

/// Revoke a link to all previews of a sandbox
#[utoipa::path(delete, path = "/sandboxes/{id}/shares/{share}", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id"),
        ("share" = String, Path, description = "Share id")),
    responses((status = 204), (status = 404, body = ErrorResponse)))]
pub(crate) async fn revoke(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(id): SecondPathText,
) -> Result<StatusCode, Failure> {
    let unknown = || Failure::new(ErrorCode::NotFound, "share not found");
    let id = id.parse().map_err(|_| unknown())?;
    if control.store().revoke_share(&target.record.id, &id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

/// Make a token for all previews of a sandbox; it is shown this once
#[utoipa::path(post, path = "/sandboxes/{id}/preview-token", tag = "previews",
    params(("id" = String, Path, description = "Sandbox id")), request_body = CreateShare,
    responses((status = 201, body = Data<PreviewToken>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(crate) async fn create_token(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<CreateShare>,
) -> Result<(StatusCode, Json<Data<PreviewToken>>), Failure> {
    let expires_in = body.expires_in.or(Some(LIFE_SEC));
    let made = token(&control, &target.record, TokenKind::Token, body, expires_in).await?;
    let url = base_url(&control, &target.record).await?;
    let data = PreviewToken {
        url: link(&url, &made),
        token: made.secret.expose_secret().to_owned(),
        scope: SCOPE.to_owned(),
        expires_at: made.record.expires_at.map(Time),
    };
    Ok((StatusCode::CREATED, Json(Data { data })))
}

async fn token(
    control: &Control,
    sandbox: &SandboxRecord,
    kind: TokenKind,
    body: CreateShare,
    expires_in: Option<i64>,
) -> Result<NewShare, Failure> {
    let scope = parse::scope(body.scope.as_deref());
    let expires_at = parse::until("expires_in", expires_in);
    let wrong: Vec<FieldError> = [scope.err(), expires_at.clone().err()]
        .into_iter()
        .flatten()
        .collect();
    if !wrong.is_empty() {
        return Err(Failure::invalid(&wrong));
    }
    let new = NewToken {
        kind,
        expires_at: expires_at.unwrap_or_default(),
    };
    Ok(control
        .store()
        .create_preview_token(&sandbox.id, &new)
        .await?)
}

async fn base_url(control: &Control, sandbox: &SandboxRecord) -> Result<String, Failure> {
    let domain = control.preview_domain(&sandbox.tenant).await?;
    Ok(control.preview_url(&sandbox.slug, None, &domain))
}

fn link(url: &str, made: &NewShare) -> String {
    format!("{url}/?mt={}", made.secret.expose_secret())
}

fn show(record: ShareRecord) -> Share {
    Share {
        share_id: record.id,
        share_url: None,
        token_prefix: record.prefix,
        scope: SCOPE.to_owned(),
        expires_at: record.expires_at.map(Time),
        created_at: Time(record.created_at),
    }
}
