//! What builds leave in a home: results of steps, and images to boot.
//!
//! ```text
//! rootfs/.step-KEY.json       the layers after a step, by all that decides them
//! rootfs/built-DIGEST.json    an image, named by what is in it
//! rootfs/.removed-NAME.json   an image that is gone, its layers perhaps not yet
//! ```
//!
//! Invariants: a layer is removed only when no image, no remembered step, no
//! build and no VM needs it; an image boots the kernel and the agent of the
//! template it is based on, as they are when it boots.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::build_dir::BuildDir;
use crate::digest;
use crate::error::ImageError;
use crate::home::Home;
use crate::layer::Layer;
use crate::record::{read_json, to_json};
use crate::template::{self, Manifest, TemplateApp};

/// Begins the name of every image that a build made.
const BUILT: &str = "built-";
const STEP: &str = ".step-";
const REMOVED: &str = ".removed-";

/// Held while images and layers come and go.
pub(crate) const LOCK: &str = "built";

/// The layers a build works with.
const PINS: &str = "pins.json";

/// Raised when the same step would give another layer.
const FORMAT: &str = "step 1";

/// Steps whose results are remembered. Each is a layer's worth of disk; the
/// one that was not used for longest goes.
const MAX_STEPS: usize = 512;

/// What a build has so far: everything that a sandbox would start with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Variables the base image gives every process.
    pub env: BTreeMap<String, String>,
}

impl Stack {
    /// What an image of this home starts with, held for this build; none if
    /// there is no such image.
    pub fn of_image(home: &Home, dir: &BuildDir, image: &str) -> Result<Option<Self>, ImageError> {
        let _lock = home.lock(LOCK)?;
        let Some(manifest) = template::manifest(home, image)? else {
            return Ok(None);
        };
        let mut layers = Vec::new();
        for path in &manifest.layers {
            let file = path.file_name().unwrap_or_default();
            let path = home.root().join(path);
            let found = fs::metadata(&path).map_err(ImageError::io("read", &path))?;
            layers.push(Layer {
                file: file.to_string_lossy().into_owned(),
                bytes: found.len(),
            });
        }
        pin(dir, layers.iter().map(|layer| &layer.file))?;
        Ok(Some(Self {
            layers,
            env: manifest.env,
        }))
    }

    /// Its files.
    #[must_use]
    pub fn paths(&self, home: &Home) -> Vec<PathBuf> {
        let files = self.layers.iter();
        files.map(|layer| home.rootfs().join(&layer.file)).collect()
    }

    /// What it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    fn is_complete(&self, home: &Home) -> bool {
        self.paths(home).iter().all(|path| path.is_file())
    }
}

/// The key of a result, over everything that decides it.
#[must_use]
pub fn step_key(parent: &Stack, parts: &[&str]) -> String {
    let count = parent.layers.len().to_string();
    let layers = parent.layers.iter().map(|layer| layer.file.as_str());
    let all = [FORMAT, &count].into_iter().chain(layers);
    digest::key(all.chain(parts.iter().copied()))
}

/// The remembered result of a step, held for this build from here on.
pub fn remembered(home: &Home, dir: &BuildDir, key: &str) -> Result<Option<Stack>, ImageError> {
    let _lock = home.lock(LOCK)?;
    let path = step_file(home, key);
    let Some(stack) = read_json::<Stack>(&path)? else {
        return Ok(None);
    };
    if !stack.is_complete(home) {
        return Ok(None);
    }
    // Its time is when it was last used.
    let file = fs::File::open(&path).map_err(ImageError::io("open", &path))?;
    let _ = file.set_modified(SystemTime::now());
    pin(dir, stack.layers.iter().map(|layer| &layer.file))?;
    Ok(Some(stack))
}

/// Remembers the result of a step.
pub fn remember(home: &Home, key: &str, stack: &Stack) -> Result<(), ImageError> {
    let _lock = home.lock(LOCK)?;
    forget_surplus(home)?;
    write(&step_file(home, key), &to_json(stack))
}

/// Gives the finished file at `from` its name, held for this build.
pub(crate) fn publish_layer(
    home: &Home,
    dir: &BuildDir,
    from: &Path,
    layer: &Layer,
) -> Result<(), ImageError> {
    let _lock = home.lock(LOCK)?;
    pin(dir, [&layer.file])?;
    let name = home.rootfs().join(&layer.file);
    fs::rename(from, &name).map_err(ImageError::io("rename", from))
}

/// Publishes an image that starts with `stack`; its name follows from what it
/// is. `boot` is the template whose kernel and agent it boots.
pub fn publish_image(
    home: &Home,
    stack: &Stack,
    app: Option<TemplateApp>,
    boot: &str,
) -> Result<PublishedImage, ImageError> {
    let _lock = home.lock(LOCK)?;
    let layers: Vec<_> = stack
        .layers
        .iter()
        .map(|layer| Path::new("rootfs").join(&layer.file))
        .collect();
    let mut manifest = Manifest::built(layers, stack.env.clone(), app, boot);
    let digest = digest_of(&manifest);
    manifest.name = name_of(&manifest);
    let path = home.rootfs().join(format!("{}.json", manifest.name));
    let known = path.is_file();
    write(&path, &to_json(&manifest))?;
    Ok(PublishedImage {
        name: manifest.name,
        digest,
        known,
    })
}

/// The digest of what an image is, whatever its name.
fn digest_of(manifest: &Manifest) -> String {
    let mut nameless = manifest.clone();
    nameless.name.clear();
    digest::of_bytes(&to_json(&nameless))
}

