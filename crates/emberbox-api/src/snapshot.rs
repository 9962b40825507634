//! Snapshots and forks.

use std::collections::BTreeMap;

use emberbox_core::{SandboxId, SandboxState, SnapshotId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

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

/// The sandbox a snapshot is of, which may be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotResource {
    /// `sandbox`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which.
    #[schema(value_type = String)]
    pub id: SandboxId,
    /// What its user calls it.
    pub name: Option<String>,
    /// Its state.
    #[schema(value_type = String)]
    pub state: SandboxState,
    /// Its workspace.
    pub workspace_id: Uuid,
}

/// A snapshot among those of all sandboxes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistorySnapshot {
    /// The snapshot.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// What it is of.
    pub resource: SnapshotResource,
    /// The name that keeps it.
    pub name: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// Most entries of this part.
    pub limit: u32,
    /// Entries left out at the beginning.
    pub offset: u32,
    /// Entries there are in all.
    pub total: u32,
}

/// What `GET /snapshots` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotPage {
    /// The snapshots, newest first.
    pub data: Vec<HistorySnapshot>,
    /// Which part.
    pub page: Part,
}

/// The snapshots of one sandbox together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotGroup {
    /// Whose.
    pub resource: SnapshotResource,
    /// How many.
    pub snapshot_count: u32,
    /// What they take on disk, in bytes.
    pub size_bytes: u64,
    /// When the newest was taken.
    #[schema(value_type = String, format = DateTime)]
    pub latest_at: Time,
}

/// What `GET /snapshots/groups` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotGroupPage {
    /// The one with the newest snapshot first.
    pub data: Vec<SnapshotGroup>,
    /// Which part.
    pub page: Part,
}

/// What needs a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dependent {
    /// `name`, or `sandbox` for one that comes up from it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name or the sandbox's id.
    pub id: String,
}

/// What `GET /snapshots/{id}` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotDetail {
    /// The snapshot.
    pub data: HistorySnapshot,
    /// What keeps it from being deleted.
    pub dependents: Vec<Dependent>,
}

/// What `DELETE /snapshots/{id}` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedSnapshot {
    /// Which.
    #[schema(value_type = String)]
    pub id: SnapshotId,
    /// True.
    pub deleted: bool,
}

/// What `POST /snapshots/delete` takes: either `ids`, or a sandbox whose whole
/// history goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeleteSnapshots {
    /// At most 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// The sandbox; needs `all` and `confirm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// True, for a whole history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// The sandbox's id once more, for a whole history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// A name and the snapshot it keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NamedSnapshot {
    /// The name.
    pub name: String,
    /// What it keeps.
    #[schema(value_type = String)]
    pub snapshot_id: SnapshotId,
    /// `ready`.
    pub state: String,
    /// What it keeps, whole.
    pub snapshot: HistorySnapshot,
    /// When the name was given.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// What `GET /named-snapshots/{name}` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NamedSnapshotDetail {
    /// The name.
    pub data: NamedSnapshot,
    /// What comes up from its snapshot.
    pub dependents: Vec<Dependent>,
}

/// What `POST /named-snapshots` takes: one of the two sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NameSnapshot {
    /// 1 to 128 of letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// A snapshot that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// A running sandbox, of which one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
}

/// What `DELETE /named-snapshots/{name}` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedName {
    /// Which.
    pub name: String,
    /// `released`: the snapshot is in its sandbox's history again; `deleted`:
    /// it went with the name, its sandbox being gone.
    pub outcome: String,
}
