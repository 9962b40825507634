//! A Firecracker that waits for what it is to load.
//!
//! It is started, jailed and listening, in a place of its own and in the network
//! of the VM that it will be. Taken over, its process, root and console become
//! that VM's, with the cgroup of its shape, and the files it is to load are
//! shown in its root:
//!
//! ```text
//! stand_by ─▶ vms/W: jailer ─▶ firecracker, listening
//! restore  ─▶ pid file, cgroup, root, console ─▶ vms/V ─▶ files shown ─▶ load
//! ```
//!
//! Invariants: whichever of the two places is reaped while the VMM changes
//! hands, it ends; nothing of a guest has run in it before.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, MutexGuard};

use emberbox_core::Shape;

use super::vm::{FirecrackerVm, Listening};
use super::{Firecracker, Guard, Outline, Start, console, largest_mib};
use crate::engine::{Engine, EngineError, Vm, VmPlace, VmSpec};
use crate::jail::late;
use crate::net::{Slot, SlotIndex};
use crate::vmm::{self, LOG_FILE, PID_FILE};

/// The shape a VMM is started for that waits for one. What a shape decides
/// before a VMM starts is the largest file it may write, so it is taken for this
/// shape and all that need no larger one.
const SHAPE: Shape = Shape::DEFAULT;

/// A VMM that waits.
pub(super) struct Waiting {
    pub(super) place: VmPlace,
    pub(super) vmm: Listening,
}

impl Firecracker {
    /// Starts a VMM that waits. A failure leaves what has to be reaped.
    pub(super) async fn wait_in(
        &self,
        place: &VmPlace,
        slot: &Arc<Slot>,
    ) -> Result<(), EngineError> {
        let outline = Outline {
            place,
            slot,
            shape: SHAPE,
        };
        let files = self.filter().into_iter().collect();
        let vmm = self.listening(&outline, files, Guard::Jailer).await?;
        let place = place.clone();
        self.waiting().insert(slot.index(), Waiting { place, vmm });
        Ok(())
    }

    /// The VMM that waits in this network, if there is one.
    pub(super) fn one_waiting(&self, slot: SlotIndex) -> Option<Waiting> {
        self.waiting().remove(&slot)
    }

    /// Loads into a VMM that waited; into another if that one does not fit or
    /// cannot be taken over. In its own place nothing is left in any case; a
    /// failure leaves what has to be reaped in the spec's.
    pub(super) async fn launch_in(
        &self,
        waiting: Waiting,
        spec: &VmSpec,
        how: &Start,
        guard: Guard,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        let Waiting { place, mut vmm } = waiting;
        let loads = matches!(how, Start::Seed(_) | Start::Checkpoint(_));
        let fits = largest_mib(spec.shape) <= largest_mib(SHAPE);
        if guard == Guard::Jailer && loads && fits {
            match self.take_over(&place, &mut vmm, spec, how).await {
                Ok(()) => {
                    let vm = FirecrackerVm::of(&spec.place, vmm, self.cgroups.clone());
                    self.begin(&vm, spec, how).await?;
                    return Ok(vm);
                }
                Err(error) => {
                    let vm = &spec.place.id;
                    tracing::warn!(%vm, %error, "a VMM that waited cannot be used");
                    self.reap(&spec.place).await?;
                }
            }
        }
        self.reap(&place).await?;
        // Of a child that had ended by itself nobody has heard yet.
        vmm.process.wait().await;
        self.launch(spec, how, guard).await
    }

    async fn take_over(
        &self,
        from: &VmPlace,
        vmm: &mut Listening,
        spec: &VmSpec,
        how: &Start,
    ) -> Result<(), EngineError> {
        let cannot = |e| EngineError::host("cannot take over a VMM that waits", e);
        let to = &spec.place;
        fs::set_permissions(&to.dir, fs::Permissions::from_mode(0o700)).map_err(cannot)?;
        let process = vmm.process.reference();
        process.save(&to.dir.join(PID_FILE)).map_err(cannot)?;
        self.cgroups.move_into(&to.id, spec.shape, process.pid)?;
        vmm::remove_cgroup(&self.cgroups, &from.id).await?;
        vmm.root = vmm.root.move_to(from, to).map_err(cannot)?;
        for name in [console::FILE, LOG_FILE] {
            fs::rename(from.dir.join(name), to.dir.join(name)).map_err(cannot)?;
        }
        fs::remove_file(from.dir.join(PID_FILE)).map_err(cannot)?;

        let files = self.shown(spec, how)?;
        let root = vmm.root.open().map_err(cannot)?;
        let pidfd = vmm.process.pidfd().try_clone_to_owned().map_err(cannot)?;
        vmm::blocking("cannot show files to a VMM that waits", move || {
            late::show(process.pid, &pidfd, &root, &files)
        })
        .await
    }

    /// The VMM that waits in this place is waited for no more.
    pub(super) fn give_up(&self, place: &VmPlace) -> Option<Waiting> {
        let mut waiting = self.waiting();
        let slot = waiting.iter().find(|(_, it)| it.place == *place);
        let slot = slot.map(|(slot, _)| *slot)?;
        waiting.remove(&slot)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<SlotIndex, Waiting>> {
        self.waiting.lock().expect("no panic while it is held")
    }
}
