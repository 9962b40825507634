//! What an engine is.
//!
//! An engine turns a [`VmSpec`] into a running VM and finds it again after a
//! restart of this process. What a VM's processes are is named by its
//! [`VmPlace`] alone, so that whoever knows the place can end it.
//!
//! Invariants: a VM outlives the process that started it; [`Engine::reap`]
//! leaves no process and no cgroup of a place, whatever state it was left in;
//! what is not in [`Capabilities`] answers [`EngineError::NotSupported`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use emberbox_core::{Shape, VmId};
use serde::{Deserialize, Serialize};

use crate::net::Slot;

/// Starts, restores and finds VMs of one kind.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What this engine is and with which accelerator it runs.
    fn describe(&self) -> &EngineDescription;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Boots the kernel. Returns when the VMM process runs; the guest agent
    /// answers later.
    ///
    /// Errors leave nothing behind: no process, no cgroup. A second call for a
    /// spec whose VM runs is [`EngineError::AlreadyRunning`].
    async fn boot(&self, spec: &VmSpec, purpose: BootPurpose) -> Result<Arc<dyn Vm>, EngineError>;

    /// Restores a seed into a new VM, with memory private to it. The spec's
    /// scratch disk must already be a copy of the seed's.
    async fn restore(
        &self,
        spec: &VmSpec,
        snapshot: &SnapshotFiles,
    ) -> Result<Arc<dyn Vm>, EngineError>;

    /// Restores a checkpoint into a new VM, with memory private to it. The
    /// spec's scratch disk must already be a copy of that moment's. The vCPUs
    /// stand still: [`Vm::resume`] lets them go on once the caller has found
    /// the files to be what was written.
    async fn restore_checkpoint(
        &self,
        spec: &VmSpec,
        checkpoint: &CheckpointFiles,
    ) -> Result<Arc<dyn Vm>, EngineError>;

    /// Starts a VMM in this place and network that waits for what it is to
    /// restore, so that who asks for a VM does not wait for its process. The
    /// next restore whose spec has this network takes it over, and nothing is
    /// left in this place then; [`Engine::reap`] of this place ends one that
    /// still waits. The place's directory must be on the file system of all VMs'.
    ///
    /// Errors leave nothing behind.
    async fn stand_by(&self, place: &VmPlace, slot: &Arc<Slot>) -> Result<(), EngineError>;

    /// Restores a seed with nothing around the VMM that it does not itself need:
    /// no jail, no cgroup, as root. Measures what the VMM takes; never for a
    /// guest that is not trusted.
    async fn restore_bare(
        &self,
        spec: &VmSpec,
        snapshot: &SnapshotFiles,
    ) -> Result<Arc<dyn Vm>, EngineError>;

    /// Finds the VM of this place if it still runs. One whose vCPUs were
    /// stopped stays stopped.
    async fn adopt(&self, place: &VmPlace) -> Result<Option<Arc<dyn Vm>>, EngineError>;

    /// Ends whatever is left of this VM's processes and cgroup, and removes the
    /// engine's files. Idempotent.
    async fn reap(&self, place: &VmPlace) -> Result<(), EngineError>;

    /// Removes what the engine made for all of its VMs, if none is left.
    fn close(&self);
}

/// One running VM.
#[async_trait]
pub trait Vm: Send + Sync + 'static {
    /// Stops the vCPUs. Idempotent.
    async fn pause(&self) -> Result<(), EngineError>;

    /// Lets the vCPUs go on. Idempotent.
    async fn resume(&self) -> Result<(), EngineError>;

    /// Writes memory and devices of a paused VM that was booted with
    /// [`BootPurpose::Seed`] into `files`. The VM stays paused. The scratch
    /// disk is the caller's to copy meanwhile. A failure leaves no file.
    async fn snapshot(&self, files: &SnapshotFiles) -> Result<(), EngineError>;

    /// Finds out what [`Vm::checkpoint`] needs to know of a VM that runs, so that
    /// it stands still for less. Not needed.
    async fn ready_checkpoint(&self) {}

    /// Writes memory and devices of any paused VM into `files`: only the pages
    /// that are the VM's own, beside the seed they replace parts of. The VM
    /// stays paused and all its writes are in the scratch file, which is the
    /// caller's to copy meanwhile. Nothing is synced to the disk. A failure
    /// leaves no file.
    async fn checkpoint(&self, files: &CheckpointFiles) -> Result<(), EngineError>;

    /// Ends the VM at once and waits until its processes and its cgroup are
    /// gone. Idempotent.
    async fn stop(&self) -> Result<(), EngineError>;

    /// Resolves when the VM has ended, whoever ended it. May be awaited by
    /// several tasks. Cancel-safe.
    async fn wait(&self) -> ExitReason;

    /// What the VM costs in memory right now.
    async fn memory_use(&self) -> Result<MemoryUse, EngineError>;

    /// The VMM's process id, as the host sees it.
    fn pid(&self) -> i32;
}

