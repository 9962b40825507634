//! Sandbox templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Time;

/// What `GET /sandbox-templates` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateList {
    /// What a sandbox boots when it names none.
    pub default_template_id: String,
    /// The templates.
    pub data: Vec<Template>,
}

/// What `GET /templates` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateCatalogue {
    /// What can be made, and how large.
    pub templates: Vec<CatalogueTemplate>,
}

/// A template and the sizes it comes in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatalogueTemplate {
    /// `sandbox`.
    pub product: String,
    /// The template.
    #[serde(flatten)]
    pub template: Template,
    /// The named sizes that the limits allow.
    pub sizes: Vec<TemplateSize>,
}

/// A named size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateSize {
    /// What `size` takes.
    pub size: String,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Disk in MiB.
    pub disk_size_mb: u32,
    /// Whether a sandbox of it can be made.
    pub ready: bool,
}

/// How an app of one kind is installed, started and looked at. What is said to
/// be "own" is there for a tenant's own templates only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// What `template_id` takes; it takes a `slug` as well.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The template this id is a compatibility alias of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// The root file system it boots; none until a build of an own one is
    /// ready. A template of the platform boots `miosa-sandbox` until then.
    pub image_id: Option<String>,
    /// `base`, `web`, `data` or `ml`; `custom` for a tenant's own.
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
    /// Own: its name in requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// `ready` when sandboxes boot an image of its own; else what its newest
    /// build does, and `draft` before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The newest build, whatever its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_build_id: Option<String>,
    /// The newest build that is ready, which is what sandboxes boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_build_id: Option<String>,
    /// What its next build is made of: a BuildSpec.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub build_spec: Option<Value>,
    /// Own: who runs the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Own: variables of its sandboxes unless they say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Own: the caller's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Own: when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Time>,
    /// Own: the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub inserted_at: Option<Time>,
    /// Own: when it was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Time>,
}

/// What `POST /sandbox-templates` takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateTemplate {
    /// For people; the slug when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its name in requests, unique in the tenant; made from the name when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Your own data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// What it is made of: a BuildSpec.
    #[schema(value_type = Object)]
    pub build_spec: Value,
}

/// What `POST /sandbox-templates/validate` takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ValidateBuildSpec {
    /// The BuildSpec.
    #[schema(value_type = Object)]
    pub build_spec: Value,
}

/// What `POST /sandbox-templates/validate` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValidatedBuildSpec {
    /// Whether the spec can be built as far as it says.
    pub valid: bool,
    /// The spec, complete: what is not said is assumed, what is unknown is
    /// left out. Only if it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub build_spec: Option<Value>,
    /// Everything that is wrong. Only if it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<BuildSpecError>>,
}

/// What is wrong with one field of a BuildSpec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildSpecError {
    /// `REQUIRED`, `UNSUPPORTED_BASE_IMAGE`, `OUT_OF_RANGE`,
    /// `INVALID_INTEGER`, `INVALID_PORT`, `INVALID_PATH` or `INVALID_STEP`.
    pub code: String,
    /// The field, or a path such as `steps.0.run`.
    pub field: String,
    /// For people.
    pub message: String,
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
