//! Previews: which ports of a sandbox are shown, to whom, until when.

use emberbox_core::{PreviewId, SandboxId};
use jiff::Timestamp;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use crate::sandbox::SandboxRecord;
use crate::{Store, StoreError, time};

mod domain;
mod record;
mod token;

use record::Row;

pub use record::{Exposed, NewPreview, PreviewRecord, Visibility};
pub use token::{NewShare, NewToken, ShareRecord, TokenKind};

/// Most previews of one sandbox that are not over: more servers than anybody
/// runs in one, few enough to list at once.
pub const PREVIEWS_MAX: u32 = 100;

impl Store {
    /// Shows a port. A preview that is not over is changed where the request
    /// says so; one that is over makes room for a new one.
    pub async fn expose(
        &self,
        sandbox: &SandboxId,
        new: &NewPreview,
    ) -> Result<Exposed, StoreError> {
        let mut tx = self.write().await?;
        let now = time::now();
        let present = one(&mut tx, sandbox, "previews.port = ?", &new.port.to_string()).await?;
        let exposed = match present {
            Some(record) if record.is_active(now) => {
                change(&mut tx, &record, new, now).await?;
                Exposed::Changed(reread(&mut tx, sandbox, new.port).await?)
            }
            over => {
                if let Some(over) = over {
                    sqlx::query("DELETE FROM previews WHERE id = ?")
                        .bind(over.id.as_str())
                        .execute(&mut *tx)
                        .await?;
                }
                if active(&mut tx, sandbox, now).await? >= PREVIEWS_MAX {
                    return Ok(Exposed::TooMany);
                }
                insert(&mut tx, sandbox, new, now).await?;
                Exposed::New(reread(&mut tx, sandbox, new.port).await?)
            }
        };
        tx.commit().await?;
        Ok(exposed)
    }

    /// The previews of a sandbox that are not closed, newest first.
    pub async fn list_previews(
        &self,
        sandbox: &SandboxId,
    ) -> Result<Vec<PreviewRecord>, StoreError> {
        self.previews_where(sandbox, "previews.deleted_at IS NULL")
            .await
    }

    /// Every port of a sandbox that was ever shown, the latest asked for
    /// first: what decides who may see what.
    pub async fn shown_ports(&self, sandbox: &SandboxId) -> Result<Vec<PreviewRecord>, StoreError> {
        self.previews_where(sandbox, "TRUE").await
    }

    /// One preview that is not closed.
    pub async fn preview(
        &self,
        sandbox: &SandboxId,
        id: &PreviewId,
    ) -> Result<Option<PreviewRecord>, StoreError> {
        let text = select("previews.id = ? AND previews.deleted_at IS NULL");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(text))
            .bind(sandbox.as_str())
            .bind(id.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.map(Row::into_record).transpose()
    }

    /// Closes a preview and its link; it is returned as it was. From now on
    /// nobody sees the port until it is exposed again.
    pub async fn close_preview(
        &self,
        sandbox: &SandboxId,
        id: &PreviewId,
    ) -> Result<Option<PreviewRecord>, StoreError> {
        let mut tx = self.write().await?;
        let filter = "previews.deleted_at IS NULL AND previews.id = ?";
        let Some(mut record) = one(&mut tx, sandbox, filter, id.as_str()).await? else {
            return Ok(None);
        };
        let now = time::now();
        sqlx::query("UPDATE previews SET deleted_at = ? WHERE id = ?")
            .bind(now.as_microsecond())
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM preview_tokens WHERE preview_id = ?")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        record.deleted_at = Some(now);
        Ok(Some(record))
    }

    /// The sandbox a preview's host name means, whoever's it is.
    pub async fn sandbox_by_slug(&self, slug: &str) -> Result<Option<SandboxRecord>, StoreError> {
        crate::sandbox::by_slug(self.readers(), slug).await
    }

    async fn previews_where(
        &self,
        sandbox: &SandboxId,
        filter: &'static str,
    ) -> Result<Vec<PreviewRecord>, StoreError> {
        let text = format!(
            "{} ORDER BY previews.exposed_at DESC, previews.id DESC",
            select(filter)
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(text))
            .bind(sandbox.as_str())
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }
}

async fn change(
    tx: &mut Transaction<'static, Sqlite>,
    record: &PreviewRecord,
    new: &NewPreview,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE previews SET visibility = ?, name = coalesce(?, name), \
         metadata = coalesce(?, metadata), expires_at = coalesce(?, expires_at), \
         exposed_at = ? WHERE id = ?",
    )
    .bind(new.visibility.unwrap_or(record.visibility).as_str())
    .bind(&new.name)
    .bind(new.metadata.as_ref().map(Json))
    .bind(new.expires_at.map(Timestamp::as_microsecond))
    .bind(now.as_microsecond())
    .bind(record.id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    new: &NewPreview,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO previews \
         (id, sandbox_id, port, visibility, name, metadata, created_at, exposed_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(PreviewId::generate().as_str())
    .bind(sandbox.as_str())
    .bind(new.port)
    .bind(new.visibility.unwrap_or(Visibility::Public).as_str())
    .bind(&new.name)
    .bind(Json(new.metadata.clone().unwrap_or_default()))
    .bind(now.as_microsecond())
    .bind(now.as_microsecond())
    .bind(new.expires_at.map(Timestamp::as_microsecond))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn active(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM previews WHERE sandbox_id = ? AND deleted_at IS NULL \
         AND (expires_at IS NULL OR expires_at > ?)",
    )
    .bind(sandbox.as_str())
    .bind(now.as_microsecond())
    .fetch_one(&mut **tx)
    .await?;
    Ok(count)
}

async fn reread(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    port: u16,
) -> Result<PreviewRecord, StoreError> {
    let record = one(tx, sandbox, "previews.port = ?", &port.to_string()).await?;
    record.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
}

async fn one(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    filter: &'static str,
    value: &str,
) -> Result<Option<PreviewRecord>, StoreError> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(select(filter)))
        .bind(sandbox.as_str())
        .bind(value)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(Row::into_record).transpose()
}

/// `filter` is always a literal of this file; values only ever go through
/// `bind`, the sandbox's first.
fn select(filter: &'static str) -> String {
    format!(
        "SELECT previews.id, previews.sandbox_id, port, visibility, name, metadata, \
         previews.created_at, exposed_at, previews.expires_at, deleted_at, \
         preview_tokens.prefix AS share_token_prefix, \
         preview_tokens.expires_at AS share_token_expires_at \
         FROM previews LEFT JOIN preview_tokens ON preview_tokens.preview_id = previews.id \
         WHERE previews.sandbox_id = ? AND {filter}"
    )
}

#[cfg(test)]
mod tests;
