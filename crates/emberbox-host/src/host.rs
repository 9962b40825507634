//! The host's public calls.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use emberbox_core::{SandboxId, Shape, SnapshotId, VmId};
use emberbox_guest::Token;
use emberbox_guest::client::GuestClient;
use emberbox_image::{ArtifactError, GuestImages};
use emberbox_runtime::disk;
use emberbox_runtime::net::{Dialer, NetConfig, NetworkUse, SlotPool};
use emberbox_runtime::seed::{COLD_BOOT, SeedFiles};
use emberbox_runtime::{BootImages, EngineDescription, ExitReason, MemoryUse};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use crate::actor::{Actor, Handle, Parts, Running, report};
use crate::capacity::{self, Needs};
use crate::config::{self, HostConfig};
use crate::last_use::LastNetworkUse;
use crate::ledger::{Ledger, Record};
use crate::pool::refill::refill;
use crate::pool::{Kind, Lease, Pool, PoolFacts};
use crate::secret::HostSecret;
use crate::seeds::Seeds;
use crate::snapshots::Snapshots;
use crate::standby::{self, StandBy};
use crate::timeline::Step;
use crate::turns::Turns;

/// Events kept for a slow reader; a VM's task waits when it is full.
const EVENTS: usize = 256;

/// Disk that a snapshot takes besides memory pages and the VM's disk, in
/// bytes: devices and the lists, with room to spare.
const SNAPSHOT_OVERHEAD: u64 = 16 << 20;

/// What a VM is to be.
#[derive(Debug, Clone)]
pub struct CreateVm {
    /// This life.
    pub vm: VmId,
    /// Whose life it is; also the guest's host name.
    pub sandbox: SandboxId,
    /// Who asks for it: when many VMs are to come up, each party's come up in
    /// turn with those of others.
    pub party: String,
    /// The image it boots, for example `miosa-sandbox`.
    pub image: String,
    /// Its size.
    pub shape: Shape,
    /// Variables every process in it sees.
    pub env: BTreeMap<String, String>,
    /// What it starts from.
    pub origin: Origin,
}

/// What a VM starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Its image: a seed, or a cold boot.
    Image,
    /// A snapshot: files, memory and processes are as they were when it was
    /// taken. The guest gets a new token, the right time and fresh entropy,
    /// and old connections are reset; it gets the name and machine id of its
    /// sandbox if that is not the snapshot's.
    Snapshot {
        /// Which; complete and undamaged, else the create fails.
        id: SnapshotId,
        /// What becomes of it.
        keep: Keep,
    },
}

/// What becomes of a snapshot that a VM was started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It can be restored again.
    Kept,
    /// The VM may take its files over; the caller deletes it once the VM is
    /// ready. Until then it can be restored again.
    Consumed,
}

/// What becomes of a VM once its snapshot is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSnapshot {
    /// It goes on; it stood still only while memory was copied.
    GoOn,
    /// It ends, and everything it owned goes, once the snapshot is complete.
    End,
}

/// A snapshot that is complete on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshotted {
    /// How long the guest stood still, in microseconds.
    pub stopped_us: u64,
    /// What it takes on disk, in bytes.
    pub size_bytes: u64,
}

/// How a VM came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootPath {
    /// Restored from a seed before it was asked for.
    Prepared,
    /// Restored from a seed or a snapshot when it was asked for.
    Snapshot,
    /// The kernel booted.
    Cold,
}

impl BootPath {
    /// For logs, metrics and timings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Snapshot => "on_demand",
            Self::Cold => "cold",
        }
    }
}

/// A VM that is claimed and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// How it came up.
    pub boot_path: BootPath,
    /// From the start of its VMM process, or from when it was taken if it was
    /// prepared, to the claimed guest, in milliseconds.
    pub boot_ms: u32,
    /// Where the time went.
    pub steps: Vec<Step>,
}

