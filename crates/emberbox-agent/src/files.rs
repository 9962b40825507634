//! Files: reading, writing, listing, metadata.
//!
//! Everything that may block runs on a few blocking threads, so that a file
//! system that hangs (a user's FUSE mount) stalls no other kind of call.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use emberbox_guest::message::{ENTRIES_PER_FRAME, FILE_CHUNK};
use emberbox_guest::{
    FileKind, FileStat, FromAgent, GuestError, GuestErrorCode, ListSpec, ToAgent, WriteSpec,
};
use nix::libc;

use crate::connection::{Connection, Hangup, Outgoing};

mod draft;
mod error;
mod listing;

pub(crate) use draft::is_temporary;
pub(crate) use error::{check_path, failed};

use draft::Draft;

/// Answers what `path` is.
pub(crate) async fn stat(outgoing: &mut Outgoing, path: String) -> Result<(), Hangup> {
    let answer = blocking(move || {
        check_path(&path)?;
        let metadata = fs::metadata(&path).map_err(|error| failed("stat", &path, &error))?;
        Ok(describe(path, &metadata))
    });
    let answer = match answer.await {
        Ok(stat) => FromAgent::Stat(stat),
        Err(error) => FromAgent::Failed(error),
    };
    outgoing.send(&answer).await
}

/// Answers the entries below a directory.
pub(crate) async fn list(outgoing: &mut Outgoing, spec: ListSpec) -> Result<(), Hangup> {
    let listing = match blocking(move || listing::collect(&spec)).await {
        Ok(listing) => listing,
        Err(error) => return outgoing.send(&FromAgent::Failed(error)).await,
    };
    let mut entries = listing.entries.into_iter();
    loop {
        let batch: Vec<_> = entries.by_ref().take(ENTRIES_PER_FRAME).collect();
        if batch.is_empty() {
            break;
        }
        outgoing.send(&FromAgent::Entries(batch)).await?;
    }
    let truncated = listing.truncated;
    outgoing.send(&FromAgent::End { truncated }).await
}

/// Streams a file out.
pub(crate) async fn read(outgoing: &mut Outgoing, path: String) -> Result<(), Hangup> {
    let (stat, mut file, mut chunk) = match blocking(move || open(path)).await {
        Ok(opened) => opened,
        Err(error) => return outgoing.send(&FromAgent::Failed(error)).await,
    };
    let path = stat.path.clone();
    outgoing.send(&FromAgent::Stat(stat)).await?;
    while !chunk.is_empty() {
        outgoing.send(&FromAgent::Data(chunk)).await?;
        let next = blocking(move || {
            let chunk = next_chunk(&mut file)?;
            Ok((file, chunk))
        });
        (file, chunk) = match next.await {
            Ok(next) => next,
            Err(error) => {
                let error = failed("read", &path, &error);
                return outgoing.send(&FromAgent::Failed(error)).await;
            }
        };
    }
    outgoing.send(&FromAgent::End { truncated: false }).await
}

/// Streams a file in; it stands under its name at the end or not at all.
pub(crate) async fn write(connection: &mut Connection, spec: WriteSpec) -> Result<(), Hangup> {
    let limit = spec.limit;
    let Connection {
        incoming, outgoing, ..
    } = connection;
    let mut draft = match blocking(move || Draft::create(&spec)).await {
        Ok(draft) => draft,
        Err(error) => return outgoing.send(&FromAgent::Failed(error)).await,
    };
    outgoing.send(&FromAgent::Done).await?;
    let mut size = 0;
    let error = loop {
        let data = match incoming.next().await? {
            ToAgent::Data(data) => data,
            ToAgent::End => {
                let answer = match blocking(move || draft.commit()).await {
                    Ok(()) => FromAgent::Written { size },
                    Err(error) => FromAgent::Failed(error),
                };
                return outgoing.send(&answer).await;
            }
            ToAgent::Call { .. } | ToAgent::Resize(_) => return Err(Hangup::OutOfTurn),
        };
        size += data.len() as u64;
        if size > limit {
            break GuestError::new(
                GuestErrorCode::TooLarge,
                format_args!("the file is larger than {limit} bytes"),
            );
        }
        draft = match blocking(move || draft.append(&data).map(|()| draft)).await {
            Ok(draft) => draft,
            Err(error) => break error,
        };
    };
    loop {
        match incoming.next().await? {
            ToAgent::Data(_) => {}
            ToAgent::End => return outgoing.send(&FromAgent::Failed(error)).await,
            ToAgent::Call { .. } | ToAgent::Resize(_) => return Err(Hangup::OutOfTurn),
        }
    }
}

/// Writes every dirty page to disk.
pub(crate) async fn sync() -> Result<(), GuestError> {
    blocking(|| {
        nix::unistd::sync();
        Ok(())
    })
    .await
}

fn open(path: String) -> Result<(FileStat, File, Bytes), GuestError> {
    check_path(&path)?;
    let error = |error: io::Error| failed("read", &path, &error);
    // Asked before it is opened: opening a device can have an effect.
    check_readable(&path, &fs::metadata(&path).map_err(error)?)?;
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&path)
        .map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    check_readable(&path, &metadata)?;
    let chunk = next_chunk(&mut file).map_err(error)?;
    Ok((describe(path, &metadata), file, chunk))
}

fn check_readable(path: &str, metadata: &fs::Metadata) -> Result<(), GuestError> {
    match kind(metadata) {
        FileKind::File => Ok(()),
        FileKind::Directory => Err(GuestError::new(
            GuestErrorCode::IsADirectory,
            format_args!("{path} is a directory"),
        )),
        FileKind::Symlink | FileKind::Other => Err(GuestError::new(
            GuestErrorCode::Unsupported,
            format_args!("{path} is neither a file nor a directory"),
        )),
    }
}

/// The next bytes; none at the end. Sizes are not trusted: files of /proc say 0.
fn next_chunk(file: &mut File) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(FILE_CHUNK);
    match file.take(FILE_CHUNK as u64).read_to_end(&mut chunk) {
        Ok(_) => Ok(chunk.into()),
        // A kernel log has no end, only nothing more for now.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(chunk.into()),
        Err(error) => Err(error),
    }
}

fn describe(path: String, metadata: &fs::Metadata) -> FileStat {
    FileStat {
        path,
        kind: kind(metadata),
        size: metadata.size(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified_unix_ns: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
    }
}

fn kind(metadata: &fs::Metadata) -> FileKind {
    let kind = metadata.file_type();
    if kind.is_file() {
        FileKind::File
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Other
    }
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests;
