//! How a VM is prepared for nobody, and becomes somebody's.
//!
//! ```text
//! restored ─▶ answers ─▶ rehearses ─▶ stands still ─▶ goes on, identity ─▶ claimed
//!                                          └─woken─▶ identity ─▶ waits ─┘
//! ```
//!
//! A guest that is woken gets its identity at once: it is a sandbox's in all but
//! its variables, and the one who claims it waits for nothing in it. The name is
//! that of the sandbox which the VM's own id says.
//!
//! Invariants: no two guests ever have one identity; until the claim there is
//! nothing of any user in the guest, and its record names no sandbox; a claim
//! that fails ends the VM.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use emberbox_core::{SandboxId, Shape, VmId};
use emberbox_guest::Rehearsal;
use emberbox_guest::client::GuestClient;
use emberbox_runtime::seed::SeedFiles;
use emberbox_runtime::{BootImages, Vm, VmSpec};
use tokio::time::{Instant, timeout};

use super::make::{RESTORED, answers, ended_early, running, unix_time_ns};
use super::{Parts, Running};
use crate::host::{BootPath, CreateVm, Created, HostError};
use crate::ledger::Record;
use crate::standby::Network;
use crate::timeline::Timeline;

/// How long a guest that has rehearsed it may take to be claimed. Milliseconds
/// on an idle machine; with a hundred at once on two processors, seconds.
const CLAIM: Duration = Duration::from_secs(15);

/// How often a guest rehearses its claim. In software emulation a call costs
/// 36, 7, 4 and 3 ms of the processor the first times it is made.
const REHEARSALS: u32 = 3;

/// What is to be prepared.
pub(crate) struct Order {
    pub(crate) images: BootImages,
    pub(crate) shape: Shape,
    pub(crate) seed: SeedFiles,
}

/// A VM that waits for its sandbox.
pub(super) struct Prepared {
    pub(super) vm: Arc<dyn Vm>,
    record: Record,
    spec: VmSpec,
    /// Its connection stays: a claim does not have to make one.
    guest: GuestClient,
    /// Whether it runs, with an identity, while it waits.
    awake: bool,
}

impl Parts {
    /// Restores a VM that nobody has asked for. Dropped or failed half-way, it
    /// leaves what [`Parts::remove`] removes.
    pub(super) async fn prepare(
        &self,
        id: &VmId,
        order: Order,
        own_network: &OnceLock<Network>,
    ) -> Result<Prepared, HostError> {
        let slot = self.slot(own_network).await?;
        let record = Record {
            vm: id.clone(),
            sandbox: None,
            shape: order.shape,
            images: order.images,
            slot: slot.index(),
            claimed: false,
        };
        let spec = self.record(&record, slot)?;
        let mut untold = Timeline::begin();
        let vm = self.restore(&spec, &order.seed, &mut untold).await;
        let vm = vm.map_err(HostError::start)?;
        let guest = self.guest(&spec.slot, id);
        answers(&guest, &*vm, RESTORED).await?;
        for _ in 0..REHEARSALS {
            let rehearsal = Rehearsal {
                unix_time_ns: unix_time_ns(),
                entropy: rand::random(),
                mtu: spec.slot.mtu(),
            };
            tokio::select! {
                rehearsed = guest.rehearse(rehearsal) => rehearsed.map_err(HostError::start)?,
                reason = vm.wait() => return Err(ended_early(&reason)),
            }
        }
        vm.pause().await.map_err(HostError::start)?;
        Ok(Prepared {
            vm,
            record,
            spec,
            guest,
            awake: false,
        })
    }

    /// Lets a prepared VM run while it waits, as its own sandbox's.
    pub(super) async fn wake(&self, prepared: &mut Prepared) -> Result<(), HostError> {
        let sandbox = prepared.record.vm.own_sandbox();
        let named = timeout(CLAIM, self.identify(prepared, &sandbox, Vec::new()));
        tokio::select! {
            named = named => named.map_err(HostError::start)??,
            reason = prepared.vm.wait() => return Err(ended_early(&reason)),
        }
        prepared.awake = true;
        Ok(())
    }

    /// Lets a prepared VM go on and gives it its identity.
    async fn identify(
        &self,
        prepared: &Prepared,
        sandbox: &SandboxId,
        env: Vec<(String, String)>,
    ) -> Result<(), HostError> {
        let Prepared {
            vm, guest, spec, ..
        } = prepared;
        let identity = self.identity(&prepared.record.vm, sandbox, env, spec);
        // What is sent to a guest that stands still waits in its network.
        let (resumed, claimed) = tokio::join!(vm.resume(), guest.claim(identity));
        resumed.map_err(HostError::start)?;
        claimed.map_err(HostError::start)
    }

    /// What a claim has to do in the guest.
    async fn claim_guest(&self, prepared: &Prepared, request: &CreateVm) -> Result<(), HostError> {
        let env: Vec<_> = request.env.clone().into_iter().collect();
        if !prepared.awake {
            return self.identify(prepared, &request.sandbox, env).await;
        }
        if request.sandbox != prepared.record.vm.own_sandbox() {
            return Err(HostError::PreparedLost);
        }
        if env.is_empty() {
            return Ok(());
        }
        let set = prepared.guest.set_environment(env).await;
        set.map_err(HostError::start)
    }

    /// Makes a prepared VM a sandbox's.
    pub(super) async fn claim_prepared(
        &self,
        prepared: Prepared,
        request: &CreateVm,
    ) -> Result<(Created, Running), HostError> {
        let (mut timeline, started) = (Timeline::begin(), Instant::now());
        let claimed = timeout(CLAIM, self.claim_guest(&prepared, request));
        tokio::select! {
            claimed = claimed => claimed.map_err(HostError::start)??,
            reason = prepared.vm.wait() => return Err(ended_early(&reason)),
        }
        timeline.step("claim");
        let Prepared {
            vm,
            mut record,
            spec,
            guest,
            awake: _,
        } = prepared;
        record.sandbox = Some(request.sandbox.clone());
        let running = running(vm, guest, &spec);
        self.ready(record, started, BootPath::Prepared, running, timeline)
    }
}
