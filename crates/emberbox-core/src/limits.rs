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
    /// Workspaces of one tenant: one for each of its customers.
    pub max_workspaces: u32,
    /// Projects of one tenant, in all its workspaces; each has a default one.
    pub max_projects: u32,
    /// Users of one tenant.
    pub max_users: u32,
    /// Keys and tokens of one tenant that work at the same time.
    pub max_keys: u32,
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
    /// Requests of one workspace in a minute (reference: 300); 0 is no limit.
    pub requests_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_vcpus: 4,
            max_memory_mib: 8192,
            max_disk_mib: 10_240,
            max_sandboxes: 10,
            max_snapshots: 10,
            max_workspaces: 1000,
            max_projects: 10_000,
            max_users: 1000,
            max_keys: 10_000,
            max_exec_timeout_sec: 300,
            default_exec_timeout_sec: 30,
            max_upload_bytes: 100 * 1024 * 1024,
            default_timeout_sec: 300,
            max_timeout_sec: 30 * 24 * 3600,
            requests_per_minute: 300,
        }
    }
}

/// What an operator gave one tenant in place of the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantLimits {
    /// In place of [`Limits::max_sandboxes`].
    pub max_sandboxes: Option<u32>,
    /// In place of [`Limits::max_vcpus`].
    pub max_vcpus: Option<u32>,
    /// In place of [`Limits::max_memory_mib`].
    pub max_memory_mib: Option<u32>,
    /// In place of [`Limits::max_disk_mib`].
    pub max_disk_mib: Option<u32>,
    /// In place of [`Limits::max_snapshots`].
    pub max_snapshots: Option<u32>,
    /// In place of [`Limits::max_workspaces`].
    pub max_workspaces: Option<u32>,
    /// In place of [`Limits::max_projects`].
    pub max_projects: Option<u32>,
    /// In place of [`Limits::max_users`].
    pub max_users: Option<u32>,
    /// In place of [`Limits::max_keys`].
    pub max_keys: Option<u32>,
    /// In place of [`Limits::max_upload_bytes`].
    pub max_upload_bytes: Option<u64>,
    /// In place of [`Limits::max_exec_timeout_sec`].
    pub max_exec_timeout_sec: Option<u32>,
    /// In place of [`Limits::requests_per_minute`].
    pub requests_per_minute: Option<u32>,
}

impl TenantLimits {
    /// What the tenant may use, where the settings are `settings`.
    #[must_use]
    pub fn over(&self, settings: &Limits) -> Limits {
        let max_exec_timeout_sec = self
            .max_exec_timeout_sec
            .unwrap_or(settings.max_exec_timeout_sec);
        Limits {
            max_vcpus: self.max_vcpus.unwrap_or(settings.max_vcpus),
            max_memory_mib: self.max_memory_mib.unwrap_or(settings.max_memory_mib),
            max_disk_mib: self.max_disk_mib.unwrap_or(settings.max_disk_mib),
            max_sandboxes: self.max_sandboxes.unwrap_or(settings.max_sandboxes),
            max_snapshots: self.max_snapshots.unwrap_or(settings.max_snapshots),
            max_workspaces: self.max_workspaces.unwrap_or(settings.max_workspaces),
            max_projects: self.max_projects.unwrap_or(settings.max_projects),
            max_users: self.max_users.unwrap_or(settings.max_users),
            max_keys: self.max_keys.unwrap_or(settings.max_keys),
            max_exec_timeout_sec,
            default_exec_timeout_sec: settings.default_exec_timeout_sec.min(max_exec_timeout_sec),
            max_upload_bytes: self.max_upload_bytes.unwrap_or(settings.max_upload_bytes),
            default_timeout_sec: settings.default_timeout_sec,
            max_timeout_sec: settings.max_timeout_sec,
            requests_per_minute: self
                .requests_per_minute
                .unwrap_or(settings.requests_per_minute),
        }
    }
}

#[cfg(test)]
mod tests;
