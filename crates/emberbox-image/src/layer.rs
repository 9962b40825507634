//! Layers that builds make: packed, named by their content, published.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::archive::{self, Packer};
use crate::build_dir::BuildDir;
use crate::built;
use crate::digest;
use crate::error::ImageError;
use crate::home::Home;
use crate::tree::Whiteouts;

/// A published layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its file in the directory of root file systems.
    pub file: String,
    /// Its size.
    pub bytes: u64,
}

/// Packs the changes a guest made, or all it has: an archive in overlayfs' own
/// form. Nothing in it can be anywhere but in the layer.
pub fn layer_of_changes(
    home: &Home,
    dir: &BuildDir,
    archive: impl Read,
) -> Result<Layer, ImageError> {
    pack(home, dir, Whiteouts::Kept, |packer| {
        packer.add_layer(archive)
    })
}

/// Packs files of our own, with their paths.
pub fn layer_of_files(
    home: &Home,
    dir: &BuildDir,
    files: &[(&str, &[u8])],
) -> Result<Layer, ImageError> {
    pack(home, dir, Whiteouts::Kept, |packer| {
        let mut files = files.iter();
        files.try_for_each(|(path, content)| packer.add_file(path, content))
    })
}

/// Packs the layers of an image, lowest first, into one, if sandboxes can be
/// made of it.
pub(crate) fn layer_of_image<R: Read>(
    home: &Home,
    dir: &BuildDir,
    layers: impl Iterator<Item = Result<R, ImageError>>,
) -> Result<Layer, ImageError> {
    pack(home, dir, Whiteouts::Applied, |packer| {
        for layer in layers {
            packer.add_layer(layer?)?;
        }
        match archive::unsupported(packer.tree()) {
            Some(reason) => Err(ImageError::Unsupported(reason)),
            None => Ok(()),
        }
    })
}

fn pack<E: Into<ImageError>>(
    home: &Home,
    dir: &BuildDir,
    whiteouts: Whiteouts,
    fill: impl FnOnce(&mut Packer) -> Result<(), E>,
) -> Result<Layer, ImageError> {
    let path = dir.path().join("layer");
    let spool = dir.path().join("spool");
    let packed = pack_into(&path, &spool, whiteouts, fill);
    // Only what was made is there.
    let _ = fs::remove_file(&spool);
    let layer = packed.and_then(|image| publish(home, dir, &path, image));
    if layer.is_err() {
        let _ = fs::remove_file(&path);
    }
    layer
}

fn pack_into<E: Into<ImageError>>(
    path: &Path,
    spool: &Path,
    whiteouts: Whiteouts,
    fill: impl FnOnce(&mut Packer) -> Result<(), E>,
) -> Result<File, ImageError> {
    let make = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(ImageError::io("create", path))
    };
    let packer = Packer::new(whiteouts, make(path)?, make(spool)?);
    let mut packer = packer.map_err(ImageError::io("write", path))?;
    fill(&mut packer).map_err(Into::into)?;
    Ok(packer.finish()?)
}

/// Gives a finished image its name.
fn publish(home: &Home, dir: &BuildDir, path: &Path, mut image: File) -> Result<Layer, ImageError> {
    let failed = |verb| ImageError::io(verb, path);
    image.rewind().map_err(failed("read"))?;
    let digest = digest::of_reader(&mut image).map_err(failed("read"))?;
    let bytes = image.metadata().map_err(failed("read"))?.len();
    image
        .set_permissions(fs::Permissions::from_mode(0o444))
        .map_err(failed("protect"))?;
    image.sync_all().map_err(failed("sync"))?;
    let file = format!("{digest}.erofs");
    let layer = Layer { file, bytes };
    built::publish_layer(home, dir, path, &layer)?;
    Ok(layer)
}
