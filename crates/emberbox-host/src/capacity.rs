//! Whether this machine has room for more.
//!
//! Memory is given out more than once: a guest rarely touches all it may. A VM
//! counts with what it has touched, which the kernel knows, and with a share of
//! what it may still touch, its [`promise`]. So what is available, less every
//! promise and what the machine itself needs, is what a new VM may take.
//!
//! Must not know: what a request is for. Costs microseconds, and some more for
//! every VM there is.

use std::fs;
use std::io;
use std::path::Path;

use emberbox_core::Shape;

use crate::host::HostError;

const MIB: u64 = 1 << 20;

/// Memory that must stay free on the host, in bytes: what the machine itself
/// needs to stay out of trouble.
const RESERVED_MEMORY: u64 = 512 * MIB;

/// Disk that must stay free in the data directory, in bytes.
const RESERVED_DISK: u64 = 1 << 30;

/// What every new VM surely takes soon, in bytes: measured 50 to 90 MB.
const FIRST_STEPS: u64 = 128 * MIB;

/// What a VMM comes to take besides its guest's memory, in bytes: measured 40
/// to 90 MiB.
const VMM: u64 = 90 * MIB;

/// One part in so many of what VMs have not touched yet is kept for them: room
/// for one sandbox in four to fill half of it at the same time.
const OVERCOMMIT: u64 = 8;

/// What something is going to take, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
}

impl Needs {
    /// What a new VM takes: its promise, and the pages and the disk it begins
    /// with.
    pub(crate) fn of_vm(shape: Shape, pages: u64, disk: u64) -> Self {
        Self {
            memory: promise(shape, 0).saturating_add(pages),
            disk,
        }
    }

    /// Refuses if it would take what is reserved, or what is `promised` to
    /// others.
    pub(crate) fn check(self, data_dir: &Path, promised: u64) -> Result<(), HostError> {
        if self.fits(Free::now(data_dir).map_err(HostError::start)?, promised) {
            Ok(())
        } else {
            Err(HostError::NoCapacity)
        }
    }

    fn fits(self, free: Free, promised: u64) -> bool {
        let memory = self.memory.saturating_add(RESERVED_MEMORY);
        let memory = memory.saturating_add(promised);
        let disk = self.disk.saturating_add(RESERVED_DISK);
        // What takes no memory may be done when there is none: a pause frees it.
        (self.memory == 0 || free.memory >= memory) && free.disk >= disk
    }
}

/// Memory that a VM has not touched and that is kept for it all the same, in
/// bytes.
pub(crate) fn promise(shape: Shape, touched: u64) -> u64 {
    let whole = u64::from(shape.memory_mib) * MIB + VMM;
    let share = whole.saturating_sub(touched) / OVERCOMMIT;
    share.max(FIRST_STEPS.saturating_sub(touched))
}

/// Memory that a process has touched, in bytes. What it shares with others
/// counts: better a promise too little by what a seed holds than one read of
/// every page table.
pub(crate) fn touched(pid: i32) -> u64 {
    // Of a process that is gone, nothing.
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let resident = text.split(' ').nth(1);
    let pages: u64 = resident.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(procfs::page_size())
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
