//! Snapshots of a stopped guest: written by Firecracker into its jail, and
//! from there copied to where they are kept.
//!
//! The memory that is kept is always whole, so a restore maps one file and
//! copies nothing. A guest that came from a snapshot and was not saved since
//! only writes the pages that it changed: over a clone of the memory it came
//! from, which a file system with shared blocks makes at once.
//!
//! Invariant: Firecracker gets no descriptor of a file that is kept, so that
//! one that was taken over cannot change a snapshot afterwards.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::api::call::{Call, CreateSnapshot, SnapshotType};
use super::root::{OUT_MEMORY, OUT_STATE, Out};
use super::vm::FirecrackerVm;
use crate::disk;
use crate::engine::{EngineError, VmPlace};
use crate::vmm::{blocking, remove_file};

/// A link to the memory a guest came from, in its directory: there as long as
/// Firecracker knows which pages differ from it.
pub(super) const BASE_MEMORY: &str = "base";

/// Names in the directory the VMM writes to.
const MEMORY: &str = "memory";
const STATE: &str = "state";

/// Most bytes of devices' state: measured some ten KB.
const MAX_STATE: u64 = 64 << 20;

/// Keeps a link to the memory a guest is restored from. Without one, as on
/// another file system, its snapshots are written whole.
pub(super) fn keep_base(place: &VmPlace, memory: &Path) -> Result<(), EngineError> {
    let link = place.dir.join(BASE_MEMORY);
    remove_file(&link)?;
    if let Err(error) = fs::hard_link(memory, &link) {
        tracing::debug!(%error, "no link to the memory of a snapshot");
    }
    Ok(())
}

/// Writes memory and devices of a paused VM. A failure leaves no file.
pub(super) async fn save(
    vm: &FirecrackerVm,
    memory: &Path,
    state: &Path,
) -> Result<(), EngineError> {
    let out = vm.root.open().and_then(Out::open);
    let out = out.map_err(|e| EngineError::host("cannot open the jail", e))?;
    let saved = write_and_keep(vm, &out, memory, state).await;
    let cleared = [MEMORY, STATE].map(|name| out.remove(name));
    if saved.is_err() {
        for file in [memory, state] {
            remove_file(file)?;
        }
    }
    for removed in cleared {
        removed.map_err(|e| EngineError::host("cannot clear the jail", e))?;
    }
    saved
}

async fn write_and_keep(
    vm: &FirecrackerVm,
    out: &Out,
    memory: &Path,
    state: &Path,
) -> Result<(), EngineError> {
    let cannot = |e| EngineError::host("cannot save the guest's memory", e);
    let snapshot_type = prepare(vm, out).await?;
    vm.call(Call::CreateSnapshot(CreateSnapshot {
        snapshot_type,
        snapshot_path: OUT_STATE,
        mem_file_path: OUT_MEMORY,
    }))
    .await?;
    let (from_memory, from_state) = (
        out.file(MEMORY).map_err(cannot)?,
        out.file(STATE).map_err(cannot)?,
    );
    let (memory, state) = (memory.to_owned(), state.to_owned());
    blocking("cannot save the guest's memory", move || {
        keep_memory(&from_memory, &memory, snapshot_type)?;
        keep_state(&from_state, &state)
    })
    .await
}

/// Decides which pages are written, and lays the others under them.
async fn prepare(vm: &FirecrackerVm, out: &Out) -> Result<SnapshotType, EngineError> {
    let cannot = |e| EngineError::host("cannot prepare the guest's memory", e);
    for name in [MEMORY, STATE] {
        // What an interrupted attempt left.
        out.remove(name).map_err(cannot)?;
    }
    let base = vm.charge.place.dir.join(BASE_MEMORY);
    let source = match File::open(&base) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SnapshotType::Full),
        Err(error) => return Err(cannot(error)),
    };
    // From here on Firecracker may count from this snapshot, done or not.
    remove_file(&base)?;
    let length = source.metadata().map_err(cannot)?.len();
    let memory_mib = u32::try_from(length >> 20).unwrap_or(u32::MAX);
    if !vm.release.takes_partial_snapshots(memory_mib) {
        return Ok(SnapshotType::Full);
    }
    let target = out.create(MEMORY).map_err(cannot)?;
    blocking("cannot copy the memory under the guest's own", move || {
        disk::clone_into(&source, &target).map(drop)
    })
    .await?;
    Ok(SnapshotType::Diff)
}

fn keep_memory(from: &File, to: &Path, written: SnapshotType) -> io::Result<()> {
    let to = make(to)?;
    match written {
        // All of the memory was written, also what nobody ever touched.
        SnapshotType::Full => disk::copy_without_zeros(from, &to),
        SnapshotType::Diff => disk::clone_into(from, &to).map(drop),
    }
}

fn keep_state(from: &File, to: &Path) -> io::Result<()> {
    let length = from.metadata()?.len();
    if length == 0 || length > MAX_STATE {
        return Err(io::Error::other(format!(
            "the devices' state has {length} bytes"
        )));
    }
    let mut source = io::Read::take(from, length);
    io::copy(&mut source, &mut make(to)?).map(drop)
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Where a snapshot that is restored lies.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) memory: PathBuf,
    pub(super) state: PathBuf,
}
