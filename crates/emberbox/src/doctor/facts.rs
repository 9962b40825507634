//! Looking at the machine. Nothing here is judged, and nothing is changed but
//! the remembered verdict of a probe VM.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use emberbox_host::{AcceleratorChoice, EngineKind, JailerChoice};
use emberbox_image::{GuestImages, Home};
use emberbox_runtime::cgroup::CgroupTree;
use emberbox_runtime::disk::{self, CloneMethod};
use emberbox_runtime::{BootImages, probe, qemu};
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// What a machine is, as far as sandboxes care.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Facts {
    /// Of this binary.
    pub(crate) version: String,
    pub(crate) root: bool,
    /// `engine.kind` of the configuration.
    pub(crate) engine_wanted: EngineKind,
    /// `engine.accel` of the configuration.
    pub(crate) accelerator_wanted: AcceleratorChoice,
    pub(crate) kvm: Kvm,
    /// Its version.
    pub(crate) qemu: Option<String>,
    pub(crate) firecracker: Firecracker,
    pub(crate) home: HomeFacts,
    pub(crate) templates: Vec<Template>,
    pub(crate) seeds: Vec<Seed>,
    /// `v2`, `v1` or `none`.
    pub(crate) cgroups: String,
    pub(crate) memory: Memory,
    pub(crate) programs: Vec<Program>,
}

/// Whether KVM works.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Kvm {
    /// `/dev/kvm` exists.
    pub(crate) device: bool,
    /// A probe VM booted, or not; unknown when there is nothing to boot yet.
    pub(crate) usable: Option<bool>,
    pub(crate) reason: String,
}

/// Whether Firecracker can be used.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Firecracker {
    /// Its version, if it and its jailer are there and known.
    pub(crate) version: Option<String>,
    /// A probe VM of its own booted, or not; unknown when it was not tried.
    pub(crate) usable: Option<bool>,
    pub(crate) reason: String,
    /// `engine.jailer` of the configuration.
    pub(crate) jailer: JailerChoice,
}

/// Where images and seeds live.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HomeFacts {
    pub(crate) path: PathBuf,
    pub(crate) exists: bool,
    /// Whether its file system shares blocks between copies; unknown when
    /// nothing can be written there.
    pub(crate) reflink: Option<bool>,
    /// Free for us, in bytes; of the closest directory that exists.
    pub(crate) free_bytes: Option<u64>,
}

/// A template that can be booted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) kernel: PathBuf,
}

/// A memory snapshot that sandboxes are restored from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seed {
    /// The start of its key.
    pub(crate) key: String,
    /// For example `1c-1024m-3072d`.
    pub(crate) shape: String,
    /// What took it, for example `qemu 7.2.22 tcg`.
    pub(crate) engine: String,
}

/// In bytes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    pub(crate) total_bytes: u64,
    pub(crate) available_bytes: u64,
}

/// A program that is needed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Program {
    pub(crate) program: String,
    /// The Debian and Ubuntu package it is in.
    pub(crate) package: String,
    pub(crate) why: String,
    pub(crate) found: bool,
}

/// What is needed where Firecracker is not used.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Programs the engine needs, beside those that make images.
const ENGINE_PROGRAMS: [(&str, &str, &str); 2] = [
    (QEMU, "qemu-system-x86", "runs the VMs"),
    (
        "nft",
        "nftables",
        "keeps sandboxes from each other and from this machine",
    ),
];

/// Looks at everything. Boots a probe VM when KVM's verdict is not known yet.
pub(crate) async fn gather(config: &Config) -> Result<Facts> {
    let path = Home::default_path();
    let exists = path.is_dir();
    let home = if exists {
        Some(Home::open(&path).context("cannot open EMBERBOX_HOME")?)
    } else {
        None
    };
    let images = match &home {
        Some(home) => templates(home)?,
        None => Vec::new(),
    };
    Ok(Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        root: rustix::process::geteuid().is_root(),
        engine_wanted: config.engine.kind,
        accelerator_wanted: config.engine.accel,
        kvm: kvm(config, home.as_ref(), images.first()).await?,
        qemu: qemu::find_program().and_then(|program| qemu::version(&program).ok()),
        firecracker: firecracker(config, home.as_ref(), images.first()).await?,
        home: HomeFacts {
            exists,
            reflink: home.as_ref().and_then(|home| reflink(home.root())),
            free_bytes: free_bytes(&path),
            path,
        },
        templates: images
            .into_iter()
            .map(|images| Template {
                name: images.template,
                kernel: images.kernel,
            })
            .collect(),
        seeds: home.as_ref().map(seeds).unwrap_or_default(),
        cgroups: CgroupTree::detect("doctor").version().to_owned(),
        memory: memory()?,
        programs: programs(),
    })
}

fn templates(home: &Home) -> Result<Vec<GuestImages>> {
    let mut found = Vec::new();
    for name in emberbox_image::names(home)? {
        found.extend(emberbox_image::images(home, &name)?);
    }
    Ok(found)
}

