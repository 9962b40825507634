//! What a build starts from.

use std::sync::Arc;

use emberbox_core::BuildErrorCode;
use emberbox_image::{PullError, Registries, Stack};
use secrecy::ExposeSecret;

use super::{BuildFailure, RegistryAccess, Work, blocking, explain};

impl Work {
    /// An image of this host, else one of a registry.
    pub(super) async fn base(&self) -> Result<Stack, BuildFailure> {
        let from = self.spec.from.clone();
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
