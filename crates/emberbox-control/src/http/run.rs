//! A sandbox and its first command in one call.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use emberbox_api::{
    CreateSandbox, Data, ErrorResponse, ExecRequest, FirstCommand, RanSandbox, RunSandbox,
};
use serde_json::{Map, Value, json};

use super::auth::Auth;
use super::exec;
use super::json::{JsonBody, fields};
use super::sandboxes::{parse, show};
use crate::Failure;
use crate::control::Control;
use crate::serve::Patience;

/// How long the sandbox may take to come up: a cold boot on a busy machine.
const COMES_UP: Duration = Duration::from_secs(120);

/// Create a sandbox, wait until it runs, and run a command in it. The sandbox
/// stays, also when the command fails or runs over its time
#[utoipa::path(post, path = "/sandboxes/run", tag = "sandboxes",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "The same key within 24 h takes the same sandbox; the command runs again")),
    request_body = RunSandbox,
    responses((status = 201, body = Data<RanSandbox>), (status = 400, body = ErrorResponse),
        (status = 402, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse), (status = 504, body = ErrorResponse)))]
pub(super) async fn run(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    patience: Patience,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<(StatusCode, Json<Data<RanSandbox>>), Failure> {
    let limits = &control.settings().limits;
    let create: CreateSandbox = fields(&body)?;
    let FirstCommand {
        command,
        working_dir,
        cwd,
        timeout,
    } = fields(&body)?;
    let first = ExecRequest {
        command,
        working_dir,
        cwd,
        timeout,
        ..ExecRequest::default()
    };
    let spec = exec::parse(first, limits)?;
    let new = parse::create(create, limits)?;
    let key = parse::idempotency_key(&headers)?;
    let domain = control.preview_domain(&caller.tenant).await?;
    let work = async {
        let record = control.create(caller, new, key, COMES_UP).await?;
        let names_it = |failure: Failure| {
            let details = json!({ "sandbox_id": record.id });
            failure.with_details(details)
        };
        let outcome = control.exec(&record, spec).await.map_err(names_it)?;
        Ok::<_, Failure>((record, outcome))
    };
    let (record, outcome) = patience.with(work).await?;
    let data = RanSandbox {
        sandbox: show(&control, &domain, record),
        stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
        exit_code: outcome.exit_code,
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        truncated: outcome.truncated,
    };
    Ok((StatusCode::CREATED, Json(Data { data })))
}
