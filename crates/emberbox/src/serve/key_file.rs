//! The file the first API key is handed over in.
//!
//! The file exists, empty, before the key does, so a crash in between is
//! recognised: an empty file is one whose key got lost, and gets a new one.
//! A file with something in it is never touched, and one that is gone is not
//! made again: whoever took it away has the key.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use emberbox_store::{Bootstrap, KeyKind, Store};
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};

/// Whether a data directory was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    First,
    Later,
}

/// The file and whether it waits for a key.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    open: Option<File>,
}

impl KeyFile {
    /// Makes the file at the first start, finds it at later ones.
    pub(crate) fn prepare(path: &Path, start: Start) -> Result<Self> {
        let shown = path.display();
        let opened = match start {
            Start::First => create(path),
            Start::Later => Err(io::ErrorKind::AlreadyExists.into()),
        };
        let opened = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).open(path)
            }
            other => other,
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if start == Start::Later && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path: path.to_owned(),
                    open: None,
                });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
        };
        let empty = file
            .metadata()
            .with_context(|| format!("cannot look at {shown}"))?
            .len()
            == 0;
        if !empty && start == Start::First {
            bail!("{shown} exists and is not overwritten; name another file for the first key");
        }
        Ok(Self {
            path: path.to_owned(),
            open: empty.then_some(file),
        })
    }

    /// Makes what must exist before the first request, and writes the key.
    pub(crate) async fn fill(self, store: &Store) -> Result<()> {
        let first = store
            .bootstrap()
            .await
            .context("cannot set up the database")?;
        let cannot = || format!("cannot write {}", self.path.display());
        let (mut file, secret) = match (self.open, &first.secret) {
            (None, None) => return Ok(()),
            (None, Some(secret)) => (create(&self.path).with_context(cannot)?, secret.clone()),
            (Some(file), Some(secret)) => (file, secret.clone()),
            (Some(file), None) => (file, replace_lost(store, &first).await?),
        };
        writeln!(file, "{}", secret.expose_secret())
            .and_then(|()| file.sync_all())
            .with_context(cannot)?;
        tracing::info!(file = %self.path.display(), "the first API key is written");
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Nobody ever saw the first key's secret: it gets another.
async fn replace_lost(store: &Store, first: &Bootstrap) -> Result<SecretString> {
    let keys = store
        .list_keys(&first.tenant, KeyKind::Key, None)
        .await
        .context("cannot list the keys")?;
    let lost = keys
        .into_iter()
        .next_back()
        .context("there is no first key")?;
    let made = store
        .rotate_key(&first.tenant, &lost.id, SignedDuration::ZERO)
        .await
        .context("cannot replace the lost key")?;
    Ok(made.secret)
}

#[cfg(test)]
mod tests;
