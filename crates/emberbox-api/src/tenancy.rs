//! Who owns what.

use emberbox_core::{ApiKeyId, Scopes, TenantId, TenantLimits, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Time;

/// A tenant's workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    /// Its identifier.
    pub id: Uuid,
    /// Unique in the tenant.
    pub slug: String,
    /// For people.
    pub name: String,
    /// Your own name of it.
    pub external_workspace_id: Option<String>,
    /// Where sandboxes go that name none.
    pub is_default: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// What `POST /workspaces` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateWorkspace {
    /// For people; unique in the tenant.
    pub name: String,
    /// Unique in the tenant; made of the name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Your own name of it. One that is known gives what has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_workspace_id: Option<String>,
}

/// What `PATCH /workspaces/{id}` takes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateWorkspace {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Unique in the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Your own name of it; null takes it away.
    #[serde(
        deserialize_with = "crate::patch::given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub external_workspace_id: Option<Option<String>>,
}

/// A workspace's project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its identifier.
    pub id: Uuid,
    /// The workspace it belongs to.
    pub workspace_id: Uuid,
    /// Unique in the workspace.
    pub slug: String,
    /// For people.
    pub name: String,
    /// Your own name of it.
    pub external_project_id: Option<String>,
    /// Where sandboxes go that name none.
    pub is_default: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// What `POST /projects` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateProject {
    /// For people; unique in the workspace.
    pub name: String,
    /// Unique in the workspace; made of the name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Your own name of it. One that is known gives what has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_project_id: Option<String>,
    /// Its workspace; the default one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
}

/// What `PATCH /projects/{id}` takes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateProject {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Unique in the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Your own name of it; null takes it away.
    #[serde(
        deserialize_with = "crate::patch::given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub external_project_id: Option<Option<String>>,
}

/// What was made, or what had its external id already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reusable<T> {
    /// It.
    pub data: T,
    /// Whether it was there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
}

/// What a tenant may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Allowances {
    /// Sandboxes that exist at the same time.
    pub max_sandboxes: u32,
    /// Most vCPUs of one sandbox.
    pub max_vcpus: u32,
    /// Most memory of one sandbox.
    pub max_memory_mib: u32,
    /// Largest disk of one sandbox.
    pub max_disk_mib: u32,
    /// Snapshots of one sandbox that exist at the same time.
    pub max_snapshots: u32,
    /// Workspaces.
    pub max_workspaces: u32,
    /// Projects in all workspaces, the default ones included.
    pub max_projects: u32,
    /// Users.
    pub max_users: u32,
    /// Keys and tokens that work at the same time.
    pub max_keys: u32,
    /// Largest upload.
    pub max_upload_bytes: u64,
    /// Longest exec timeout.
    pub max_exec_timeout_sec: u32,
    /// Requests of one workspace in a minute; 0 is no limit.
    pub requests_per_minute: u32,
}

/// Whom a key speaks for, and what it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// The user.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// The key.
    #[schema(value_type = String)]
    pub api_key_id: ApiKeyId,
    /// What the key may do.
    #[schema(value_type = Vec<String>)]
    pub scopes: Scopes,
    /// The only workspace it sees, if it is bound to one.
    pub workspace_id: Option<Uuid>,
    /// The only end user whose sandboxes it sees, if it is bound to one.
    pub external_user_id: Option<String>,
    /// Where sandboxes go that name no workspace.
    pub default_workspace_id: Uuid,
    /// When the secret that was shown stops working.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// What the tenant may use.
    pub limits: Allowances,
}

/// What an operator gave a tenant in place of the settings; null is the
/// setting's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OwnLimits {
    /// Sandboxes that exist at the same time.
    pub max_sandboxes: Option<i64>,
    /// Most vCPUs of one sandbox.
    pub max_vcpus: Option<i64>,
    /// Most memory of one sandbox.
    pub max_memory_mib: Option<i64>,
    /// Largest disk of one sandbox.
    pub max_disk_mib: Option<i64>,
    /// Snapshots of one sandbox that exist at the same time.
    pub max_snapshots: Option<i64>,
    /// Workspaces.
    pub max_workspaces: Option<i64>,
    /// Projects in all workspaces, the default ones included.
    pub max_projects: Option<i64>,
    /// Users.
    pub max_users: Option<i64>,
    /// Keys and tokens that work at the same time.
    pub max_keys: Option<i64>,
    /// Largest upload.
    pub max_upload_bytes: Option<i64>,
    /// Longest exec timeout.
    pub max_exec_timeout_sec: Option<i64>,
    /// Requests of one workspace in a minute; 0 is no limit.
    pub requests_per_minute: Option<i64>,
}

impl From<TenantLimits> for OwnLimits {
    fn from(limits: TenantLimits) -> Self {
        Self {
            max_sandboxes: limits.max_sandboxes.map(i64::from),
            max_vcpus: limits.max_vcpus.map(i64::from),
            max_memory_mib: limits.max_memory_mib.map(i64::from),
            max_disk_mib: limits.max_disk_mib.map(i64::from),
            max_snapshots: limits.max_snapshots.map(i64::from),
            max_workspaces: limits.max_workspaces.map(i64::from),
            max_projects: limits.max_projects.map(i64::from),
            max_users: limits.max_users.map(i64::from),
            max_keys: limits.max_keys.map(i64::from),
            max_upload_bytes: limits
                .max_upload_bytes
                .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            max_exec_timeout_sec: limits.max_exec_timeout_sec.map(i64::from),
            requests_per_minute: limits.requests_per_minute.map(i64::from),
        }
    }
}

/// A tenant, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its identifier.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Its label in its deployments' addresses.
    pub slug: String,
    /// For people.
    pub name: String,
    /// What it may use in place of the settings.
    pub limits: OwnLimits,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// Since when its keys are refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub suspended_at: Option<Time>,
}

/// What `POST /admin/tenants` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateTenant {
    /// For people.
    pub name: String,
    /// Its label in its deployments' addresses, which stays; made of the name
    /// when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// What it may use in place of the settings.
    pub limits: OwnLimits,
}

/// What `PATCH /admin/tenants/{id}` takes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateTenant {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may use in place of the settings, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<OwnLimits>,
    /// Whether its keys are refused; nothing of its is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}

/// A user of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its identifier.
    #[schema(value_type = String)]
    pub id: UserId,
    /// For people.
    pub name: String,
    /// Where to write.
    pub email: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// What `POST /admin/tenants/{id}/users` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateUser {
    /// For people.
    pub name: String,
    /// Where to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}
