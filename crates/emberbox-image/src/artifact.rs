//! Artifacts: the files that images and seeds are made of, as an artifact
//! source holds them.
//!
//! ```text
//! SOURCE/images/NAME/image.json        what an image is made of
//!       /images/NAME/seeds/KEY.json    a seed of it, and what can restore that
//!       /publishing/...                the same, of what is on its way
//!       /chunks/AB/SHA256              zstd of a piece of a file, by its content
//!       /collecting                    somebody removes chunks
//! ```
//!
//! A file is described by its SHA-256 and those of its pieces of
//! [`CHUNK_BYTES`]; pieces of zeros are not stored. What several files have in
//! common is in the source once, and sent once.
//!
//! Invariants: a description is in the source only when all its chunks are; no
//! byte of a chunk is used before all of it has the digest it is named by, and
//! no file before all of it has its own; what is fetched has a temporary name
//! until then.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::ImageError;

mod budget;
mod collect;
mod fetch;
mod file;
mod images;
mod known;
mod publish;
mod source;

pub(crate) use images::described_at;
pub use images::{Artifacts, HeldImage};
pub use publish::Sent;
pub use source::{ArtifactSource, S3Access};

/// Bytes of a file in one chunk. Small enough that a change sends little and a
/// broken transfer loses little; large enough that an image has hundreds of
/// them, not hundreds of thousands.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;

/// Raised when what is in a source changes its form.
const FORMAT: u32 = 1;

/// Chunks on their way at the same time.
const CONCURRENCY: usize = 8;

/// A file, as a source holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Where it belongs, relative to the home or to its seed's directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Of all of it, holes as the zeros they read as; lower-case hex.
    pub sha256: String,
    /// Of each piece in order; none where it is all zeros.
    pub chunks: Vec<Option<String>>,
}

impl Artifact {
    /// Where a chunk is in the file: its offset and its length.
    fn place(&self, index: usize) -> (u64, usize) {
        let offset = index as u64 * CHUNK_BYTES;
        let length = self.bytes.saturating_sub(offset).min(CHUNK_BYTES);
        (offset, usize::try_from(length).unwrap_or_default())
    }

    /// Its chunks that are not zeros.
    fn data(&self) -> impl Iterator<Item = (usize, &str)> {
        let chunks = self.chunks.iter().enumerate();
        chunks.filter_map(|(index, chunk)| Some((index, chunk.as_deref()?)))
    }

    fn is_sound(&self) -> bool {
        let digests = self.chunks.iter().flatten().chain([&self.sha256]);
        self.chunks.len() as u64 == self.bytes.div_ceil(CHUNK_BYTES)
            && digests.into_iter().all(|digest| is_digest(digest))
    }
}

/// Files that belong together, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSet<F> {
    format: u32,
    chunk_bytes: u64,
    /// What they are.
    pub facts: F,
    /// The files.
    pub files: Vec<Artifact>,
}

impl<F> ArtifactSet<F> {
    /// A set of described files.
    pub fn new(facts: F, files: Vec<Artifact>) -> Self {
        Self {
            format: FORMAT,
            chunk_bytes: CHUNK_BYTES,
            facts,
            files,
        }
    }

    /// Whether this version can read it, and it can be true.
    fn check(&self, what: &str) -> Result<(), ArtifactError> {
        let unusable = |why: String| {
            let what = what.to_owned();
            Err(ArtifactError::Unusable { what, why })
        };
        if self.format != FORMAT || self.chunk_bytes != CHUNK_BYTES {
            let (format, chunk) = (self.format, self.chunk_bytes);
            return unusable(format!(
                "it is of format {format} in pieces of {chunk} bytes, and this version reads \
                 format {FORMAT} in pieces of {CHUNK_BYTES}"
            ));
        }
        match self.files.iter().find(|file| !file.is_sound()) {
            Some(file) => unusable(format!("what it says of {} cannot be", file.path)),
            None => Ok(()),
        }
    }
}

/// Why an artifact could not be published, fetched or used. `Display` is safe
/// to show to users; sources are not.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The source did not do its part.
    #[error("the artifact source {answer} when it was to {doing}")]
    Source {
        /// What was wanted of it.
        doing: String,
        /// What it did.
        answer: &'static str,
        /// All that is known.
        #[source]
        source: object_store::Error,
    },
    /// The source does not have it.
    #[error("the artifact source does not have {0}")]
    Missing(String),
    /// The content is not what its digest says.
    #[error("{0} is damaged: it is not what its digest says")]
    Damaged(String),
    /// It is damaged on this host, and there is nowhere to fetch it from.
    #[error("{0} is damaged on this host, and no artifact source is set to fetch it from")]
    NoSource(String),
    /// The source holds something that cannot be used.
    #[error("what the artifact source has as {what} cannot be used: {why}")]
    Unusable {
        /// Which object.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The source cannot be opened as it is set.
    #[error("{0}")]
    Setting(String),
    /// Something of this host's home.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl ArtifactError {
    fn source(doing: impl Into<String>, error: object_store::Error) -> Self {
        let answer = match &error {
            object_store::Error::NotFound { .. } => "says that there is no such place",
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => "refused access",
            _ => "did not answer as it should",
        };
        Self::Source {
            doing: doing.into(),
            answer,
            source: error,
        }
    }
}

fn is_digest(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() == 64 && bytes.all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A file of this home, by its path in a set; none if it can be none that a
/// set may bring.
fn home_path(path: &str) -> Option<PathBuf> {
    let parts: Vec<_> = path.split('/').collect();
    let known = match parts[..] {
        ["rootfs", file] => file.ends_with(".erofs"),
        ["initramfs", file] => file.ends_with(".cpio"),
        ["kernels", _, _] => true,
        _ => false,
    };
    let named = parts.iter().all(|part| crate::template::is_name(part));
    (known && named).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests;
