//! Whom a key speaks for, and a tenant's own domain.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{Allowances, Data, ErrorResponse, PreviewDomain, Time, Whoami};
use emberbox_core::Limits;

use super::auth::Auth;
use super::json::JsonBody;
use crate::control::Control;
use crate::{Failure, PreviewSettings};

/// Whom does this key speak for, and what may it?
#[utoipa::path(get, path = "/whoami", tag = "tenancy",
    responses((status = 200, body = Data<Whoami>), (status = 401, body = ErrorResponse)))]
pub(super) async fn whoami(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
) -> Json<Data<Whoami>> {
    let limits = allowances(&control.limits(&caller));
    Json(Data {
        data: Whoami {
            tenant_id: caller.tenant,
            user_id: caller.user,
            api_key_id: caller.key,
            scopes: caller.scopes,
            workspace_id: caller.bounds.workspace,
            external_user_id: caller.bounds.end_user,
            default_workspace_id: caller.home,
            expires_at: caller.ends.map(Time),
            limits,
        },
    })
}

fn allowances(limits: &Limits) -> Allowances {
    Allowances {
        max_sandboxes: limits.max_sandboxes,
        max_vcpus: limits.max_vcpus,
        max_memory_mib: limits.max_memory_mib,
        max_disk_mib: limits.max_disk_mib,
        max_snapshots: limits.max_snapshots,
        max_workspaces: limits.max_workspaces,
        max_projects: limits.max_projects,
        max_users: limits.max_users,
        max_keys: limits.max_keys,
        max_upload_bytes: limits.max_upload_bytes,
        max_exec_timeout_sec: limits.max_exec_timeout_sec,
        requests_per_minute: limits.requests_per_minute,
    }
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
