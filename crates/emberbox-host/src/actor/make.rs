//! How a VM comes to be: from a seed, by a cold boot, or from a snapshot.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use emberbox_core::{SandboxId, Shape, VmId};
use emberbox_guest::client::GuestClient;
use emberbox_guest::{Identity, NewName, ProcessSpec, Revival};
use emberbox_image::TemplateApp;
use emberbox_runtime::net::{Dialer, Slot};
use emberbox_runtime::seed::{COLD_BOOT, SeedFiles};
use emberbox_runtime::{BootImages, BootPurpose, EngineError, ExitReason, Vm, VmSpec, disk};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::take::thaw;
use super::{Adopted, Parts, Running, report};
use crate::host::{BootPath, CreateVm, Created, HostError, Origin, boot_images};
use crate::ledger::Record;
use crate::seeds;
use crate::snapshots::Snapshot;
use crate::standby::Network;
use crate::timeline::Timeline;

/// How long a restored guest may take to answer. It needs 0.2 s on an idle
/// machine; a hundred at once on two cores need most of this.
pub(super) const RESTORED: Duration = Duration::from_secs(60);

impl Parts {
    /// Makes a VM and gives it its identity. Dropped or failed half-way, it
    /// leaves what [`Parts::remove`] removes.
    pub(super) async fn make(
        &self,
        request: CreateVm,
        own_network: &OnceLock<Network>,
    ) -> Result<(Created, Running), HostError> {
        let mut timeline = Timeline::begin();
        let _waited_for = self.turns.wait_for_one();
        let _admitted = self.turns.enter(&request.party).await;
        timeline.step("queue");
        match &request.origin {
            Origin::Image => self.make_from_image(&request, own_network, timeline).await,
            // What a caller would give up makes no difference: the disk has to
            // be the VM's own and the snapshot's as well until it is deleted.
            Origin::Snapshot { id, keep: _ } => {
                let snapshot = self.snapshots.find(id, request.shape)?;
                self.make_from_snapshot(&request, snapshot, own_network, timeline)
                    .await
            }
        }
    }

    async fn make_from_image(
        &self,
        request: &CreateVm,
        own_network: &OnceLock<Network>,
        mut timeline: Timeline,
    ) -> Result<(Created, Running), HostError> {
        let images = emberbox_image::images(self.seeds.home(), &request.image)
            .map_err(HostError::start)?
            .ok_or_else(|| HostError::UnknownImage(request.image.clone()))?;
        let seed = self.seeds.find(&images, request.shape);
        let slot = match seed {
            Some(_) => {
                self.network_to_restore_in(own_network, request.shape)
                    .await?
            }
            None => self.slot(own_network).await?,
        };
        let (record, spec) = self.begin(request, boot_images(&images), slot)?;
        timeline.step("network");
        let started = Instant::now();
        let (boot_path, vm) = match seed {
            Some(seed) => match self.restore(&spec, &seed, &mut timeline).await {
                Ok(vm) => (BootPath::Snapshot, vm),
                Err(error) => {
                    let vm = &request.vm;
                    tracing::warn!(%vm, error = report(&error), "restore failed, booting cold");
                    self.engine
                        .reap(&spec.place)
                        .await
                        .map_err(HostError::start)?;
                    let _ = fs::remove_file(&spec.scratch);
                    (BootPath::Cold, self.boot(&spec).await?)
                }
            },
            None => (BootPath::Cold, self.boot(&spec).await?),
        };
        timeline.step("vmm");
        let guest = self.guest(&spec.slot, &request.vm);
        let patience = match boot_path {
            BootPath::Prepared | BootPath::Snapshot => RESTORED,
            BootPath::Cold => COLD_BOOT,
        };
        answers(&guest, &*vm, patience).await?;
        timeline.step("guest");
        let env = request.env.clone().into_iter().collect();
        let identity = self.identity(&request.vm, &request.sandbox, env, &spec);
        tokio::select! {
            claimed = guest.claim(identity) => {
                claimed.map_err(HostError::start)?;
            }
            reason = vm.wait() => return Err(ended_early(&reason)),
        }
        timeline.step("claim");
        if let (BootPath::Cold, Some(app)) = (boot_path, &images.app) {
            start_app(&guest, app).await?;
            timeline.step("app");
        }
        let running = running(vm, guest, &spec);
        self.ready(record, started, boot_path, running, timeline)
    }

