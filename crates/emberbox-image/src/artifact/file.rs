//! Files and their chunks: described, read, compared, written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{Artifact, CHUNK_BYTES};
use crate::digest;

/// Compression of chunks: above it, little more is saved and much more time
/// taken (zstd's own default).
const LEVEL: i32 = 3;

/// Describes a file. Reads it all, but for holes.
pub(super) fn describe(path: &Path, name: String) -> io::Result<Artifact> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut whole = Sha256::new();
    let mut artifact = Artifact {
        path: name,
        bytes,
        sha256: String::new(),
        chunks: Vec::new(),
    };
    each_chunk(&file, bytes, |chunk| {
        whole.update(chunk);
        artifact.chunks.push(name_of(chunk));
        true
    })?;
    artifact.sha256 = hex::encode(whole.finalize());
    Ok(artifact)
}

/// Whether a file is what is said of it.
pub(super) fn is_as_described(path: &Path, artifact: &Artifact) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != artifact.bytes {
        return Ok(false);
    }
    let mut expected = artifact.chunks.iter();
    let mut same = true;
    each_chunk(&file, artifact.bytes, |chunk| {
        same = expected.next() == Some(&name_of(chunk));
        same
    })?;
    Ok(same && expected.next().is_none())
}

/// The chunk that has this name, compressed; none if the file holds something
/// else there.
pub(super) fn packed(
    file: &File,
    (offset, length): (u64, usize),
    name: &str,
) -> io::Result<Option<Vec<u8>>> {
    let mut chunk = vec![0; length];
    file.read_exact_at(&mut chunk, offset)?;
    if digest::of_bytes(&chunk) != name {
        return Ok(None);
    }
    zstd::bulk::compress(&chunk, LEVEL).map(Some)
}

/// The chunk of this name and length, if that is what was packed.
pub(super) fn unpacked(packed: &[u8], length: usize, name: &str) -> Option<Vec<u8>> {
    let chunk = zstd::bulk::decompress(packed, length).ok()?;
    (chunk.len() == length && digest::of_bytes(&chunk) == name).then_some(chunk)
}

/// Most bytes a chunk of this length can take when it is packed.
pub(super) fn most_packed(length: usize) -> u64 {
    zstd::zstd_safe::compress_bound(length) as u64
}

/// A new file of this length, all holes, for its owner alone.
pub(super) fn create(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_len(bytes)?;
    Ok(file)
}

/// Whether all of an open file has this digest.
pub(super) fn has_digest(file: &File, bytes: u64, sha256: &str) -> io::Result<bool> {
    let mut whole = Sha256::new();
    each_chunk(file, bytes, |chunk| {
        whole.update(chunk);
        true
    })?;
    Ok(hex::encode(whole.finalize()) == sha256)
}

/// What a chunk is named; none if it is all zeros.
fn name_of(chunk: &[u8]) -> Option<String> {
    let zeros = chunk.iter().all(|&byte| byte == 0);
    (!zeros).then(|| digest::of_bytes(chunk))
}

/// Hands over each chunk in order, until that is enough.
fn each_chunk(
    file: &File,
    bytes: u64,
    mut enough_yet: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES as usize];
    let mut buffer = zeros.clone();
    let mut data_from = 0;
    let mut offset = 0;
    while offset < bytes {
        let length = (bytes - offset).min(CHUNK_BYTES);
        if data_from < offset + length {
            data_from = match seek(file, SeekFrom::Data(offset)) {
                Ok(data) => data,
                // No data up to the end.
                Err(Errno::NXIO) => u64::MAX,
                Err(error) => return Err(error.into()),
            };
        }
        let chunk = if data_from >= offset + length {
            &zeros[..length as usize]
        } else {
            let chunk = &mut buffer[..length as usize];
            file.read_exact_at(chunk, offset)?;
            &*chunk
        };
        if !enough_yet(chunk) {
            return Ok(());
        }
        offset += length;
    }
    Ok(())
}
