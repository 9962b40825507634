//! What a user may change of a sandbox that is there.

use std::collections::BTreeMap;

use emberbox_core::{SandboxId, TenantId};
use serde_json::{Map, Value};
use sqlx::types::Json;

use super::{SandboxRecord, query};
use crate::{InsertError, Store, StoreError, time};

/// New values, each already checked; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// The caller's name for it.
    pub name: Option<String>,
    /// Its DNS label.
    pub slug: Option<String>,
    /// The caller's tags.
    pub tags: Option<Vec<String>>,
    /// The caller's data.
    pub metadata: Option<Map<String, Value>>,
    /// Seconds of life.
    pub timeout_sec: Option<u32>,
    /// Seconds nobody may use it before it is paused or destroyed; 0 is never.
    pub idle_timeout_sec: Option<u32>,
    /// Never ended by time.
    pub always_on: Option<bool>,
    /// Paused where others are destroyed.
    pub persistent: Option<bool>,
    /// Variables of its processes, all of them.
    pub env: Option<BTreeMap<String, String>>,
}

impl Store {
    /// Changes a sandbox of the tenant that is not destroyed. `None` if there
    /// is none.
    pub async fn edit_sandbox(
        &self,
        tenant: &TenantId,
        id: &SandboxId,
        edit: &Edit,
    ) -> Result<Option<SandboxRecord>, InsertError> {
        let mut tx = self.write().await?;
        let found = query::by_id(&mut *tx, id.as_str()).await?;
        let found =
            found.filter(|record| record.tenant == *tenant && record.destroyed_at.is_none());
        if found.is_none() {
            return Ok(None);
        }
        if let Some(slug) = &edit.slug {
            let taken: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM sandboxes \
                 WHERE slug = ? AND state <> 'destroyed' AND id <> ?)",
            )
            .bind(slug)
            .bind(id.as_str())
            .fetch_one(&mut *tx)
            .await?;
            if taken {
                return Err(InsertError::SlugTaken);
            }
        }
        sqlx::query(
            "UPDATE sandboxes SET name = coalesce(?, name), slug = coalesce(?, slug), \
             tags = coalesce(?, tags), metadata = coalesce(?, metadata), \
             timeout_sec = coalesce(?, timeout_sec), \
             idle_timeout_sec = coalesce(?, idle_timeout_sec), \
             always_on = coalesce(?, always_on), persistent = coalesce(?, persistent), \
             env = coalesce(?, env) WHERE id = ?",
        )
        .bind(&edit.name)
        .bind(&edit.slug)
        .bind(edit.tags.as_ref().map(Json))
        .bind(edit.metadata.as_ref().map(Json))
        .bind(edit.timeout_sec)
        .bind(edit.idle_timeout_sec)
        .bind(edit.always_on)
        .bind(edit.persistent)
        .bind(edit.env.as_ref().map(Json))
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let record = query::by_id(&mut *tx, id.as_str()).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(record)
    }

    /// Moves the end of a live sandbox to `seconds` from now, or from its
    /// resume if it is paused. `None` if there is no such live sandbox.
    pub async fn extend_sandbox(
        &self,
        tenant: &TenantId,
        id: &SandboxId,
        seconds: u32,
    ) -> Result<Option<SandboxRecord>, StoreError> {
        let mut tx = self.write().await?;
        let found = query::by_id(&mut *tx, id.as_str()).await?;
        let live = |record: &SandboxRecord| {
            record.tenant == *tenant
                && record.state.is_live()
                && record.destroy_requested_at.is_none()
        };
        if !found.is_some_and(|record| live(&record)) {
            return Ok(None);
        }
        sqlx::query(
            "UPDATE sandboxes SET moved_us = \
             coalesce(paused_at, ?1) + ?2 * 1000000 - (coalesce(started_at, ?1) \
             + timeout_sec * 1000000) WHERE id = ?3",
        )
        .bind(time::now().as_microsecond())
        .bind(seconds)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let record = query::by_id(&mut *tx, id.as_str()).await?;
        tx.commit().await?;
        Ok(record)
    }
}