    /// Nothing of the snapshot runs before all of it was verified, and no
    /// other way is tried: it is this state or none.
    async fn make_from_snapshot(
        &self,
        request: &CreateVm,
        snapshot: Snapshot,
        own_network: &OnceLock<Network>,
        mut timeline: Timeline,
    ) -> Result<(Created, Running), HostError> {
        let images = snapshot.manifest.images.clone();
        let slot = self
            .network_to_restore_in(own_network, request.shape)
            .await?;
        let (record, spec) = self.begin(request, images, slot)?;
        timeline.step("network");
        let started = Instant::now();
        let (from, to) = (snapshot.scratch(), spec.scratch.clone());
        let cloned = spawn_blocking(move || disk::clone(&from, &to)).await;
        cloned
            .map_err(io::Error::from)
            .flatten()
            .map_err(HostError::start)?;

        let (snapshots, reading) = (Arc::clone(&self.snapshots), snapshot.clone());
        let verified = spawn_blocking(move || snapshots.verify(&reading));
        let files = snapshot.files();
        let restored = self.engine.restore_checkpoint(&spec, &files);
        let (verified, restored) = tokio::join!(verified, restored);
        // A damaged file may be why the engine failed.
        verified.map_err(HostError::start)??;
        let vm = restored.map_err(HostError::start)?;
        vm.resume().await.map_err(HostError::start)?;
        timeline.step("vmm");
        let guest = self.revive(&spec, &*vm, request, &snapshot).await?;
        timeline.step("claim");
        let running = running(vm, guest, &spec);
        self.ready(record, started, BootPath::Snapshot, running, timeline)
    }

    /// Writes the record, before anything of the VM is.
    fn begin(
        &self,
        request: &CreateVm,
        images: BootImages,
        slot: Arc<Slot>,
    ) -> Result<(Record, VmSpec), HostError> {
        let record = Record {
            vm: request.vm.clone(),
            sandbox: Some(request.sandbox.clone()),
            shape: request.shape,
            images,
            slot: slot.index(),
            claimed: false,
        };
        let spec = self.record(&record, slot)?;
        Ok((record, spec))
    }

    /// A network slot that is removed with the VM.
    pub(super) async fn slot(
        &self,
        own_network: &OnceLock<Network>,
    ) -> Result<Arc<Slot>, HostError> {
        let slot = self.slots.take().await.map_err(HostError::start)?;
        let own = own_network.get_or_init(|| slot.into());
        Ok(Arc::clone(&own.slot))
    }

    /// The same, with a VMM that waits for what will be restored, if there is
    /// one.
    async fn network_to_restore_in(
        &self,
        own_network: &OnceLock<Network>,
        shape: Shape,
    ) -> Result<Arc<Slot>, HostError> {
        match self.standby.take_for(shape) {
            Some(network) => {
                let own = own_network.get_or_init(|| network);
                Ok(Arc::clone(&own.slot))
            }
            None => self.slot(own_network).await,
        }
    }

    /// Writes a VM's record; from here on it may exist.
    pub(super) fn record(&self, record: &Record, slot: Arc<Slot>) -> Result<VmSpec, HostError> {
        self.ledger.put(record).map_err(HostError::start)?;
        Ok(self.ledger.spec(record, slot))
    }

    /// Records that the guest has its identity.
    pub(super) fn ready(
        &self,
        mut record: Record,
        started: Instant,
        boot_path: BootPath,
        running: Running,
        mut timeline: Timeline,
    ) -> Result<(Created, Running), HostError> {
        let boot_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
        record.claimed = true;
        self.ledger.put(&record).map_err(HostError::start)?;
        timeline.step("ledger");
        let created = Created {
            boot_path,
            boot_ms,
            steps: timeline.steps().to_vec(),
        };
        Ok((created, running))
    }

    pub(super) async fn restore(
        &self,
        spec: &VmSpec,
        seed: &SeedFiles,
        timeline: &mut Timeline,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        disk::clone(&seed.scratch, &spec.scratch)
            .map_err(|error| EngineError::host("cannot clone the seed's disk", error))?;
        timeline.step("disk");
        self.engine.restore(spec, &seed.snapshot).await
    }

    async fn boot(&self, spec: &VmSpec) -> Result<Arc<dyn Vm>, HostError> {
        emberbox_image::make_scratch(&spec.scratch, spec.shape.disk_mib)
            .map_err(HostError::start)?;
        self.engine
            .boot(spec, BootPurpose::Run)
            .await
            .map_err(HostError::start)
    }

    /// What makes a guest this sandbox in this life.
    pub(super) fn identity(
        &self,
        vm: &VmId,
        sandbox: &SandboxId,
        env: Vec<(String, String)>,
        spec: &VmSpec,
    ) -> Identity {
        Identity {
            token: self.secret.guest_token(vm),
            hostname: hostname(sandbox),
            machine_id: rand::random(),
            env,
            unix_time_ns: unix_time_ns(),
            entropy: rand::random(),
            mtu: spec.slot.mtu(),
        }
    }

