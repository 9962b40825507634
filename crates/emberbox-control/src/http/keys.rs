//! API keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{ApiKey, CreateApiKey, CreatedApiKey, Data, ErrorCode, ErrorResponse, Time};
use emberbox_store::{ApiKeyRecord, NewKey};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use super::auth::{Auth, PathText};
use super::json::JsonBody;
use crate::Failure;
use crate::control::Control;

/// Longest name, in bytes: one line in a list.
const NAME_MAX: usize = 255;

/// Longest life of a key that has one: ten years.
const EXPIRES_MAX_SEC: i64 = 10 * 365 * 24 * 3600;

/// List API keys
#[utoipa::path(get, path = "/api-keys", tag = "keys",
    responses((status = 200, body = Data<Vec<ApiKey>>)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
) -> Result<Json<Data<Vec<ApiKey>>>, Failure> {
    let keys = control.store().list_keys(&caller.tenant).await?;
    Ok(Json(Data {
        data: keys.into_iter().map(show).collect(),
    }))
}

/// Create an API key; its secret is shown this once
#[utoipa::path(post, path = "/api-keys", tag = "keys", request_body = CreateApiKey,
    responses((status = 201, body = Data<CreatedApiKey>), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<CreateApiKey>,
) -> Result<(StatusCode, Json<Data<CreatedApiKey>>), Failure> {
    let made = control.store().create_key(&caller, parse(body)?).await?;
    let data = CreatedApiKey {
        info: show(made.record),
        key: made.secret.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Revoke an API key
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "Key id")),
    responses((status = 204), (status = 404, body = ErrorResponse)))]
pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<StatusCode, Failure> {
    let unknown = || Failure::new(ErrorCode::NotFound, "API key not found");
    let id = id.parse().map_err(|_| unknown())?;
    if control.store().revoke_key(&caller.tenant, &id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

fn parse(body: CreateApiKey) -> Result<NewKey, Failure> {
    let name = body.name.unwrap_or_else(|| "unnamed".to_owned());
    if name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(Failure::invalid_field(
            "name",
            format!("must be at most {NAME_MAX} bytes without control characters"),
        ));
    }
    let expires_at = match body.expires_in_seconds {
        None => None,
        Some(seconds @ 1..=EXPIRES_MAX_SEC) => {
            Some(Timestamp::now() + SignedDuration::from_secs(seconds))
        }
        Some(_) => {
            return Err(Failure::invalid_field(
                "expires_in_seconds",
                format!("must be between 1 and {EXPIRES_MAX_SEC}"),
            ));
        }
    };
    Ok(NewKey { name, expires_at })
}

fn show(record: ApiKeyRecord) -> ApiKey {
    ApiKey {
        id: record.id,
        name: record.name,
        prefix: record.prefix,
        created_at: Time(record.created_at),
        expires_at: record.expires_at.map(Time),
        revoked_at: record.revoked_at.map(Time),
    }
}
