//! Who owns what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{Data, ErrorResponse, PreviewDomain, Project, Time, Whoami, Workspace};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Auth;
use super::json::{JsonBody, QueryString};
use crate::control::Control;
use crate::{Failure, PreviewSettings};

/// How `GET /projects` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ProjectQuery {
    /// Of this workspace.
    workspace_id: Option<String>,
}

/// Whom does this key speak for?
#[utoipa::path(get, path = "/whoami", tag = "tenancy",
    responses((status = 200, body = Data<Whoami>), (status = 401, body = ErrorResponse)))]
pub(super) async fn whoami(Auth(caller): Auth) -> Json<Data<Whoami>> {
    Json(Data {
        data: Whoami {
            tenant_id: caller.tenant,
            user_id: caller.user,
            api_key_id: caller.key,
        },
    })
}

/// The domain this tenant's previews are told under
#[utoipa::path(get, path = "/preview-domain", tag = "tenancy",
    responses((status = 200, body = Data<PreviewDomain>), (status = 401, body = ErrorResponse)))]
pub(super) async fn preview_domain(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
) -> Result<Json<Data<PreviewDomain>>, Failure> {
    let domain = control.store().preview_domain(&caller.tenant).await?;
    Ok(Json(Data {
        data: PreviewDomain { domain },
    }))
}

/// Tell this tenant's previews under a domain of its own; null takes it away
#[utoipa::path(put, path = "/preview-domain", tag = "tenancy", request_body = PreviewDomain,
    responses((status = 200, body = Data<PreviewDomain>), (status = 422, body = ErrorResponse)))]
pub(super) async fn set_preview_domain(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<PreviewDomain>,
) -> Result<Json<Data<PreviewDomain>>, Failure> {
    let domain = body.domain.map(|domain| domain.to_ascii_lowercase());
    if let Some(domain) = &domain {
        check_domain(domain, &control.settings().preview.domain)?;
    }
    let store = control.store();
    if !store
        .set_preview_domain(&caller.tenant, domain.as_deref())
        .await?
    {
        return Err(Failure::invalid_field("domain", "is in use"));
    }
    Ok(Json(Data {
        data: PreviewDomain { domain },
    }))
}

/// Names below the platform's own domain are everybody's.
fn check_domain(domain: &str, platform: &str) -> Result<(), Failure> {
    if !PreviewSettings::is_domain(domain) {
        return Err(Failure::invalid_field(
            "domain",
            "must be a DNS name without a port",
        ));
    }
    let above = domain.strip_suffix(platform);
    if above.is_some_and(|above| above.is_empty() || above.ends_with('.')) {
        return Err(Failure::invalid_field("domain", "belongs to the platform"));
    }
    Ok(())
}

/// List workspaces
#[utoipa::path(get, path = "/workspaces", tag = "tenancy",
    responses((status = 200, body = Data<Vec<Workspace>>)))]
pub(super) async fn workspaces(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
) -> Result<Json<Data<Vec<Workspace>>>, Failure> {
    let records = control.store().list_workspaces(&caller.tenant).await?;
    let data = records.into_iter().map(|record| Workspace {
        id: record.id,
        slug: record.slug,
        name: record.name,
        is_default: record.is_default,
        created_at: Time(record.created_at),
    });
    Ok(Json(Data {
        data: data.collect(),
    }))
}

/// List projects
#[utoipa::path(get, path = "/projects", tag = "tenancy", params(ProjectQuery),
    responses((status = 200, body = Data<Vec<Project>>), (status = 422, body = ErrorResponse)))]
pub(super) async fn projects(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<ProjectQuery>,
) -> Result<Json<Data<Vec<Project>>>, Failure> {
    let workspace = query.workspace_id.map(|id| id.parse()).transpose();
    let workspace =
        workspace.map_err(|_| Failure::invalid_field("workspace_id", "must be a UUID"))?;
    let records = control
        .store()
        .list_projects(&caller.tenant, workspace)
        .await?;
    let data = records.into_iter().map(|record| Project {
        id: record.id,
        workspace_id: record.workspace_id,
        slug: record.slug,
        name: record.name,
        is_default: record.is_default,
        created_at: Time(record.created_at),
    });
    Ok(Json(Data {
        data: data.collect(),
    }))
}
