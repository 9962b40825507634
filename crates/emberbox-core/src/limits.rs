//! What a tenant may use. Every number is a setting; the defaults are the
//! reference's.

use serde::{Deserialize, Serialize};

/// A tenant's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most vCPUs of one sandbox (reference: 4).
    pub max_vcpus: u32,
    /// Most memory of one sandbox in MiB (reference: 8 GB).
    pub max_memory_mib: u32,
    /// Largest disk of one sandbox in MiB (reference: 10 GB).
    pub max_disk_mib: u32,
    /// Sandboxes of one tenant that exist at the same time (reference: 10).
    pub max_sandboxes: u32,
    /// Snapshots of one sandbox that exist at the same time: each takes disk
    /// like the sandbox itself.
    pub max_snapshots: u32,
    /// Longest exec timeout in seconds (reference: 300).
    pub max_exec_timeout_sec: u32,
    /// Exec timeout when none is given, in seconds (reference: 30).
    pub default_exec_timeout_sec: u32,
    /// Largest upload in bytes (reference: 100 MB, taken as MiB so that no
    /// file a user would call "100 MB" is refused).
    pub max_upload_bytes: u64,
    /// A sandbox's life in seconds when none is given (the reference's example
    /// shows 300).
    pub default_timeout_sec: u32,
    /// Longest `timeout_sec` that may be asked for: 30 days.
    pub max_timeout_sec: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_vcpus: 4,
            max_memory_mib: 8192,
            max_disk_mib: 10_240,
            max_sandboxes: 10,
            max_snapshots: 10,
            max_exec_timeout_sec: 300,
            default_exec_timeout_sec: 30,
            max_upload_bytes: 100 * 1024 * 1024,
            default_timeout_sec: 300,
            max_timeout_sec: 30 * 24 * 3600,
        }
    }
}
