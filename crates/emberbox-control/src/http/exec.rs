//! Running a command.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{Data, ErrorResponse, ExecRequest, ExecResult, FieldError};
use emberbox_core::Limits;
use emberbox_guest::ExecSpec;

use super::auth::Target;
use super::files::is_legal_path;
use super::json::JsonBody;
use crate::Failure;
use crate::control::Control;
use crate::serve::Patience;

pub(super) mod lines;
mod stream;

pub(super) use lines::{Line, Lines};
pub(super) use stream::*;

/// Where a command runs when it does not say (`reference.txt`).
pub(super) const DEFAULT_DIR: &str = "/root";

/// Longest command: Linux takes no longer single argument (`MAX_ARG_STRLEN`,
/// 32 pages, its NUL included).
const COMMAND_MAX: usize = 32 * 4096 - 1;

/// Largest environment, names and values together: with the command well
/// under what Linux gives a new program.
const ENV_MAX: usize = 64 * 1024;

/// Run a command and wait for its end
#[utoipa::path(post, path = "/sandboxes/{id}/exec", tag = "exec",
    params(("id" = String, Path, description = "Sandbox id")), request_body = ExecRequest,
    responses((status = 200, body = Data<ExecResult>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse),
        (status = 504, body = ErrorResponse)))]
pub(super) async fn run(
    State(control): State<Arc<Control>>,
    target: Target,
    patience: Patience,
    JsonBody(body): JsonBody<ExecRequest>,
) -> Result<Json<Data<ExecResult>>, Failure> {
    let spec = parse(body, &control.limits(&target.caller))?;
    let outcome = patience.with(control.exec(&target.record, spec)).await?;
    Ok(Json(Data {
        data: ExecResult {
            sandbox_id: target.record.id,
            stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
            exit_code: outcome.exit_code,
            duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
            truncated: outcome.truncated,
        },
    }))
}

pub(super) fn parse(body: ExecRequest, limits: &Limits) -> Result<ExecSpec, Failure> {
    let mut errors = check_command(&body.command);
    let cwd = directory(body.working_dir, body.cwd).unwrap_or_else(|error| {
        errors.push(error);
        String::new()
    });
    let (timeout_field, timeout) = match (body.timeout, body.timeout_sec) {
        (Some(timeout), _) => ("timeout", timeout),
        (None, Some(timeout)) => ("timeout_sec", timeout),
        (None, None) => ("timeout", limits.default_exec_timeout_sec.into()),
    };
    let max = limits.max_exec_timeout_sec;
    if !(1..=i64::from(max)).contains(&timeout) {
        let message = format!("must be between 1 and {max}");
        errors.push(FieldError::new(timeout_field, message));
    }
    let env = body.env.unwrap_or_default();
    errors.extend(check_env(&env));
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    Ok(ExecSpec {
        command: body.command,
        cwd,
        env: env.into_iter().collect(),
        timeout_ms: timeout.unsigned_abs() * 1000,
        stdin: false,
    })
}

/// What is wrong with a command.
pub(super) fn check_command(command: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if command.trim().is_empty() {
        errors.push(FieldError::new("command", "is required"));
    }
    if command.len() > COMMAND_MAX || command.contains('\0') {
        let message =
            format!("must be at most {COMMAND_MAX} bytes without NUL; write a script to a file");
        errors.push(FieldError::new("command", message));
    }
    errors
}

/// The working directory under either of its names.
pub(super) fn directory(
    working_dir: Option<String>,
    cwd: Option<String>,
) -> Result<String, FieldError> {
    let (field, dir) = match (working_dir, cwd) {
        (Some(dir), _) => ("working_dir", dir),
        (None, Some(cwd)) => ("cwd", cwd),
        (None, None) => ("working_dir", DEFAULT_DIR.to_owned()),
    };
    if !is_legal_path(&dir) {
        return Err(FieldError::new(field, "must be an absolute path"));
    }
    Ok(dir)
}

/// What is wrong with an environment.
pub(super) fn check_env(env: &BTreeMap<String, String>) -> Vec<FieldError> {
    let mut errors: Vec<_> = env
        .iter()
        .filter_map(|(name, value)| {
            let message = if name.is_empty() || name.contains(['=', '\0']) {
                "is not a name of a variable"
            } else if value.contains('\0') {
                "must not contain NUL"
            } else {
                return None;
            };
            Some(FieldError::new(format!("env.{name}"), message))
        })
        .collect();
    let size: usize = env
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > ENV_MAX {
        errors.push(FieldError::new(
            "env",
            format!("must be at most {ENV_MAX} bytes"),
        ));
    }
    errors
}

#[cfg(test)]
mod tests;
