//! What ran, and what it cost.

use emberbox_core::{SandboxId, SandboxState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Time;

/// A sum over the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageTotals {
    /// Sandboxes that ran.
    pub sandbox_count: i64,
    /// Stretches of their lives that counted.
    pub session_count: i64,
    /// Seconds they ran, rounded up; pauses left out.
    pub runtime_sec: i64,
    /// vCPUs × milliseconds.
    pub provisioned_vcpu_ms: i64,
    /// MiB of memory × milliseconds.
    pub provisioned_memory_mb_ms: i64,
    /// MiB of disk × milliseconds.
    pub provisioned_disk_mb_ms: i64,
    /// Processor time of their VMMs in milliseconds, as it was sampled.
    pub active_cpu_ms: i64,
    /// Bytes they sent to the outside.
    pub network_egress_bytes: i64,
    /// Bytes that came in from the outside.
    pub network_ingress_bytes: i64,
    /// Millionths of a credit they were charged.
    pub charged_micro: i64,
}

/// What a tenant used in a period, as far as it is settled: up to a minute ago
/// unless the operator settles less often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageSummary {
    /// The first moment.
    #[schema(value_type = String, format = DateTime)]
    pub period_start: Time,
    /// The moment after the last.
    #[schema(value_type = String, format = DateTime)]
    pub period_end: Time,
    /// All of it.
    #[serde(flatten)]
    pub totals: UsageTotals,
}

/// What a tenant used in a period, by group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// The first moment.
    #[schema(value_type = String, format = DateTime)]
    pub period_start: Time,
    /// The moment after the last.
    #[schema(value_type = String, format = DateTime)]
    pub period_end: Time,
    /// What the groups are.
    pub group_by: String,
    /// One sum for each group.
    pub results: Vec<UsageGroup>,
}

/// The sum of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageGroup {
    /// What they have in common; null where it is not set.
    pub group: Option<String>,
    /// Their sum.
    #[serde(flatten)]
    pub totals: UsageTotals,
}

/// One stretch of a sandbox's life that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageSession {
    /// Grows with every session.
    pub id: i64,
    /// Whose.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Its workspace.
    pub workspace_id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// `compute` while it ran, `storage` while it was paused and its disk
    /// counted.
    pub kind: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Time,
    /// When it ended; null while it goes on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Time>,
    /// Up to when it is in the sums.
    #[schema(value_type = String, format = DateTime)]
    pub settled_until: Time,
    /// What it came to in the period.
    #[serde(flatten)]
    pub totals: UsageTotals,
}

/// What one sandbox used so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxUsage {
    /// Which.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Its state.
    #[schema(value_type = String, example = "running")]
    pub state: SandboxState,
    /// Seconds it ran, rounded up; pauses left out.
    pub runtime_sec: i64,
    /// vCPUs × milliseconds.
    pub provisioned_vcpu_ms: i64,
    /// MiB of memory × milliseconds.
    pub provisioned_memory_mb_ms: i64,
    /// MiB of disk × milliseconds.
    pub provisioned_disk_mb_ms: i64,
    /// How often it began to run.
    pub creation_count: i64,
    /// Processor time of its VMM in milliseconds.
    pub active_cpu_ms: i64,
    /// Bytes it sent to the outside.
    pub network_egress_bytes: i64,
    /// Bytes that came in from the outside.
    pub network_ingress_bytes: i64,
    /// How each of these is known.
    pub measurement_status: MeasurementStatus,
    /// Millionths of a credit, settled or not.
    pub estimated_cost_micro: i64,
    /// The same in hundredths of a credit, rounded up.
    pub estimated_cost_cents: i64,
    /// Seconds of life it was given.
    pub timeout_sec: u32,
    /// Milliseconds of that left while it runs; null when no end is set.
    pub timeout_remaining_ms: Option<i64>,
}

/// How numbers are known: `measured` exactly, `sampled` now and then and now,
/// or `unavailable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeasurementStatus {
    /// Of the time it ran and what was provisioned for it.
    pub runtime: Measurement,
    /// Of its network's bytes.
    pub network: Measurement,
    /// Of its processor time.
    pub active_cpu: Measurement,
}

/// How a number is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measurement {
    /// Exactly.
    Measured,
    /// As it was when it was looked at last.
    Sampled,
    /// Not at all.
    Unavailable,
}
