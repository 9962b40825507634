//! Background processes of a sandbox.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::Engine;
use bytes::Bytes;
use emberbox_api::{
    Data, ErrorCode, ErrorResponse, FieldError, Process, ProcessStatus, SignalProcess,
    StartProcess, Time, WriteProcess,
};
use emberbox_core::SandboxId;
use emberbox_guest::client::{ClientError, GuestClient, ProcessEvent};
use emberbox_guest::{ExecSpec, ProcessInfo, ProcessSpec};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Target, path_text};
use super::exec::{check_command, check_env, directory};
use super::files::BASE64;
use super::json::{JsonBody, QueryString};
use crate::Failure;
use crate::control::{Control, exit_code};

mod signal;
mod stream;

pub(super) use stream::*;

/// How long a process may take to end when it is asked to: enough for a
/// server to finish its requests, well under the clients' timeouts.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest timeout of a background process. A longer one is none.
pub(super) const TIMEOUT_MAX_SEC: i64 = 30 * 24 * 3600;

/// Longest name in bytes; it is for a line on a screen.
pub(super) const NAME_MAX: usize = 128;

/// Lines of a log that are shown unless told otherwise (`client-contract.md`).
pub(super) const TAIL: usize = 200;

/// The process in the path.
pub(super) struct Pid(pub(super) u32);

impl FromRequestParts<Arc<Control>> for Pid {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let text = path_text(parts, control, 1).await?;
        // What is no number names nothing, like one that nobody has.
        let pid = text.parse().map_err(|_| {
            Failure::new(
                ErrorCode::ProcessNotFound,
                "no background process of this pid",
            )
        })?;
        Ok(Self(pid))
    }
}