    /// Waits for a guest that is restored from a snapshot and gives it a life
    /// of its own.
    async fn revive(
        &self,
        spec: &VmSpec,
        vm: &dyn Vm,
        request: &CreateVm,
        snapshot: &Snapshot,
    ) -> Result<GuestClient, HostError> {
        // It still has the token of the life the snapshot is of.
        let old = self.guest(&spec.slot, &snapshot.manifest.vm);
        answers(&old, vm, RESTORED).await?;
        let another = request.sandbox != snapshot.manifest.sandbox;
        let revival = Revival {
            token: self.secret.guest_token(&request.vm),
            name: another.then(|| NewName {
                hostname: hostname(&request.sandbox),
                machine_id: rand::random(),
            }),
            env: request.env.clone().into_iter().collect(),
            unix_time_ns: unix_time_ns(),
            entropy: rand::random(),
            mtu: spec.slot.mtu(),
        };
        tokio::select! {
            revived = old.revive(revival) => revived.map_err(HostError::start)?,
            reason = vm.wait() => return Err(ended_early(&reason)),
        }
        Ok(self.guest(&spec.slot, &request.vm))
    }

    pub(super) fn guest(&self, slot: &Arc<Slot>, vm: &VmId) -> GuestClient {
        GuestClient::new(Dialer::new(Arc::clone(slot)), self.secret.guest_token(vm))
    }

    /// Finds a recorded VM that still runs. `None` leaves it to be removed:
    /// also one whose life has `ended` with a snapshot.
    pub(crate) async fn find(
        &self,
        record: &Record,
        ended: &HashSet<VmId>,
    ) -> Result<Option<Adopted>, HostError> {
        if !record.claimed || ended.contains(&record.vm) {
            return Ok(None);
        }
        let place = self.ledger.place(&record.vm);
        let Some(vm) = self.engine.adopt(&place).await.map_err(HostError::start)? else {
            return Ok(None);
        };
        let slot = self
            .slots
            .adopt(record.slot)
            .await
            .map_err(HostError::start)?;
        let guest = self.guest(&slot, &record.vm);
        // It stands still if a snapshot was being taken when its server died.
        if let Err(error) = vm.resume().await {
            let vm = &record.vm;
            tracing::warn!(%vm, error = report(&error), "a VM cannot be told to go on");
        }
        // So do its processes. Nobody waits for a guest that does not answer.
        let (vm_id, held) = (record.vm.clone(), guest.clone());
        tokio::spawn(async move { thaw(&vm_id, &held).await });
        Ok(Some(Adopted {
            running: Running { vm, guest, slot },
        }))
    }

    /// Ends a VM and removes everything of it, its record last. Idempotent.
    pub(super) async fn remove(
        &self,
        vm: &VmId,
        network: Option<&Network>,
    ) -> Result<(), HostError> {
        let waited = network.and_then(|network| network.waited.as_ref());
        // Where its VMM waited there is something only if it was not taken over.
        if let Some(place) = waited.map(|waited| self.ledger.place(waited))
            && place.dir.exists()
        {
            self.engine.reap(&place).await.map_err(HostError::start)?;
            self.ledger.remove(&place.id).map_err(HostError::start)?;
        }
        self.engine
            .reap(&self.ledger.place(vm))
            .await
            .map_err(HostError::start)?;
        if let Some(Network { slot, .. }) = network {
            // The guest is gone, so these counters are its last.
            match slot.network_use().await {
                Ok(last) => self.last_network_use.keep(vm, last),
                Err(error) => tracing::warn!(%vm, %error, "a network's counters cannot be read"),
            }
            self.slots.discard(slot).await.map_err(HostError::start)?;
        }
        self.ledger.remove(vm).map_err(HostError::start)
    }
}

pub(super) fn ended_early(reason: &ExitReason) -> HostError {
    let detail = format!("the guest ended before it was ready: {reason:?}");
    HostError::start(EngineError::Start { detail })
}

pub(super) fn running(vm: Arc<dyn Vm>, guest: GuestClient, spec: &VmSpec) -> Running {
    let slot = Arc::clone(&spec.slot);
    Running { vm, guest, slot }
}

/// Waits for a guest's first answer.
pub(super) async fn answers(
    guest: &GuestClient,
    vm: &dyn Vm,
    patience: Duration,
) -> Result<(), HostError> {
    tokio::select! {
        pong = guest.wait_ready(Instant::now() + patience) => {
            pong.map(drop).map_err(HostError::start)
        }
        reason = vm.wait() => Err(ended_early(&reason)),
    }
}

/// Starts what a seed would have had running already; it becomes ready later.
async fn start_app(guest: &GuestClient, app: &TemplateApp) -> Result<(), HostError> {
    let spec = ProcessSpec {
        exec: seeds::app(app).start,
        name: Some("app".to_owned()),
    };
    let started = guest.start_process(spec).await;
    started.map(drop).map_err(HostError::start)
}

/// An identifier as a host name: no underscore.
fn hostname(sandbox: &SandboxId) -> String {
    sandbox.as_str().replace('_', "-")
}

pub(crate) fn unix_time_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
