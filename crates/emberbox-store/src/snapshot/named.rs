//! Names that keep a snapshot, also when its sandbox is gone.

use emberbox_core::{SnapshotId, TenantId};
use jiff::Timestamp;
use uuid::Uuid;

use super::HistoryRecord;
use crate::store::parse;
use crate::{Store, StoreError, time};

/// A name and what it keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRecord {
    /// The name.
    pub name: String,
    /// The snapshot.
    pub kept: HistoryRecord,
    /// When it was given.
    pub created_at: Timestamp,
}

/// Why no name was given. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// The tenant has no such snapshot, or its sandbox is being destroyed.
    #[error("no such snapshot")]
    NoSnapshot,
    /// The tenant gave the name to another snapshot.
    #[error("the name is in use")]
    Taken,
    /// The snapshot has a name.
    #[error("the snapshot has a name")]
    AlreadyNamed,
    /// The tenant has as many names as it may have.
    #[error("the tenant has {0} named snapshots")]
    LimitExceeded(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for NameError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Gives a complete snapshot a name, of which the tenant may have `max`.
    pub async fn name_snapshot(
        &self,
        tenant: &TenantId,
        name: &str,
        snapshot: &SnapshotId,
        max: u32,
    ) -> Result<(), NameError> {
        let mut tx = self.write().await?;
        let known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM snapshots n JOIN sandboxes s ON s.id = n.sandbox_id \
             WHERE n.id = ? AND n.tenant_id = ? AND n.kind = 'user' AND n.state = 'ready' \
             AND s.destroy_requested_at IS NULL)",
        )
        .bind(snapshot.as_str())
        .bind(tenant.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if !known {
            return Err(NameError::NoSnapshot);
        }
        let names: Vec<(String, String)> =
            sqlx::query_as("SELECT name, snapshot_id FROM named_snapshots WHERE tenant_id = ?")
                .bind(tenant.as_str())
                .fetch_all(&mut *tx)
                .await?;
        if names.iter().any(|(taken, _)| taken == name) {
            return Err(NameError::Taken);
        }
        if names.iter().any(|(_, named)| named == snapshot.as_str()) {
            return Err(NameError::AlreadyNamed);
        }
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        if count >= max {
            return Err(NameError::LimitExceeded(count));
        }
        sqlx::query(
            "INSERT INTO named_snapshots (tenant_id, name, snapshot_id, created_at) \
             VALUES (?, ?, ?, ?)",
        )
        .bind(tenant.as_str())
        .bind(name)
        .bind(snapshot.as_str())
        .bind(time::now().as_microsecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The tenant's names, newest first.
    pub async fn named_snapshots(
        &self,
        tenant: &TenantId,
        workspace: Option<Uuid>,
    ) -> Result<Vec<NamedRecord>, StoreError> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT name, snapshot_id, created_at FROM named_snapshots WHERE tenant_id = ? \
             ORDER BY created_at DESC, name",
        )
        .bind(tenant.as_str())
        .fetch_all(self.readers())
        .await?;
        let mut named = Vec::new();
        for row in rows {
            named.extend(self.with_snapshot(tenant, row).await?);
        }
        named.retain(|record| workspace.is_none_or(|wanted| record.kept.workspace == wanted));
        Ok(named)
    }

    /// What a name of the tenant keeps.
    pub async fn named_snapshot(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Option<NamedRecord>, StoreError> {
        let row: Option<(String, String, i64)> = sqlx::query_as(
            "SELECT name, snapshot_id, created_at FROM named_snapshots \
             WHERE tenant_id = ? AND name = ?",
        )
        .bind(tenant.as_str())
        .bind(name)
        .fetch_optional(self.readers())
        .await?;
        match row {
            Some(row) => self.with_snapshot(tenant, row).await,
            None => Ok(None),
        }
    }

    /// Takes a name away from its snapshot. Idempotent.
    pub async fn remove_name(&self, tenant: &TenantId, name: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM named_snapshots WHERE tenant_id = ? AND name = ?")
            .bind(tenant.as_str())
            .bind(name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn with_snapshot(
        &self,
        tenant: &TenantId,
        (name, snapshot, created_at): (String, String, i64),
    ) -> Result<Option<NamedRecord>, StoreError> {
        let snapshot = parse("named_snapshots.snapshot_id", &snapshot)?;
        let kept = self.any_snapshot(tenant, &snapshot).await?;
        let created_at = time::read("named_snapshots.created_at", created_at)?;
        Ok(kept.map(|kept| NamedRecord {
            name,
            kept,
            created_at,
        }))
    }
}
