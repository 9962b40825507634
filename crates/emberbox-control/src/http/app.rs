//! The app of a sandbox's template: its start and what it leaves.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use emberbox_api::{
    AppLifecycle, ArtifactPaths, ArtifactPreview, Artifacts, Data, ErrorResponse, StartTemplate,
    StartedTemplate, Time,
};
use emberbox_core::app::{LOGS_PATH, PID_PATH};
use emberbox_store::{AppStatus, SandboxRecord};

use super::auth::Target;
use super::once::{IdempotencyKey, Keyed};
use crate::Failure;
use crate::control::Control;

mod parse;

/// Start the template's app
#[utoipa::path(post, path = "/sandboxes/{id}/template/start", tag = "apps",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey), request_body = StartTemplate,
    responses((status = 200, body = Data<StartedTemplate>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn start(
    State(control): State<Arc<Control>>,
    target: Target,
    Keyed { body, once }: Keyed<StartTemplate>,
) -> Result<Response, Failure> {
    let record = target.record;
    let template = control.template_of(&record).await?;
    let plan = parse::plan(&template, body)?;
    let starting = Arc::clone(&control);
    // One that a crash cut off may happen again: what runs already is told.
    once.answer(&control, &target.caller.tenant, async move |_before| {
        let (workdir, port) = (plan.workdir.clone(), plan.port);
        let app = starting.start_app(&record, plan).await?;
        let data = StartedTemplate {
            status: AppStatus::Started.as_str().to_owned(),
            ready: app.ready,
            workdir,
            preview_port: port,
            preview_url: url(&starting, &record, port).await?,
            logs_path: LOGS_PATH.to_owned(),
            pid_path: PID_PATH.to_owned(),
            pid: app.pid,
            artifact_paths: template.artifact_paths,
            template_id: record.template_id,
        };
        Ok((StatusCode::OK, Json(Data { data })))
    })
    .await
}

/// See what the app leaves, and where it is seen
#[utoipa::path(get, path = "/sandboxes/{id}/artifacts", tag = "apps",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<Artifacts>), (status = 404, body = ErrorResponse)))]
pub(super) async fn artifacts(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<Data<Artifacts>>, Failure> {
    let record = target.record;
    let template = control.template_of(&record).await?;
    let app = control.app(&record).await?;
    let port = control.app_port(&record).await?;
    let workdir = app
        .as_ref()
        .map_or(template.workdir, |(app, _)| app.workdir.clone());
    let lifecycle = match app {
        None => lifecycle("not_started"),
        Some((app, alive)) => {
            let gone = app.status == AppStatus::Started && !alive;
            AppLifecycle {
                ready: app.ready && alive,
                pid: app.pid.filter(|_| alive),
                error: app.error,
                started_at: Some(Time(app.started_at)),
                ..lifecycle(if gone { "exited" } else { app.status.as_str() })
            }
        }
    };
    Ok(Json(Data {
        data: Artifacts {
            preview: ArtifactPreview {
                url: url(&control, &record, port).await?,
                port,
            },
            artifacts: ArtifactPaths {
                paths: template.artifact_paths.clone(),
            },
            artifact_paths: template.artifact_paths,
            lifecycle,
            workdir,
            sandbox_id: record.id,
            template_id: record.template_id,
        },
    }))
}

fn lifecycle(status: &str) -> AppLifecycle {
    AppLifecycle {
        status: status.to_owned(),
        ready: false,
        pid: None,
        error: None,
        started_at: None,
        logs_path: LOGS_PATH.to_owned(),
        pid_path: PID_PATH.to_owned(),
    }
}

async fn url(
    control: &Control,
    record: &SandboxRecord,
    port: Option<u16>,
) -> Result<Option<String>, Failure> {
    match port {
        Some(port) => control.port_url(record, port).await.map(Some),
        None => Ok(None),
    }
}
