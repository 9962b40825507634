//! Batches: many sandboxes asked for at once.
//!
//! Decides: what becomes of an item. Invariants: a sandbox of a batch and its
//! item are one transaction, so that a batch which is taken up again makes no
//! second one; a batch that is settled has nothing left to do.

use emberbox_core::{BatchId, Limits, SandboxId, TenantId};
use jiff::Timestamp;
use sqlx::types::Json;
use sqlx::{Sqlite, Transaction};

use crate::store::parse;
use crate::{
    Bounds, Caller, InsertError, NewSandbox, OnceRequest, PlaceRequest, Store, StoreError, key,
    request, sandbox, time,
};

/// A batch to make.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// What each of its sandboxes is to be.
    pub request: NewSandbox,
    /// How many.
    pub count: u32,
    /// How many of them are made at a time.
    pub concurrency: u32,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// Which.
    pub id: BatchId,
    /// What the key it was asked for with sees.
    pub bounds: Bounds,
    /// How many are made at a time.
    pub concurrency: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was cancelled.
    pub cancelled_at: Option<Timestamp>,
    /// When nothing was left to do.
    pub settled_at: Option<Timestamp>,
    /// How many items are in each state, in the order of
    /// [`BatchItemState::ALL`].
    pub counts: [u32; 5],
}

impl BatchRecord {
    /// How many items are in this state.
    #[must_use]
    pub fn count(&self, state: BatchItemState) -> u32 {
        let of = BatchItemState::ALL.iter().zip(self.counts);
        of.filter(|(known, _)| **known == state)
            .map(|(_, count)| count)
            .sum()
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchItemState {
    /// Nothing yet.
    Queued,
    /// Its sandbox is recorded and comes up.
    Creating,
    /// Its sandbox came up.
    Completed,
    /// It did not, or could not be recorded.
    Failed,
    /// The batch was cancelled before.
    Cancelled,
}

impl BatchItemState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Creating,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Creating => "creating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::str::FromStr for BatchItemState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

/// One item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchItem {
    /// Counted from 0.
    pub position: u32,
    /// What became of it.
    pub state: BatchItemState,
    /// Its sandbox, once there is one.
    pub sandbox: Option<SandboxId>,
    /// Why it failed: a code and a sentence.
    pub error: Option<(String, String)>,
    /// When that was so.
    pub updated_at: Timestamp,
}

/// What is left to do of a batch.
#[derive(Debug, Clone)]
pub struct BatchWork {
    /// Which.
    pub id: BatchId,
    /// Who asked for it.
    pub caller: Caller,
    /// What each sandbox is to be.
    pub request: NewSandbox,
    /// How many are made at a time.
    pub concurrency: u32,
}

impl Store {
    /// Records a batch with all its items queued; `once` asked for it. Its
    /// sandboxes belong where the request says it now, whatever is renamed
    /// later.
    pub async fn insert_batch(
        &self,
        caller: Caller,
        new: NewBatch,
        once: Option<&OnceRequest>,
        limits: &Limits,
    ) -> Result<BatchWork, InsertError> {
        let mut tx = self.write().await?;
        let at = sandbox::belonging(&mut tx, &caller, &new.request, limits).await?;
        let each = NewSandbox {
            place: PlaceRequest {
                workspace_id: Some(at.workspace),
                project_id: Some(at.project),
                ..PlaceRequest::default()
            },
            external: at.external,
            ..new.request
        };
        let id = BatchId::generate();
        let now = time::now().as_microsecond();
        sqlx::query(
            "INSERT INTO batches (id, tenant_id, key_id, user_id, request, concurrency, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id.as_str())
        .bind(caller.tenant.as_str())
        .bind(caller.key.as_str())
        .bind(caller.user.as_str())
        .bind(Json(&each))
        .bind(new.concurrency)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        for position in 0..new.count {
            sqlx::query(
                "INSERT INTO batch_items (batch_id, position, state, updated_at) \
                 VALUES (?, ?, 'queued', ?)",
            )
            .bind(id.as_str())
            .bind(position)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        }
        if let Some(once) = once {
            request::made(&mut tx, once, id.as_str()).await?;
        }
        tx.commit().await?;
        Ok(BatchWork {
            id,
            caller,
            request: each,
            concurrency: new.concurrency,
        })
    }

    /// One batch of the tenant.
    pub async fn batch(
        &self,
        tenant: &TenantId,
        id: &BatchId,
    ) -> Result<Option<BatchRecord>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT b.concurrency, b.created_at, b.cancelled_at, b.settled_at, k.workspace_id, k.end_user \
             FROM batches b JOIN api_keys k ON k.id = b.key_id \
             WHERE b.id = ? AND b.tenant_id = ?",
        )
        .bind(id.as_str())
        .bind(tenant.as_str())
        .fetch_optional(self.readers())
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let counted: Vec<(String, u32)> = sqlx::query_as(
            "SELECT state, count(*) FROM batch_items WHERE batch_id = ? GROUP BY state",
        )
        .bind(id.as_str())
        .fetch_all(self.readers())
        .await?;
        let counts = BatchItemState::ALL.map(|state| {
            let found = counted.iter().find(|(name, _)| name == state.as_str());
            found.map_or(0, |(_, count)| *count)
        });
        Ok(Some(BatchRecord {
            id: id.clone(),
            bounds: Bounds {
                workspace: row
                    .workspace_id
                    .map(|id| parse("api_keys.workspace_id", &id))
                    .transpose()?,
                end_user: row.end_user,
            },
            concurrency: row.concurrency,
            created_at: time::read("batches.created_at", row.created_at)?,
            cancelled_at: time::read_opt("batches.cancelled_at", row.cancelled_at)?,
            settled_at: time::read_opt("batches.settled_at", row.settled_at)?,
            counts,
        }))
    }

