//! Sandboxes: what is known of each, and how that may change.

use std::collections::BTreeMap;

use emberbox_core::{
    BatchId, BuildId, SandboxId, SandboxState, Shape, SnapshotId, TenantId, UserId, VmId,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::types::Json;
use uuid::Uuid;

use crate::store::parse;
use crate::{Bounds, PlaceRequest, StoreError, time};

pub(crate) mod change;
mod edit;
mod insert;
pub(crate) mod query;

pub use change::{Boot, DestroyIntent, Transition};
pub use edit::Edit;
pub(crate) use insert::belonging;
pub use insert::{InsertError, Inserted};
pub use query::SandboxFilter;
pub(crate) use query::{by_slug, running_without_credit};

/// The caller's own names for whom a sandbox serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalIds {
    /// Customer or account.
    pub workspace: Option<String>,
    /// End user.
    pub user: Option<String>,
    /// Project or document.
    pub project: Option<String>,
}

/// A sandbox to make; every value is checked already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewSandbox {
    /// Where it belongs.
    pub place: PlaceRequest,
    /// The caller's own names.
    pub external: ExternalIds,
    /// The caller's name for it.
    pub name: Option<String>,
    /// A slug the caller chose.
    pub slug: Option<String>,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// The caller's data.
    pub metadata: Map<String, Value>,
    /// Variables of its processes.
    pub env: BTreeMap<String, String>,
    /// Its template.
    pub template_id: String,
    /// The image that resolves to.
    pub image_id: String,
    /// The build that made the image, if it is of a tenant's own template.
    #[serde(default)]
    pub build: Option<BuildId>,
    /// The named size, if one was asked for.
    pub size: Option<String>,
    /// Its size.
    pub shape: Shape,
    /// Seconds of life.
    pub timeout_sec: u32,
    /// Stored for the caller.
    pub idle_timeout_sec: Option<u32>,
    /// Never destroyed by `timeout_sec`.
    pub always_on: bool,
    /// Stored for the caller.
    pub persistent: bool,
    /// Whether the template's app is to be started.
    pub auto_start: bool,
    /// A snapshot it starts from in place of its image.
    pub origin: Option<SnapshotId>,
    /// The VM that is kept for it; a new one when absent.
    #[serde(skip)]
    pub vm: Option<VmId>,
    /// Which item of a batch it is.
    #[serde(skip)]
    pub batch_item: Option<(BatchId, u32)>,
}

/// A sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxRecord {
    /// Which.
    pub id: SandboxId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Who made it.
    pub owner: UserId,
    /// Its workspace.
    pub workspace_id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// The caller's own names.
    pub external: ExternalIds,
    /// The caller's name for it.
    pub name: Option<String>,
    /// Its DNS label.
    pub slug: String,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// The caller's data.
    pub metadata: Map<String, Value>,
    /// Variables of its processes.
    pub env: BTreeMap<String, String>,
    /// Its template.
    pub template_id: String,
    /// The image that resolved to.
    pub image_id: String,
    /// The build that made the image, if it is of a tenant's own template.
    pub build: Option<BuildId>,
    /// The named size, if one was asked for.
    pub size: Option<String>,
    /// Its size.
    pub shape: Shape,
    /// Seconds of life.
    pub timeout_sec: u32,
    /// Stored for the caller.
    pub idle_timeout_sec: Option<u32>,
    /// Never destroyed by `timeout_sec`.
    pub always_on: bool,
    /// Stored for the caller.
    pub persistent: bool,
    /// Whether the template's app is to be started.
    pub auto_start: bool,
    /// Its state.
    pub state: SandboxState,
    /// Why it is in the error state.
    pub error_message: Option<String>,
    /// Its present life.
    pub vm: VmId,
    /// How it booted.
    pub boot_path: Option<String>,
    /// How long that took, in milliseconds.
    pub boot_ms: Option<u32>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it entered running.
    pub started_at: Option<Timestamp>,
    /// When it first took work.
    pub ready_at: Option<Timestamp>,
    /// When its destruction was asked for.
    pub destroy_requested_at: Option<Timestamp>,
    /// When its last life ended.
    pub ended_at: Option<Timestamp>,
    /// When it was gone.
    pub destroyed_at: Option<Timestamp>,
    /// The snapshot it starts from in place of its image.
    pub origin: Option<SnapshotId>,
    /// The user's snapshot it was last restored from, or took since.
    pub last_snapshot: Option<SnapshotId>,
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// How far its end was moved, in microseconds.
    pub moved_us: i64,
    /// Milliseconds it ran, as far as the ledger has them; pauses left out.
    pub runtime_ms: u64,
}

impl SandboxRecord {
    /// Whether it is in sight.
    #[must_use]
    pub fn is_within(&self, bounds: &Bounds) -> bool {
        bounds.show(self.workspace_id, self.external.user.as_deref())
    }

