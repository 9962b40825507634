//! The files that the other boxes start from: those of the product's own base
//! image, unpacked once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::command::{self, root};
use crate::setup::Product;

/// What is read of a template's record in the home.
#[derive(Deserialize)]
struct Template {
    digest: String,
    /// Images, relative to the home, the lowest first.
    layers: Vec<PathBuf>,
}

/// The directory; unpacked anew when the base image is another.
pub(super) fn ensure(product: &Product) -> Result<PathBuf> {
    let record = product.home.join("rootfs/miosa-sandbox.json");
    let read = || -> Result<Template> { Ok(serde_json::from_slice(&fs::read(&record)?)?) };
    let template = read().with_context(|| format!("cannot read {}", record.display()))?;
    let [layer] = &template.layers[..] else {
        bail!("the base image has {} layers", template.layers.len());
    };
    let parent = root().join("target/bench-root");
    let directory = parent.join(&template.digest);
    if !directory.is_dir() {
        fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        unpack(&product.home.join(layer), &parent, &directory)?;
    }
    Ok(directory)
}

/// Whole or not at all.
fn unpack(image: &Path, parent: &Path, directory: &Path) -> Result<()> {
    let unpacked = tempfile::tempdir_in(parent).context("cannot make a directory")?;
    let root = unpacked.path().join("root");
    command::run(
        Command::new("fsck.erofs")
            .arg(format!("--extract={}", root.display()))
            .arg(image),
    )?;
    ensure!(
        root.join("usr/bin/python3").exists(),
        "{} holds no Python",
        image.display()
    );
    fs::rename(&root, directory).with_context(|| format!("cannot make {}", directory.display()))
}
