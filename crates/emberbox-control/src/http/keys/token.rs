//! Tokens: keys that whoever has one makes for an end user, for a while.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    CreateScopedToken, CreatedScopedToken, Data, ErrorCode, ErrorResponse, FieldError, Page,
    ScopedToken, Time,
};
use emberbox_core::{Scope, Scopes};
use emberbox_store::{ApiKeyRecord, Bounds, Caller, KeyError, KeyKind, NewKey};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use super::{check_within, common, scopes, seen_by};
use crate::Failure;
use crate::control::Control;
use crate::http::auth::{Auth, PathText};
use crate::http::json::{JsonBody, QueryString};
use crate::http::page::PageQuery;
use crate::http::sandboxes::parse::Fields;

/// A token's life when none is given, and the longest (the official client's
/// `tokens.create_scoped`).
const LIFE_SEC: i64 = 3600;
const LIFE_MAX_SEC: i64 = 24 * 3600;

/// What a token may have: no keys, nobody else's workspace.
fn grantable() -> Scopes {
    [
        Scope::SandboxesRead,
        Scope::SandboxesCreate,
        Scope::SandboxesExec,
        Scope::SandboxesWrite,
        Scope::BillingRead,
    ]
    .into_iter()
    .collect()
}

/// Make a token for an end user in a workspace; its secret is shown this once
#[utoipa::path(post, path = "/tokens/scoped", tag = "keys", request_body = CreateScopedToken,
    responses((status = 201, body = Data<CreatedScopedToken>), (status = 403, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<CreateScopedToken>,
) -> Result<(StatusCode, Json<Data<CreatedScopedToken>>), Failure> {
    let new = parse(body, &caller)?;
    let max = control.limits(&caller).max_keys;
    let made = control.store().create_key(&caller.tenant, new, max).await?;
    let data = CreatedScopedToken {
        info: show(made.record)?,
        token: made.secret.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// List tokens that still work
#[utoipa::path(get, path = "/tokens/scoped", tag = "keys", params(PageQuery),
    responses((status = 200, body = Page<ScopedToken>), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<ScopedToken>>, Failure> {
    let workspace = caller.bounds.workspace;
    let tokens = control
        .store()
        .list_keys(&caller.tenant, KeyKind::Token, workspace)
        .await?;
    let now = Timestamp::now();
    let works = |token: &ApiKeyRecord| {
        token.revoked_at.is_none() && token.expires_at.is_none_or(|end| end > now)
    };
    let shown = tokens.into_iter().filter(works).map(show);
    Ok(Json(page.of(shown.collect::<Result<_, _>>()?)?))
}

/// Revoke a token
#[utoipa::path(delete, path = "/tokens/scoped/{id}", tag = "keys",
    params(("id" = String, Path, description = "Token id")),
    responses((status = 204), (status = 404, body = ErrorResponse)))]
pub(in crate::http) async fn revoke(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<StatusCode, Failure> {
    let seen = seen_by(&control, &caller, &id, KeyKind::Token).await;
    let record = seen.map_err(|failure| match failure.code() {
        ErrorCode::NotFound => Failure::new(ErrorCode::NotFound, "token not found"),
        _ => failure,
    })?;
    let store = control.store();
    store.revoke_key(&caller.tenant, &record.id).await?;
    control.keys_changed();
    Ok(StatusCode::NO_CONTENT)
}

fn parse(body: CreateScopedToken, caller: &Caller) -> Result<NewKey, Failure> {
    let mut fields = Fields::default();
    let end_user = fields.text("user_id", Some(body.user_id));
    let workspace = fields.uuid("workspace_id", Some(body.workspace_id));
    let asked = scopes(body.scopes, &mut fields.errors);
    let scopes = asked.unwrap_or_else(|| common(caller.scopes, grantable()));
    if !scopes.are_within(grantable()) {
        let message = format!("a token has none but {}", grantable());
        fields.errors.push(FieldError::new("scopes", message));
    }
    let life = body.expires_in_seconds.unwrap_or(LIFE_SEC);
    if !(1..=LIFE_MAX_SEC).contains(&life) {
        let message = format!("must be between 1 and {LIFE_MAX_SEC}");
        fields
            .errors
            .push(FieldError::new("expires_in_seconds", message));
    }
    fields.done(())?;
    check_within(scopes, caller)?;
    if workspace.is_some_and(|workspace| !caller.bounds.reach(workspace)) {
        return Err(KeyError::NoWorkspace.into());
    }
    Ok(NewKey {
        name: "token".to_owned(),
        kind: KeyKind::Token,
        scopes,
        bounds: Bounds {
            workspace,
            end_user,
        },
        user: Some(caller.user.clone()),
        expires_at: Some(Timestamp::now() + SignedDuration::from_secs(life)),
    })
}

fn show(record: ApiKeyRecord) -> Result<ScopedToken, Failure> {
    let missing = || Failure::internal("a token without its bounds or its end");
    Ok(ScopedToken {
        id: record.id,
        prefix: record.prefix,
        user_id: record.bounds.end_user.ok_or_else(missing)?,
        workspace_id: record.bounds.workspace.ok_or_else(missing)?,
        scopes: record.scopes,
        created_at: Time(record.created_at),
        expires_at: record.expires_at.map(Time).ok_or_else(missing)?,
    })
}
