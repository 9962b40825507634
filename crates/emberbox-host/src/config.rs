//! How a host is set up, and which engine it gets.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use emberbox_image::Home;
use emberbox_runtime::firecracker::{
    self, CpuTemplate, Firecracker, FirecrackerConfig, Jailing, Programs, Version,
};
use emberbox_runtime::jail::Launcher;
use emberbox_runtime::net::Instance;
use emberbox_runtime::probe::{self, KvmVerdict};
use emberbox_runtime::qemu::{self, Accelerator, Machine, Qemu, QemuConfig};
use emberbox_runtime::{BootImages, Engine};
use serde::{Deserialize, Serialize};

use crate::actor::report;
use crate::artifacts::ArtifactsConfig;
use crate::host::HostError;

/// Which accelerator an operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where a probe VM really boots, else software.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// Which VMM an operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Firecracker where it is installed and a probe VM of its own really boots,
    /// else QEMU.
    #[default]
    Auto,
    /// QEMU.
    Qemu,
    /// Firecracker or nothing.
    Firecracker,
}

/// What runs the VMs.
#[derive(Debug, Clone, Default)]
pub struct EngineChoice {
    /// Which VMM.
    pub kind: EngineKind,
    /// Which accelerator.
    pub accelerator: AcceleratorChoice,
    /// How Firecracker is used, if it is.
    pub firecracker: FirecrackerChoice,
    /// How long a VM may take to show that KVM works.
    pub probe_deadline: ProbeDeadline,
}

/// How long a probe VM may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeDeadline(pub Duration);

impl Default for ProbeDeadline {
    fn default() -> Self {
        Self(probe::DEADLINE)
    }
}

/// How Firecracker is used.
#[derive(Debug, Clone, Default)]
pub struct FirecrackerChoice {
    /// Whether its jailer confines it.
    pub jailer: JailerChoice,
    /// Compiled system call filters instead of the built-in ones.
    pub seccomp_filter: Option<PathBuf>,
    /// What guests see of the processor.
    pub cpu_template: Option<CpuTemplate>,
}

/// Whether Firecracker's jailer is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JailerChoice {
    /// Always.
    #[default]
    On,
    /// Firecracker runs as root, for looking for errors: never with guests that
    /// are not trusted.
    Off,
}

impl FirecrackerChoice {
    /// The programs, and their version; `Err` says why there are none that
    /// can be used.
    pub fn programs(&self) -> Result<(Programs, Version), String> {
        let programs = firecracker::find_programs(match self.jailer {
            JailerChoice::On => Jailing::On,
            JailerChoice::Off => Jailing::Off,
        })?;
        let version = programs.version().map_err(|error| report(&error))?;
        programs.check_static().map_err(|error| report(&error))?;
        Ok((programs, version))
    }
}

/// How a host is set up.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// What this server owns: records, disks, its secret.
    pub data_dir: PathBuf,
    /// Images and seeds, shared by the servers of a machine.
    pub home: Home,
    /// The image whose default shape is seeded first.
    pub default_image: String,
    /// What runs the VMs.
    pub engine: EngineChoice,
    /// How VMM processes enter their jail.
    pub launcher: Launcher,
    /// Private networks guests may reach (CIDR).
    pub allowed_private: Vec<String>,
    /// Network slots kept ready.
    pub slot_pool: usize,
    /// VMs kept ready.
    pub pool: PoolConfig,
    /// Where images are published and fetched from.
    pub artifacts: ArtifactsConfig,
}

/// How many VMs are restored before anybody asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Of each image and shape that is in use, besides what lately was asked
    /// for.
    pub keep: usize,
    /// Of all images and shapes; 0 prepares none.
    pub max_prepared: usize,
    /// Memory that all of them may take, in MiB; an eighth of the machine's
    /// when absent.
    pub max_memory_mib: Option<u32>,
    /// How long an image and shape that nobody asks for stays in use.
    pub idle: Duration,
    /// VMMs that wait for something to restore, with an engine that can.
    pub vmms: usize,
}

impl PoolConfig {
    /// Nothing is prepared.
    pub const OFF: Self = Self {
        keep: 0,
        max_prepared: 0,
        max_memory_mib: None,
        idle: Duration::ZERO,
        vmms: 0,
    };
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            keep: 2,
            max_prepared: 8,
            max_memory_mib: None,
            idle: Duration::from_secs(900),
            vmms: 2,
        }
    }
}

/// The name of this data directory's server on this machine; made once.
pub(crate) fn instance(data_dir: &Path) -> io::Result<Instance> {
    let path = data_dir.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let instance = Instance::from_bits(rand::random());
            let temporary = path.with_extension("tmp");
            fs::write(&temporary, instance.to_string())?;
            fs::rename(temporary, path)?;
            Ok(instance)
        }
        Err(error) => Err(error),
    }
}

/// Opens the engine this machine can run.
pub(crate) async fn engine(
    config: &HostConfig,
    instance: Instance,
    images: &BootImages,
) -> Result<Arc<dyn Engine>, HostError> {
    let choice = &config.engine;
    match (choice.kind, choice.accelerator) {
        (EngineKind::Firecracker, AcceleratorChoice::Tcg) => Err(HostError::Setting(
            "engine.accel is tcg, but Firecracker runs on KVM only".to_owned(),
        )),
        (EngineKind::Firecracker, AcceleratorChoice::Auto | AcceleratorChoice::Kvm) => {
            firecracker_engine(config, instance, images)
                .await?
                .map_err(HostError::NoFirecracker)
        }
        (EngineKind::Auto, AcceleratorChoice::Auto | AcceleratorChoice::Kvm) => {
            match firecracker_engine(config, instance, images).await? {
                Ok(engine) => Ok(engine),
                Err(reason) => {
                    tracing::info!(reason, "Firecracker cannot be used, QEMU is");
                    qemu_engine(config, instance, images).await
                }
            }
        }
        (EngineKind::Auto, AcceleratorChoice::Tcg) | (EngineKind::Qemu, _) => {
            qemu_engine(config, instance, images).await
        }
    }
}

