//! An image that was certified goes to where other hosts fetch it from.

use emberbox_core::BuildErrorCode;
use emberbox_image::{ArtifactError, PublishedImage};

use super::{BuildFailure, Work};
use crate::actor::report;

impl Work {
    /// Describes the image and its seed, and sends what the source lacks of
    /// them. One that broke off goes on where it did.
    pub(super) async fn distribute(&self, image: &PublishedImage) -> Result<(), BuildFailure> {
        let images = self.host.images(&image.name);
        let images = images.map_err(|error| BuildFailure::internal("find its image", &error))?;
        let source = self.host.parts.artifacts.source();
        if source.is_none() {
            self.say("no artifact source is set: the image stays on this host")
                .await?;
        }
        let published = self.host.publish(&images, self.spec.shape());
        // Boxed: it is large, and everything that waits for it would be.
        let published = Box::pin(published);
        let sent = self
            .unless_cancelled(async { published.await.map_err(not_published) })
            .await?;
        if source.is_none() {
            return Ok(());
        }
        let kib = sent.sent_bytes.div_ceil(1024);
        self.say(format!(
            "published: {} of {} pieces were new, {kib} KiB",
            sent.new_chunks, sent.chunks
        ))
        .await
    }
}

fn not_published(error: ArtifactError) -> BuildFailure {
    tracing::warn!(error = report(&error), "an image cannot be published");
    BuildFailure::new(BuildErrorCode::DistributionFailed, error.to_string())
}
