//! Builds of templates.

use emberbox_core::{BuildId, TemplateId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Time;

/// What `POST /sandbox-templates/{id}/builds` takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateBuild {
    /// A BuildSpec that becomes the template's; the template's own when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub build_spec: Option<Value>,
    /// Your own data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// One build of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateBuild {
    /// Which.
    #[schema(value_type = String)]
    pub id: BuildId,
    /// Of which template.
    #[schema(value_type = String)]
    pub sandbox_template_id: TemplateId,
    /// The same.
    #[schema(value_type = String)]
    pub template_id: TemplateId,
    /// Counts the builds of a template, from 1.
    pub version: u32,
    /// Counts what was asked for by retries, from 1.
    pub attempt: u32,
    /// `build_spec`.
    pub source_type: String,
    /// `queued`, `building`, `snapshotting`, `certifying`, `distributing`,
    /// `ready`, `failed` or `cancelled`.
    pub state: String,
    /// The same.
    pub status: String,
    /// What its sandboxes boot, once it is ready.
    pub image_id: Option<String>,
    /// What was made, once it is ready.
    pub snapshot_manifest: Option<BuiltImage>,
    /// Where its log is read.
    pub log_url: String,
    /// Why it failed or was cancelled: a stable code.
    pub error_code: Option<String>,
    /// The same for people.
    pub error_message: Option<String>,
    /// When somebody began to work on it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Time>,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
    /// How long that took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// What is built: a BuildSpec.
    #[schema(value_type = Object)]
    pub build_spec: Value,
    /// The caller's data.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// The same.
    #[schema(value_type = String, format = DateTime)]
    pub inserted_at: Time,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuiltImage {
    /// The name it is booted by.
    pub image_id: String,
    /// The digest of its manifest.
    pub digest: String,
    /// What it takes, in bytes; layers are shared with other images.
    pub size_bytes: u64,
    /// How many layers it has.
    pub layers: u32,
    /// How many steps need not run.
    pub cached_steps: u32,
    /// Whether its sandboxes start with the app already running.
    pub app_running: bool,
}

/// Something that happened in a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildEvent {
    /// Grows with every event: where to read on from.
    pub id: i64,
    /// The state that was entered; or `step`, `log` or `log_cut`: what came
    /// after that is not kept.
    pub event: String,
    /// The state the build was in.
    pub state: String,
    /// Counts what was asked for by retries, from 1.
    pub attempt: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// `step`, `log`: the step's place in the spec, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// `step`: what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `step`: whether it need not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    /// `log`: one line of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Why the state is what it is, if that is not the way of builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `failed`, `cancelled`: why, as a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// `failed`, `cancelled`: why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}
