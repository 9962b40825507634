//! One operation on many things.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `POST /bulk/sandboxes/…` takes: either `ids` or a `filter`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BulkSandboxes {
    /// At most 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// All that match; says at least one thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<BulkFilter>,
}

/// Which sandboxes; everything given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BulkFilter {
    /// Of this workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    /// Of this project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Of this customer or account of yours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_workspace_id: Option<String>,
    /// Of this end user of yours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_user_id: Option<String>,
    /// Of this project or document of yours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_project_id: Option<String>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// With all of these tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

/// What became of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkOutcome {
    /// Done.
    pub succeeded: Vec<String>,
    /// Not done, each for its own reason.
    pub failed: Vec<BulkFailure>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkFailure {
    /// Which.
    pub id: String,
    /// A code of the catalogue.
    pub code: String,
    /// For people.
    pub message: String,
}