    /// The first items of a batch.
    pub async fn batch_items(
        &self,
        id: &BatchId,
        limit: u32,
    ) -> Result<Vec<BatchItem>, StoreError> {
        let rows: Vec<ItemRow> = sqlx::query_as(
            "SELECT position, state, sandbox_id, error_code, error_message, updated_at \
             FROM batch_items WHERE batch_id = ? ORDER BY position LIMIT ?",
        )
        .bind(id.as_str())
        .bind(limit)
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(ItemRow::into_item).collect()
    }

    /// What every batch that is not settled needs.
    pub async fn unsettled_batches(&self) -> Result<Vec<BatchWork>, StoreError> {
        let rows: Vec<WorkRow> = sqlx::query_as(
            "SELECT id, key_id, request, concurrency FROM batches \
             WHERE settled_at IS NULL ORDER BY created_at",
        )
        .fetch_all(self.readers())
        .await?;
        let mut unsettled = Vec::with_capacity(rows.len());
        for row in rows {
            let key = parse("batches.key_id", &row.key_id)?;
            let caller = key::whoever_began(self.readers(), &key).await?;
            let caller = caller.ok_or(StoreError::NotBootstrapped)?;
            unsettled.push(row.into_work(caller)?);
        }
        Ok(unsettled)
    }

    /// Records what became of an item, unless that is decided already.
    pub async fn decide_batch_item(
        &self,
        id: &BatchId,
        position: u32,
        state: BatchItemState,
        error: Option<(&str, &str)>,
    ) -> Result<(), StoreError> {
        let (code, message) = error.unzip();
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE batch_items SET state = ?, error_code = ?, error_message = ?, updated_at = ? \
             WHERE batch_id = ? AND position = ? AND state IN ('queued', 'creating')",
        )
        .bind(state.as_str())
        .bind(code)
        .bind(message)
        .bind(time::now().as_microsecond())
        .bind(id.as_str())
        .bind(position)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Cancels the items that nothing was done for; false if the tenant has no
    /// such batch. Repeating is safe.
    pub async fn cancel_batch(&self, tenant: &TenantId, id: &BatchId) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let now = time::now().as_microsecond();
        let known = sqlx::query(
            "UPDATE batches SET cancelled_at = CASE WHEN settled_at IS NULL \
             THEN coalesce(cancelled_at, ?) ELSE cancelled_at END WHERE id = ? AND tenant_id = ?",
        )
        .bind(now)
        .bind(id.as_str())
        .bind(tenant.as_str())
        .execute(&mut *tx)
        .await?;
        if known.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE batch_items SET state = 'cancelled', updated_at = ? \
             WHERE batch_id = ? AND state = 'queued'",
        )
        .bind(now)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Settles a batch that has nothing left to do.
    pub async fn settle_batch(&self, id: &BatchId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE batches SET settled_at = ? WHERE id = ? AND settled_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM batch_items WHERE batch_id = batches.id \
             AND state IN ('queued', 'creating'))",
        )
        .bind(time::now().as_microsecond())
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Gives an item its sandbox, in the transaction that records it; false if the
/// item has one or was cancelled.
pub(crate) async fn claim(
    tx: &mut Transaction<'static, Sqlite>,
    (batch, position): &(BatchId, u32),
    sandbox: &SandboxId,
) -> Result<bool, StoreError> {
    let claimed = sqlx::query(
        "UPDATE batch_items SET state = 'creating', sandbox_id = ?, updated_at = ? \
         WHERE batch_id = ? AND position = ? AND state = 'queued'",
    )
    .bind(sandbox.as_str())
    .bind(time::now().as_microsecond())
    .bind(batch.as_str())
    .bind(position)
    .execute(&mut **tx)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

#[derive(sqlx::FromRow)]
struct Row {
    workspace_id: Option<String>,
    end_user: Option<String>,
    concurrency: u32,
    created_at: i64,
    cancelled_at: Option<i64>,
    settled_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct ItemRow {
    position: u32,
    state: String,
    sandbox_id: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    updated_at: i64,
}

impl ItemRow {
    fn into_item(self) -> Result<BatchItem, StoreError> {
        let sandbox = self.sandbox_id.as_deref();
        Ok(BatchItem {
            position: self.position,
            state: parse("batch_items.state", &self.state)?,
            sandbox: sandbox
                .map(|id| parse("batch_items.sandbox_id", id))
                .transpose()?,
            error: self.error_code.zip(self.error_message),
            updated_at: time::read("batch_items.updated_at", self.updated_at)?,
        })
    }
}

#[derive(sqlx::FromRow)]
struct WorkRow {
    id: String,
    key_id: String,
    request: Json<NewSandbox>,
    concurrency: u32,
}

impl WorkRow {
    fn into_work(self, caller: Caller) -> Result<BatchWork, StoreError> {
        Ok(BatchWork {
            id: parse("batches.id", &self.id)?,
            caller,
            request: self.request.0,
            concurrency: self.concurrency,
        })
    }
}

#[cfg(test)]
mod tests;
