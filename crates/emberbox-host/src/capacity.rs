//! Whether this machine has room for more. Refuses what it surely cannot hold;
//! what is asked for at the same time is not added up.

use std::io;
use std::path::Path;

use crate::host::HostError;

/// Memory that must stay free on the host, in bytes: what the machine itself
/// needs to stay out of trouble.
const RESERVED_MEMORY: u64 = 512 << 20;

/// Disk that must stay free in the data directory, in bytes.
const RESERVED_DISK: u64 = 1 << 30;

/// What something is going to take, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
}

impl Needs {
    /// What every new VM surely takes soon: measured 50 to 90 MB of memory.
    pub(crate) const VM: Self = Self {
        memory: 128 << 20,
        disk: 0,
    };

    /// Refuses if it would take what is reserved.
    pub(crate) fn check(self, data_dir: &Path) -> Result<(), HostError> {
        if self.fits(Free::now(data_dir).map_err(HostError::start)?) {
            Ok(())
        } else {
            Err(HostError::NoCapacity)
        }
    }

    fn fits(self, free: Free) -> bool {
        let memory = self.memory.saturating_add(RESERVED_MEMORY);
        let disk = self.disk.saturating_add(RESERVED_DISK);
        // What takes no memory may be done when there is none: a pause frees it.
        (self.memory == 0 || free.memory >= memory) && free.disk >= disk
    }
}

/// What there is, in bytes.
#[derive(Debug, Clone, Copy)]
struct Free {
    memory: u64,
    disk: u64,
}

impl Free {
    fn now(data_dir: &Path) -> io::Result<Self> {
        use procfs::Current;
        let memory = procfs::Meminfo::current().map_err(io::Error::other)?;
        let disk = rustix::fs::statvfs(data_dir)?;
        Ok(Self {
            memory: memory.mem_available.unwrap_or(memory.mem_free),
            disk: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests;
