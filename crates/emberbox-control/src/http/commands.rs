//! Commands with everything about them in one answer, and detached ones, which
//! are background processes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use emberbox_api::{
    CommandResult, Data, ErrorCode, ErrorResponse, FieldError, Process, RunCommand,
};
use emberbox_core::Limits;
use emberbox_guest::{ExecSpec, ProcessSpec};

use super::auth::Target;
use super::exec::{DEFAULT_DIR, check_command, check_env};
use super::files::is_legal_path;
use super::json::JsonBody;
use super::processes::{
    NAME_MAX, Pid, STOP_GRACE, TAIL, TIMEOUT_MAX_SEC, last_lines, show, whole_log,
};
use crate::Failure;
use crate::control::Control;
use crate::serve::Patience;

/// Longest command that is waited for (`client-contract.md`).
const TIMEOUT_SEC: i64 = 600;

/// Longest input: what the agent takes ahead of the command, by far.
const STDIN_MAX: usize = 256 * 1024;

/// Longest name of a user on Linux.
const USER_MAX: usize = 32;

/// Run a command and wait for its end, or start it detached
#[utoipa::path(post, path = "/sandboxes/{id}/commands", tag = "exec",
    params(("id" = String, Path, description = "Sandbox id")), request_body = RunCommand,
    responses((status = 200, body = Data<CommandResult>),
        (status = 201, body = Data<CommandResult>, description = "It runs detached"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn run(
    State(control): State<Arc<Control>>,
    target: Target,
    patience: Patience,
    JsonBody(body): JsonBody<RunCommand>,
) -> Result<(StatusCode, Json<Data<CommandResult>>), Failure> {
    let command = parse(body, &control.limits(&target.caller))?;
    let record = target.record;
    if !record.is_ready() {
        return Err(Failure::not_running_yet(&record));
    }
    let (spec, input) = match command {
        Command::Detached(spec, input) => {
            let guest = control.guest(&record)?;
            let info = guest.start_process(spec).await?;
            let pid = info.pid;
            if !input.is_empty() {
                // One that has ended by now did not want it.
                let given = guest.write_process(pid, input, true).await;
                match given.map_err(Failure::from) {
                    Err(failure) if failure.code() != ErrorCode::ProcessNotRunning => {
                        return Err(failure);
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            let data = CommandResult {
                sandbox_id: record.id,
                pid: Some(pid),
                status: "running".to_owned(),
                stdout: String::new(),
                stderr: String::new(),
                exit_code: None,
                duration_ms: 0,
                timed_out: false,
                truncated: false,
            };
            return Ok((StatusCode::CREATED, Json(Data { data })));
        }
        Command::Waited(spec, input) => (spec, input),
    };
    let work = control.exec_to_end(&record, spec, input);
    let outcome = patience.with(work).await?;
    let data = CommandResult {
        sandbox_id: record.id,
        pid: None,
        status: "exited".to_owned(),
        stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
        exit_code: Some(outcome.exit_code),
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        timed_out: outcome.timed_out.is_some(),
        truncated: outcome.truncated,
    };
    Ok((StatusCode::OK, Json(Data { data })))
}

/// List the detached commands and other background processes
#[utoipa::path(get, path = "/sandboxes/{id}/commands", tag = "exec",
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

/// What is known of a detached command
#[utoipa::path(get, path = "/sandboxes/{id}/commands/{pid}", tag = "exec",
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

/// The last lines of what a detached command wrote, both streams together
#[utoipa::path(get, path = "/sandboxes/{id}/commands/{pid}/logs", tag = "exec",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id")),
    responses((status = 200, body = Data<String>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn logs(
    State(control): State<Arc<Control>>,
    target: Target,
    Pid(pid): Pid,
) -> Result<Json<Data<String>>, Failure> {
    let guest = control.guest(&target.record)?;
    let log = whole_log(&guest, pid).await?;
    let data = String::from_utf8_lossy(last_lines(&log, TAIL)).into_owned();
    Ok(Json(Data { data }))
}

/// End a detached command and its group: SIGTERM, and SIGKILL 5 s later
#[utoipa::path(post, path = "/sandboxes/{id}/commands/{pid}/kill", tag = "exec",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id")),
    responses((status = 200, body = Data<Process>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn kill(
    State(control): State<Arc<Control>>,
    target: Target,
    Pid(pid): Pid,
) -> Result<Json<Data<Process>>, Failure> {
    let guest = control.guest(&target.record)?;
    guest.stop_process(pid, STOP_GRACE).await?;
    let data = show(target.record.id, guest.process(pid).await?);
    Ok(Json(Data { data }))
}

enum Command {
    Waited(ExecSpec, Bytes),
    Detached(ProcessSpec, Bytes),
}

fn parse(body: RunCommand, limits: &Limits) -> Result<Command, Failure> {
    let mut errors = check_command(&body.command);
    let mut wrong = |field: &str, message: String| errors.push(FieldError::new(field, message));
    let detached = body.detached.unwrap_or(false);
    let (default, most) = if detached {
        (0, TIMEOUT_MAX_SEC)
    } else {
        (limits.default_exec_timeout_sec.into(), TIMEOUT_SEC)
    };
    let timeout = body.timeout_seconds.unwrap_or(default);
    let least = i64::from(!detached);
    if !(least..=most).contains(&timeout) {
        wrong(
            "timeout_seconds",
            format!("must be between {least} and {most}"),
        );
    }
    let input = body.stdin.unwrap_or_default();
    if input.len() > STDIN_MAX {
        let message = format!("must be at most {STDIN_MAX} bytes; upload a file");
        wrong("stdin", message);
    }
    for (field, asked) in [("tty", body.tty), ("interactive", body.interactive)] {
        if asked == Some(true) {
            wrong(field, "is not offered; open a terminal".to_owned());
        }
    }
    if body.name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
        wrong("name", format!("must be at most {NAME_MAX} bytes"));
    }
    let cwd = match body.cwd {
        None => DEFAULT_DIR.to_owned(),
        Some(cwd) if cwd.starts_with('/') => cwd,
        Some(cwd) => format!("{DEFAULT_DIR}/{cwd}"),
    };
    if !is_legal_path(&cwd) {
        wrong("cwd", "is not a path".to_owned());
    }
    let user = body.user.filter(|user| user != "root");
    if user.as_ref().is_some_and(|user| !is_user(user)) {
        wrong("user", "is not a name of a user".to_owned());
    }
    if user.is_some() && body.sudo == Some(true) {
        wrong("sudo", "runs as root; leave out user".to_owned());
    }
    let env = body.env.unwrap_or_default();
    errors.extend(check_env(&env));
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    let exec = ExecSpec {
        command: as_user(user.as_deref(), body.command),
        cwd,
        env: env.into_iter().collect(),
        timeout_ms: timeout.unsigned_abs() * 1000,
        stdin: !input.is_empty(),
    };
    let input = Bytes::from(input);
    Ok(if detached {
        let name = body.name;
        Command::Detached(ProcessSpec { exec, name }, input)
    } else {
        Command::Waited(exec, input)
    })
}

fn is_user(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !name.is_empty() && name.len() <= USER_MAX && !name.starts_with('-') && name.bytes().all(legal)
}

fn as_user(user: Option<&str>, command: String) -> String {
    match user {
        None => command,
        Some(user) => {
            let quoted = command.replace('\'', "'\\''");
            format!("exec runuser -u {user} -- /bin/sh -c '{quoted}'")
        }
    }
}