/// What one VM takes of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceUse {
    /// Memory of its VMM.
    pub memory: MemoryUse,
    /// Processor time of its VMM since it started.
    pub cpu_time: Duration,
    /// What its disk really takes, in bytes.
    pub disk_bytes: u64,
}

/// What a host reports without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// A VM ended and nobody had asked for it. All it owned is gone.
    Ended {
        /// Which.
        vm: VmId,
        /// Why.
        reason: ExitReason,
    },
}

/// Why the host could not do it. `Display` is safe to show to users.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No image of this name is installed here.
    #[error("image {0} is not installed on this host")]
    UnknownImage(String),
    /// The image cannot be made whole on this host.
    #[error("the image cannot be used: {0}")]
    Image(#[from] ArtifactError),
    /// The VM does not run here.
    #[error("the VM is not running")]
    NotRunning,
    /// There is no complete snapshot of this id.
    #[error("snapshot {0} does not exist on this host")]
    UnknownSnapshot(SnapshotId),
    /// A snapshot's files are not what its manifest says.
    #[error("the snapshot is damaged: {0}")]
    DamagedSnapshot(String),
    /// A snapshot that this engine cannot restore.
    #[error("the snapshot does not fit this host: {0}")]
    IncompatibleSnapshot(String),
    /// The snapshot could not be written; the VM goes on and no file is left.
    #[error("the snapshot could not be written")]
    Snapshot(#[source] Box<dyn Error + Send + Sync>),
    /// The host has no room for another VM now.
    #[error("no capacity for this sandbox right now")]
    NoCapacity,
    /// No VMM program was found.
    #[error("no VMM is installed on this host: qemu-system-x86_64 is not on the PATH")]
    NoEngine,
    /// Firecracker was demanded and cannot be used.
    #[error("Firecracker cannot be used on this host: {0}")]
    NoFirecracker(String),
    /// KVM was demanded and does not work.
    #[error("KVM is not usable on this host: {0}")]
    NoKvm(String),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// There is no seed of this image and shape.
    #[error("there is no seed to restore")]
    NoSeed,
    /// The prepared VM that was to be claimed has ended; nothing of it is left.
    /// The sandbox can have another, under a new id.
    #[error("the prepared VM was lost")]
    PreparedLost,
    /// The VM could not be made; nothing of it is left.
    #[error("the VM could not be started")]
    Start(#[source] Box<dyn Error + Send + Sync>),
    /// The host is shutting down.
    #[error("the host is shutting down")]
    ShuttingDown,
}

impl HostError {
    pub(crate) fn start(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Start(error.into())
    }
}

/// What this host is, for `doctor`, `/health` and metrics.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    /// The engine in use.
    pub engine: EngineDescription,
    /// Where images and seeds live.
    pub home: PathBuf,
    /// VMs that run now.
    pub vms: usize,
    /// Network slots that are ready.
    pub prepared_slots: usize,
    /// VMs that are ready.
    pub pool: PoolFacts,
}

/// One compute host.
pub struct Host {
    pub(crate) parts: Arc<Parts>,
    vms: Mutex<HashMap<VmId, Handle>>,
    /// Held while there is looked for room and taken.
    admission: Mutex<()>,
    events: mpsc::Sender<HostEvent>,
    data_dir: PathBuf,
    pool: Arc<Pool>,
    refill: Mutex<Option<JoinHandle<()>>>,
    standby: Mutex<Option<JoinHandle<()>>>,
}

impl Host {
    /// Opens the host: adopts the VMs that still run, reaps the rest. The
    /// receiver carries what happens later, in order.
    pub async fn open(
        config: HostConfig,
    ) -> Result<(Arc<Self>, mpsc::Receiver<HostEvent>), HostError> {
        let instance = config::instance(&config.data_dir).map_err(HostError::start)?;
        let artifacts = Arc::new(config.artifacts.open(config.home.clone())?);
        let held = artifacts.ensure(&config.default_image).await?;
        let default = &config.default_image;
        let images = emberbox_image::images(&config.home, default)
            .map_err(HostError::start)?
            .ok_or_else(|| HostError::UnknownImage(default.clone()))?;
        drop(held);
        let engine = config::engine(&config, instance, &boot_images(&images)).await?;

        let mut net = NetConfig::new(instance);
        net.pool_size = config.slot_pool;
        for cidr in &config.allowed_private {
            let network = cidr.parse().map_err(|_| {
                HostError::Setting(format!(
                    "network.allowed_private: {cidr} is not a CIDR range"
                ))
            })?;
            net.allowed_private.push(network);
        }
        let slots = SlotPool::open(net).await.map_err(HostError::start)?;
        let ledger = Ledger::open(&config.data_dir).map_err(HostError::start)?;
        let secret = HostSecret::open(&config.data_dir).map_err(HostError::start)?;
        let seeds = Seeds::new(
            config.home,
            Arc::clone(&engine),
            Arc::clone(&slots),
            ledger.clone(),
            Arc::clone(&artifacts),
        );
        seeds.sweep().map_err(HostError::start)?;
        let compatibility = engine.describe().snapshot_compatibility.clone();
        let snapshots =
            Snapshots::open(&config.data_dir, compatibility).map_err(HostError::start)?;
        let parts = Arc::new(Parts {
            turns: Turns::new(),
            engine,
            snapshots: Arc::new(snapshots),
            slots,
            seeds,
            artifacts,
            ledger,
            secret,
            standby: Arc::new(StandBy::new(config.pool.vmms)),
            last_network_use: LastNetworkUse::default(),
        });

        let (events, receiver) = mpsc::channel(EVENTS);
        let data_dir = config.data_dir;
        let pool = Arc::new(Pool::new(config.pool));
        let host = Arc::new(Self {
            pool: Arc::clone(&pool),
            refill: Mutex::default(),
            parts,
            vms: Mutex::default(),
            admission: Mutex::default(),
            standby: Mutex::default(),
            events,
            data_dir,
        });
        host.adopt_or_reap().await?;
        host.sweep_builds().await?;
        host.keep_to_budget().await;
        if host.parts.can_stand_by() {
            let standby = Arc::clone(&host.parts.standby);
            let refill = standby::refill(Arc::downgrade(&host), standby, boot_images(&images));
            *host.standby.lock().expect("no panic while it is held") = Some(tokio::spawn(refill));
        }
        if pool.is_on() {
            pool.expect(&Kind {
                image: config.default_image,
                shape: Shape::DEFAULT,
            });
            let refill = tokio::spawn(refill(Arc::downgrade(&host), pool));
            *host.refill.lock().expect("no panic while it is held") = Some(refill);
        }
        Ok((host, receiver))
    }

    /// Whether an image of this name can be booted here now.
    #[must_use]
    pub fn has_image(&self, image: &str) -> bool {
        matches!(
            emberbox_image::images(self.parts.seeds.home(), image),
            Ok(Some(_))
        )
    }

    /// Takes the seed of an image and shape unless there is one, here or in the
    /// artifact source.
    pub async fn seed(&self, image: &str, shape: Shape) -> Result<(), HostError> {
        let (images, _held) = self.ready(image, shape).await?;
        self.parts.seeds.ensure(&images, shape).await.map(drop)
    }

    /// The seed a create of this image and shape is restored from, if any.
    #[must_use]
    pub fn seed_files(&self, image: &str, shape: Shape) -> Option<SeedFiles> {
        self.images(image)
            .ok()
            .and_then(|images| self.parts.seeds.find(&images, shape))
    }

    /// Restores a seed by hand, to the agent's first answer, and removes the VM
    /// again: the floor that `cargo xtask bench create` compares with. Says how
    /// long it took.
    pub async fn restore_bare(&self, image: &str, shape: Shape) -> Result<Duration, HostError> {
        let images = self.images(image)?;
        let seed = self.parts.seeds.find(&images, shape);
        let seed = seed.ok_or(HostError::NoSeed)?;
        let slot = self.parts.slots.take().await.map_err(HostError::start)?;
        let record = Record {
            vm: VmId::generate(),
            sandbox: None,
            shape,
            images: boot_images(&images),
            slot: slot.index(),
            claimed: false,
        };
        self.parts.ledger.put(&record).map_err(HostError::start)?;
        let spec = self.parts.ledger.spec(&record, Arc::clone(&slot));
        disk::clone(&seed.scratch, &spec.scratch).map_err(HostError::start)?;
        let started = Instant::now();
        let vm = self
            .parts
            .engine
            .restore_bare(&spec, &seed.snapshot)
            .await
            .map_err(HostError::start)?;
        let guest = GuestClient::new(Dialer::new(Arc::clone(&slot)), Token::UNCLAIMED);
        let answered = guest.wait_ready(Instant::now() + COLD_BOOT).await;
        let took = started.elapsed();
        vm.stop().await.map_err(HostError::start)?;
        self.parts
            .slots
            .discard(&slot)
            .await
            .map_err(HostError::start)?;
        self.parts
            .ledger
            .remove(&record.vm)
            .map_err(HostError::start)?;
        answered.map(|_pong| took).map_err(HostError::start)
    }

    /// A prepared VM for a create that is about to be recorded; `None` if there
    /// is none of this image and shape.
    #[must_use]
    pub fn lease(&self, image: &str, shape: Shape) -> Option<Lease> {
        let digest = self.images(image).ok()?.digest;
        let image = image.to_owned();
        let (vm, stale) = self.pool.lease(&Kind { image, shape }, &digest);
        for ready in stale {
            tokio::spawn(async move { ready.handle.destroy().await });
        }
        let pool = Arc::clone(&self.pool);
        vm.map(|vm| Lease::new(vm, move |vm| pool.give_back(vm)))
    }

    /// Makes a VM and claims it; one that was [leased](Host::lease) only has to
    /// be claimed. Runs to its end even if the caller goes away: then
    /// [`Host::destroy`] or the next start finds it in the ledger.
    pub async fn create(self: &Arc<Self>, request: CreateVm) -> Result<Created, HostError> {
        let kind = Kind {
            image: request.image.clone(),
            shape: request.shape,
        };
        if let Some(prepared) = self.pool.claim(&request.vm, &kind) {
            return prepared.claim(request).await;
        }
        // Held until the VM's record says that it needs the image.
        let _held = match request.origin {
            Origin::Image => Some(self.ready(&request.image, request.shape).await?),
            Origin::Snapshot { .. } => None,
        };
        let admit = || self.admit(&request.vm, request.shape, &request.origin);
        let (actor, _handle) = match admit() {
            // Prepared VMs give way.
            Err(HostError::NoCapacity) if self.pool.shed().await => admit()?,
            admitted => admitted?,
        };
        let vm = request.vm.clone();
        let (answer, created) = oneshot::channel();
        let events = self.events.clone();
        let host = Arc::clone(self);
        tokio::spawn(async move {
            actor.create(request, answer, events).await;
            host.vm_ended(&vm);
        });
        let created = created
            .await
            .map_err(|_dropped| HostError::ShuttingDown)??;
        if created.boot_path == BootPath::Cold {
            self.seed_in_background(kind.image, kind.shape);
        }
        Ok(created)
    }

    /// Whether a VM of this shape could be made now. Whoever asks before it
    /// records an intent has nothing to take back; [`Host::create`] looks
    /// again. Touches no disk but a snapshot's manifest.
    pub fn has_room(&self, shape: Shape, origin: &Origin) -> Result<(), HostError> {
        // Prepared VMs give way.
        let promised = self.promised().saturating_sub(self.pool.can_shed());
        self.needs_of_vm(shape, origin)?
            .check(&self.data_dir, promised)
    }

    /// Typed calls into a running guest.
    pub fn guest(&self, vm: &VmId) -> Result<GuestClient, HostError> {
        self.running_vm(vm).map(|running| running.guest)
    }

    /// Connects to a port of a running guest, at the address its own network
    /// gives it. The agent's port is refused: only this host speaks to it. No
    /// deadline of its own. Cancel-safe.
    pub async fn dial(&self, vm: &VmId, port: u16) -> io::Result<TcpStream> {
        if port == emberbox_guest::PORT {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let running = self
            .running_vm(vm)
            .map_err(|ended| io::Error::new(io::ErrorKind::NotConnected, ended))?;
        running.slot.connect(port).await
    }

    /// Writes a snapshot of a running VM: memory, devices and disk of one
    /// moment. It is complete when this returns and survives a power failure
    /// from then on; on an error the VM goes on and no file is left. Runs to
    /// its end even if the caller goes away.
    pub async fn snapshot(
        &self,
        vm: &VmId,
        snapshot: &SnapshotId,
        after: AfterSnapshot,
    ) -> Result<Snapshotted, HostError> {
        let handle = self.vms().get(vm).cloned();
        let handle = handle.ok_or(HostError::NotRunning)?;
        let running = handle.running().ok_or(HostError::NotRunning)?;
        let memory = running.vm.memory_use().await.map_err(HostError::start)?;
        let disk = match after {
            AfterSnapshot::GoOn => disk::allocated_bytes(&self.parts.ledger.scratch(vm)),
            // It is kept where it is.
            AfterSnapshot::End => Ok(0),
        };
        let needs = Needs {
            memory: 0,
            disk: memory.private + disk.unwrap_or(0) + SNAPSHOT_OVERHEAD,
        };
        needs.check(&self.data_dir, 0)?;
        handle.snapshot(snapshot.clone(), after).await
    }

    /// Removes a snapshot. Idempotent.
    pub async fn delete_snapshot(&self, snapshot: &SnapshotId) -> Result<(), HostError> {
        let (snapshots, id) = (Arc::clone(&self.parts.snapshots), snapshot.clone());
        let deleted = spawn_blocking(move || snapshots.delete(&id)).await;
        let deleted = deleted.map_err(io::Error::from).flatten();
        deleted.map_err(|error| HostError::Snapshot(error.into()))
    }

    /// The snapshots that are complete on this host.
    pub fn snapshots(&self) -> Result<Vec<SnapshotId>, HostError> {
        let snapshots = self.parts.snapshots.list();
        snapshots.map_err(|error| HostError::Snapshot(error.into()))
    }

    /// Ends a VM and everything it owns. Idempotent; waits until it is gone.
    pub async fn destroy(&self, vm: &VmId) -> Result<(), HostError> {
        let handle = self.vms().get(vm).cloned();
        if let Some(handle) = handle {
            handle.destroy().await;
        }
        Ok(())
    }

    /// The VMs that are claimed and run, adopted ones included.
    #[must_use]
    pub fn running(&self) -> Vec<VmId> {
        let vms = self.vms();
        let running = vms.iter().filter(|(_, handle)| handle.running().is_some());
        running.map(|(vm, _)| vm.clone()).collect()
    }

    /// What a VM costs in memory.
    pub async fn memory_use(&self, vm: &VmId) -> Result<MemoryUse, HostError> {
        self.running_vm(vm)?
            .vm
            .memory_use()
            .await
            .map_err(HostError::start)
    }

    /// What a VM takes of this machine.
    pub async fn resource_use(&self, vm: &VmId) -> Result<ResourceUse, HostError> {
        let running = self.running_vm(vm)?.vm;
        let cpu_time = cpu_time(running.pid()).map_err(HostError::start)?;
        let scratch = self.parts.ledger.scratch(vm);
        Ok(ResourceUse {
            memory: running.memory_use().await.map_err(HostError::start)?,
            cpu_time,
            disk_bytes: disk::allocated_bytes(&scratch).map_err(HostError::start)?,
        })
    }

    /// What went through a VM's network since its start. Of a VM that has
    /// ended, the last there was, for a while.
    pub async fn network_use(&self, vm: &VmId) -> Result<NetworkUse, HostError> {
        match self.running_vm(vm) {
            Ok(running) => running.slot.network_use().await.map_err(HostError::start),
            Err(ended) => self.parts.last_network_use.get(vm).ok_or(ended),
        }
    }

    /// What this host is.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        HostFacts {
            engine: self.parts.engine.describe().clone(),
            home: self.parts.seeds.home().root().to_owned(),
            vms: self.running().len(),
            prepared_slots: self.parts.slots.prepared(),
            pool: PoolFacts {
                vmms_waiting: self.parts.standby.count(),
                vmms_wanted: match self.parts.can_stand_by() {
                    true => self.parts.standby.wanted(),
                    false => 0,
                },
                ..self.pool.facts()
            },
        }
    }

    /// Stops serving. Running VMs go on and are adopted by the next start;
    /// prepared ones go.
    pub async fn close(&self) {
        self.parts.standby.close();
        self.pool.close().await;
        for task in [&self.refill, &self.standby] {
            let task = task.lock().expect("no panic while it is held").take();
            if let Some(task) = task
                && let Err(error) = task.await
            {
                tracing::error!(%error, "preparing VMs ended unexpectedly");
            }
        }
        self.parts.end_waiting().await;
        if let Err(error) = self.parts.slots.close().await {
            tracing::warn!(
                error = report(&error),
                "network slots are left for the next start"
            );
        }
        self.parts.engine.close();
    }

    async fn adopt_or_reap(self: &Arc<Self>) -> Result<(), HostError> {
        let records = self.parts.ledger.records().map_err(HostError::start)?;
        let ended = self.parts.snapshots.ended().map_err(HostError::start)?;
        let looked = join_all(records.into_iter().map(|record| async {
            let found = self.parts.find(&record, &ended).await;
            (record, found)
        }));
        let (mut kept, mut lost) = (HashSet::new(), Vec::new());
        for (record, found) in looked.await {
            let vm = record.vm.clone();
            match found {
                Ok(Some(adopted)) => {
                    tracing::info!(%vm, "adopted a running VM");
                    kept.insert(adopted.running.slot.index());
                    let (actor, _handle) = self.register(&vm, record.shape);
                    let (events, host) = (self.events.clone(), Arc::clone(self));
                    // Whoever opened this host asks at once what runs.
                    let life = actor.adopt(adopted, events);
                    tokio::spawn(async move {
                        life.await;
                        host.vm_ended(&vm);
                    });
                }
                Ok(None) => lost.push(record),
                Err(error) => {
                    tracing::warn!(%vm, error = report(&error), "a VM cannot be adopted");
                    lost.push(record);
                }
            }
        }
        self.reap(lost, &kept).await
    }

    async fn reap(
        &self,
        lost: Vec<Record>,
        kept: &emberbox_runtime::net::SlotSet,
    ) -> Result<(), HostError> {
        let parts = &self.parts;
        for record in &lost {
            tracing::info!(vm = %record.vm, "reaping what is left of a VM");
            parts
                .engine
                .reap(&parts.ledger.place(&record.vm))
                .await
                .map_err(HostError::start)?;
        }
        parts
            .slots
            .reap_except(kept)
            .await
            .map_err(HostError::start)?;
        for record in &lost {
            parts.ledger.remove(&record.vm).map_err(HostError::start)?;
        }
        Ok(())
    }

    /// A task for a VM, which is known from now on.
    fn register(&self, vm: &VmId, shape: Shape) -> (Actor, Handle) {
        let (actor, handle) = Actor::new(Arc::clone(&self.parts), vm.clone(), shape);
        self.vms().insert(vm.clone(), handle.clone());
        (actor, handle)
    }

    /// A VM's task is at its end.
    pub(crate) fn vm_ended(&self, vm: &VmId) {
        self.vms().remove(vm);
        self.pool.forget(vm);
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.parts.turns
    }

    pub(crate) fn events(&self) -> mpsc::Sender<HostEvent> {
        self.events.clone()
    }

    pub(crate) fn find_seed(&self, images: &GuestImages, shape: Shape) -> Option<SeedFiles> {
        self.parts.seeds.find(images, shape)
    }

    fn seed_in_background(self: &Arc<Self>, image: String, shape: Shape) {
        let host = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = host.seed(&image, shape).await {
                tracing::warn!(image, %shape, error = report(&error), "no seed could be taken");
            }
        });
    }

    pub(crate) fn images(&self, image: &str) -> Result<GuestImages, HostError> {
        emberbox_image::images(self.parts.seeds.home(), image)
            .map_err(HostError::start)?
            .ok_or_else(|| HostError::UnknownImage(image.to_owned()))
    }

    /// Takes the room for a VM. One after the other: two that ask at the same
    /// time do not get the same room.
    pub(crate) fn admit(
        &self,
        vm: &VmId,
        shape: Shape,
        origin: &Origin,
    ) -> Result<(Actor, Handle), HostError> {
        let needs = self.needs_of_vm(shape, origin)?;
        let turn = self.admission.lock();
        let _turn = turn.expect("no panic while there is looked for room");
        needs.check(&self.data_dir, self.promised())?;
        Ok(self.register(vm, shape))
    }

    /// Whether there is room for this beside what is promised.
    pub(crate) fn has_room_for(&self, needs: Needs) -> Result<(), HostError> {
        needs.check(&self.data_dir, self.promised())
    }

    fn needs_of_vm(&self, shape: Shape, origin: &Origin) -> Result<Needs, HostError> {
        let (pages, disk) = match origin {
            Origin::Image => (0, 0),
            Origin::Snapshot { id, keep: _ } => self.parts.snapshots.find(id, shape)?.needs(),
        };
        Ok(Needs::of_vm(shape, pages, disk))
    }

    /// Memory that is kept for the VMs there are, in bytes.
    fn promised(&self) -> u64 {
        let handles: Vec<_> = self.vms().values().cloned().collect();
        let promises = handles.iter().map(|handle| {
            let running = handle.running();
            let touched = running.map_or(0, |running| capacity::touched(running.vm.pid()));
            capacity::promise(handle.shape(), touched)
        });
        promises.fold(0, u64::saturating_add)
    }

    fn running_vm(&self, vm: &VmId) -> Result<Running, HostError> {
        self.vms()
            .get(vm)
            .and_then(Handle::running)
            .ok_or(HostError::NotRunning)
    }

    fn vms(&self) -> MutexGuard<'_, HashMap<VmId, Handle>> {
        self.vms.lock().expect("no panic while the table is held")
    }
}

/// Processor time of a process and its threads, at the resolution of
/// `/proc/PID/stat`: some milliseconds.
fn cpu_time(pid: i32) -> procfs::ProcResult<Duration> {
    let stat = procfs::process::Process::new(pid)?.stat()?;
    let ticks = stat.utime.saturating_add(stat.stime);
    let per_second = procfs::ticks_per_second().max(1);
    Ok(Duration::from_millis(
        ticks.saturating_mul(1000) / per_second,
    ))
}

/// Images as the runtime takes them.
pub(crate) fn boot_images(images: &GuestImages) -> BootImages {
    BootImages {
        kernel: images.kernel.clone(),
        initramfs: images.initramfs.clone(),
        layers: images.layers.clone(),
    }
}
