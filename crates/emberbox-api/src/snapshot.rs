//! Snapshots and forks.

use std::collections::BTreeMap;

use emberbox_core::{SandboxId, SnapshotId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Time;

/// What `POST …/snapshots` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateSnapshot {
    /// What it is kept for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A sandbox's memory, devices and disk at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Which.
    #[schema(value_type = String)]
    pub id: SnapshotId,
    /// The same.
    #[schema(value_type = String)]
    pub snapshot_id: SnapshotId,
    /// Whose.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// What it is kept for.
    pub comment: Option<String>,
    /// `ready`.
    pub state: String,
    /// The same.
    pub status: String,
    /// The snapshot its sandbox came from when this one was taken.
    #[schema(value_type = Option<String>)]
    pub parent_id: Option<SnapshotId>,
    /// What it takes on disk, in bytes.
    pub size_bytes: u64,
    /// How long the sandbox stood still for it, in milliseconds.
    pub stopped_ms: f64,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// What `POST …/fork` takes; what is absent is the source's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ForkSandbox {
    /// Where it goes on from; the source's present state when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// The caller's name for the fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The caller's end user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_user_id: Option<String>,
    /// The caller's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Seconds of life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
    /// Variables that processes started from now on see, besides the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}