/// The name that a build's image has to have.
pub(crate) fn name_of(manifest: &Manifest) -> String {
    format!("{BUILT}{}", digest::short(&digest_of(manifest)))
}

/// Whether this is the name of an image that a build made.
#[must_use]
pub fn is_built(image: &str) -> bool {
    image.strip_prefix(BUILT).is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// An image that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedImage {
    /// The name to boot by.
    pub name: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Whether it was there before.
    pub known: bool,
}

/// Removes an image that a build made, and what only it needs. `in_use` are
/// layers that VMs and snapshots of this host need; they go later. Idempotent.
pub fn remove_image(home: &Home, image: &str, in_use: &[PathBuf]) -> Result<(), ImageError> {
    let _lock = home.lock(LOCK)?;
    if is_built(image) {
        let rootfs = home.rootfs();
        let manifest = rootfs.join(format!("{image}.json"));
        let removed = rootfs.join(format!("{REMOVED}{image}.json"));
        match fs::rename(&manifest, &removed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ImageError::io("rename", &manifest)(error));
            }
            Ok(()) | Err(_) => {}
        }
        remove(&artifact::described_at(home, image))?;
    }
    collect(home, in_use)
}

/// Removes the layers of what was removed that nobody needs any more. What is
/// remembered of steps goes with the last image that was made of it.
fn collect(home: &Home, in_use: &[PathBuf]) -> Result<(), ImageError> {
    let held: BTreeSet<String> = in_use.iter().filter_map(|path| name(path)).collect();
    let mut needed = held.clone();
    for image in template::names(home)? {
        let manifest = template::manifest(home, &image)?;
        needed.extend(manifest.iter().flat_map(Manifest::layer_files));
    }
    needed.extend(pinned(home)?);
    for path in records(home, REMOVED)? {
        let removed = read_json::<Manifest>(&path)?;
        let layers: BTreeSet<_> = removed.iter().flat_map(Manifest::layer_files).collect();
        let mut own: BTreeSet<_> = layers.difference(&needed).cloned().collect();
        let was_image = removed.is_some_and(|removed| removed.name.starts_with(BUILT));
        for step in records(home, STEP)? {
            let stack = read_json::<Stack>(&step)?;
            let uses: Vec<_> = stack.into_iter().flat_map(|stack| stack.layers).collect();
            if was_image && uses.iter().any(|layer| own.contains(&layer.file)) {
                remove(&step)?;
            } else {
                uses.iter().for_each(|layer| {
                    own.remove(&layer.file);
                });
            }
        }
        for layer in &own {
            remove(&home.rootfs().join(layer))?;
        }
        // Some go when what uses them has ended.
        if layers.is_disjoint(&held) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Notes layers that nobody is known to need.
pub(crate) fn orphan(home: &Home, name: &str, layers: &[String]) -> Result<(), ImageError> {
    let layers = layers.iter().map(|layer| Path::new("rootfs").join(layer));
    let manifest = Manifest::built(layers.collect(), BTreeMap::new(), None, "");
    let removed = home.rootfs().join(format!("{REMOVED}{name}.json"));
    write(&removed, &to_json(&manifest))
}

/// The layers a build worked with.
pub(crate) fn pins(dir: &Path) -> Result<Vec<String>, ImageError> {
    Ok(read_json(&dir.join(PINS))?.unwrap_or_default())
}

/// Forgets the steps that were not used for longest, and their layers.
fn forget_surplus(home: &Home) -> Result<(), ImageError> {
    let mut steps = Vec::new();
    for path in records(home, STEP)? {
        let used = fs::metadata(&path).and_then(|metadata| metadata.modified());
        steps.push((used.map_err(ImageError::io("read", &path))?, path));
    }
    steps.sort();
    let surplus = (steps.len() + 1).saturating_sub(MAX_STEPS);
    for (_, path) in steps.into_iter().take(surplus) {
        let stack = read_json::<Stack>(&path)?;
        let layers = stack.into_iter().flat_map(|stack| stack.layers);
        let layers: Vec<_> = layers.map(|layer| layer.file).collect();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        orphan(home, &stem[1..], &layers)?;
        remove(&path)?;
    }
    Ok(())
}

fn step_file(home: &Home, key: &str) -> PathBuf {
    home.rootfs().join(format!("{STEP}{key}.json"))
}

/// The layers that builds work with.
pub(crate) fn pinned(home: &Home) -> Result<Vec<String>, ImageError> {
    let dir = home.builds();
    let mut pinned = Vec::new();
    for entry in fs::read_dir(&dir).map_err(ImageError::io("list", &dir))? {
        pinned.extend(pins(&entry.map_err(ImageError::io("list", &dir))?.path())?);
    }
    Ok(pinned)
}

fn pin<'a>(dir: &BuildDir, layers: impl IntoIterator<Item = &'a String>) -> Result<(), ImageError> {
    let path = dir.path().join(PINS);
    let mut pins: BTreeSet<String> = read_json(&path)?.unwrap_or_default();
    pins.extend(layers.into_iter().cloned());
    write(&path, &to_json(&pins))
}

fn records(home: &Home, prefix: &str) -> Result<Vec<PathBuf>, ImageError> {
    let dir = home.rootfs();
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(ImageError::io("list", &dir))? {
        let path = entry.map_err(ImageError::io("list", &dir))?.path();
        if name(&path).is_some_and(|name| name.starts_with(prefix) && name.ends_with(".json")) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Replaces a small file, atomically.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).map_err(ImageError::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(ImageError::io("rename", &temporary))
}

pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImageError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
