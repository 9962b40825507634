//! Deployments.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use emberbox_api::{
    Data, Deploy, Deployment, DeploymentState, ErrorCode, ErrorResponse, FieldError, Time,
};
use emberbox_core::{DeploymentId, SandboxState};
use emberbox_store::{Caller, DeploymentRecord, NewDeployment, SandboxRecord};

use super::auth::{Auth, PathText, Target};
use super::once::{IdempotencyKey, Keyed};
use super::port;
use crate::Failure;
use crate::control::Control;
use crate::preview::host::{is_domain, normal};

/// Longest name: a line on a page.
const NAME_MAX: usize = 200;

/// The port of an app that says nothing (`reference.txt`, "Promote a Sandbox").
const DEFAULT_PORT: u16 = 80;

/// Promote a sandbox to a deployment
#[utoipa::path(post, path = "/sandboxes/{id}/deploy", tag = "deployments",
    params(("id" = String, Path, description = "Sandbox id"), IdempotencyKey), request_body = Deploy,
    responses((status = 201, body = Deployment), (status = 400, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn deploy(
    State(control): State<Arc<Control>>,
    target: Target,
    headers: HeaderMap,
    Keyed { body, once }: Keyed<Deploy>,
) -> Result<Response, Failure> {
    let api = headers.get(HOST).and_then(|host| host.to_str().ok());
    let new = parse(&control, &target.record, api, body).await?;
    if let Some(id) = &new.id {
        seen_by(&control, &target.caller, id).await?;
    }
    let (record, deploying) = (target.record, Arc::clone(&control));
    // The same name for the same sandbox is the same deployment, so one that a
    // crash cut off may happen again.
    once.answer(&control, &target.caller.tenant, async move |_before| {
        let made = deploying.deploy(&record, new).await?;
        Ok((StatusCode::CREATED, Json(show(&deploying, made))))
    })
    .await
}

/// List deployments
#[utoipa::path(get, path = "/deployments", tag = "deployments",
    responses((status = 200, body = Data<Vec<Deployment>>)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
) -> Result<Json<Data<Vec<Deployment>>>, Failure> {
    let records = control.store().deployments(&caller.tenant).await?;
    let seen = |record: &DeploymentRecord| record.is_within(&caller.bounds);
    let records = records.into_iter().filter(seen);
    let data = records.map(|record| show(&control, record));
    Ok(Json(Data {
        data: data.collect(),
    }))
}

/// Get a deployment
#[utoipa::path(get, path = "/deployments/{id}", tag = "deployments",
    params(("id" = String, Path, description = "Deployment id")),
    responses((status = 200, body = Data<Deployment>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Deployment>>, Failure> {
    let record = seen_by(&control, &caller, &parse_id(&id)?).await?;
    Ok(Json(Data {
        data: show(&control, record),
    }))
}

/// Take a deployment down; its sandbox stays
#[utoipa::path(delete, path = "/deployments/{id}", tag = "deployments",
    params(("id" = String, Path, description = "Deployment id")),
    responses((status = 200, body = Data<Deployment>), (status = 404, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Deployment>>, Failure> {
    let id = parse_id(&id)?;
    seen_by(&control, &caller, &id).await?;
    let deleted = control.delete_deployment(&caller.tenant, &id).await?;
    let data = Deployment {
        state: DeploymentState::Stopped,
        ..show(&control, deleted)
    };
    Ok(Json(Data { data }))
}

/// A deployment that is there for the caller.
async fn seen_by(
    control: &Control,
    caller: &Caller,
    id: &DeploymentId,
) -> Result<DeploymentRecord, Failure> {
    let found = control.store().deployment(&caller.tenant, id).await?;
    let seen = found.filter(|record| record.is_within(&caller.bounds));
    seen.ok_or_else(Failure::deployment_not_found)
}

async fn parse(
    control: &Control,
    sandbox: &SandboxRecord,
    api: Option<&str>,
    body: Deploy,
) -> Result<NewDeployment, Failure> {
    let id = match &body.deployment_id {
        Some(id) => Some(parse_id(id)?),
        None => None,
    };
    let name = body.name.as_deref().map(str::trim);
    let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
    if name.is_none() && id.is_none() {
        return Err(Failure::new(ErrorCode::MissingParam, "name is required"));
    }
    let port = match body.port {
        Some(asked) => port::check(asked)?,
        None => control.app_port(sandbox).await?.unwrap_or(DEFAULT_PORT),
    };
    let mut errors = Vec::new();
    let too_long = name
        .as_ref()
        .is_some_and(|name| name.chars().count() > NAME_MAX || name.contains(char::is_control));
    if too_long {
        let message = format!("must be at most {NAME_MAX} characters on one line");
        errors.push(FieldError::new("name", message));
    }
    let (field, domain) = match (body.domain, body.custom_domain) {
        (Some(domain), _) => ("domain", Some(domain)),
        (None, custom) => ("custom_domain", custom),
    };
    let domain = domain.map(|domain| domain.trim_end_matches('.').to_ascii_lowercase());
    if let Some(domain) = &domain
        && let Err(message) = check_domain(control, api, domain)
    {
        errors.push(FieldError::new(field, message));
    }
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    Ok(NewDeployment {
        id,
        name,
        sandbox: sandbox.id.clone(),
        port,
        domain,
    })
}

/// A domain that can be somebody's own; never the one this API is asked by.
fn check_domain(control: &Control, api: Option<&str>, domain: &str) -> Result<(), String> {
    if !is_domain(domain) || !domain.contains('.') {
        return Err("must be a domain name, for example app.example.com".to_owned());
    }
    let ours = &control.settings().preview.domain;
    let below = domain.strip_suffix(ours.as_str());
    if below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) {
        return Err(format!("must not be below {ours}, which is the platform's"));
    }
    let api = api.and_then(normal);
    if api.is_some_and(|api| api == domain) {
        return Err("must not be the name of this API".to_owned());
    }
    // A number after the last dot is an address (WHATWG URL, "ends in a number").
    let last = domain.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("must be a name, not an address".to_owned());
    }
    Ok(())
}

fn parse_id(id: &str) -> Result<DeploymentId, Failure> {
    id.parse().map_err(|_| Failure::deployment_not_found())
}

fn show(control: &Control, record: DeploymentRecord) -> Deployment {
    let url = control.outside_url(&control.deployment_host(&record));
    let own = record.domain.as_deref();
    Deployment {
        public_url: own.map_or_else(|| url.clone(), |domain| control.outside_url(domain)),
        url,
        state: state(record.sandbox_state),
        deployment_id: record.id.clone(),
        id: record.id,
        tenant_id: record.tenant,
        sandbox_id: record.sandbox,
        name: record.name,
        slug: record.slug,
        port: record.port,
        custom_domain: record.domain,
        created_at: Time(record.created_at),
        updated_at: Time(record.updated_at),
    }
}

/// What a deployment does while its sandbox is in this state.
fn state(sandbox: SandboxState) -> DeploymentState {
    match sandbox {
        SandboxState::Provisioning => DeploymentState::Pending,
        SandboxState::Running => DeploymentState::Running,
        SandboxState::Paused | SandboxState::Destroyed => DeploymentState::Stopped,
        SandboxState::Error => DeploymentState::Failed,
    }
}