/// Start a process in the background
#[utoipa::path(post, path = "/sandboxes/{id}/processes", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id")), request_body = StartProcess,
    responses((status = 201, body = Data<Process>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn start(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<StartProcess>,
) -> Result<(StatusCode, Json<Data<Process>>), Failure> {
    let spec = parse(body)?;
    let info = control.guest(&target.record)?.start_process(spec).await?;
    let data = show(target.record.id, info);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// List the background processes, in the order of their start
#[utoipa::path(get, path = "/sandboxes/{id}/processes", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<Vec<Process>>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<Data<Vec<Process>>>, Failure> {
    let all = control.guest(&target.record)?.processes().await?;
    let id = target.record.id;
    let data = all.into_iter().map(|info| show(id.clone(), info)).collect();
    Ok(Json(Data { data }))
}

/// What is known of a background process
#[utoipa::path(get, path = "/sandboxes/{id}/processes/{pid}", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id")),
    responses((status = 200, body = Data<Process>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    target: Target,
    Pid(pid): Pid,
) -> Result<Json<Data<Process>>, Failure> {
    let info = control.guest(&target.record)?.process(pid).await?;
    let data = show(target.record.id, info);
    Ok(Json(Data { data }))
}

/// End a background process and its group: SIGTERM, and SIGKILL 5 s later
#[utoipa::path(delete, path = "/sandboxes/{id}/processes/{pid}", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id")),
    responses((status = 204, description = "It has ended, now or before"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse)))]
pub(super) async fn stop(
    State(control): State<Arc<Control>>,
    target: Target,
    Pid(pid): Pid,
) -> Result<StatusCode, Failure> {
    let guest = control.guest(&target.record)?;
    guest.stop_process(pid, STOP_GRACE).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a signal to a background process and its group
#[utoipa::path(post, path = "/sandboxes/{id}/processes/{pid}/signal", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id")), request_body = SignalProcess,
    responses((status = 200, body = Data<Process>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn signal(
    State(control): State<Arc<Control>>,
    target: Target,
    Pid(pid): Pid,
    JsonBody(body): JsonBody<SignalProcess>,
) -> Result<Json<Data<Process>>, Failure> {
    let signal = signal::number(&body.signal)?;
    let guest = control.guest(&target.record)?;
    guest.signal_process(pid, signal).await?;
    let data = show(target.record.id, guest.process(pid).await?);
    Ok(Json(Data { data }))
}

/// Write to the standard input of a background process
#[utoipa::path(post, path = "/sandboxes/{id}/processes/{pid}/stdin", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id")), request_body = WriteProcess,
    responses((status = 204, description = "The bytes are taken, not necessarily read"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn write(
    State(control): State<Arc<Control>>,
    target: Target,
    Pid(pid): Pid,
    JsonBody(body): JsonBody<WriteProcess>,
) -> Result<StatusCode, Failure> {
    let data = match body.data_base64 {
        None => Bytes::from(body.data),
        Some(_) if !body.data.is_empty() => {
            let message = "must not be sent together with data";
            return Err(Failure::invalid_field("data_base64", message));
        }
        Some(text) => BASE64
            .decode(text)
            .map_err(|_| Failure::invalid_field("data_base64", "must be base64"))?
            .into(),
    };
    let guest = control.guest(&target.record)?;
    guest.write_process(pid, data, body.close).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How `GET …/logs` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// How many of the last lines; 200 when absent.
    tail: Option<String>,
}

/// The last lines of what a background process wrote, both streams together
#[utoipa::path(get, path = "/sandboxes/{id}/processes/{pid}/logs", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id"), LogsQuery),
    responses((status = 200, body = Data<String>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn logs(
    State(control): State<Arc<Control>>,
    target: Target,
    Pid(pid): Pid,
    QueryString(query): QueryString<LogsQuery>,
) -> Result<Json<Data<String>>, Failure> {
    let tail = match query.tail {
        None => TAIL,
        Some(text) => text
            .parse()
            .map_err(|_| Failure::invalid_field("tail", "must be a number of lines"))?,
    };
    let guest = control.guest(&target.record)?;
    let log = whole_log(&guest, pid).await?;
    let data = String::from_utf8_lossy(last_lines(&log, tail)).into_owned();
    Ok(Json(Data { data }))
}

/// All that is kept; the client bounds it.
pub(super) async fn whole_log(guest: &GuestClient, pid: u32) -> Result<Vec<u8>, ClientError> {
    let mut replay = guest.process_log(pid).await?;
    let mut log = Vec::new();
    while let ProcessEvent::Output { data, .. } = replay.next().await? {
        log.extend_from_slice(&data);
    }
    Ok(log)
}

pub(super) fn last_lines(log: &[u8], count: usize) -> &[u8] {
    // The end of the last line begins no other.
    let body = log.strip_suffix(b"\n").unwrap_or(log);
    let mut ends = (0..body.len()).rev().filter(|at| body[*at] == b'\n');
    match count.checked_sub(1) {
        None => &[],
        Some(before) => ends.nth(before).map_or(log, |end| &log[end + 1..]),
    }
}

fn parse(body: StartProcess) -> Result<ProcessSpec, Failure> {
    let mut errors = check_command(&body.command);
    let cwd = directory(body.working_dir, body.cwd).unwrap_or_else(|error| {
        errors.push(error);
        String::new()
    });
    let (timeout_field, timeout) = match (body.timeout, body.timeout_sec) {
        (Some(timeout), _) => ("timeout", timeout),
        (None, timeout) => ("timeout_sec", timeout.unwrap_or(0)),
    };
    if !(0..=TIMEOUT_MAX_SEC).contains(&timeout) {
        let message = format!("must be between 0 (none) and {TIMEOUT_MAX_SEC}");
        errors.push(FieldError::new(timeout_field, message));
    }
    if body.name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
        let message = format!("must be at most {NAME_MAX} bytes");
        errors.push(FieldError::new("name", message));
    }
    let env = body.env.unwrap_or_default();
    errors.extend(check_env(&env));
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    Ok(ProcessSpec {
        exec: ExecSpec {
            command: body.command,
            cwd,
            env: env.into_iter().collect(),
            timeout_ms: timeout.unsigned_abs() * 1000,
            stdin: true,
        },
        name: body.name,
    })
}

pub(super) fn show(sandbox_id: SandboxId, info: ProcessInfo) -> Process {
    Process {
        pid: info.pid,
        sandbox_id,
        name: info.name,
        command: info.command,
        status: match info.ended {
            None => ProcessStatus::Running,
            Some(_) => ProcessStatus::Exited,
        },
        exit_code: info.ended.map(|end| exit_code(end.status)),
        started_at: time(info.started_unix_ms),
        ended_at: info.ended.and_then(|end| time(end.unix_ms)),
        output_bytes: info.written,
    }
}

/// A guest's clock says anything.
fn time(unix_ms: u64) -> Option<Time> {
    let ms = i64::try_from(unix_ms).ok()?;
    Timestamp::from_millisecond(ms).ok().map(Time)
}

#[cfg(test)]
mod tests;
