//! Kernel modules: which ones a guest needs, and in which order they load.
//!
//! The dependencies are read from the modules themselves, so that an unpacked
//! package is enough and no tool of the host has to understand it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use crate::error::ImageError;

/// Without these a guest finds no disk, no network or no root. `virtio_mmio`
/// serves Firecracker, `virtio_pci` QEMU.
pub(crate) const REQUIRED: [&str; 7] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "erofs",
    "ext4",
    "overlay",
];

/// Loaded where the kernel has them. `crc32c_generic` is named by ext4 and
/// libcrc32c as an algorithm only; newer kernels have it built in.
pub(crate) const WANTED: [&str; 5] = [
    "crc32c_generic",
    "virtio_rng",
    "vsock",
    "vmw_vsock_virtio_transport",
    "vmgenid",
];

/// A kernel module of a guest, as it goes into the initramfs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// With underscores, as the kernel calls it.
    pub(crate) name: String,
    /// The plain ELF file.
    pub(crate) bytes: Vec<u8>,
}

/// What a kernel's modules directory offers.
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Reads `lib/modules/RELEASE`.
    pub(crate) fn open(dir: &Path) -> Result<Self, ImageError> {
        let mut files = BTreeMap::new();
        index(dir, &mut files)?;
        let builtin = dir.join("modules.builtin");
        let builtin = match fs::read_to_string(&builtin) {
            Ok(text) => text.lines().filter_map(module_name).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(ImageError::io("read", &builtin)(error)),
        };
        Ok(Self { files, builtin })
    }

    /// The required modules that are neither here nor in the kernel itself.
    pub(crate) fn lacking(&self) -> Vec<&'static str> {
        REQUIRED
            .into_iter()
            .filter(|name| !self.files.contains_key(*name) && !self.builtin.contains(*name))
            .collect()
    }

    /// All a guest needs, each after those it depends on.
    pub(crate) fn load_order(&self) -> Result<Vec<Module>, ImageError> {
        let lacking = self.lacking();
        if !lacking.is_empty() {
            return Err(ImageError::Kernel {
                detail: format!("it has no {}", lacking.join(", no ")),
            });
        }
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in WANTED.into_iter().chain(REQUIRED) {
            self.visit(name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    /// Depth first; the kernel's build refuses cycles among modules.
    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), ImageError> {
        let Some(path) = self.files.get(name) else {
            return Ok(());
        };
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let bytes = read_plain(path)?;
        for dependency in dependencies(&bytes, path)? {
            self.visit(&dependency, seen, order)?;
        }
        order.push(Module {
            name: name.to_owned(),
            bytes,
        });
        Ok(())
    }
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ImageError> {
    for entry in fs::read_dir(dir).map_err(ImageError::io("list", dir))? {
        let entry = entry.map_err(ImageError::io("list", dir))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .map_err(ImageError::io("look at", &path))?;
        // `build` and `source` are links out of the tree.
        if kind.is_dir() {
            index(&path, files)?;
        } else if kind.is_file()
            && let Some(name) = path.to_str().and_then(module_name)
        {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/drivers/char/hw_random/virtio-rng.ko.xz` is `virtio_rng`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, end) = file.split_once(".ko")?;
    matches!(end, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

fn read_plain(path: &Path) -> Result<Vec<u8>, ImageError> {
    /// A module is a few hundred kilobytes; this stops a bomb.
    const MODULE_BYTES: u64 = 64 << 20;
    let file = fs::File::open(path).map_err(ImageError::io("open", path))?;
    let mut bytes = Vec::new();
    let read = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => liblzma::read::XzDecoder::new(file)
            .take(MODULE_BYTES)
            .read_to_end(&mut bytes),
        Some("zst") => zstd::Decoder::new(file)
            .and_then(|decoder| decoder.take(MODULE_BYTES).read_to_end(&mut bytes)),
        Some("gz") => Err(std::io::Error::other(
            "modules compressed with gzip are not supported; unpack them",
        )),
        Some(_) | None => file.take(MODULE_BYTES).read_to_end(&mut bytes),
    };
    read.map_err(ImageError::io("read", path))?;
    Ok(bytes)
}

/// What `.modinfo` names under `depends` and before itself under `softdep`.
fn dependencies(module: &[u8], path: &Path) -> Result<Vec<String>, ImageError> {
    let damaged = |error: object::read::Error| ImageError::Kernel {
        detail: format!("{} is no kernel module: {error}", path.display()),
    };
    let file = object::File::parse(module).map_err(damaged)?;
    let Some(section) = file.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    let info = section.data().map_err(damaged)?;
    let mut names = Vec::new();
    for entry in info.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        if let Some(list) = entry.strip_prefix("depends=") {
            names.extend(list.split(',').map(str::to_owned));
        } else if let Some(list) = entry.strip_prefix("softdep=pre:") {
            let before = list.split_whitespace();
            names.extend(
                before
                    .take_while(|word| *word != "post:")
                    .map(str::to_owned),
            );
        }
    }
    names.retain(|name| !name.is_empty());
    Ok(names.iter().map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
pub(crate) mod tests;
