//! Many sandboxes asked for at once.

use emberbox_core::{BatchId, SandboxId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CreateSandbox, Time};

/// What `POST /sandboxes/batch` takes: what a create takes, and how many.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateBatch {
    /// What each of them is to be.
    #[serde(flatten)]
    pub create: CreateSandbox,
    /// How many.
    #[serde(flatten)]
    pub size: BatchSize,
}

/// How many sandboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BatchSize {
    /// How many; at most the tenant's limit.
    #[schema(required)]
    pub count: Option<i64>,
    /// How many of them are made at a time (default 4, at most 16).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i64>,
}

/// A batch as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// Which.
    #[schema(value_type = String)]
    pub id: BatchId,
    /// `running`; `completed` when all came up, `partial` when some did,
    /// `failed` when none did, `cancelled`.
    pub status: BatchStatus,
    /// How many were asked for.
    pub requested_count: u32,
    /// How many are made at a time.
    pub concurrency: u32,
    /// Nothing was done for these yet.
    pub queued_count: u32,
    /// These come up.
    pub creating_count: u32,
    /// These came up.
    pub completed_count: u32,
    /// These did not.
    pub failed_count: u32,
    /// The batch was cancelled before these.
    pub cancelled_count: u32,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it was cancelled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cancelled_at: Option<Time>,
    /// When nothing was left to do.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub settled_at: Option<Time>,
}

/// How a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BatchStatus {
    /// Something is left to do.
    Running,
    /// All came up.
    Completed,
    /// Some came up.
    Partial,
    /// None came up.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// One item of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchItem {
    /// Counted from 0.
    pub position: u32,
    /// `queued`, `creating`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Its sandbox, once there is one.
    #[schema(value_type = Option<String>)]
    pub sandbox_id: Option<SandboxId>,
    /// Why it failed.
    pub error: Option<BatchItemError>,
    /// When that was so.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
}

/// Why an item failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchItemError {
    /// A code of the catalogue.
    pub code: String,
    /// For people.
    pub message: String,
}
