//! API keys.
//!
//! Invariants: nobody makes, changes or replaces a key that may or sees more
//! than their own; a key's secret is in the answer that made it and nowhere
//! else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    ApiKey, CreateApiKey, CreatedApiKey, Data, ErrorCode, ErrorResponse, FieldError, Page,
    RotateApiKey, Time, UpdateApiKey,
};
use emberbox_core::{ApiKeyId, Scope, Scopes};
use emberbox_store::{ApiKeyRecord, Bounds, Caller, KeyEdit, KeyError, KeyKind, NewKey, NewSecret};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use super::auth::{Auth, PathText};
use super::json::{JsonBody, QueryString};
use super::page::PageQuery;
use super::sandboxes::parse::Fields;
use crate::Failure;
use crate::control::Control;

pub(super) mod token;

/// Longest life of a key that has one: ten years.
const EXPIRES_MAX_SEC: i64 = 10 * 365 * 24 * 3600;

/// Longest a replaced secret goes on: time to deploy the new one everywhere.
const OVERLAP_MAX_SEC: i64 = 7 * 24 * 3600;

/// List API keys
#[utoipa::path(get, path = "/api-keys", tag = "keys", params(PageQuery),
    responses((status = 200, body = Page<ApiKey>), (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<ApiKey>>, Failure> {
    let workspace = caller.bounds.workspace;
    let keys = control
        .store()
        .list_keys(&caller.tenant, KeyKind::Key, workspace)
        .await?;
    let keys = page.of(keys.into_iter().map(show).collect())?;
    Ok(Json(keys))
}

/// Create an API key; its secret is shown this once
#[utoipa::path(post, path = "/api-keys", tag = "keys", request_body = CreateApiKey,
    responses((status = 201, body = Data<CreatedApiKey>), (status = 403, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<CreateApiKey>,
) -> Result<(StatusCode, Json<Data<CreatedApiKey>>), Failure> {
    let new = parse(body, &caller)?;
    let new = NewKey {
        user: Some(new.user.unwrap_or_else(|| caller.user.clone())),
        ..new
    };
    let max = control.limits(&caller).max_keys;
    let made = control.store().create_key(&caller.tenant, new, max).await?;
    Ok((StatusCode::CREATED, Json(show_secret(made))))
}

/// Get an API key
#[utoipa::path(get, path = "/api-keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "Key id")),
    responses((status = 200, body = Data<ApiKey>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<ApiKey>>, Failure> {
    let record = seen_by(&control, &caller, &id, KeyKind::Key).await?;
    Ok(Json(Data { data: show(record) }))
}

/// Change an API key; what is absent stays
#[utoipa::path(patch, path = "/api-keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "Key id")), request_body = UpdateApiKey,
    responses((status = 200, body = Data<ApiKey>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn update(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<UpdateApiKey>,
) -> Result<Json<Data<ApiKey>>, Failure> {
    let record = held_by(&control, &caller, &id).await?;
    let edit = parse_edit(body, &caller, &record)?;
    let store = control.store();
    let changed = store.change_key(&caller.tenant, &record.id, &edit).await?;
    control.keys_changed();
    Ok(Json(Data {
        data: show(changed),
    }))
}

/// Replace an API key's secret; the new one is shown this once
#[utoipa::path(post, path = "/api-keys/{id}/rotate", tag = "keys",
    params(("id" = String, Path, description = "Key id")), request_body = RotateApiKey,
    responses((status = 200, body = Data<CreatedApiKey>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn rotate(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<RotateApiKey>,
) -> Result<Json<Data<CreatedApiKey>>, Failure> {
    let record = held_by(&control, &caller, &id).await?;
    let overlap = body.overlap_seconds.unwrap_or(0);
    if !(0..=OVERLAP_MAX_SEC).contains(&overlap) {
        let message = format!("must be between 0 and {OVERLAP_MAX_SEC}");
        return Err(Failure::invalid_field("overlap_seconds", message));
    }
    let overlap = SignedDuration::from_secs(overlap);
    let store = control.store();
    let made = store
        .rotate_key(&caller.tenant, &record.id, overlap)
        .await?;
    control.keys_changed();
    Ok(Json(show_secret(made)))
}

/// Revoke an API key
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "Key id")),
    responses((status = 204), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse)))]
pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<StatusCode, Failure> {
    let record = held_by(&control, &caller, &id).await?;
    let store = control.store();
    store.revoke_key(&caller.tenant, &record.id).await?;
    control.keys_changed();
    Ok(StatusCode::NO_CONTENT)
}

/// A key, or a token, that is there for the caller.
async fn seen_by(
    control: &Control,
    caller: &Caller,
    id: &str,
    kind: KeyKind,
) -> Result<ApiKeyRecord, Failure> {
    // What is no identifier names nothing, like one that nobody has.
    let id: ApiKeyId = id.parse().map_err(|_| KeyError::NoKey)?;
    let found = control.store().key(&caller.tenant, &id).await?;
    let bound = caller.bounds.workspace;
    let seen =
        found.filter(|key| key.kind == kind && (bound.is_none() || key.bounds.workspace == bound));
    Ok(seen.ok_or(KeyError::NoKey)?)
}

/// A key the caller may hand out or take away.
async fn held_by(control: &Control, caller: &Caller, id: &str) -> Result<ApiKeyRecord, Failure> {
    let record = seen_by(control, caller, id, KeyKind::Key).await?;
    check_within(record.scopes, caller)?;
    Ok(record)
}

/// Nobody gives what they do not have.
fn check_within(scopes: Scopes, caller: &Caller) -> Result<(), Failure> {
    if scopes.are_within(caller.scopes) {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Forbidden,
        "the key may do more than yours",
    ))
}

/// A key that `caller` may make. Only [`NewKey::user`] may be absent.
pub(super) fn parse(body: CreateApiKey, caller: &Caller) -> Result<NewKey, Failure> {
    let mut fields = Fields::default();
    let name = fields.text("name", body.name);
    let expires_at = expiry(body.expires_in_seconds, &mut fields.errors);
    let asked = scopes(body.scopes, &mut fields.errors);
    let workspace = fields.uuid("workspace_id", body.workspace_id);
    let user = body.user_id.map(|id| id.parse()).transpose();
    let user = user.unwrap_or_else(|_| {
        fields
            .errors
            .push(FieldError::new("user_id", "is not a user's id"));
        None
    });
    if let Some(workspace) = workspace
        && !caller.bounds.reach(workspace)
    {
        let message = "is not the one your key is bound to";
        fields.errors.push(FieldError::new("workspace_id", message));
    }
    let workspace = workspace.or(caller.bounds.workspace);
    let scopes = asked.unwrap_or_else(|| common(caller.scopes, Scopes::TENANT));
    check_operator(scopes, workspace.is_some(), &mut fields.errors);
    fields.done(())?;
    check_within(scopes, caller)?;
    Ok(NewKey {
        name: name.unwrap_or_else(|| "unnamed".to_owned()),
        kind: KeyKind::Key,
        scopes,
        bounds: Bounds {
            workspace,
            end_user: caller.bounds.end_user.clone(),
        },
        user,
        expires_at,
    })
}

fn parse_edit(
    body: UpdateApiKey,
    caller: &Caller,
    record: &ApiKeyRecord,
) -> Result<KeyEdit, Failure> {
    let mut fields = Fields::default();
    let name = fields.text("name", body.name);
    let scopes = scopes(body.scopes, &mut fields.errors);
    let expires_at = body
        .expires_in_seconds
        .map(|seconds| expiry(seconds, &mut fields.errors));
    if let Some(scopes) = scopes {
        let bound = record.bounds.workspace.is_some();
        check_operator(scopes, bound, &mut fields.errors);
    }
    fields.done(())?;
    if let Some(scopes) = scopes {
        check_within(scopes, caller)?;
    }
    Ok(KeyEdit {
        name,
        scopes,
        expires_at,
    })
}

/// Who may everything is bound to nothing.
fn check_operator(scopes: Scopes, is_bound: bool, errors: &mut Vec<FieldError>) {
    if is_bound && scopes.allow(Scope::Admin) {
        let message = "admin is about every tenant and cannot be bound to a workspace";
        errors.push(FieldError::new("scopes", message));
    }
}

/// What both sets allow.
fn common(scopes: Scopes, others: Scopes) -> Scopes {
    others.iter().filter(|&scope| scopes.allow(scope)).collect()
}

fn scopes(names: Option<Vec<String>>, errors: &mut Vec<FieldError>) -> Option<Scopes> {
    let mut known = Vec::new();
    let names = names?;
    if names.is_empty() {
        errors.push(FieldError::new("scopes", "must name at least one"));
    }
    // No set is longer than all there are.
    for (place, name) in names.iter().enumerate().take(Scope::ALL.len()) {
        match name.parse::<Scope>() {
            Ok(scope) => known.push(scope),
            Err(_) => {
                let all: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                let message = format!("must be one of {}", all.join(", "));
                errors.push(FieldError::new(format!("scopes[{place}]"), message));
            }
        }
    }
    if names.len() > Scope::ALL.len() {
        errors.push(FieldError::new("scopes", "names one twice"));
    }
    Some(known.into_iter().collect())
}

fn expiry(seconds: Option<i64>, errors: &mut Vec<FieldError>) -> Option<Timestamp> {
    match seconds? {
        seconds @ 1..=EXPIRES_MAX_SEC => {
            Some(Timestamp::now() + SignedDuration::from_secs(seconds))
        }
        _ => {
            let message = format!("must be between 1 and {EXPIRES_MAX_SEC}");
            errors.push(FieldError::new("expires_in_seconds", message));
            None
        }
    }
}

pub(super) fn show(record: ApiKeyRecord) -> ApiKey {
    let until = record.previous_until;
    ApiKey {
        id: record.id,
        name: record.name,
        prefix: record.prefix,
        scopes: record.scopes,
        workspace_id: record.bounds.workspace,
        user_id: record.user,
        created_at: Time(record.created_at),
        expires_at: record.expires_at.map(Time),
        revoked_at: record.revoked_at.map(Time),
        previous_until: until.filter(|&until| until > Timestamp::now()).map(Time),
    }
}

pub(super) fn show_secret(made: NewSecret) -> Data<CreatedApiKey> {
    Data {
        data: CreatedApiKey {
            info: show(made.record),
            key: made.secret.expose_secret().to_owned(),
        },
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NoKey => Self::new(ErrorCode::NotFound, "API key not found"),
            KeyError::NoUser => Self::invalid_field("user_id", "no such user"),
            KeyError::NoWorkspace => Self::invalid_field("workspace_id", "no such workspace"),
            KeyError::Revoked => Self::new(ErrorCode::ResourceState, "the key was revoked"),
            KeyError::TooMany(error) => error.into(),
            KeyError::Store(error) => error.into(),
        }
    }
}
