//! Blobs: fetched once, verified, kept for a while.
//!
//! ```text
//! HOME/blobs/DIGEST        verified
//! HOME/blobs/DIGEST.part   the beginning of one; locked by who fetches it
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures_util::StreamExt;
use oci_client::client::BlobResponse;
use oci_client::manifest::OciDescriptor;

use super::{MAX_ANSWERS, PullError, Source, blocking};
use crate::digest;
use crate::error::ImageError;
use crate::home::Home;

/// Disk that blobs may take when nobody needs them: several base images.
const KEPT: u64 = 4 << 30;

/// Times a broken transfer goes on: each gets further, or it is no use.
const TRIES: u32 = 5;

/// The file of a blob. Two that want the same one fetch it once.
pub(super) async fn fetch(
    source: &Source,
    home: &Home,
    blob: &OciDescriptor,
) -> Result<PathBuf, PullError> {
    let size = u64::try_from(blob.size).unwrap_or_default();
    let Some(digest) = blob
        .digest
        .strip_prefix("sha256:")
        .filter(|digest| is_hex(digest))
    else {
        let why = "the image is described with another digest than SHA-256";
        return Err(source.unavailable(why));
    };
    let path = home.blobs().join(digest);
    let part = path.with_extension("part");
    let (finished, at) = (path.clone(), part.clone());
    let file = blocking(move || open(&finished, &at)).await?;
    let Some(file) = file else {
        return Ok(path);
    };
    let mut last = source.unavailable("the transfer broke off");
    for _ in 0..TRIES {
        match transfer(source, blob, &file, size).await {
            Ok(()) => {
                let (expected, name) = (digest.to_owned(), path.clone());
                let digest = blob.digest.clone();
                let verified = blocking(move || verify(&part, &name, &expected)).await?;
                return if verified {
                    Ok(path)
                } else {
                    Err(PullError::Mismatch(digest))
                };
            }
            Err(error @ PullError::Unavailable { .. }) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Removes the blobs that were not used for longest.
pub(super) fn evict(home: &Home) -> Result<(), ImageError> {
    let dir = home.blobs();
    let mut blobs = Vec::new();
    for entry in fs::read_dir(&dir).map_err(ImageError::io("list", &dir))? {
        let path = entry.map_err(ImageError::io("list", &dir))?.path();
        // Another build may have removed it.
        if let Ok(metadata) = fs::metadata(&path) {
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            blobs.push((used, metadata.len(), path));
        }
    }
    blobs.sort_unstable_by(|left, right| right.cmp(left));
    let mut bytes = 0;
    for (_, size, path) in blobs {
        bytes += size;
        if bytes > KEPT {
            // Whoever reads it has it open; whoever comes later fetches again.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

/// The beginning of a blob, this process's alone to go on with; none if it is
/// there as a whole.
fn open(path: &Path, part: &Path) -> Result<Option<File>, ImageError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(part)
        .map_err(ImageError::io("create", part))?;
    file.lock().map_err(ImageError::io("lock", part))?;
    if let Ok(whole) = File::open(path) {
        // Its time is when it was last used.
        let _ = whole.set_modified(SystemTime::now());
        let _ = fs::remove_file(part);
        return Ok(None);
    }
    Ok(Some(file))
}

/// Fetches what is missing.
async fn transfer(
    source: &Source,
    blob: &OciDescriptor,
    file: &File,
    size: u64,
) -> Result<(), PullError> {
    let failed = |error: io::Error| {
        let doing = "write a blob".to_owned();
        PullError::Image(ImageError::Io {
            doing,
            source: error,
        })
    };
    let have = file.metadata().map_err(failed)?.len();
    if have == size {
        return Ok(());
    }
    let mut at = if have < size { have } else { 0 };
    // Its answers may begin with another token.
    source.allow(size.saturating_add(size / 16).saturating_add(MAX_ANSWERS));
    // By its digest alone: the manifest may name other places to ask.
    let layer = blob.digest.as_str();
    let response = source
        .client
        .pull_blob_stream_partial(&source.image, layer, at, None);
    let mut stream = match response.await.map_err(|error| source.explain(error))? {
        BlobResponse::Full(stream) => {
            at = 0;
            stream.stream
        }
        BlobResponse::Partial(stream) => stream.stream,
    };
    file.set_len(at).map_err(failed)?;
    while let Some(bytes) = stream.next().await {
        // A digest that does not fit shows once more when all is there.
        let Ok(bytes) = bytes else { break };
        if at + bytes.len() as u64 > size {
            file.set_len(0).map_err(failed)?;
            return Err(PullError::Mismatch(blob.digest.clone()));
        }
        file.write_all_at(&bytes, at).map_err(failed)?;
        at += bytes.len() as u64;
    }
    if at == size {
        Ok(())
    } else {
        Err(source.unavailable("the transfer broke off"))
    }
}

/// Gives a blob its name if it is what it should be; removes it if not.
fn verify(part: &Path, path: &Path, expected: &str) -> Result<bool, ImageError> {
    let found = digest::of_file(part).map_err(ImageError::io("read", part))?;
    if found != expected {
        fs::remove_file(part).map_err(ImageError::io("remove", part))?;
        return Ok(false);
    }
    fs::rename(part, path).map_err(ImageError::io("rename", part))?;
    Ok(true)
}

fn is_hex(digest: &str) -> bool {
    digest.len() == 64 && digest.bytes().all(|digit| digit.is_ascii_hexdigit())
}
