//! The sandbox object and what creates one.

use std::collections::BTreeMap;

use emberbox_core::{SandboxId, SandboxState, TenantId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Part, Time};

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    /// Unique identifier.
    #[schema(value_type = String, example = "sbx_01j9xr2t4fk8me3n5qv7w8x9y0")]
    pub id: SandboxId,
    /// Owning tenant.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Creating user.
    #[schema(value_type = String)]
    pub owner_id: UserId,
    /// The workspace it belongs to.
    pub workspace_id: Uuid,
    /// The project it belongs to.
    pub project_id: Uuid,
    /// The caller's customer or account.
    pub external_workspace_id: Option<String>,
    /// The caller's end user.
    pub external_user_id: Option<String>,
    /// The caller's project or document.
    pub external_project_id: Option<String>,
    /// The caller's name for it; not unique.
    pub name: Option<String>,
    /// A DNS label for previews; unique among sandboxes that exist.
    pub slug: String,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// Boot template.
    pub template_id: String,
    /// Resolved root file system image.
    pub image_id: String,
    /// Lifecycle state.
    #[schema(value_type = String, example = "running")]
    pub state: SandboxState,
    /// Whether exec and files are accepted.
    pub ready: bool,
    /// The named size it was created with, if any.
    pub size: Option<String>,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Disk in MiB.
    pub disk_size_mb: u32,
    /// `snapshot` or `cold`, once it has booted.
    pub boot_path: Option<String>,
    /// How long the boot took in milliseconds, once it has booted.
    pub boot_ms: Option<u32>,
    /// The address of its previews; null once it has ended.
    pub preview_url: Option<String>,
    /// Seconds it may run before it is destroyed, or paused if it is persistent;
    /// time spent paused does not count.
    pub timeout_sec: u32,
    /// Milliseconds of that left while it runs; null when no end is set.
    pub timeout_remaining_ms: Option<i64>,
    /// Seconds nobody may use it before it is destroyed, or paused if it is
    /// persistent.
    pub idle_timeout_sec: Option<u32>,
    /// Never ended by time.
    pub always_on: bool,
    /// Paused where others are destroyed, and resumed by the next use.
    pub persistent: bool,
    /// Whether the template's app is to be started.
    pub auto_start: bool,
    /// Seconds it ran, rounded up; only after its end.
    pub total_runtime_sec: Option<i64>,
    /// The caller's data.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Why it is in the `error` state.
    pub error_message: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When its VM entered `running`.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Time>,
    /// When it first accepted work.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ready_at: Option<Time>,
    /// When it was destroyed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub destroyed_at: Option<Time>,
}

/// What `GET /sandboxes` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxList {
    /// The sandboxes, newest first.
    pub data: Vec<Sandbox>,
    /// Which part, if one was asked for; else these are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Part>,
}

/// What `POST /sandboxes` takes. Unknown fields are ignored, because client
/// versions add fields; numbers are wide so that a value out of range is
/// named with its range.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateSandbox {
    /// Boot template; `miosa-sandbox` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// A named size: `xs`, `small`, `medium`, `large`, `xl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Virtual CPUs (default 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<i64>,
    /// Memory in MiB (default 1024).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<i64>,
    /// Disk in MiB (default 3072).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<i64>,
    /// Another name of `disk_mb`; must agree with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_size_mb: Option<i64>,
    /// Seconds of life after `started_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
    /// Seconds nobody may use it before it is destroyed, or paused if it is
    /// persistent; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_sec: Option<i64>,
    /// Variables every process of the sandbox sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// The caller's data, returned as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Start the template's app once the sandbox runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_start: Option<bool>,
    /// Never destroy it by `timeout_sec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_on: Option<bool>,
    /// Pause it where others are destroyed, and resume it by the next use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// The caller's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A DNS label; made up when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// The caller's tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// An existing workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub workspace_id: Option<String>,
    /// An existing workspace, or one to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_slug: Option<String>,
    /// The display name if one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_name: Option<String>,
    /// An existing project.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub project_id: Option<String>,
    /// An existing project of the workspace, or one to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_slug: Option<String>,
    /// The display name if one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    /// The caller's customer or account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_workspace_id: Option<String>,
    /// The caller's end user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_user_id: Option<String>,
    /// The caller's project or document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_project_id: Option<String>,
}

/// What `DELETE /sandboxes/{id}` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DestroyedSandbox {
    /// Which.
    #[schema(value_type = String)]
    pub id: SandboxId,
    /// `destroyed`.
    #[schema(value_type = String)]
    pub state: SandboxState,
    /// Seconds it ran, rounded up.
    pub total_runtime_sec: i64,
}

/// What `POST …/extend` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ExtendSandbox {
    /// Seconds from now at which it ends; its own `timeout_sec` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
}

/// What `PATCH /sandboxes/{id}` takes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateSandbox {
    /// The caller's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its DNS label; its previews move with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// The caller's tags, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The caller's data, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Never end it by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_on: Option<bool>,
    /// Pause it where others are destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// Seconds it may run in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
    /// Seconds nobody may use it; 0 is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_sec: Option<i64>,
}

/// What `PATCH …/tags` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SetTags {
    /// All of them.
    pub tags: Vec<String>,
}
