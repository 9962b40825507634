//! Templates: which files boot under which name.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::base;
use crate::built;
use crate::digest;
use crate::error::ImageError;
use crate::home::Home;
use crate::initramfs;
use crate::kernel::{self, Freshness, KernelChoice};
use crate::progress::Progress;
use crate::record::{read_json, to_json};

/// Longest template name: the longest file name, less what is added to it.
const NAME_BYTES: usize = 200;

/// The read-only files a guest boots from. They never change; an update gives
/// new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestImages {
    /// The template's name.
    pub template: String,
    /// A bzImage.
    pub kernel: PathBuf,
    /// The agent and the kernel's modules.
    pub initramfs: PathBuf,
    /// erofs images, lowest first.
    pub layers: Vec<PathBuf>,
    /// What runs in it from the beginning.
    pub app: Option<TemplateApp>,
    /// Over the content of all of them, in hex: equal digests boot the same
    /// guest, so a seed of one is a seed of the other.
    pub digest: String,
}

/// What a template runs for its user: commands for the guest's shell, as root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateApp {
    /// Runs it.
    pub start: String,
    /// Exits with 0 once it is ready.
    pub ready: Option<String>,
}

/// What [`ensure`] is to make.
#[derive(Debug, Clone, Copy)]
pub struct EnsureRequest<'a> {
    /// The template; only [`crate::BASE_TEMPLATE`] can be made from nothing.
    pub template: &'a str,
    /// The static agent binary.
    pub agent: &'a [u8],
    /// The kernel it boots.
    pub kernel: &'a KernelChoice,
    /// Whether guests trust the certificate authorities an operator made this
    /// host trust. Needed behind a proxy that opens TLS.
    pub trust_host_ca: bool,
    /// Whether to ask the distribution for newer packages than those that are
    /// there.
    pub refresh: bool,
}

/// `rootfs/NAME.json`. Paths are relative to the home, so that it can move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    #[serde(flatten)]
    boot: Boot,
    pub(crate) layers: Vec<PathBuf>,
    /// Variables of every process, besides what the layers say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<TemplateApp>,
}

/// What boots below the layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Boot {
    /// Files of its own.
    Own {
        kernel: PathBuf,
        initramfs: PathBuf,
        digest: String,
    },
    /// Those of this template.
    Like { boot: String },
}

impl Manifest {
    /// One that a build made; its name is the caller's to give.
    pub(crate) fn built(
        layers: Vec<PathBuf>,
        env: BTreeMap<String, String>,
        app: Option<TemplateApp>,
        boot: &str,
    ) -> Self {
        Self {
            name: String::new(),
            boot: Boot::Like {
                boot: boot.to_owned(),
            },
            layers,
            env,
            app,
        }
    }

    /// The template whose kernel and agent it boots, if they are not its own.
    pub(crate) fn boots_like(&self) -> Option<&str> {
        match &self.boot {
            Boot::Own { .. } => None,
            Boot::Like { boot } => Some(boot),
        }
    }

    /// Every file it names, relative to the home.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = self.layers.clone();
        match &self.boot {
            Boot::Own {
                kernel, initramfs, ..
            } => files.extend([kernel.clone(), initramfs.clone()]),
            Boot::Like { .. } => {}
        }
        files
    }

    /// The names of its layers' files.
    pub(crate) fn layer_files(&self) -> impl Iterator<Item = String> {
        let files = self.layers.iter().filter_map(|path| path.file_name());
        files.map(|file| file.to_string_lossy().into_owned())
    }
}

/// The manifest of a template; any name may be asked for.
pub(crate) fn manifest(home: &Home, template: &str) -> Result<Option<Manifest>, ImageError> {
    if !is_name(template) {
        return Ok(None);
    }
    read_json(&home.rootfs().join(format!("{template}.json")))
}

