//! A checkpoint of a stopped QEMU.
//!
//! QEMU 7.2 can only write private memory into a migration's stream, and is
//! slow at it. So it is asked for its devices alone (`xen-save-devices-state`,
//! which is for VMMs whose memory somebody else saves), while the guest's own
//! pages are copied out of its process from outside.
//!
//! Invariant: QEMU gets no descriptor of a file that is kept, so that one that
//! was taken over cannot change a checkpoint afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use tokio::join;

use super::pages::{self, Mapping, Sharing};
use super::vm::QemuVm;
use super::{BASE_MEMORY, MEMORY_BYTES};
use crate::disk;
use crate::engine::{CheckpointFiles, EngineError};
use crate::vmm::blocking;

/// Most bytes of devices' state: measured 0.1 to 0.7 MB, mostly what is queued.
const MAX_STATE: u64 = 64 << 20;

/// Largest memory a guest can have been given, in bytes: a bound for a record
/// that was tampered with.
const MAX_MEMORY: u64 = 1 << 42;

/// Writes the checkpoint of a VM whose vCPUs stand still. A failure may leave
/// files.
pub(super) async fn write(vm: &QemuVm, files: &CheckpointFiles) -> Result<(), EngineError> {
    let mapping = mapping(vm).await?;
    let (dir, copy_to) = (vm.charge.place.dir.clone(), files.clone());
    let memory = blocking("cannot save the guest's memory", move || {
        save_base(&mapping, &dir, &copy_to.base)?;
        pages::save(&mapping, &make(&copy_to.memory)?)
    });
    // Both to their end, also if one fails: whoever cleans up after a failure
    // must not meet a file that the other makes later.
    let (memory, devices) = join!(memory, save_devices(vm, &files.state));
    memory.and(devices)
}

/// Where the guest's memory is in the VMM. Found once: the kernel takes
/// milliseconds to list what a QEMU has mapped.
pub(super) async fn mapping(vm: &QemuVm) -> Result<Arc<Mapping>, EngineError> {
    let find = || {
        let (pid, dir) = (vm.charge.process.pid(), vm.charge.place.dir.clone());
        blocking("cannot find the guest's memory", move || {
            Mapping::find(pid, memory_bytes(&dir)?).map(Arc::new)
        })
    };
    vm.mapping.get_or_try_init(find).await.cloned()
}

/// Puts the seed's memory, if there is one, beside the pages that replace
/// parts of it.
fn save_base(mapping: &Mapping, dir: &Path, base: &Path) -> io::Result<()> {
    match mapping.sharing() {
        Sharing::Shared => return Ok(()),
        Sharing::Private => {}
    }
    if fs::hard_link(dir.join(BASE_MEMORY), base).is_ok() {
        return Ok(());
    }
    // No link was possible when the VM was made. What it maps is sealed, so
    // it is what it always was.
    let copy = make(base)?;
    disk::copy_sparse(&mapping.open()?, &copy)?;
    fs::set_permissions(base, fs::Permissions::from_mode(0o400))
}

async fn save_devices(vm: &QemuVm, state: &Path) -> Result<(), EngineError> {
    let cannot = |e: io::Error| EngineError::host("cannot save the devices' state", e);
    let buffer = File::from(
        memfd_create("emberbox-state", MemfdFlags::CLOEXEC).map_err(|e| cannot(e.into()))?,
    );
    // A set only gives out descriptors of the very mode that is asked for.
    let for_qemu = OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", buffer.as_raw_fd()))
        .map_err(cannot)?;
    let set = vm.qmp.add_fd(for_qemu.as_fd()).await?;
    // Not live: the disks stay QEMU's, which is to go on.
    let arguments = json!({ "filename": format!("/dev/fdset/{set}"), "live": false });
    let saved = vm.qmp.execute("xen-save-devices-state", arguments).await;
    let removed = vm
        .qmp
        .execute("remove-fd", json!({ "fdset-id": set }))
        .await;
    saved.and(removed)?;
    let state = state.to_owned();
    blocking("cannot save the devices' state", move || {
        let length = buffer.metadata()?.len();
        if length == 0 || length > MAX_STATE {
            return Err(io::Error::other(format!("it has {length} bytes")));
        }
        let mut source = io::Read::take(&buffer, length);
        source.get_mut().rewind()?;
        let mut file = make(&state)?;
        io::copy(&mut source, &mut file)?;
        file.flush()
    })
    .await
}

/// What was recorded when the VM was started: not the VMM's to say.
fn memory_bytes(dir: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(dir.join(MEMORY_BYTES))?;
    let bytes = text.trim().parse().map_err(io::Error::other)?;
    if bytes == 0 || bytes > MAX_MEMORY || bytes % pages::PAGE != 0 {
        return Err(io::Error::other("the recorded memory size is impossible"));
    }
    Ok(bytes)
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
