//! The published OpenAPI document is what the types say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build;
use crate::command::{self, root};

/// Writes the document from a fresh build.
pub(crate) fn write() -> Result<()> {
    let binary = build::release()?.binary;
    let path = path();
    fs::write(&path, generate(&binary)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Fails when the published document is not what `binary` says.
pub(crate) fn check(binary: &Path) -> Result<()> {
    let path = path();
    let published = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        published == generate(binary)?,
        "docs/openapi.json is not what the types say; run `cargo xtask openapi` and commit it"
    );
    Ok(())
}

fn generate(binary: &Path) -> Result<Vec<u8>> {
    command::output(Command::new(binary).arg("openapi"))
}

fn path() -> PathBuf {
    root().join("docs/openapi.json")
}
