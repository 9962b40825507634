//! How many VMs are prepared before anybody asks for one.

use std::time::Duration;

use emberbox_host::PoolConfig;
use serde::Deserialize;

use super::{ConfigError, at_most};

/// Most VMs that can be prepared. Each is a process and a network; on a machine
/// that could hold more, a refill takes minutes.
const MAX_PREPARED: usize = 1024;

/// What an operator may set of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pool {
    /// Of each template and size that is in use.
    keep: usize,
    /// Of all templates and sizes; 0 prepares none.
    max_prepared: usize,
    /// Memory that all of them may take; an eighth of the machine's by default.
    max_memory_mib: Option<u32>,
    /// How long a template and size that nobody asks for stays in use.
    idle_sec: u32,
    /// VMMs that wait for something to restore; Firecracker only.
    vmms: usize,
}

impl Default for Pool {
    fn default() -> Self {
        let PoolConfig {
            keep,
            max_prepared,
            max_memory_mib,
            idle,
            vmms,
        } = PoolConfig::default();
        Self {
            keep,
            max_prepared,
            max_memory_mib,
            idle_sec: u32::try_from(idle.as_secs()).unwrap_or(u32::MAX),
            vmms,
        }
    }
}

impl Pool {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("pool.keep", self.keep),
            ("pool.max_prepared", self.max_prepared),
            ("pool.vmms", self.vmms),
        ] {
            if value > MAX_PREPARED {
                return Err(at_most(key, MAX_PREPARED));
            }
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> PoolConfig {
        PoolConfig {
            keep: self.keep,
            max_prepared: self.max_prepared,
            max_memory_mib: self.max_memory_mib,
            idle: Duration::from_secs(self.idle_sec.into()),
            vmms: self.vmms,
        }
    }
}
