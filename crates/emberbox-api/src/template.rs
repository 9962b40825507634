//! Sandbox templates.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `GET /sandbox-templates` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateList {
    /// What a sandbox boots when it names none.
    pub default_template_id: String,
    /// The templates.
    pub data: Vec<Template>,
}

/// How an app of one kind is installed, started and looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// What `template_id` takes.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The template this id is a compatibility alias of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// The root file system it boots.
    pub image_id: String,
    /// `base`, `web`, `data` or `ml`.
    pub category: String,
    /// Suggested vCPUs.
    pub cpu_count: u32,
    /// Suggested memory in MiB.
    pub memory_mb: u32,
    /// Suggested disk in MiB.
    pub disk_mb: u32,
    /// Where the app's files belong.
    pub workdir: String,
    /// Where the app listens.
    pub preview_port: Option<u16>,
    /// Run once before the start.
    pub install_command: Option<String>,
    /// Runs the app.
    pub start_command: Option<String>,
    /// Tells when the app answers.
    pub readiness_probe: Option<ReadinessProbe>,
    /// What the app leaves behind for its user.
    pub artifact_paths: Vec<String>,
}

/// Tells when an app answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ReadinessProbe {
    /// `http`, `tcp` or `command`.
    #[serde(rename = "type")]
    #[schema(required)]
    pub kind: String,
    /// `http`: the address as seen inside the sandbox; any answer below 400
    /// will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `tcp`: where something must listen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// `command`: what must exit with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}
