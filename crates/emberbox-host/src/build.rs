//! What a build is asked for, what it says while it goes on, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use emberbox_core::{BuildErrorCode, BuildId, BuildSpec, BuildState};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Host, HostError};

/// One build, as the host is asked for it.
#[derive(Debug)]
pub struct BuildRequest {
    /// Which: it owns what the build leaves behind if it breaks off.
    pub build: BuildId,
    /// What to build. `from` is an image of this host if it has one of that
    /// name, else a reference for a registry.
    pub spec: BuildSpec,
    /// How registries are reached.
    pub registry: RegistryAccess,
    /// What happens, as it does, in order. The build waits for a slow reader
    /// and goes on when there is none.
    pub events: mpsc::Sender<BuildEvent>,
    /// Ends the build: it answers [`BuildErrorCode::BuildCancelled`], and
    /// nothing of it is left.
    pub cancel: CancellationToken,
}

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryAccess {
    /// Base URLs to ask instead of a registry, by its host name, for example
    /// `docker.io`.
    pub mirrors: BTreeMap<String, String>,
    /// Who to be there, by host name. A mirror gets those of its own.
    pub credentials: BTreeMap<String, RegistryCredentials>,
}

/// Who to be at a registry.
#[derive(Debug, Clone)]
pub struct RegistryCredentials {
    /// The account.
    pub username: String,
    /// Its password or token.
    pub password: SecretString,
}

/// What happens in a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// A phase began ([`BuildState::is_phase`]).
    Entered(BuildState),
    /// A step began, or its result was there already.
    Step {
        /// Its place in the spec, from 0.
        index: u32,
        /// What it does, in words of the spec.
        command: String,
        /// Whether it need not run.
        cached: bool,
    },
    /// A line of output, without its end.
    Output {
        /// The step that wrote it; `None` for the builder's own words.
        step: Option<u32>,
        /// The line; bytes that are no UTF-8 are replaced.
        line: String,
    },
}

/// An image that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The name to boot by. It follows from the content, so two builds may
    /// have the same.
    pub image: String,
    /// The digest of its manifest.
    pub digest: String,
    /// What it takes, layers shared with others included.
    pub size_bytes: u64,
    /// How many layers it has.
    pub layers: u32,
    /// How many steps need not run.
    pub cached_steps: u32,
    /// Whether `startCmd` runs in its snapshot already, and its files are where
    /// [`emberbox_core::app`] says.
    pub app_running: bool,
}

/// Why there is no image. The message is safe to show to users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildFailure {
    /// What kind. Stable.
    pub code: BuildErrorCode,
    /// For people.
    pub message: String,
}

impl Host {
    /// Builds an image, certifies it, and publishes it. Runs to its end unless
    /// it is cancelled; what a build leaves that breaks off is removed by the
    /// next start, but for layers that later builds may use.
    pub async fn build(
        self: &Arc<Self>,
        request: BuildRequest,
    ) -> Result<BuiltImage, BuildFailure> {
        drop(request);
        Err(BuildFailure {
            code: BuildErrorCode::Internal,
            message: "this host cannot build images".to_owned(),
        })
    }

    /// Removes an image, and the layers that no other image needs. Sandboxes
    /// that run from it go on. Idempotent.
    pub async fn remove_image(&self, image: &str) -> Result<(), HostError> {
        tracing::debug!(image, "this host has built no images");
        Ok(())
    }
}
