//! What a build is asked for, what it says while it goes on, and how it ends.
//!
//! ```text
//! base ─▶ step ─▶ … ─▶ settings ─▶ image ─▶ seed ─▶ two restores ─▶ vouched for
//!    each a layer, remembered by all that decides it
//! ```
//!
//! Invariants: nothing of a base image and no step runs on this machine, only
//! in a VM of its own; what a build publishes before it is proven is noted, and
//! goes if the build does not come to its end.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use emberbox_core::{BuildErrorCode, BuildId, BuildSpec, BuildState};
use emberbox_image::{
    ArchiveError, BASE_TEMPLATE, BuildDir, Home, ImageError, PublishedImage, Stack, TemplateApp,
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::actor::{Parts, report};
use crate::{Host, HostError};

mod base;
mod distribute;
mod guest;
mod lines;
mod prove;
mod shell;
mod step;

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

impl BuildFailure {
    pub(crate) fn new(code: BuildErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    fn cancelled() -> Self {
        Self::new(BuildErrorCode::BuildCancelled, "the build was cancelled")
    }

    /// Something of this host failed: it is the operator's to know what.
    fn internal(doing: &str, error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = report(error), "a build cannot {doing}");
        Self::new(
            BuildErrorCode::Internal,
            format!("the host could not {doing}"),
        )
    }
}

impl Host {
    /// Builds an image, certifies it, and publishes it. Runs to its end unless
    /// it is cancelled; what a build leaves that breaks off is removed by the
    /// next start, but for layers that later builds may use.
    pub async fn build(
        self: &Arc<Self>,
        request: BuildRequest,
    ) -> Result<BuiltImage, BuildFailure> {
        let host = Arc::clone(self);
        let built = tokio::spawn(async move { Work::begin(host, request).await?.run().await });
        let built = built.await;
        built.unwrap_or_else(|error| Err(BuildFailure::internal("go on with it", &error)))
    }

    /// Removes an image, here and in the artifact source, and the layers that
    /// no other image needs. Sandboxes that run from it go on. Idempotent.
    pub async fn remove_image(&self, image: &str) -> Result<(), HostError> {
        let parts = Arc::clone(&self.parts);
        let name = image.to_owned();
        let removed = spawn_blocking(move || parts.remove_image(&name)).await;
        removed.map_err(HostError::start)??;
        Ok(self.parts.withdraw(image).await?)
    }

    /// Removes what builds left that ended with their process.
    pub(crate) async fn sweep_builds(&self) -> Result<(), HostError> {
        let home = self.parts.seeds.home();
        let doubted = emberbox_image::sweep_builds(home).map_err(HostError::start)?;
        // Also without one: there may be layers that nobody needs.
        for image in doubted.iter().map(String::as_str).chain([""]) {
            self.parts.remove_image(image)?;
        }
        for image in &doubted {
            // A host opens without its artifact source as well.
            if let Err(error) = self.parts.withdraw(image).await {
                let error = report(&error);
                tracing::warn!(
                    image,
                    error,
                    "an image that is not proven stays in the source"
                );
            }
        }
        Ok(())
    }
}

impl Parts {
    /// Removes an image from this host.
    pub(crate) fn remove_image(&self, image: &str) -> Result<(), HostError> {
        let home = self.seeds.home();
        if let Ok(Some(images)) = emberbox_image::images(home, image) {
            self.seeds.forget(&images).map_err(HostError::start)?;
        }
        let in_use = self.layers_in_use()?;
        emberbox_image::remove_image(home, image, &in_use).map_err(HostError::start)
    }

    /// The layers that VMs and snapshots of this host need.
    pub(crate) fn layers_in_use(&self) -> Result<Vec<PathBuf>, HostError> {
        let records = self.ledger.records().map_err(HostError::start)?;
        let running = records.into_iter().flat_map(|record| record.images.layers);
        let paused = self.snapshots.layers().map_err(HostError::start)?;
        Ok(running.chain(paused).collect())
    }
}

/// One build under way.
struct Work {
    host: Arc<Host>,
    spec: BuildSpec,
    registry: RegistryAccess,
    events: mpsc::Sender<BuildEvent>,
    cancel: CancellationToken,
    dir: Arc<BuildDir>,
    cached_steps: u32,
}

impl Work {
    async fn begin(host: Arc<Host>, request: BuildRequest) -> Result<Self, BuildFailure> {
        let home = host.parts.seeds.home().clone();
        let name = request.build.to_string();
        let dir = blocking("begin", move || BuildDir::create(&home, &name)).await?;
        Ok(Self {
            host,
            spec: request.spec,
            registry: request.registry,
            events: request.events,
            cancel: request.cancel,
            dir: Arc::new(dir),
            cached_steps: 0,
        })
    }

    async fn run(mut self) -> Result<BuiltImage, BuildFailure> {
        self.enter(BuildState::Building).await?;
        let stack = self.base().await?;
        let stack = self.steps(stack).await?;
        let stack = self.configured(stack).await?;
        let size_bytes = stack.bytes();
        let layers = u32::try_from(stack.layers.len()).unwrap_or(u32::MAX);
        let image = self.publish(stack).await?;
        let proven = self.prove(&image).await;
        if let Err(failure) = proven {
            // Another build may have vouched for the same before.
            if !image.known
                && let Err(error) = self.host.remove_image(&image.name).await
            {
                tracing::warn!(error = report(&error), "an image that failed stays");
            }
            return Err(failure);
        }
        let dir = Arc::clone(&self.dir);
        blocking("finish", move || dir.vouch()).await?;
        // It may go itself only once it is vouched for and not pinned.
        let (host, dir) = (Arc::clone(&self.host), self.dir);
        drop(dir);
        host.keep_to_budget().await;
        Ok(BuiltImage {
            image: image.name,
            digest: image.digest,
            size_bytes,
            layers,
            cached_steps: self.cached_steps,
            app_running: self.spec.start_cmd.is_some(),
        })
    }

    async fn publish(&self, stack: Stack) -> Result<PublishedImage, BuildFailure> {
        let (home, dir) = (self.home(), Arc::clone(&self.dir));
        let app = self.spec.start_cmd.as_deref().map(|start| {
            let command = |line| shell::as_user(&self.spec.user, &self.spec.workdir, line);
            TemplateApp {
                start: shell::found(start, &command(start)),
                ready: self.spec.ready_cmd.as_deref().map(command),
            }
        });
        blocking("publish the image", move || {
            let image = emberbox_image::publish_image(&home, &stack, app, BASE_TEMPLATE)?;
            if !image.known {
                dir.doubt(&image.name)?;
            }
            Ok(image)
        })
        .await
    }

    async fn prove(&self, image: &PublishedImage) -> Result<(), BuildFailure> {
        self.enter(BuildState::Snapshotting).await?;
        self.snapshot(image).await?;
        self.enter(BuildState::Certifying).await?;
        self.certify(image).await?;
        self.enter(BuildState::Distributing).await?;
        self.distribute(image).await
    }

    async fn enter(&self, state: BuildState) -> Result<(), BuildFailure> {
        self.tell(BuildEvent::Entered(state)).await
    }

    /// Waits for a slow reader; one that is gone wants to know nothing.
    async fn tell(&self, event: BuildEvent) -> Result<(), BuildFailure> {
        self.unless_cancelled(async {
            let _ = self.events.send(event).await;
            Ok(())
        })
        .await
    }

    async fn say(&self, line: impl Into<String>) -> Result<(), BuildFailure> {
        let line = line.into();
        self.tell(BuildEvent::Output { step: None, line }).await
    }

    /// Drops `work` when the build is cancelled: it must leave nothing then.
    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, BuildFailure>>,
    ) -> Result<T, BuildFailure> {
        let done = self.cancel.run_until_cancelled(work).await;
        done.unwrap_or_else(|| Err(BuildFailure::cancelled()))
    }

    fn home(&self) -> Home {
        self.host.parts.seeds.home().clone()
    }
}

/// Runs blocking work of the image crate. It runs on when the build is
/// cancelled, and holds the build's directory until it is done.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, BuildFailure> {
    let done = spawn_blocking(work).await;
    let done = done.map_err(|error| BuildFailure::internal(doing, &error))?;
    done.map_err(|error| explain(doing, error))
}

/// What of an image's failure is its author's to know.
fn explain(doing: &str, error: ImageError) -> BuildFailure {
    let code = match &error {
        ImageError::Unsupported(_) => BuildErrorCode::UnsupportedBaseImage,
        ImageError::Archive(ArchiveError::Refused { .. } | ArchiveError::Damaged(_)) => {
            BuildErrorCode::ImageRefused
        }
        ImageError::Archive(ArchiveError::Limit { .. }) => BuildErrorCode::ImageTooLarge,
        _ => return BuildFailure::internal(doing, &error),
    };
    BuildFailure::new(code, error.to_string())
}