async fn kvm(config: &Config, home: Option<&Home>, images: Option<&GuestImages>) -> Result<Kvm> {
    let device = Path::new("/dev/kvm").exists();
    let unknown = |reason: &str| Kvm {
        device,
        usable: None,
        reason: reason.to_owned(),
    };
    if !device {
        return Ok(Kvm {
            device,
            usable: Some(false),
            reason: probe::device()
                .err()
                .map_or_else(String::new, |verdict| verdict.reason),
        });
    }
    let (Some(home), Some(images)) = (home, images) else {
        return Ok(unknown(
            "/dev/kvm exists; whether it works shows once a guest can be booted",
        ));
    };
    let Some(program) = qemu::find_program() else {
        return Ok(unknown(
            "/dev/kvm exists; whether it works shows once QEMU is installed",
        ));
    };
    let images = boot_images(images);
    let deadline = config.engine.choice().probe_deadline;
    let verdict = emberbox_host::config::kvm_verdict(home, &program, &images, deadline).await;
    Ok(match verdict {
        Ok(verdict) => Kvm {
            device,
            usable: Some(verdict.usable),
            reason: verdict.reason,
        },
        // A QEMU that cannot be run says nothing about KVM.
        Err(error) => unknown(&format!("{} cannot be used: {error}", program.display())),
    })
}

async fn firecracker(
    config: &Config,
    home: Option<&Home>,
    images: Option<&GuestImages>,
) -> Result<Firecracker> {
    let choice = config.engine.choice();
    let facts = |version: Option<String>, usable, reason: &str| Firecracker {
        version,
        usable,
        reason: reason.to_owned(),
        jailer: config.engine.jailer,
    };
    let (programs, version) = match choice.firecracker.programs() {
        Ok(found) => found,
        Err(reason) => return Ok(facts(None, Some(false), &reason)),
    };
    let said = Some(version.to_string());
    let (Some(home), Some(images)) = (home, images) else {
        let reason = "whether it works shows once a guest can be booted";
        return Ok(facts(said, None, reason));
    };
    let images = boot_images(images);
    let (found, deadline) = ((&programs, &version), choice.probe_deadline);
    let verdict = emberbox_host::config::firecracker_verdict(home, found, &images, deadline).await;
    Ok(facts(said, Some(verdict.usable), &verdict.reason))
}

fn boot_images(images: &GuestImages) -> BootImages {
    BootImages {
        kernel: images.kernel.clone(),
        initramfs: images.initramfs.clone(),
        layers: images.layers.clone(),
    }
}

/// Tries it with one small file: file systems of one name differ by how they
/// were made.
pub(super) fn reflink(home: &Path) -> Option<bool> {
    let directory = tempfile::Builder::new()
        .prefix(".doctor-")
        .tempdir_in(home)
        .ok()?;
    let source = directory.path().join("source");
    fs::write(&source, [1; 4096]).ok()?;
    match disk::clone(&source, &directory.path().join("copy")).ok()? {
        CloneMethod::Reflink => Some(true),
        CloneMethod::SparseCopy => Some(false),
    }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// What is read of a seed's manifest.
#[derive(Deserialize)]
struct SeedManifest {
    engine: SeedEngine,
    shape: emberbox_core::Shape,
}

#[derive(Deserialize)]
struct SeedEngine {
    name: String,
    version: String,
    accelerator: String,
}

fn seeds(home: &Home) -> Vec<Seed> {
    let Ok(entries) = fs::read_dir(home.seeds()) else {
        return Vec::new();
    };
    let mut seeds: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let manifest = fs::read(entry.path().join("manifest.json")).ok()?;
            let manifest: SeedManifest = serde_json::from_slice(&manifest).ok()?;
            let engine = manifest.engine;
            Some(Seed {
                key: entry
                    .file_name()
                    .to_string_lossy()
                    .chars()
                    .take(8)
                    .collect(),
                shape: manifest.shape.to_string(),
                engine: format!("{} {} {}", engine.name, engine.version, engine.accelerator),
            })
        })
        .collect();
    seeds.sort_by(|a, b| (&a.shape, &a.key).cmp(&(&b.shape, &b.key)));
    seeds
}

fn memory() -> Result<Memory> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        // proc(5): the unit is KiB.
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    Ok(Memory {
        total_bytes: bytes("MemTotal:").context("/proc/meminfo has no MemTotal")?,
        available_bytes: bytes("MemAvailable:").context("/proc/meminfo has no MemAvailable")?,
    })
}

fn programs() -> Vec<Program> {
    let missing = emberbox_image::missing();
    let for_images = emberbox_image::requirements()
        .iter()
        .map(|requirement| Program {
            program: requirement.program.to_owned(),
            package: requirement.package.to_owned(),
            why: requirement.why.to_owned(),
            found: !missing.contains(requirement),
        });
    let for_the_engine = ENGINE_PROGRAMS
        .iter()
        .map(|&(program, package, why)| Program {
            program: program.to_owned(),
            package: package.to_owned(),
            why: why.to_owned(),
            found: on_path(program),
        });
    for_the_engine.chain(for_images).collect()
}

/// Whether a program is found, also where only root's `PATH` looks.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory: PathBuf| directory.join(program).is_file())
}

#[cfg(test)]
pub(crate) mod sample;