    /// Whether exec and files are accepted now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == SandboxState::Running && self.destroy_requested_at.is_none()
    }

    /// When `timeout_sec` is over, once it has started; it does not run while
    /// the sandbox is paused.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.always_on {
            return None;
        }
        let life = jiff::SignedDuration::from_secs(self.timeout_sec.into());
        let moved = jiff::SignedDuration::from_micros(self.moved_us);
        self.started_at?
            .checked_add(life)
            .ok()?
            .checked_add(moved)
            .ok()
    }

    /// How much of `timeout_sec` is left at `now`, in milliseconds.
    #[must_use]
    pub fn timeout_remaining_ms(&self, now: Timestamp) -> Option<i64> {
        // What is paused loses no time.
        let now = self.paused_at.unwrap_or(now);
        let left = self.deadline()?.as_millisecond() - now.as_millisecond();
        Some(left.max(0))
    }

    /// Settled seconds it ran, rounded up; once it is destroyed.
    #[must_use]
    pub fn total_runtime_sec(&self) -> Option<i64> {
        self.destroyed_at?;
        i64::try_from(self.runtime_ms.div_ceil(1000)).ok()
    }
}

/// Every column of a sandbox, in the order of [`Row`].
const COLUMNS: &str = "id, tenant_id, owner_id, workspace_id, project_id, \
    external_workspace_id, external_user_id, external_project_id, name, slug, tags, metadata, \
    env, template_id, image_id, size, cpu_count, memory_mib, disk_mib, timeout_sec, \
    idle_timeout_sec, always_on, persistent, auto_start, state, error_message, vm_id, boot_path, \
    boot_ms, created_at, started_at, ready_at, destroy_requested_at, ended_at, destroyed_at, \
    runtime_ms, origin_snapshot_id, last_snapshot_id, paused_at, moved_us, build_id";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    tenant_id: String,
    owner_id: String,
    workspace_id: String,
    project_id: String,
    external_workspace_id: Option<String>,
    external_user_id: Option<String>,
    external_project_id: Option<String>,
    name: Option<String>,
    slug: String,
    tags: Json<Vec<String>>,
    metadata: Json<Map<String, Value>>,
    env: Json<BTreeMap<String, String>>,
    template_id: String,
    image_id: String,
    size: Option<String>,
    cpu_count: u32,
    memory_mib: u32,
    disk_mib: u32,
    timeout_sec: u32,
    idle_timeout_sec: Option<u32>,
    always_on: bool,
    persistent: bool,
    auto_start: bool,
    state: String,
    error_message: Option<String>,
    vm_id: String,
    boot_path: Option<String>,
    boot_ms: Option<u32>,
    created_at: i64,
    started_at: Option<i64>,
    ready_at: Option<i64>,
    destroy_requested_at: Option<i64>,
    ended_at: Option<i64>,
    destroyed_at: Option<i64>,
    origin_snapshot_id: Option<String>,
    last_snapshot_id: Option<String>,
    paused_at: Option<i64>,
    moved_us: i64,
    runtime_ms: i64,
    build_id: Option<String>,
}

impl Row {
    fn into_record(self) -> Result<SandboxRecord, StoreError> {
        Ok(SandboxRecord {
            id: parse("sandboxes.id", &self.id)?,
            tenant: parse("sandboxes.tenant_id", &self.tenant_id)?,
            owner: parse("sandboxes.owner_id", &self.owner_id)?,
            workspace_id: parse("sandboxes.workspace_id", &self.workspace_id)?,
            project_id: parse("sandboxes.project_id", &self.project_id)?,
            external: ExternalIds {
                workspace: self.external_workspace_id,
                user: self.external_user_id,
                project: self.external_project_id,
            },
            name: self.name,
            slug: self.slug,
            tags: self.tags.0,
            metadata: self.metadata.0,
            env: self.env.0,
            template_id: self.template_id,
            image_id: self.image_id,
            build: parse_opt("sandboxes.build_id", self.build_id)?,
            size: self.size,
            shape: Shape {
                vcpus: self.cpu_count,
                memory_mib: self.memory_mib,
                disk_mib: self.disk_mib,
            },
            timeout_sec: self.timeout_sec,
            idle_timeout_sec: self.idle_timeout_sec,
            always_on: self.always_on,
            persistent: self.persistent,
            auto_start: self.auto_start,
            state: parse("sandboxes.state", &self.state)?,
            error_message: self.error_message,
            vm: parse("sandboxes.vm_id", &self.vm_id)?,
            boot_path: self.boot_path,
            boot_ms: self.boot_ms,
            created_at: time::read("sandboxes.created_at", self.created_at)?,
            started_at: time::read_opt("sandboxes.started_at", self.started_at)?,
            ready_at: time::read_opt("sandboxes.ready_at", self.ready_at)?,
            destroy_requested_at: time::read_opt(
                "sandboxes.destroy_requested_at",
                self.destroy_requested_at,
            )?,
            ended_at: time::read_opt("sandboxes.ended_at", self.ended_at)?,
            destroyed_at: time::read_opt("sandboxes.destroyed_at", self.destroyed_at)?,
            origin: parse_opt("sandboxes.origin_snapshot_id", self.origin_snapshot_id)?,
            last_snapshot: parse_opt("sandboxes.last_snapshot_id", self.last_snapshot_id)?,
            paused_at: time::read_opt("sandboxes.paused_at", self.paused_at)?,
            moved_us: self.moved_us,
            runtime_ms: self.runtime_ms.max(0).unsigned_abs(),
        })
    }
}

fn parse_opt<T: std::str::FromStr>(
    column: &'static str,
    text: Option<String>,
) -> Result<Option<T>, StoreError> {
    text.map(|text| parse(column, &text)).transpose()
}

#[cfg(test)]
pub(crate) mod tests;
