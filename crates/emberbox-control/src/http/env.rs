//! A sandbox's variables.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{Data, EnvVar, ErrorCode, ErrorResponse, FieldError, SetEnv};

use super::auth::{SecondPathText, Target};
use super::exec::check_env;
use super::json::JsonBody;
use crate::Failure;
use crate::control::Control;

/// List a sandbox's variables
#[utoipa::path(get, path = "/sandboxes/{id}/env", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<Vec<EnvVar>>), (status = 404, body = ErrorResponse)))]
pub(super) async fn list(target: Target) -> Json<Data<Vec<EnvVar>>> {
    show(target.record.env)
}

/// Set variables: what is not named stays. Processes that start afterwards see
/// them; all together are at most 64 KiB
#[utoipa::path(put, path = "/sandboxes/{id}/env", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id")), request_body = SetEnv,
    responses((status = 200, body = Data<Vec<EnvVar>>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn set(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<SetEnv>,
) -> Result<Json<Data<Vec<EnvVar>>>, Failure> {
    let set = parse(body)?;
    let change = move |env: &mut BTreeMap<String, String>| {
        env.extend(set);
        refuse(check_env(env))
    };
    let record = control
        .change_env(target.caller.tenant, target.record.id, change)
        .await?;
    Ok(show(record.env))
}

/// Remove a variable
#[utoipa::path(delete, path = "/sandboxes/{id}/env/{key}", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("key" = String, Path, description = "The variable's name")),
    responses((status = 200, body = Data<Vec<EnvVar>>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(key): SecondPathText,
) -> Result<Json<Data<Vec<EnvVar>>>, Failure> {
    let change = move |env: &mut BTreeMap<String, String>| {
        let removed = env.remove(&key).map(drop);
        removed.ok_or_else(|| Failure::new(ErrorCode::NotFound, "variable not found"))
    };
    let record = control
        .change_env(target.caller.tenant, target.record.id, change)
        .await?;
    Ok(show(record.env))
}

fn parse(body: SetEnv) -> Result<BTreeMap<String, String>, Failure> {
    let mut set = BTreeMap::new();
    let mut errors = Vec::new();
    for (index, var) in body.vars.into_iter().enumerate() {
        if set.insert(var.key, var.value).is_some() {
            let field = format!("vars[{index}].key");
            errors.push(FieldError::new(field, "is given twice"));
        }
    }
    errors.extend(check_env(&set));
    refuse(errors)?;
    Ok(set)
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Failure> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::invalid(&errors))
    }
}

fn show(env: BTreeMap<String, String>) -> Json<Data<Vec<EnvVar>>> {
    let vars = env.into_iter().map(|(key, value)| EnvVar {
        key,
        value,
        encrypted: false,
    });
    let data = vars.collect();
    Json(Data { data })
}
