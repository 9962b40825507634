//! Requests that carry an `Idempotency-Key`, and what came of them.
//!
//! Decides: what a repeat is told. Invariants: a key belongs to one tenant and
//! one method and path; what a request makes is recorded by the transaction
//! that makes it, so that no crash comes between them; what is older than
//! [`WINDOW`] counts as never said.

use emberbox_core::TenantId;
use jiff::{SignedDuration, Timestamp};
use sqlx::{Sqlite, SqliteExecutor, Transaction};

use crate::{Store, StoreError, time};

/// How long a key is remembered (`reference.txt`, "Request Headers").
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Which request: the same key on another path is another request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Whose.
    pub tenant: TenantId,
    /// Method and path.
    pub scope: String,
    /// What the client calls it.
    pub key: String,
}

/// A request that happens once, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceRequest {
    /// Which.
    pub key: RequestKey,
    /// Of its body: a repeat sends the same.
    pub body_sha256: [u8; 32],
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recalled {
    /// Nothing.
    Nothing,
    /// Its key came with another body before.
    OtherBody,
    /// It made this, and its answer is not known.
    Made(String),
    /// It was answered.
    Answered {
        /// What it made, if that was recorded.
        made: Option<String>,
        /// Its answer.
        answer: Answer,
    },
}

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON; none if it was too large to keep.
    pub body: Option<Vec<u8>>,
}

impl Store {
    /// What is known of a request.
    pub async fn recall(&self, request: &OnceRequest) -> Result<Recalled, StoreError> {
        recall(self.readers(), request).await
    }

    /// Keeps the answer of a request.
    pub async fn keep_answer(
        &self,
        request: &OnceRequest,
        answer: &Answer,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO requests (tenant_id, scope, key, body_sha256, status, body, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant_id, scope, key) DO UPDATE SET \
             body_sha256 = excluded.body_sha256, status = excluded.status, body = excluded.body, \
             created_at = excluded.created_at",
        )
        .bind(request.key.tenant.as_str())
        .bind(&request.key.scope)
        .bind(&request.key.key)
        .bind(&request.body_sha256[..])
        .bind(answer.status)
        .bind(answer.body.as_deref())
        .bind(time::now().as_microsecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets the requests that are too old. Idempotent.
    pub async fn forget_old_requests(&self, now: Timestamp) -> Result<(), StoreError> {
        let oldest = oldest(now);
        let some: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM requests WHERE created_at < ?)")
                .bind(oldest)
                .fetch_one(self.readers())
                .await?;
        if some {
            let mut tx = self.write().await?;
            sqlx::query("DELETE FROM requests WHERE created_at < ?")
                .bind(oldest)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// What is known of a request, as this transaction sees it.
pub(crate) async fn recall(
    executor: impl SqliteExecutor<'_>,
    request: &OnceRequest,
) -> Result<Recalled, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT body_sha256, made_id, status, body FROM requests \
         WHERE tenant_id = ? AND scope = ? AND key = ? AND created_at >= ?",
    )
    .bind(request.key.tenant.as_str())
    .bind(&request.key.scope)
    .bind(&request.key.key)
    .bind(oldest(time::now()))
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else {
        return Ok(Recalled::Nothing);
    };
    let same = row.body_sha256.is_none_or(|sha| sha == request.body_sha256);
    Ok(match (same, row.status, row.made_id) {
        (false, ..) => Recalled::OtherBody,
        (true, Some(status), made) => Recalled::Answered {
            made,
            answer: Answer {
                status,
                body: row.body,
            },
        },
        (true, None, Some(made)) => Recalled::Made(made),
        (true, None, None) => Recalled::Nothing,
    })
}

/// Records what a request makes, in the transaction that makes it.
pub(crate) async fn made(
    tx: &mut Transaction<'static, Sqlite>,
    request: &OnceRequest,
    id: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO requests (tenant_id, scope, key, body_sha256, made_id, created_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(request.key.tenant.as_str())
    .bind(&request.key.scope)
    .bind(&request.key.key)
    .bind(&request.body_sha256[..])
    .bind(id)
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn oldest(now: Timestamp) -> i64 {
    let oldest = now.checked_sub(WINDOW).unwrap_or(Timestamp::MIN);
    oldest.as_microsecond()
}

#[derive(sqlx::FromRow)]
struct Row {
    body_sha256: Option<Vec<u8>>,
    made_id: Option<String>,
    status: Option<u16>,
    body: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests;
