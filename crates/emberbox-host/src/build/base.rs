//! What a build starts from.

use std::sync::Arc;

use emberbox_core::BuildErrorCode;
use emberbox_image::{ArtifactError, HeldImage, PullError, Registries, Stack};
use secrecy::ExposeSecret;

use crate::actor::report;

use super::{BuildFailure, RegistryAccess, Work, blocking, explain};

impl Work {
    /// An image of this host, else one of a registry.
    pub(super) async fn base(&self) -> Result<Stack, BuildFailure> {
        let from = self.spec.from.clone();
        // Held until it is pinned.
        let _held = self.held(&from).await?;
        let (home, dir, name) = (self.home(), Arc::clone(&self.dir), from.clone());
        let local = blocking("find the base image", move || {
            Stack::of_image(&home, &dir, &name)
        });
        if let Some(stack) = local.await? {
            self.say(format!("from {from}, an image of this host"))
                .await?;
            return Ok(stack);
        }
        self.say(format!("from {from}, as its registry has it"))
            .await?;
        let (home, registries) = (self.home(), registries(&self.registry));
        // Boxed: it is large, and everything that waits for it would be.
        let pulled = Box::pin(emberbox_image::pull(&home, &self.dir, &from, &registries));
        self.unless_cancelled(async { pulled.await.map_err(not_pulled) })
            .await
    }
}

impl Work {
    /// An image of this host, whole; fetched if it is one that a build made. A
    /// name of anything else is asked for nowhere but at its registry.
    async fn held(&self, from: &str) -> Result<Option<HeldImage>, BuildFailure> {
        if !emberbox_image::is_built(from) && !self.host.has_image(from) {
            return Ok(None);
        }
        let ensured = Box::pin(self.host.parts.artifacts.ensure(from));
        let unusable = |error: ArtifactError| {
            tracing::warn!(error = report(&error), "a base image cannot be used");
            BuildFailure::new(BuildErrorCode::BaseImageNotFound, error.to_string())
        };
        self.unless_cancelled(async { ensured.await.map_err(unusable) })
            .await
    }
}

fn registries(access: &RegistryAccess) -> Registries {
    let credentials = access.credentials.iter().map(|(host, credentials)| {
        let password = credentials.password.expose_secret().to_owned();
        (host.clone(), (credentials.username.clone(), password))
    });
    Registries {
        mirrors: access.mirrors.clone(),
        credentials: credentials.collect(),
    }
}

fn not_pulled(error: PullError) -> BuildFailure {
    let code = match error {
        PullError::NotFound(..) => BuildErrorCode::BaseImageNotFound,
        PullError::Unauthorized(_) => BuildErrorCode::BaseImageUnauthorized,
        PullError::Unavailable { .. } => BuildErrorCode::RegistryUnavailable,
        PullError::Mismatch(_) => BuildErrorCode::ImageDigestMismatch,
        PullError::Limit { .. } => BuildErrorCode::ImageTooLarge,
        PullError::Image(error) => return explain("pack the base image", error),
    };
    BuildFailure::new(code, error.to_string())
}
