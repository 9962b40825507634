//! What this host owns: one directory with one record per VM.
//!
//! ```text
//! vms/VM/record.json   written before the slot is used, the disk made or the
//!        scratch.ext4  VMM started; removed, with the directory, after all
//!        vmm.pid …     of them are gone
//! ```
//!
//! A record needs no `fsync`: what a power failure could lose it for, the
//! processes and namespaces, are gone with the power too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use emberbox_core::{SandboxId, Shape, VmId};
use emberbox_runtime::net::SlotIndex;
use emberbox_runtime::{BootImages, VmPlace, VmSpec};
use serde::{Deserialize, Serialize};

use emberbox_runtime::net::Slot;
use std::sync::Arc;

const RECORD: &str = "record.json";
const SCRATCH: &str = "scratch.ext4";

/// Everything needed to find, adopt or remove one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) vm: VmId,
    /// Whose it is; none for a VM that only takes a seed.
    pub(crate) sandbox: Option<SandboxId>,
    pub(crate) shape: Shape,
    pub(crate) images: BootImages,
    pub(crate) slot: SlotIndex,
    /// The guest has its identity: worth adopting.
    pub(crate) claimed: bool,
}

/// The directory of records.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    root: PathBuf,
}

impl Ledger {
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("vms");
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// The directory of a VM.
    pub(crate) fn dir(&self, vm: &VmId) -> PathBuf {
        self.root.join(vm.as_str())
    }

    /// Where a VM is.
    pub(crate) fn place(&self, vm: &VmId) -> VmPlace {
        VmPlace {
            id: vm.clone(),
            dir: self.dir(vm),
        }
    }

    /// A VM's writable disk.
    pub(crate) fn scratch(&self, vm: &VmId) -> PathBuf {
        self.dir(vm).join(SCRATCH)
    }

    /// What the engine needs to know about a recorded VM.
    pub(crate) fn spec(&self, record: &Record, slot: Arc<Slot>) -> VmSpec {
        let place = self.place(&record.vm);
        VmSpec {
            scratch: self.scratch(&record.vm),
            place,
            shape: record.shape,
            images: record.images.clone(),
            slot,
        }
    }

    /// Writes or replaces a record, atomically.
    pub(crate) fn put(&self, record: &Record) -> io::Result<()> {
        let dir = self.dir(&record.vm);
        fs::create_dir_all(&dir)?;
        let temporary = dir.join("record.tmp");
        fs::write(&temporary, serde_json::to_vec(record)?)?;
        fs::rename(temporary, dir.join(RECORD))
    }

    /// Removes a VM's directory, its record last. Idempotent.
    pub(crate) fn remove(&self, vm: &VmId) -> io::Result<()> {
        let dir = self.dir(vm);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name() == RECORD {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir_all(&dir)
    }

    /// Every record. A directory without one was never used by anything, or
    /// has nothing left but itself, and is removed.
    pub(crate) fn records(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            match fs::read(dir.join(RECORD)) {
                Ok(bytes) => match serde_json::from_slice(&bytes) {
                    Ok(record) => records.push(record),
                    Err(error) => {
                        let dir = dir.display();
                        tracing::error!(%dir, %error, "a record cannot be read and is left alone");
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_dir_all(&dir)?,
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests;
