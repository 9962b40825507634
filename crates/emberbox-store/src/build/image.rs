//! Which built images are needed.
//!
//! An image is needed while it is what a template boots, or while a sandbox
//! that came from it is not destroyed: its VM may have to come up again.

use emberbox_core::BuildId;
use sqlx::{Sqlite, Transaction};

use super::BuildImage;
use crate::{Store, StoreError, time};

impl Store {
    /// The images that nobody needs, told once each: from now on no sandbox is
    /// made from them.
    pub async fn take_unneeded_images(&self) -> Result<Vec<String>, StoreError> {
        let mut tx = self.write().await?;
        let images: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT image_id FROM template_builds AS build \
             WHERE image_id IS NOT NULL AND image_removed_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM sandboxes \
                             WHERE image_id = build.image_id AND state <> 'destroyed') \
             AND NOT EXISTS (SELECT 1 FROM template_builds AS booted \
                 JOIN templates ON templates.id = booted.template_id AND deleted_at IS NULL \
                 WHERE booted.image_id = build.image_id AND booted.version = \
                     (SELECT max(version) FROM template_builds AS other \
                      WHERE other.template_id = booted.template_id AND state = 'ready'))",
        )
        .fetch_all(&mut *tx)
        .await?;
        for image in &images {
            sqlx::query(
                "UPDATE template_builds SET image_removed_at = ? \
                 WHERE image_id = ? AND image_removed_at IS NULL",
            )
            .bind(time::now().as_microsecond())
            .bind(image)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(images)
    }

    /// An image that was taken is still there: it is told again.
    pub async fn image_stays(&self, image: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE template_builds SET image_removed_at = NULL WHERE image_id = ?")
            .bind(image)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Notes what a build made, in the transaction that ends it.
pub(super) async fn note(
    tx: &mut Transaction<'static, Sqlite>,
    id: &BuildId,
    image: &BuildImage,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE template_builds SET image_id = ?, digest = ?, size_bytes = ?, layers = ?, \
         cached_steps = ?, app_running = ?, image_removed_at = NULL WHERE id = ?",
    )
    .bind(&image.image)
    .bind(&image.digest)
    .bind(i64::try_from(image.size_bytes).unwrap_or(i64::MAX))
    .bind(image.layers)
    .bind(image.cached_steps)
    .bind(image.app_running)
    .bind(id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether a sandbox may be made from a build's image, in the transaction that
/// records the sandbox.
pub(crate) async fn can_boot(
    tx: &mut Transaction<'static, Sqlite>,
    build: &BuildId,
) -> Result<bool, StoreError> {
    let can = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM template_builds \
         WHERE id = ? AND state = 'ready' AND image_removed_at IS NULL)",
    )
    .bind(build.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(can)
}
