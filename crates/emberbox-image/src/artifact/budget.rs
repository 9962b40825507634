//! The disk that images and seeds may take.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::ArtifactError;
use super::images::{Artifacts, image_at};
use crate::built;
use crate::error::ImageError;
use crate::registry::blocking;
use crate::template;

impl Artifacts {
    /// Evicts images until what is here fits the budget: those that builds
    /// made, that the source has as a whole, that nobody holds and whose
    /// layers are not all `in_use` or worked with by builds; the one first
    /// that was not used for longest. `remove` removes one, from this host only;
    /// it may block for as long as files take to be removed. Gives their names.
    pub async fn evict<E: From<ArtifactError>>(
        &self,
        in_use: &[PathBuf],
        remove: impl Fn(&str) -> Result<(), E> + Sync,
    ) -> Result<Vec<String>, E> {
        let (Some(budget), Some(source)) = (self.max_bytes, &self.source) else {
            return Ok(Vec::new());
        };
        let mut evicted = Vec::new();
        let candidates = self.oldest_first().await.map_err(E::from)?;
        for image in candidates {
            if self.bytes().await.map_err(E::from)? <= budget {
                break;
            }
            if !self.is_free(&image, in_use).map_err(ArtifactError::from)? {
                continue;
            }
            let described = self.described(&image).map_err(ArtifactError::from)?;
            let Some(described) = described else { continue };
            let published = described.source.as_deref() == Some(source.name())
                && source.head(&image_at(&image)).await?.is_some()
                && source.has(&described.set).await?;
            if !published {
                continue;
            }
            if let Some(removed) = self.unless_held(&image, || remove(&image)).await {
                removed?;
                tracing::info!(image, "evicted an image that can be fetched again");
                evicted.push(image);
            }
        }
        Ok(evicted)
    }

    /// Whether some layer of an image is needed by nobody but images.
    fn is_free(&self, image: &str, in_use: &[PathBuf]) -> Result<bool, ImageError> {
        let pinned: HashSet<String> = built::pinned(&self.home)?.into_iter().collect();
        let Some(images) = template::images(&self.home, image)? else {
            return Ok(false);
        };
        let needed = |layer: &PathBuf| {
            let name = layer.file_name().unwrap_or_default().to_string_lossy();
            in_use.contains(layer) || pinned.contains(&*name)
        };
        Ok(!images.layers.iter().all(needed))
    }

    async fn oldest_first(&self) -> Result<Vec<String>, ArtifactError> {
        let names = template::names(&self.home)?.into_iter();
        let mut images: Vec<_> = names
            .filter(|name| built::is_built(name))
            .map(|name| {
                let used = fs::metadata(self.image_file(&name)).and_then(|file| file.modified());
                (used.unwrap_or(SystemTime::UNIX_EPOCH), name)
            })
            .collect();
        images.sort();
        Ok(images.into_iter().map(|(_, name)| name).collect())
    }

    /// What images and seeds take, in bytes.
    pub async fn bytes(&self) -> Result<u64, ArtifactError> {
        let home = self.home.clone();
        let counted = blocking(move || {
            let mut bytes = 0;
            for directory in [
                home.rootfs(),
                home.seeds(),
                home.kernels(),
                home.initramfs(),
            ] {
                let taken = taken(&directory);
                bytes += taken.map_err(ImageError::io("measure", &directory))?;
            }
            Ok(bytes)
        });
        Ok(counted.await?)
    }
}

/// What a directory takes on disk, in bytes. What is removed meanwhile takes
/// nothing.
fn taken(directory: &Path) -> io::Result<u64> {
    /// The unit of `st_blocks` (stat(2)).
    const STAT_BLOCK: u64 = 512;
    let mut bytes = 0;
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        bytes += match fs::symlink_metadata(&path) {
            Ok(facts) if facts.is_dir() => taken(&path)?,
            Ok(facts) => facts.blocks() * STAT_BLOCK,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}
