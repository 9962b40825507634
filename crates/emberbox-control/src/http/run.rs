//! A sandbox and its first command in one call.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use emberbox_api::{
    CreateSandbox, Data, ErrorResponse, ExecRequest, FirstCommand, RanSandbox, RunSandbox,
};
use serde_json::{Map, Value, json};

use super::auth::Auth;
use super::exec;
use super::json::fields;
use super::once::{IdempotencyKey, Keyed};
use super::sandboxes::{parse, show};
use crate::Failure;
use crate::control::{Control, answer_lost};

/// How long the sandbox may take to come up: a cold boot on a busy machine.
const COMES_UP: Duration = Duration::from_secs(120);

/// Create a sandbox, wait until it runs, and run a command in it. The sandbox
/// stays, also when the command fails or runs over its time
#[utoipa::path(post, path = "/sandboxes/run", tag = "sandboxes",
    params(IdempotencyKey),
    request_body = RunSandbox,
    responses((status = 201, body = Data<RanSandbox>), (status = 400, body = ErrorResponse),
        (status = 402, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse), (status = 504, body = ErrorResponse)))]
pub(super) async fn run(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    Keyed { body, once }: Keyed<Map<String, Value>>,
) -> Result<Response, Failure> {
    let limits = &control.limits(&caller);
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
    let template = create.template_id.as_deref();
    let bootable = control.bootable(&caller.tenant, template).await?;
    let new = parse::create(create, bootable, limits)?;
    let domain = control.preview_domain(&caller.tenant).await?;
    let (tenant, running) = (caller.tenant.clone(), Arc::clone(&control));
    once.answer(&control, &tenant, async move |before| {
        if let Some(sandbox) = before.made {
            // Whether its command ran, nobody knows.
            return Err(answer_lost(Some(&sandbox)));
        }
        let record = running
            .create(caller, new, before.once, COMES_UP)
            .await?
            .record;
        let names_it = |failure: Failure| {
            let details = json!({ "sandbox_id": record.id });
            failure.with_details(details)
        };
        let outcome = running.exec(&record, spec).await.map_err(names_it)?;
        let data = RanSandbox {
            sandbox: show(&running, &domain, record),
            stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
            exit_code: outcome.exit_code,
            duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
            truncated: outcome.truncated,
        };
        Ok((StatusCode::CREATED, Json(Data { data })))
    })
    .await
}