/// The files of a template, if it is complete in this home. Reads one small
/// file and builds nothing; any `template` may be asked for.
pub fn images(home: &Home, template: &str) -> Result<Option<GuestImages>, ImageError> {
    let Some(found) = manifest(home, template)? else {
        return Ok(None);
    };
    let (kernel, initramfs, digest) = match found.boot {
        Boot::Own {
            kernel,
            initramfs,
            digest,
        } => (kernel, initramfs, digest),
        Boot::Like { boot } => match manifest(home, &boot)?.map(|manifest| manifest.boot) {
            Some(Boot::Own {
                kernel, initramfs, ..
            }) => {
                let layers = found.layers.iter().map(|path| path.to_string_lossy());
                let app = to_json(&found.app);
                let app = String::from_utf8_lossy(&app);
                let boot = [kernel.to_string_lossy(), initramfs.to_string_lossy(), app];
                let parts = boot.into_iter().chain(layers);
                let digest = digest::key(parts.map(|part| part.into_owned()));
                (kernel, initramfs, digest)
            }
            Some(Boot::Like { .. }) | None => return Ok(None),
        },
    };
    let images = GuestImages {
        template: found.name,
        kernel: home.root().join(kernel),
        initramfs: home.root().join(initramfs),
        layers: found
            .layers
            .iter()
            .map(|layer| home.root().join(layer))
            .collect(),
        app: found.app,
        digest,
    };
    let complete = [&images.kernel, &images.initramfs]
        .into_iter()
        .chain(&images.layers)
        .all(|file| file.is_file());
    Ok(complete.then_some(images))
}

/// The names of all templates in this home, sorted.
pub fn names(home: &Home) -> Result<Vec<String>, ImageError> {
    let dir = home.rootfs();
    let mut names: Vec<_> = fs::read_dir(&dir)
        .map_err(ImageError::io("list", &dir))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".json").map(str::to_owned))
        .filter(|name| is_name(name))
        .collect();
    names.sort();
    Ok(names)
}

/// The files of a template, made where they are missing. Takes milliseconds
/// when nothing is; several processes may call it at once. A failure leaves
/// the template as it was.
pub fn ensure(
    home: &Home,
    request: &EnsureRequest<'_>,
    progress: &dyn Progress,
) -> Result<GuestImages, ImageError> {
    if request.template != base::NAME {
        return Err(ImageError::UnknownTemplate(request.template.to_owned()));
    }
    let freshness = if request.refresh {
        Freshness::Newest
    } else {
        Freshness::Cached
    };
    let certificates = if request.trust_host_ca {
        base::host_certificates()?
    } else {
        Vec::new()
    };
    let kernel = kernel::ensure(home, request.kernel, freshness, progress)?;
    let initramfs = initramfs::ensure(home, &kernel, request.agent, progress)?;
    let layers = base::ensure(home, &certificates, freshness, progress)?;

    // The names of initramfs and layers are the digests of what made them.
    let names = [&initramfs].into_iter().chain(&layers);
    let names = names.map(|path| path.file_name().unwrap_or_default().to_string_lossy());
    let content = [kernel.digest().into()].into_iter().chain(names);
    let relative = |path: PathBuf| match path.strip_prefix(home.root()) {
        Ok(inside) => inside.to_owned(),
        Err(_) => path,
    };
    let manifest = Manifest {
        name: request.template.to_owned(),
        boot: Boot::Own {
            digest: digest::key(content.map(|name: std::borrow::Cow<'_, str>| name.into_owned())),
            kernel: relative(kernel.bzimage()),
            initramfs: relative(initramfs),
        },
        layers: layers.into_iter().map(relative).collect(),
        env: BTreeMap::new(),
        app: None,
    };
    record(home, &manifest, progress)?;
    images(home, request.template)?.ok_or_else(|| ImageError::Io {
        doing: format!("find template {} right after it was made", request.template),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

/// Writes what a template is made of. What was published of it before is no
/// word on what it is now.
fn record(home: &Home, manifest: &Manifest, progress: &dyn Progress) -> Result<(), ImageError> {
    let file = format!("{}.json", manifest.name);
    let text = to_json(manifest);
    if fs::read(home.rootfs().join(&file)).ok().as_ref() == Some(&text) {
        return Ok(());
    }
    built::remove(&artifact::described_at(home, &manifest.name))?;
    home.workshop("rootfs", progress)?
        .publish_bytes(&file, &text)
        .map(drop)
}

/// Whether this can be a template's name, and thus a file name of ours.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests;
