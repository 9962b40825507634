//! What a sparse file says, as one digest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Bytes that are read, and left out if they are all zero, at once.
const BLOCK: u64 = 64 * 1024;

/// SHA-256 over the file's length and every block that is not all zero, with
/// its place. Holes cost nothing, and copies with other holes have the same
/// digest.
pub(super) fn of(file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    let zeros = vec![0; BLOCK as usize];
    let mut buffer = vec![0; BLOCK as usize];
    let mut position = 0;
    while position < length {
        let data = match seek(file, SeekFrom::Data(position)) {
            Ok(data) => data,
            // No data up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(file, SeekFrom::Hole(data))?.min(length);
        let mut block = (data - data % BLOCK).max(position);
        while block < hole {
            let bytes = &mut buffer[..BLOCK.min(length - block) as usize];
            file.read_exact_at(bytes, block)?;
            if *bytes != zeros[..bytes.len()] {
                hash.update(block.to_le_bytes());
                hash.update(&*bytes);
            }
            block += BLOCK;
        }
        position = block;
    }
    Ok(hex(&hash.finalize()))
}

/// The SHA-256 of plain bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
