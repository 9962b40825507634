//! Deployments.

use emberbox_core::{DeploymentId, SandboxId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What `POST …/deploy` takes. The clients send more; what only concerns
/// builds is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Deploy {
    /// For people; its address is made from it. Needed unless `deployment_id`
    /// is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The deployment to point to this sandbox, instead of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Where the app listens; the template's port, else 80, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// A domain of yours that leads here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Another name of `domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_domain: Option<String>,
}

/// What a deployment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentState {
    /// Its sandbox is coming up.
    Pending,
    /// It leads to its sandbox.
    Running,
    /// Its sandbox is paused or gone.
    Stopped,
    /// Its sandbox failed.
    Failed,
}

/// A name on the outside for an app in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// Which.
    #[schema(value_type = String)]
    pub id: DeploymentId,
    /// The same.
    #[schema(value_type = String)]
    pub deployment_id: DeploymentId,
    /// Whose.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// The runtime behind it.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// For people.
    pub name: String,
    /// Its label in its address.
    pub slug: String,
    /// What it does; follows from its sandbox.
    pub state: DeploymentState,
    /// Where the app listens in its sandbox.
    pub port: u16,
    /// Its address.
    pub url: String,
    /// The address to tell people: of its own domain if it has one.
    pub public_url: String,
    /// A domain of the tenant's own.
    pub custom_domain: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it was changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
}
