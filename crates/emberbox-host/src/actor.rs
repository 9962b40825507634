//! The life of one VM: one task that makes it, watches it and removes it.
//!
//! ```text
//! making ──claimed──▶ running ──ended──▶ removed   (reported)
//!    └──failed──▶ removed   └──destroy──▶ removed
//! ```
//!
//! What follows which event is decided by [`emberbox_core::step`]; this task
//! only carries it out. Invariant: however the life goes, its last act is
//! [`Parts::remove`], and if that fails the record stays for the next start.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use emberbox_core::lifecycle::{Command, Event, Fact};
use emberbox_core::{SandboxState, Step, VmId, step};
use emberbox_guest::Identity;
use emberbox_guest::client::GuestClient;
use emberbox_runtime::net::{Dialer, Slot, SlotPool};
use emberbox_runtime::seed::COLD_BOOT;
use emberbox_runtime::{BootPurpose, Engine, EngineError, ExitReason, Vm, VmSpec, disk};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::host::{BootPath, CreateVm, Created, HostError, HostEvent, Origin, boot_images};
use crate::last_use::LastNetworkUse;
use crate::ledger::{Ledger, Record};
use crate::secret::HostSecret;
use crate::seeds::Seeds;

/// Requests waiting for one VM; more callers wait in line.
const MAILBOX: usize = 8;

/// How long a restored guest may take to answer. It needs 0.2 s on an idle
/// machine; a hundred at once on two cores need most of this.
const RESTORED: Duration = Duration::from_secs(60);

/// Everything VMs are made with.
pub(crate) struct Parts {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) slots: Arc<SlotPool>,
    pub(crate) seeds: Seeds,
    pub(crate) ledger: Ledger,
    pub(crate) secret: HostSecret,
    /// Of VMs that have ended.
    pub(crate) last_network_use: LastNetworkUse,
}

/// A VM that is claimed and runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) vm: Arc<dyn Vm>,
    pub(crate) guest: GuestClient,
    pub(crate) slot: Arc<Slot>,
}

/// A VM that was found running.
pub(crate) struct Adopted {
    pub(crate) running: Running,
}

/// How others speak to a VM's task.
#[derive(Clone)]
pub(crate) struct Handle {
    mailbox: mpsc::Sender<Destroy>,
    running: watch::Receiver<Option<Running>>,
}

/// Asks for the end; answered when all is gone.
struct Destroy(oneshot::Sender<()>);

impl Handle {
    /// The VM, once it is claimed.
    pub(crate) fn running(&self) -> Option<Running> {
        self.running.borrow().clone()
    }

    /// Ends the VM and waits until all of it is gone.
    pub(crate) async fn destroy(&self) {
        let (done, gone) = oneshot::channel();
        // A task that is gone has removed everything already, and one that
        // ends for another reason drops the answer when it has.
        if self.mailbox.send(Destroy(done)).await.is_ok() {
            let _ = gone.await;
        }
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }
}

/// The task of one VM.
pub(crate) struct Actor {
    parts: Arc<Parts>,
    id: VmId,
    state: SandboxState,
    /// Its network, from the moment it is taken.
    slot: Arc<OnceLock<Arc<Slot>>>,
    mailbox: mpsc::Receiver<Destroy>,
    /// Who asked for the end.
    destroyers: Vec<Destroy>,
    publish: watch::Sender<Option<Running>>,
}

impl Actor {
    /// A task for this VM, and the way to speak to it.
    pub(crate) fn new(parts: Arc<Parts>, id: VmId) -> (Self, Handle) {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let (publish, running) = watch::channel(None);
        let state = SandboxState::Provisioning;
        let slot = Arc::default();
        let actor = Self {
            parts,
            id,
            state,
            slot,
            mailbox,
            destroyers: Vec::new(),
            publish,
        };
        (
            actor,
            Handle {
                mailbox: sender,
                running,
            },
        )
    }

