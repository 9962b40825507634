//! How a host is set up, and which engine it gets.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use emberbox_image::Home;
use emberbox_runtime::BootImages;
use emberbox_runtime::jail::Launcher;
use emberbox_runtime::net::Instance;
use emberbox_runtime::probe::{self, KvmVerdict};
use emberbox_runtime::qemu::{self, Accelerator, Machine, Qemu, QemuConfig};
use serde::{Deserialize, Serialize};

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

/// How a host is set up.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// What this server owns: records, disks, its secret.
    pub data_dir: PathBuf,
    /// Images and seeds, shared by the servers of a machine.
    pub home: Home,
    /// The image whose default shape is seeded first.
    pub default_image: String,
    /// Which accelerator.
    pub accelerator: AcceleratorChoice,
    /// How VMM processes enter their jail.
    pub launcher: Launcher,
    /// Private networks guests may reach (CIDR).
    pub allowed_private: Vec<String>,
    /// Network slots kept ready.
    pub slot_pool: usize,
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
) -> Result<Arc<Qemu>, HostError> {
    let program = qemu::find_program().ok_or(HostError::NoEngine)?;
    let accelerator = match config.accelerator {
        AcceleratorChoice::Tcg => Accelerator::TCG,
        AcceleratorChoice::Kvm | AcceleratorChoice::Auto => {
            let verdict = kvm_verdict(&config.home, &program, images).await?;
            match (verdict.usable, config.accelerator) {
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
    boot_id: String,
    kernel: PathBuf,
    initramfs: PathBuf,
    qemu: String,
    verdict: KvmVerdict,
}

/// Whether KVM works here with this kernel; probed once per boot of the
/// machine, guest images and QEMU, and remembered in the home.
pub async fn kvm_verdict(
    home: &Home,
    qemu_program: &Path,
    images: &BootImages,
) -> Result<KvmVerdict, HostError> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let version = qemu::version(qemu_program).map_err(HostError::start)?;
    let file = home.probe().join("kvm.json");
    if let Some(cached) = fs::read(&file)
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
    {
        let cached: CachedVerdict = cached;
        let same = cached.boot_id == boot_id
            && cached.kernel == images.kernel
            && cached.initramfs == images.initramfs
            && cached.qemu == version;
        if same {
            return Ok(cached.verdict);
        }
    }
    let verdict = probe::kvm(qemu_program, images).await;
    let cached = CachedVerdict {
        boot_id,
        kernel: images.kernel.clone(),
        initramfs: images.initramfs.clone(),
        qemu: version,
        verdict: verdict.clone(),
    };
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let stored = serde_json::to_vec_pretty(&cached)
        .map_err(io::Error::other)
        .and_then(|bytes| fs::write(&temporary, bytes))
        .and_then(|()| fs::rename(&temporary, &file));
    if let Err(error) = stored {
        tracing::warn!(%error, "the probe's verdict cannot be remembered");
    }
    Ok(verdict)
}
