//! Templates: which files boot under which name.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base;
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
    /// Over the content of all of them, in hex: equal digests boot the same
    /// guest, so a seed of one is a seed of the other.
    pub digest: String,
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
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    name: String,
    kernel: PathBuf,
    initramfs: PathBuf,
    layers: Vec<PathBuf>,
    digest: String,
}

/// The files of a template, if it is complete in this home. Reads one small
/// file and builds nothing; any `template` may be asked for.
pub fn images(home: &Home, template: &str) -> Result<Option<GuestImages>, ImageError> {
    if !is_name(template) {
        return Ok(None);
    }
    let path = home.rootfs().join(format!("{template}.json"));
    let Some(manifest) = read_json::<Manifest>(&path)? else {
        return Ok(None);
    };
    let images = GuestImages {
        template: manifest.name,
        kernel: home.root().join(manifest.kernel),
        initramfs: home.root().join(manifest.initramfs),
        layers: manifest
            .layers
            .iter()
            .map(|layer| home.root().join(layer))
            .collect(),
        digest: manifest.digest,
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
        digest: digest::key(content.map(|name: std::borrow::Cow<'_, str>| name.into_owned())),
        kernel: relative(kernel.bzimage()),
        initramfs: relative(initramfs),
        layers: layers.into_iter().map(relative).collect(),
    };
    let file = format!("{}.json", request.template);
    let text = to_json(&manifest);
    if fs::read(home.rootfs().join(&file)).ok().as_ref() != Some(&text) {
        home.workshop("rootfs", progress)?
            .publish_bytes(&file, &text)?;
    }
    images(home, request.template)?.ok_or_else(|| ImageError::Io {
        doing: format!("find template {} right after it was made", request.template),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

/// Whether this can be a template's name, and thus a file name of ours.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests;
