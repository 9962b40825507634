//! The guest kernel.
//!
//! Decides: which kernel package of the host's distribution is used, and what
//! of it is kept: the bzImage and the modules a guest loads. The package is
//! unpacked, never installed. Which version was taken is remembered; it stays
//! until somebody asks for a newer one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::apt::Apt;
use crate::digest;
use crate::error::ImageError;
use crate::home::{Home, Workshop};
use crate::module::{self, Modules};
use crate::progress::Progress;
use crate::record::{read_json, to_json};
use crate::sources::Distribution;

/// Raised when what is kept of a kernel changes its form.
const FORMAT: &str = "kernel 1";

const BZIMAGE: &str = "bzImage";
const MANIFEST: &str = "kernel.json";

/// Which kernel guests run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelChoice {
    /// The distribution's kernel for virtual machines.
    #[default]
    Distribution,
    /// An operator's own.
    Own {
        /// A bzImage.
        image: PathBuf,
        /// Its `lib/modules/RELEASE`; none if all it needs is built in.
        modules: Option<PathBuf>,
    },
}

/// A kernel as it lies in the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    dir: PathBuf,
    manifest: Manifest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// Where it came from, for people.
    origin: String,
    /// Over the bzImage and all modules.
    digest: String,
    /// File names beside the bzImage, in the order they load.
    modules: Vec<String>,
}

/// Which kernel directory was taken for a distribution.
#[derive(Debug, Serialize, Deserialize)]
struct Resolved {
    kernel: String,
}

impl Kernel {
    pub(crate) fn bzimage(&self) -> PathBuf {
        self.dir.join(BZIMAGE)
    }

    pub(crate) fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// In the order they load.
    pub(crate) fn modules(&self) -> impl Iterator<Item = PathBuf> {
        self.manifest.modules.iter().map(|name| self.dir.join(name))
    }

    /// The kernel called `name`, if it is in the home.
    fn open(home: &Home, name: &str) -> Result<Option<Self>, ImageError> {
        let dir = home.kernels().join(name);
        let manifest = read_json(&dir.join(MANIFEST))?;
        Ok(manifest.map(|manifest| Self { dir, manifest }))
    }
}

/// Whether a build may use what an earlier one found on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// What is there is good.
    Cached,
    /// Ask the distribution again.
    Newest,
}

/// The chosen kernel; made if it is not in the home.
pub(crate) fn ensure(
    home: &Home,
    choice: &KernelChoice,
    freshness: Freshness,
    progress: &dyn Progress,
) -> Result<Kernel, ImageError> {
    match choice {
        KernelChoice::Distribution => from_distribution(home, freshness, progress),
        KernelChoice::Own { image, modules } => own(home, image, modules.as_deref(), progress),
    }
}

/// What is taken from a kernel, as part of its name.
fn recipe() -> String {
    let names = module::WANTED.into_iter().chain(module::REQUIRED);
    digest::short(&digest::key([FORMAT].into_iter().chain(names))).to_owned()
}

fn from_distribution(
    home: &Home,
    freshness: Freshness,
    progress: &dyn Progress,
) -> Result<Kernel, ImageError> {
    let distribution = Distribution::of_host()?;
    let pointer = format!(
        "{}-{}-{}.json",
        distribution.id,
        distribution.codename,
        recipe()
    );
    let remembered = || -> Result<Option<Kernel>, ImageError> {
        match read_json::<Resolved>(&home.kernels().join(&pointer))? {
            Some(resolved) => Kernel::open(home, &resolved.kernel),
            None => Ok(None),
        }
    };
    if freshness == Freshness::Cached
        && let Some(kernel) = remembered()?
    {
        return Ok(kernel);
    }
    let workshop = home.workshop("kernels", progress)?;
    // Another process may have made it while this one waited.
    if freshness == Freshness::Cached
        && let Some(kernel) = remembered()?
    {
        return Ok(kernel);
    }
    let packages = home.workshop("packages", progress)?;

    progress.step("finding the guest kernel");
    let apt = Apt::update(&packages.temporary_dir("kernel")?, &distribution)?;
    let package = kernel_package(&apt, &distribution)?;
    let version = version_of(&apt, &package)?;
    let name = format!("{package}_{version}_{}", recipe()).replace([':', '~', '/'], "-");
    let kernel = match Kernel::open(home, &name)? {
        Some(kernel) => kernel,
        None => {
            progress.step("downloading the guest kernel");
            let tree = packages.temporary_dir("kernel-tree")?;
            unpack(&apt, &package, &tree)?;
            let parts = Parts {
                image: &only_child(&tree.join("boot"), "vmlinuz-")?,
                modules: Some(&modules_dir(&tree)?),
                origin: format!("{package} {version}"),
            };
            keep(home, &workshop, &name, &parts)?
        }
    };
    let resolved = to_json(&Resolved { kernel: name });
    workshop.publish_bytes(&pointer, &resolved)?;
    Ok(kernel)
}

