//! Code in interpreters that keep their variables.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{CodeContexts, CodeResult, Data, ErrorCode, ErrorResponse, FieldError, RunCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{SecondPathText, Target};
use super::json::{JsonBody, QueryString};
use crate::Failure;
use crate::control::{Context, Control, Language};
use crate::serve::Patience;

/// Which interpreter a cell runs in that does not say.
const DEFAULT_CONTEXT: &str = "default";

/// Longest name of a context, in bytes; it is part of a process's name.
const CONTEXT_MAX: usize = 64;

/// Longest cell in bytes: escaped at its worst it still fits the agent's
/// buffer. What is longer belongs into a file.
const CODE_MAX: usize = 256 * 1024;

/// Which contexts are meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CodeQuery {
    /// `python` or `javascript`.
    language: Option<String>,
}

/// Run code in an interpreter that keeps its variables
#[utoipa::path(post, path = "/sandboxes/{id}/code/run", tag = "code",
    params(("id" = String, Path, description = "Sandbox id")), request_body = RunCode,
    responses((status = 200, body = Data<CodeResult>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse),
        (status = 504, body = ErrorResponse)))]
pub(super) async fn run(
    State(control): State<Arc<Control>>,
    target: Target,
    patience: Patience,
    JsonBody(body): JsonBody<RunCode>,
) -> Result<Json<Data<CodeResult>>, Failure> {
    let limits = control.limits(&target.caller);
    let mut errors = Vec::new();
    let language = language(body.language.as_deref()).unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let name = body.context.unwrap_or_else(|| DEFAULT_CONTEXT.to_owned());
    if !is_context(&name) {
        let message = format!("must be at most {CONTEXT_MAX} letters, digits, - _ or .");
        errors.push(FieldError::new("context", message));
    }
    if body.code.trim().is_empty() {
        errors.push(FieldError::new("code", "is required"));
    }
    if body.code.len() > CODE_MAX {
        let message = format!("must be at most {CODE_MAX} bytes; write it to a file");
        errors.push(FieldError::new("code", message));
    }
    let default = i64::from(limits.default_exec_timeout_sec);
    let timeout = body.timeout.unwrap_or(default);
    let most = i64::from(limits.max_exec_timeout_sec);
    if !(1..=most).contains(&timeout) {
        let message = format!("must be between 1 and {most}");
        errors.push(FieldError::new("timeout", message));
    }
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    let context = Context {
        language: language.unwrap_or(Language::Python),
        name,
    };
    let within = Duration::from_secs(timeout.unsigned_abs());
    let work = control.run_code(&target.record, &context, &body.code, within);
    let outcome = patience.with(work).await?;
    let data = CodeResult {
        ok: outcome.ok,
        stdout: outcome.stdout,
        stderr: outcome.stderr,
        result: outcome.result,
        language: context.language.as_str().to_owned(),
        context: context.name,
        truncated: outcome.truncated,
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Json(Data { data }))
}

/// List the interpreters that run
#[utoipa::path(get, path = "/sandboxes/{id}/code/contexts", tag = "code",
    params(("id" = String, Path, description = "Sandbox id"), CodeQuery),
    responses((status = 200, body = Data<CodeContexts>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn contexts(
    State(control): State<Arc<Control>>,
    target: Target,
    QueryString(query): QueryString<CodeQuery>,
) -> Result<Json<Data<CodeContexts>>, Failure> {
    // As for a cell, no language is Python.
    let language = query.language()?.unwrap_or(Language::Python);
    let all = control.code_contexts(&target.record).await?;
    let contexts = all
        .into_iter()
        .filter(|context| context.language == language)
        .map(|context| context.name);
    let data = CodeContexts {
        contexts: contexts.collect(),
    };
    Ok(Json(Data { data }))
}

/// End one interpreter and forget its variables
#[utoipa::path(delete, path = "/sandboxes/{id}/code/contexts/{context}", tag = "code",
    params(("id" = String, Path, description = "Sandbox id"),
        ("context" = String, Path, description = "Its name"), CodeQuery),
    responses((status = 204, description = "It has ended"), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn reset_one(
    State(control): State<Arc<Control>>,
    target: Target,
    SecondPathText(name): SecondPathText,
    QueryString(query): QueryString<CodeQuery>,
) -> Result<StatusCode, Failure> {
    let language = query.language()?.unwrap_or(Language::Python);
    let meant = Context { language, name };
    let ended = control
        .reset_code(&target.record, |context| *context == meant)
        .await?;
    if ended == 0 {
        let message = "no such context of this language";
        return Err(Failure::new(ErrorCode::NotFound, message));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// End every interpreter, of one language if it is given
#[utoipa::path(delete, path = "/sandboxes/{id}/code", tag = "code",
    params(("id" = String, Path, description = "Sandbox id"), CodeQuery),
    responses((status = 204, description = "They have ended"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn reset_all(
    State(control): State<Arc<Control>>,
    target: Target,
    QueryString(query): QueryString<CodeQuery>,
) -> Result<StatusCode, Failure> {
    let language = query.language()?;
    let meant = |context: &Context| language.is_none_or(|only| context.language == only);
    control.reset_code(&target.record, meant).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl CodeQuery {
    fn language(&self) -> Result<Option<Language>, Failure> {
        language(self.language.as_deref()).map_err(|error| Failure::invalid(&[error]))
    }
}

fn language(text: Option<&str>) -> Result<Option<Language>, FieldError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let known = Language::ALL
        .into_iter()
        .find(|known| known.as_str() == text);
    known
        .map(Some)
        .ok_or_else(|| FieldError::new("language", "must be python or javascript"))
}

fn is_context(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= CONTEXT_MAX && name.bytes().all(legal)
}
