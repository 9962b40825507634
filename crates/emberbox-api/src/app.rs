//! The app of a sandbox's template, and what it leaves.

use emberbox_core::SandboxId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ReadinessProbe, Time};

/// What `POST …/template/start` takes; everything has the template's value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StartTemplate {
    /// Whether the install command is run first; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<bool>,
    /// Run once before the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_command: Option<String>,
    /// Runs the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_command: Option<String>,
    /// Where the app listens; both commands have it as `$PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// Where the app's files are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Seconds the install command may take (default 300, at most 1800).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_timeout_sec: Option<i64>,
    /// Seconds to wait for the app to answer (default 30, at most 600). An app
    /// that takes longer goes on starting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout_sec: Option<i64>,
    /// Tells when the app answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<ReadinessProbe>,
    /// Ends the app first if it runs; without it that is a 409.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<bool>,
}

/// An app that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartedTemplate {
    /// `started`.
    pub status: String,
    /// Whether it answered its probe already.
    pub ready: bool,
    /// The sandbox's template.
    pub template_id: String,
    /// Where the app's files are.
    pub workdir: String,
    /// Where it listens.
    pub preview_port: Option<u16>,
    /// Where it can be seen.
    pub preview_url: Option<String>,
    /// What install and app write, in the sandbox.
    pub logs_path: String,
    /// Holds the app's process id, in the sandbox.
    pub pid_path: String,
    /// The app's process id, which leads its process group.
    pub pid: u32,
    /// What the app leaves behind for its user.
    pub artifact_paths: Vec<String>,
}

/// What a sandbox's app has made and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifacts {
    /// Where.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Its template.
    pub template_id: String,
    /// Where the app's files are.
    pub workdir: String,
    /// Where it is seen.
    pub preview: ArtifactPreview,
    /// What it leaves behind for its user.
    pub artifacts: ArtifactPaths,
    /// The same.
    pub artifact_paths: Vec<String>,
    /// How its last start went.
    pub lifecycle: AppLifecycle,
}

/// Where an app is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactPreview {
    /// Its address.
    pub url: Option<String>,
    /// Its port in the sandbox.
    pub port: Option<u16>,
}

/// What an app leaves behind for its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactPaths {
    /// Files and directories; the files API fetches them.
    pub paths: Vec<String>,
}

/// How an app's last start went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppLifecycle {
    /// `not_started`, `installing`, `starting`, `started`, `failed` or
    /// `exited`.
    pub status: String,
    /// Whether it answered its probe.
    pub ready: bool,
    /// Its process id.
    pub pid: Option<u32>,
    /// Why it could not be started.
    pub error: Option<String>,
    /// When the start began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Time>,
    /// What install and app write, in the sandbox.
    pub logs_path: String,
    /// Holds the app's process id, in the sandbox.
    pub pid_path: String,
}

/// The last lines of a sandbox's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Logs {
    /// Where.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Oldest first: what happened to the sandbox, then what its app wrote.
    pub lines: Vec<String>,
    /// The same as one text.
    pub logs: String,
    /// What install and app write, in the sandbox.
    pub logs_path: String,
}