/// Where one VM is: enough to find it and to end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlace {
    /// This life of the VM.
    pub id: VmId,
    /// A directory of its own, empty but for what the caller recorded there.
    pub dir: PathBuf,
}

/// Everything one VM is made of.
#[derive(Clone)]
pub struct VmSpec {
    /// Where it is.
    pub place: VmPlace,
    /// Its size.
    pub shape: Shape,
    /// What it boots.
    pub images: BootImages,
    /// Its writable disk: a raw ext4 image, owned by this VM alone.
    pub scratch: PathBuf,
    /// Its network.
    pub slot: Arc<Slot>,
}

/// Read-only files shared by every VM of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootImages {
    /// A bzImage.
    pub kernel: PathBuf,
    /// The agent and its modules.
    pub initramfs: PathBuf,
    /// erofs images, lowest first.
    pub layers: Vec<PathBuf>,
}

/// Why a VM is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootPurpose {
    /// To run a sandbox.
    Run,
    /// To be the seed of many: the engine keeps its memory where
    /// [`Vm::snapshot`] can hand it over without a copy.
    Seed,
}

/// The files of one seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFiles {
    /// Guest memory; shared by every VM restored from it, never written.
    pub memory: PathBuf,
    /// Device and CPU state.
    pub state: PathBuf,
}

/// The files of one checkpoint of a running VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFiles {
    /// The memory that is the VM's own.
    pub memory: PathBuf,
    /// The seed's memory that the rest is in; not there for a VM that booted
    /// cold. A link where the file system can: never written.
    pub base: PathBuf,
    /// Device and CPU state.
    pub state: PathBuf,
}

impl CheckpointFiles {
    /// The usual names in a directory.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            memory: dir.join("memory"),
            base: dir.join("base"),
            state: dir.join("state"),
        }
    }

    /// All of them.
    #[must_use]
    pub fn each(&self) -> [&Path; 3] {
        [&self.memory, &self.base, &self.state]
    }
}

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineDescription {
    /// `qemu` or `firecracker`.
    pub name: &'static str,
    /// The VMM's own version.
    pub version: String,
    /// `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// Everything a snapshot depends on besides guest images and shape; two
    /// engines may share snapshots only if this is equal.
    pub snapshot_compatibility: String,
}

/// One optional ability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// [`Vm::pause`] and [`Vm::resume`].
    Pause,
    /// [`Vm::snapshot`] of a VM that was booted with [`BootPurpose::Seed`].
    Seed,
    /// [`Vm::checkpoint`] of any running VM and
    /// [`Engine::restore_checkpoint`].
    Checkpoint,
    /// [`Engine::stand_by`].
    StandBy,
}

/// What an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(pub &'static [Capability]);

impl Capabilities {
    /// Whether `capability` is declared.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }
}

/// Why a VM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// [`Vm::stop`] or [`Engine::reap`].
    Stopped,
    /// The guest powered off or rebooted.
    GuestShutdown,
    /// The guest's kernel panicked.
    GuestPanic,
    /// The VMM ended by itself or was killed by somebody else.
    VmmDied {
        /// What is known, for the operator.
        detail: String,
    },
}

/// Memory of one VM, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Proportional set size: private pages plus its share of shared ones.
    pub pss: u64,
    /// Private pages.
    pub private: u64,
}

/// Why an engine could not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not declare this.
    #[error("the {engine} engine does not support {capability:?}")]
    NotSupported {
        /// The engine's name.
        engine: &'static str,
        /// What was asked for.
        capability: Capability,
    },
    /// The VM runs already.
    #[error("VM {0} is already running")]
    AlreadyRunning(VmId),
    /// The VM is not running.
    #[error("VM {0} is not running")]
    NotRunning(VmId),
    /// The VMM could not be started, or ended before it was up.
    #[error("cannot start the VMM: {detail}")]
    Start {
        /// Its last words.
        detail: String,
    },
    /// The VMM refused a command, or did not answer.
    #[error("the VMM refused {command}: {detail}")]
    Control {
        /// The control command.
        command: &'static str,
        /// Its answer.
        detail: String,
    },
    /// The snapshot cannot be used with this engine.
    #[error("the snapshot does not fit: {detail}")]
    Incompatible {
        /// Which part, and why.
        detail: String,
    },
    /// Something on the host failed.
    #[error("{doing}")]
    Host {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl EngineError {
    /// A host failure while `doing` something.
    pub fn host(doing: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Host {
            doing: doing.into(),
            source: source.into(),
        }
    }
}
