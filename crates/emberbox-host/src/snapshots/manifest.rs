//! What a snapshot says about itself.

use std::fs::File;
use std::io;

use emberbox_core::{SandboxId, Shape, VmId};
use emberbox_runtime::BootImages;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Subject, digest};
use crate::host::AfterSnapshot;

/// Raised when the files, or what they mean, change.
pub(super) const VERSION: u32 = 1;

/// A snapshot's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    version: u32,
    /// The engine's `snapshot_compatibility`.
    pub(crate) engine: String,
    pub(crate) shape: Shape,
    pub(crate) images: BootImages,
    /// The life it is of, whose token the guest's memory holds.
    pub(crate) vm: VmId,
    pub(crate) sandbox: SandboxId,
    pub(crate) after: After,
    pub(crate) files: Files,
    created: Timestamp,
}

/// What became of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum After {
    /// It went on.
    GoOn,
    /// It ended: it must not run any more once this can be read.
    End,
}

/// Every file beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    pub(crate) memory: FileFacts,
    pub(crate) state: FileFacts,
    pub(crate) scratch: FileFacts,
    pub(crate) base: Option<FileFacts>,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileFacts {
    pub(crate) bytes: u64,
    sha256: String,
}

impl FileFacts {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self {
            bytes: file.metadata()?.len(),
            sha256: digest::of(file)?,
        })
    }
}

/// A manifest that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Not what was written.
    Damaged,
    /// Of another version.
    Version(u32),
}

/// How a manifest is stored: it vouches for the files, its digest for it.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    manifest: T,
    sha256: String,
}

/// What every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    pub(super) fn new(engine: String, subject: Subject, files: Files) -> Self {
        Self {
            version: VERSION,
            engine,
            shape: subject.shape,
            images: subject.images,
            vm: subject.vm,
            sandbox: subject.sandbox,
            after: match subject.after {
                AfterSnapshot::GoOn => After::GoOn,
                AfterSnapshot::End => After::End,
            },
            files,
            created: Timestamp::now(),
        }
    }

    pub(super) fn to_json(&self) -> io::Result<Vec<u8>> {
        let sha256 = digest::of_bytes(&serde_json::to_vec(self)?);
        let manifest = self;
        Ok(serde_json::to_vec_pretty(&Stored { manifest, sha256 })?)
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, Unreadable> {
        let stored: Stored<Versioned> =
            serde_json::from_slice(bytes).map_err(|_| Unreadable::Damaged)?;
        if stored.manifest.version != VERSION {
            return Err(Unreadable::Version(stored.manifest.version));
        }
        let stored: Stored<Self> =
            serde_json::from_slice(bytes).map_err(|_| Unreadable::Damaged)?;
        let plain = serde_json::to_vec(&stored.manifest).map_err(|_| Unreadable::Damaged)?;
        if digest::of_bytes(&plain) != stored.sha256 {
            return Err(Unreadable::Damaged);
        }
        Ok(stored.manifest)
    }
}