/// The package that holds the kernel; the one people install only names it.
fn kernel_package(apt: &Apt, distribution: &Distribution) -> Result<String, ImageError> {
    let named = match distribution.id.as_str() {
        "debian" => "linux-image-cloud-amd64",
        "ubuntu" => "linux-image-virtual",
        other => {
            return Err(ImageError::Distribution {
                detail: format!("no guest kernel is known for {other}; set guest.kernel"),
            });
        }
    };
    apt.depends(named)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .ok_or_else(|| ImageError::Kernel {
            detail: format!("{named} depends on no kernel"),
        })
}

fn version_of(apt: &Apt, package: &str) -> Result<String, ImageError> {
    apt.version(package)?.ok_or_else(|| ImageError::Kernel {
        detail: format!("{package} cannot be downloaded"),
    })
}

/// Unpacks the kernel and, where the distribution splits them off, its
/// modules; the large package of rare ones only if it has to be.
fn unpack(apt: &Apt, package: &str, tree: &Path) -> Result<(), ImageError> {
    apt.unpack(package, tree)?;
    for split in ["linux-modules-", "linux-modules-extra-"] {
        let lacking = match modules_dir(tree) {
            Ok(dir) => !Modules::open(&dir)?.lacking().is_empty(),
            Err(_) => true,
        };
        let package = package.replace("linux-image-", split);
        if lacking && apt.version(&package)?.is_some() {
            apt.unpack(&package, tree)?;
        }
    }
    Ok(())
}

fn modules_dir(tree: &Path) -> Result<PathBuf, ImageError> {
    only_child(&tree.join("lib/modules"), "")
        .or_else(|_| only_child(&tree.join("usr/lib/modules"), ""))
}

fn only_child(dir: &Path, prefix: &str) -> Result<PathBuf, ImageError> {
    fs::read_dir(dir)
        .map_err(ImageError::io("list", dir))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .ok_or_else(|| ImageError::Kernel {
            detail: format!("its package has no {prefix}* in {}", dir.display()),
        })
}

fn own(
    home: &Home,
    image: &Path,
    modules: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Kernel, ImageError> {
    let mut inputs = vec![digest::of_file(image).map_err(ImageError::io("read", image))?];
    if let Some(dir) = modules {
        inputs.push(fingerprint(dir)?);
    }
    let name = format!("own_{}_{}", digest::short(&digest::key(inputs)), recipe());
    if let Some(kernel) = Kernel::open(home, &name)? {
        return Ok(kernel);
    }
    let workshop = home.workshop("kernels", progress)?;
    if let Some(kernel) = Kernel::open(home, &name)? {
        return Ok(kernel);
    }
    let parts = Parts {
        image,
        modules,
        origin: image.display().to_string(),
    };
    keep(home, &workshop, &name, &parts)
}

/// Tells whether a modules directory is still the same without reading it:
/// both files are written anew by every installation.
fn fingerprint(dir: &Path) -> Result<String, ImageError> {
    let mut parts = vec![dir.display().to_string()];
    for file in ["modules.order", "modules.dep"] {
        if let Ok(found) = fs::metadata(dir.join(file)) {
            parts.push(format!(
                "{file} {} {:?}",
                found.len(),
                found.modified().ok()
            ));
        }
    }
    Ok(digest::key(parts))
}

struct Parts<'a> {
    image: &'a Path,
    modules: Option<&'a Path>,
    origin: String,
}

fn keep(
    home: &Home,
    workshop: &Workshop,
    name: &str,
    parts: &Parts<'_>,
) -> Result<Kernel, ImageError> {
    let image = fs::read(parts.image).map_err(ImageError::io("read", parts.image))?;
    check_bzimage(&image, parts.image)?;
    let modules = match parts.modules {
        Some(dir) => Modules::open(dir)?.load_order()?,
        None => Vec::new(),
    };
    let dir = workshop.temporary_dir(name)?;
    let put = |file: &str, bytes: &[u8]| {
        let path = dir.join(file);
        fs::write(&path, bytes).map_err(ImageError::io("write", &path))
    };
    put(BZIMAGE, &image)?;
    for module in &modules {
        put(&format!("{}.ko", module.name), &module.bytes)?;
    }
    let contents = modules.iter().map(|module| module.bytes.as_slice());
    let manifest = Manifest {
        origin: parts.origin.clone(),
        digest: digest::key([image.as_slice()].into_iter().chain(contents)),
        modules: modules
            .iter()
            .map(|module| format!("{}.ko", module.name))
            .collect(),
    };
    put(MANIFEST, &to_json(&manifest))?;
    workshop.publish(&dir, name)?;
    Kernel::open(home, name)?.ok_or_else(|| ImageError::Kernel {
        detail: format!("{name} vanished from the home"),
    })
}

/// The boot protocol's magic, at the offset Documentation/arch/x86/boot.rst
/// gives for it.
fn check_bzimage(image: &[u8], path: &Path) -> Result<(), ImageError> {
    const MAGIC: &[u8] = b"HdrS";
    const AT: usize = 0x202;
    if image.get(AT..AT + MAGIC.len()) == Some(MAGIC) {
        return Ok(());
    }
    Err(ImageError::Kernel {
        detail: format!("{} is not a bzImage", path.display()),
    })
}

#[cfg(test)]
mod tests;
