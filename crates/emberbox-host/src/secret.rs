//! The host's own secret: guest tokens are derived from it, so none is stored.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use emberbox_core::VmId;
use emberbox_guest::Token;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of the secret: the width of the hash it keys.
const LEN: usize = 32;

/// 32 random bytes, made once per data directory, readable by root alone.
pub(crate) struct HostSecret([u8; LEN]);

impl HostSecret {
    /// Reads the secret of this data directory, or makes it.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("host.secret");
        match fs::read(&path) {
            Ok(bytes) => {
                let bytes = bytes.try_into();
                bytes
                    .map(Self)
                    .map_err(|_| io::Error::other("host.secret is damaged"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(&path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let secret: [u8; LEN] = rand::random();
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&secret)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        Ok(Self(secret))
    }

    /// The token of one life of one guest: HMAC-SHA-256 of its id.
    pub(crate) fn guest_token(&self, vm: &VmId) -> Token {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(b"guest-token ");
        mac.update(vm.as_str().as_bytes());
        Token::new(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests;
