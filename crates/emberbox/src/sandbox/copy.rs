//! Copying a file into or out of a sandbox, streaming.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use emberbox_api::client::{Body, Client, Download};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::ReaderStream;

/// Where `ls` looks when it is not told.
const DEFAULT_DIRECTORY: &str = "/workspace";

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Standard input or output.
    Standard,
    /// A file here.
    Local(PathBuf),
    /// A file in a sandbox.
    Remote {
        /// Which sandbox.
        id: String,
        /// Absolute.
        path: String,
    },
}

impl FromStr for Place {
    type Err = String;

    /// `ID:/path` is in a sandbox; a local file whose name looks like that is
    /// written as `./ID:/path`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Standard);
        }
        match text.split_once(':') {
            Some((id, path)) if !id.contains('/') && !id.is_empty() => {
                if !path.starts_with('/') {
                    return Err(format!(
                        "the path in a sandbox must be absolute: {id}:/{path}"
                    ));
                }
                Ok(Self::Remote {
                    id: id.to_owned(),
                    path: path.to_owned(),
                })
            }
            _ if text.is_empty() => Err("the path is empty".to_owned()),
            _ => Ok(Self::Local(text.into())),
        }
    }
}

impl Place {
    /// The sandbox and directory that `ls` is asked for.
    pub(crate) fn directory(text: &str) -> Result<(String, String)> {
        if !text.contains(':') {
            return Ok((text.to_owned(), DEFAULT_DIRECTORY.to_owned()));
        }
        match text.parse() {
            Ok(Self::Remote { id, path }) => Ok((id, path)),
            Ok(Self::Standard | Self::Local(_)) => bail!("{text} is not ID:/PATH"),
            Err(error) => bail!("{error}"),
        }
    }
}

/// Copies.
pub(crate) async fn run(client: &Client, from: Place, to: Place) -> Result<()> {
    match (from, to) {
        (Place::Local(local), Place::Remote { id, path }) => {
            let path = named_after(path, local.file_name())?;
            let cannot = || format!("cannot read {}", local.display());
            let file = File::open(&local).await.with_context(cannot)?;
            let metadata = file.metadata().await.with_context(cannot)?;
            if metadata.is_dir() {
                bail!("{} is a directory; only files are copied", local.display());
            }
            // A pipe or a device says 0 and gives more.
            let length = metadata.is_file().then_some(metadata.len());
            client.upload(&id, &path, body(file), length).await?;
        }
        (Place::Standard, Place::Remote { id, path }) => {
            let path = named_after(path, None)?;
            client
                .upload(&id, &path, body(tokio::io::stdin()), None)
                .await?;
        }
        (Place::Remote { id, path }, Place::Standard) => {
            let mut download = client.download(&id, &path).await?;
            pour(&mut download, &mut tokio::io::stdout()).await?;
        }
        (Place::Remote { id, path }, Place::Local(local)) => {
            let local = if local.is_dir() {
                local.join(base_name(&path)?)
            } else {
                local
            };
            let mut download = client.download(&id, &path).await?;
            save(&mut download, &local).await?;
        }
        (Place::Remote { .. }, Place::Remote { .. }) => {
            bail!("one of the two must be a local path; copy in two steps");
        }
        (Place::Local(_) | Place::Standard, Place::Local(_) | Place::Standard) => {
            bail!("one of the two must be in a sandbox: ID:/path");
        }
    }
    Ok(())
}

/// Read as it is sent, never held.
fn body(from: impl AsyncRead + Send + Sync + 'static) -> Body {
    Body::wrap_stream(ReaderStream::new(from))
}

/// A target that ends in `/` is a directory, in which the file keeps its name.
fn named_after(path: String, name: Option<&OsStr>) -> Result<String> {
    if !path.ends_with('/') {
        return Ok(path);
    }
    let name = name
        .and_then(OsStr::to_str)
        .context("the target names no file")?;
    Ok(path + name)
}

fn base_name(path: &str) -> Result<&str> {
    path.rsplit('/')
        .next()
        .filter(|name| !matches!(*name, "" | "." | ".."))
        .with_context(|| format!("{path} names no file"))
}

/// The file appears under its name when it is whole, or not at all.
async fn save(download: &mut Download, path: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A pipe or a device cannot be replaced; it is written as it is.
    if path.exists() && !path.is_file() {
        let mut file = File::options()
            .write(true)
            .open(path)
            .await
            .with_context(cannot)?;
        return pour(download, &mut file).await;
    }
    let permissions = permissions_for(path);
    let temporary = tempfile::Builder::new()
        .prefix(".emberbox-")
        .permissions(permissions)
        .tempfile_in(directory)
        .with_context(cannot)?;
    let mut file = File::from_std(temporary.reopen().with_context(cannot)?);
    pour(download, &mut file).await?;
    temporary.persist(path).with_context(cannot)?;
    Ok(())
}

/// Those of the file that is replaced; else what the umask leaves of 0666.
fn permissions_for(path: &Path) -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => std::fs::Permissions::from_mode(0o666),
    }
}

async fn pour(download: &mut Download, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    while let Some(chunk) = download.chunk().await? {
        to.write_all(&chunk).await?;
    }
    to.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests;
