//! A tenant's own domain for its previews.

use emberbox_core::TenantId;

use crate::store::parse;
use crate::{Store, StoreError};

impl Store {
    /// The domain a tenant's previews are told under, if it has one.
    pub async fn preview_domain(&self, tenant: &TenantId) -> Result<Option<String>, StoreError> {
        let read = async {
            let domain = sqlx::query_scalar("SELECT preview_domain FROM tenants WHERE id = ?")
                .bind(tenant.as_str())
                .fetch_optional(self.readers());
            Ok(domain.await?)
        };
        let domain = self
            .fresh()
            .or_read(|kept| &mut kept.preview_domains, tenant.clone(), read)
            .await?;
        Ok(domain.flatten())
    }

    /// Whose domain this is.
    pub async fn tenant_of_preview_domain(
        &self,
        domain: &str,
    ) -> Result<Option<TenantId>, StoreError> {
        let tenant: Option<String> =
            sqlx::query_scalar("SELECT id FROM tenants WHERE preview_domain = ?")
                .bind(domain)
                .fetch_optional(self.readers())
                .await?;
        tenant.map(|id| parse("tenants.id", &id)).transpose()
    }

    /// Gives a tenant a domain of its own, or takes it away. The domain is
    /// checked already. False if another tenant has it, or none is this one.
    pub async fn set_preview_domain(
        &self,
        tenant: &TenantId,
        domain: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "UPDATE tenants SET preview_domain = ?1 WHERE id = ?2 AND NOT EXISTS \
             (SELECT 1 FROM tenants WHERE preview_domain = ?1 AND id <> ?2)",
        )
        .bind(domain)
        .bind(tenant.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}
