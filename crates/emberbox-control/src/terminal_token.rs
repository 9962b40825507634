//! What opens a terminal's socket without a key: a browser sends no header.
//!
//! A JWT that names one terminal of one sandbox and the key it was made with,
//! and expires soon. What signs it is kept in a file that only the server's user
//! reads, so that a page which is open while the server restarts comes back to
//! its terminal.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use emberbox_core::{ApiKeyId, SandboxId};
use emberbox_store::Caller;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use sha2::Sha512;

/// How long a token is good for: a page has to load, and a link that leaks is
/// soon worthless.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);

/// Bytes of the key: as many as HS512 gives out (RFC 7518, 3.2).
const KEY_BYTES: usize = 64;

/// Longest token that is looked at; ours have some 300 bytes.
const TOKEN_MAX: usize = 1024;

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The sandbox.
    #[serde(rename = "sub")]
    pub(crate) sandbox: SandboxId,
    /// The terminal.
    #[serde(rename = "sid")]
    pub(crate) session: String,
    /// The key it was made with; the token is worth no more.
    pub(crate) key: ApiKeyId,
    /// Which of that key's secrets.
    #[serde(rename = "gen")]
    pub(crate) generation: u32,
    /// Seconds since the Unix epoch.
    pub(crate) exp: i64,
}

/// Signs tokens, and tells its own from others.
pub(crate) struct TerminalKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl TerminalKey {
    /// The key in this file, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(secret) if secret.len() == KEY_BYTES => return Ok(Self::of(&secret)),
            Ok(_torn) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut secret = [0; KEY_BYTES];
        rand::fill(&mut secret[..]);
        // Whole or not at all, and never readable by anybody else.
        let draft = path.with_extension("draft");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&secret)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(Self::of(&secret))
    }

    /// A key that nobody else has.
    pub(crate) fn random() -> Self {
        let mut secret = [0; KEY_BYTES];
        rand::fill(&mut secret[..]);
        Self::of(&secret)
    }

    fn of(secret: &[u8]) -> Self {
        // An error says that it is installed already: it is the only one here.
        let _ = PROVIDER.install_default();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }

    /// A token for one terminal, and when it expires.
    pub(crate) fn sign(
        &self,
        sandbox: &SandboxId,
        caller: &Caller,
        session: &str,
    ) -> (String, Timestamp) {
        let expires = Timestamp::now() + TOKEN_LIFE;
        (self.sign_until(sandbox, caller, session, expires), expires)
    }

    fn sign_until(
        &self,
        sandbox: &SandboxId,
        caller: &Caller,
        session: &str,
        expires: Timestamp,
    ) -> String {
        let claims = Claims {
            sandbox: sandbox.clone(),
            session: session.to_owned(),
            key: caller.key.clone(),
            generation: caller.generation,
            exp: expires.as_second(),
        };
        encode(&Header::new(Algorithm::HS512), &claims, &self.encoding)
            .expect("strings become JSON, and HMAC takes every key")
    }

    /// What a token is good for now, if it is ours.
    pub(crate) fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let mut validation = Validation::new(Algorithm::HS512);
        validation.leeway = 0;
        let data = decode::<Claims>(token, &self.decoding, &validation).ok()?;
        Some(data.claims)
    }
}

/// HS512 and nothing else.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        only_hs512(*algorithm)?;
        Ok(Box::new(Hs512::new(key.as_bytes())?))
    },
    verifier_factory: |algorithm, key| {
        only_hs512(*algorithm)?;
        Ok(Box::new(Hs512::new(key.try_get_as_bytes()?)?))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

fn only_hs512(algorithm: Algorithm) -> jsonwebtoken::errors::Result<()> {
    if algorithm == Algorithm::HS512 {
        Ok(())
    } else {
        Err(ErrorKind::InvalidAlgorithm.into())
    }
}

struct Hs512(Hmac<Sha512>);

impl Hs512 {
    fn new(key: &[u8]) -> jsonwebtoken::errors::Result<Self> {
        let mac = Hmac::new_from_slice(key).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(Self(mac))
    }
}

impl Signer<Vec<u8>> for Hs512 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mac = self.0.clone().chain_update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs512 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let mac = self.0.clone().chain_update(message);
        // In constant time.
        mac.verify_slice(signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs512 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS512
    }
}

impl JwtVerifier for Hs512 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS512
    }
}

#[cfg(test)]
mod tests;