    /// Makes the VM, answers, and stays with it to its end.
    pub(crate) async fn create(
        mut self,
        request: CreateVm,
        answer: oneshot::Sender<Result<Created, HostError>>,
        events: mpsc::Sender<HostEvent>,
    ) {
        let (parts, slot) = (Arc::clone(&self.parts), Arc::clone(&self.slot));
        let made = tokio::select! {
            made = parts.make(request, &slot) => made,
            () = self.destroy_admitted() => Err(HostError::NotRunning),
        };
        match made {
            Ok((created, running)) => {
                self.record(Fact::Ready);
                self.publish.send_replace(Some(running.clone()));
                // The caller may be gone; the VM is in the ledger all the same.
                let _ = answer.send(Ok(created));
                self.stay(running, events).await;
            }
            Err(error) => {
                self.record(Fact::Failed);
                self.finish().await;
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Stays with a VM that an earlier process of this server made. The VM
    /// counts as running when this returns, before its future is polled.
    pub(crate) fn adopt(
        mut self,
        adopted: Adopted,
        events: mpsc::Sender<HostEvent>,
    ) -> impl Future<Output = ()> + Send {
        self.slot.get_or_init(|| Arc::clone(&adopted.running.slot));
        self.record(Fact::Ready);
        self.publish.send_replace(Some(adopted.running.clone()));
        self.stay(adopted.running, events)
    }

    async fn stay(mut self, running: Running, events: mpsc::Sender<HostEvent>) {
        let ended = tokio::select! {
            reason = running.vm.wait() => Some(reason),
            () = self.destroy_admitted() => None,
        };
        self.publish.send_replace(None);
        running.guest.end();
        drop(running);
        if let Some(reason) = ended {
            self.record(Fact::Failed);
            let vm = self.id.clone();
            self.finish().await;
            // A receiver that is gone means the server is closing.
            let _ = events.send(HostEvent::Ended { vm, reason }).await;
        } else {
            self.finish().await;
        }
    }

    /// Resolves when somebody asked for the end and the state admits it.
    async fn destroy_admitted(&mut self) {
        while let Some(destroy) = self.mailbox.recv().await {
            self.destroyers.push(destroy);
            match step(self.state, Event::Command(Command::Destroy)) {
                Step::Carry(_) => return,
                Step::To(_) | Step::Ignore | Step::Deny(_) => {}
            }
        }
        // Nobody can ask any more: the VM outlives this server.
        std::future::pending().await
    }

    fn record(&mut self, fact: Fact) {
        if let Step::To(state) = step(self.state, Event::Fact(fact)) {
            self.state = state;
        }
    }

    async fn finish(mut self) {
        match self.parts.remove(&self.id, self.slot.get()).await {
            Ok(()) => self.record(Fact::Destroyed),
            Err(error) => {
                tracing::error!(vm = %self.id, error = report(&error), "a VM cannot be removed");
            }
        }
        self.mailbox.close();
        while let Ok(destroy) = self.mailbox.try_recv() {
            self.destroyers.push(destroy);
        }
        for Destroy(gone) in self.destroyers.drain(..) {
            let _ = gone.send(());
        }
    }
}

impl Parts {
    /// Makes and claims a VM. Dropped or failed half-way, it leaves what
    /// [`Parts::remove`] removes.
    async fn make(
        &self,
        request: CreateVm,
        own_slot: &OnceLock<Arc<Slot>>,
    ) -> Result<(Created, Running), HostError> {
        if let Origin::Snapshot { id, .. } = &request.origin {
            return Err(HostError::UnknownSnapshot(id.clone()));
        }
        let images = emberbox_image::images(self.seeds.home(), &request.image)
            .map_err(HostError::start)?
            .ok_or_else(|| HostError::UnknownImage(request.image.clone()))?;
        let slot = self.slots.take().await.map_err(HostError::start)?;
        let slot = Arc::clone(own_slot.get_or_init(|| slot));
        let mut record = Record {
            vm: request.vm.clone(),
            sandbox: Some(request.sandbox.clone()),
            shape: request.shape,
            images: boot_images(&images),
            slot: slot.index(),
            claimed: false,
        };
        self.ledger.put(&record).map_err(HostError::start)?;
        let spec = self.ledger.spec(&record, Arc::clone(&slot));

        let started = Instant::now();
        let seed = self.seeds.find(&images, request.shape);
        let (boot_path, vm) = match seed {
            Some(seed) => match self.restore(&spec, &seed).await {
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
        let guest = self.claim(&spec, &*vm, &request, boot_path).await?;
        let boot_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
        record.claimed = true;
        self.ledger.put(&record).map_err(HostError::start)?;
        Ok((Created { boot_path, boot_ms }, Running { vm, guest, slot }))
    }

    async fn restore(
        &self,
        spec: &VmSpec,
        seed: &emberbox_runtime::seed::SeedFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        disk::clone(&seed.scratch, &spec.scratch)
            .map_err(|error| EngineError::host("cannot clone the seed's disk", error))?;
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

    /// Waits for the guest and gives it its identity.
    async fn claim(
        &self,
        spec: &VmSpec,
        vm: &dyn Vm,
        request: &CreateVm,
        boot_path: BootPath,
    ) -> Result<GuestClient, HostError> {
        let token = self.secret.guest_token(&request.vm);
        let guest = self.guest(&spec.slot, &request.vm);
        let patience = match boot_path {
            BootPath::Snapshot => RESTORED,
            BootPath::Cold => COLD_BOOT,
        };
        tokio::select! {
            pong = guest.wait_ready(Instant::now() + patience) => {
                pong.map_err(HostError::start)?;
            }
            reason = vm.wait() => return Err(ended_early(&reason)),
        }
        let identity = Identity {
            token,
            hostname: hostname(&request.sandbox),
            machine_id: rand::random(),
            env: request.env.clone().into_iter().collect(),
            unix_time_ns: unix_time_ns(),
            entropy: rand::random(),
            mtu: spec.slot.mtu(),
        };
        tokio::select! {
            claimed = guest.claim(identity) => claimed.map_err(HostError::start)?,
            reason = vm.wait() => return Err(ended_early(&reason)),
        }
        Ok(guest)
    }

    fn guest(&self, slot: &Arc<Slot>, vm: &VmId) -> GuestClient {
        GuestClient::new(Dialer::new(Arc::clone(slot)), self.secret.guest_token(vm))
    }

    /// Finds a recorded VM that still runs. `None` leaves it to be removed.
    pub(crate) async fn find(&self, record: &Record) -> Result<Option<Adopted>, HostError> {
        if !record.claimed {
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
        Ok(Some(Adopted {
            running: Running { vm, guest, slot },
        }))
    }

    /// Ends a VM and removes everything of it, its record last. Idempotent.
    async fn remove(&self, vm: &VmId, slot: Option<&Arc<Slot>>) -> Result<(), HostError> {
        self.engine
            .reap(&self.ledger.place(vm))
            .await
            .map_err(HostError::start)?;
        if let Some(slot) = slot {
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

fn ended_early(reason: &ExitReason) -> HostError {
    let detail = format!("the guest ended before it was ready: {reason:?}");
    HostError::start(EngineError::Start { detail })
}

/// An identifier as a host name: no underscore.
fn hostname(sandbox: &emberbox_core::SandboxId) -> String {
    sandbox.as_str().replace('_', "-")
}

fn unix_time_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// An error with its whole chain of causes, for logs.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
