//! What a sandbox takes of its machine now, and what it was given.

use emberbox_core::SandboxId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What a sandbox takes of its machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxMetrics {
    /// Which.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Always `sandbox`.
    pub resource_type: String,
    /// How far back `history` reaches at most, in seconds.
    pub window_sec: u64,
    /// Now.
    pub current: CurrentMetrics,
    /// Before, oldest first; kept while the server runs.
    pub history: Vec<MetricsSample>,
}

/// What a sandbox was given and what it takes now. What it takes is null while
/// it does not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CurrentMetrics {
    /// vCPUs it was given.
    pub cpu_count: u32,
    /// MiB of memory it was given.
    pub memory_mb: u32,
    /// MiB of disk it was given.
    pub disk_size_mb: u32,
    /// What it takes; null while it does not run.
    pub used: Option<MetricsSample>,
}

/// What a sandbox took at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsSample {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// Memory of its VMM: private pages and its share of shared ones.
    pub memory_pss_bytes: u64,
    /// Private pages alone.
    pub memory_private_bytes: u64,
    /// Processor time of its VMM since this life began.
    pub cpu_time_ms: u64,
    /// Part of one processor in hundredths since the sample before; null for
    /// the first.
    pub cpu_percent: Option<f64>,
    /// What its disk really takes.
    pub disk_allocated_bytes: u64,
    /// Bytes to the outside since this life began.
    pub network_egress_bytes: u64,
    /// Bytes from the outside since this life began.
    pub network_ingress_bytes: u64,
    /// Everything its guest sent, answers to the API's own calls and previews
    /// included.
    pub network_guest_sent_bytes: u64,
    /// Everything its guest was sent.
    pub network_guest_received_bytes: u64,
}

/// What a sandbox was given, and what of that can change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxResources {
    /// Which.
    #[schema(value_type = String)]
    pub id: SandboxId,
    /// What it was given.
    pub resources: Resources,
    /// What can change while it runs.
    pub capabilities: ResourceCapabilities,
}

/// What a sandbox was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// vCPUs.
    pub cpu: u32,
    /// MiB of memory.
    pub memory_mb: u32,
    /// MiB of disk.
    pub disk_size_mb: u32,
}

/// What can change while a sandbox runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceCapabilities {
    /// vCPUs.
    pub live_cpu: bool,
    /// Memory.
    pub live_memory: bool,
    /// Most vCPUs a new sandbox may have.
    pub max_cpu: u32,
    /// Most MiB of memory a new sandbox may have.
    pub max_memory_mb: u32,
    /// Why something cannot change.
    pub reason: Option<String>,
}

/// What sandboxes can run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Runtime {
    /// Its name.
    pub id: String,
    /// What a create calls it.
    pub runtime_profile: String,
    /// For people.
    pub label: String,
    /// For people, longer.
    pub description: String,
    /// Whether a create that does not say gets it.
    pub default: bool,
    /// Whether it can be had now.
    pub available: bool,
    /// Why not.
    pub unavailable_reason: Option<String>,
    /// What it can do.
    pub capabilities: RuntimeCapabilities,
}

/// What a runtime can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeCapabilities {
    /// A browser of the platform's own.
    pub browser: bool,
    /// Connections to the outside.
    pub network_egress: bool,
    /// Files that outlive a life.
    pub persistence: bool,
    /// Memory on disk.
    pub pause: bool,
    /// A graphics processor.
    pub gpu: bool,
    /// The largest sandbox.
    pub max_shape: MaxShape,
}

/// The largest sandbox of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MaxShape {
    /// vCPUs.
    pub cpu_count: u32,
    /// MiB of memory.
    pub memory_mb: u32,
    /// MiB of disk.
    pub disk_size_mb: u32,
}