/// Firecracker, or why it cannot be used.
async fn firecracker_engine(
    config: &HostConfig,
    instance: Instance,
    images: &BootImages,
) -> Result<Result<Arc<dyn Engine>, String>, HostError> {
    let (choice, deadline) = (&config.engine.firecracker, config.engine.probe_deadline);
    let (programs, version) = match choice.programs() {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    let found = (&programs, &version);
    let verdict = firecracker_verdict(&config.home, found, images, deadline).await;
    if !verdict.usable {
        return Ok(Err(verdict.reason));
    }
    let engine = Firecracker::new(FirecrackerConfig {
        programs,
        seccomp_filter: choice.seccomp_filter.clone(),
        cpu_template: choice.cpu_template,
        launcher: config.launcher.clone(),
        instance: instance.to_string(),
    });
    Ok(Ok(Arc::new(engine.map_err(HostError::start)?)))
}

async fn qemu_engine(
    config: &HostConfig,
    instance: Instance,
    images: &BootImages,
) -> Result<Arc<dyn Engine>, HostError> {
    let program = qemu::find_program().ok_or(HostError::NoEngine)?;
    let wanted = config.engine.accelerator;
    let accelerator = match wanted {
        AcceleratorChoice::Tcg => Accelerator::TCG,
        AcceleratorChoice::Kvm | AcceleratorChoice::Auto => {
            let deadline = config.engine.probe_deadline;
            let verdict = kvm_verdict(&config.home, &program, images, deadline).await?;
            match (verdict.usable, wanted) {
                (true, _) => Accelerator::Kvm,
                (false, AcceleratorChoice::Kvm) => return Err(HostError::NoKvm(verdict.reason)),
                (false, AcceleratorChoice::Auto | AcceleratorChoice::Tcg) => {
                    tracing::info!(reason = verdict.reason, "KVM is not usable, emulating");
                    Accelerator::TCG
                }
            }
        }
    };
    let engine = Qemu::new(QemuConfig {
        program,
        accelerator,
        machine: Machine::Pc,
        launcher: config.launcher.clone(),
        instance: instance.to_string(),
    });
    Ok(Arc::new(engine.map_err(HostError::start)?))
}

/// A verdict with what it is true for.
#[derive(Debug, Serialize, Deserialize)]
struct CachedVerdict {
    #[serde(flatten)]
    subject: Subject,
    verdict: KvmVerdict,
}

/// What was probed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    boot_id: String,
    kernel: PathBuf,
    initramfs: PathBuf,
    /// The VMM's version.
    vmm: String,
    /// How long it had.
    #[serde(default)]
    deadline_sec: u64,
}

impl Subject {
    fn new(images: &BootImages, vmm: String, deadline: ProbeDeadline) -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Self {
            boot_id: boot_id.unwrap_or_default(),
            kernel: images.kernel.clone(),
            initramfs: images.initramfs.clone(),
            vmm,
            deadline_sec: deadline.0.as_secs(),
        }
    }
}

/// Whether KVM works here with this kernel; probed once per boot of the
/// machine, guest images and QEMU, and remembered in the home.
pub async fn kvm_verdict(
    home: &Home,
    qemu_program: &Path,
    images: &BootImages,
    deadline: ProbeDeadline,
) -> Result<KvmVerdict, HostError> {
    let version = qemu::version(qemu_program).map_err(HostError::start)?;
    let subject = Subject::new(images, version, deadline);
    let file = home.probe().join("kvm.json");
    let probe = probe::kvm(qemu_program, images, deadline.0);
    Ok(remembered(&file, subject, probe).await)
}

/// The same for Firecracker.
pub async fn firecracker_verdict(
    home: &Home,
    (programs, version): (&Programs, &Version),
    images: &BootImages,
    deadline: ProbeDeadline,
) -> KvmVerdict {
    let program = programs.firecracker.display();
    let subject = Subject::new(images, format!("{version} {program}"), deadline);
    let file = home.probe().join("firecracker.json");
    let probe = probe::firecracker(programs, images, deadline.0);
    remembered(&file, subject, probe).await
}

/// What was found out about this very subject, or is now. That the device
/// cannot be opened is mended without a reboot, and seen at once.
async fn remembered(
    file: &Path,
    subject: Subject,
    probe: impl Future<Output = KvmVerdict>,
) -> KvmVerdict {
    if let Err(verdict) = probe::device() {
        return verdict;
    }
    let cached = fs::read(file).ok();
    let cached = cached.and_then(|bytes| serde_json::from_slice::<CachedVerdict>(&bytes).ok());
    if let Some(cached) = cached.filter(|cached| cached.subject == subject) {
        return cached.verdict;
    }
    let verdict = probe.await;
    let cached = CachedVerdict {
        subject,
        verdict: verdict.clone(),
    };
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let stored = serde_json::to_vec_pretty(&cached)
        .map_err(io::Error::other)
        .and_then(|bytes| fs::write(&temporary, bytes))
        .and_then(|()| fs::rename(&temporary, file));
    if let Err(error) = stored {
        tracing::warn!(%error, "the probe's verdict cannot be remembered");
    }
    verdict
}
