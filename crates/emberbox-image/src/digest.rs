//! SHA-256, in the lower-case hex that names files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// One read of a file that is hashed: large enough that the system call does
/// not show.
const READ_BYTES: usize = 1 << 20;

/// The digest of `bytes`.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest of a file's content.
pub(crate) fn of_file(path: &Path) -> io::Result<String> {
    of_reader(&mut File::open(path)?)
}

/// The digest of all that can be read.
pub(crate) fn of_reader(reader: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// A key over several inputs. Each is hashed with its length, so that moving a
/// byte from one input to the next gives another key.
pub(crate) fn key<I, T>(parts: I) -> String
where
    I: IntoIterator<Item = T>,
    T: AsRef<[u8]>,
{
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// The first digits of a digest, for names that people read.
pub(crate) fn short(digest: &str) -> &str {
    /// 64 bits: no chance collision among the few files of one directory.
    const DIGITS: usize = 16;
    &digest[..DIGITS]
}
