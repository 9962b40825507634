//! What opens private previews: shown once, kept as a hash.

use emberbox_core::{PreviewId, SandboxId, ShareId};
use jiff::Timestamp;
use secrecy::SecretString;

use crate::store::parse;
use crate::{Store, StoreError, key, time};

/// How every token begins; the clients' documentation shows this prefix.
const PREFIX: &str = "mp_";

/// Most tokens of one sandbox that are not over; the oldest make room for new
/// ones. Links to hand out by the hundred should be API keys' work.
const TOKENS_MAX: u32 = 500;

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// The link of one preview; a new one replaces it.
    Preview(PreviewId),
    /// A link to every preview of the sandbox, listed until it is revoked.
    Share,
    /// Every preview of the sandbox, not listed.
    Token,
}

impl TokenKind {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Preview(_) => "preview",
            Self::Share => "share",
            Self::Token => "token",
        }
    }

    fn preview(&self) -> Option<&PreviewId> {
        match self {
            Self::Preview(id) => Some(id),
            Self::Share | Self::Token => None,
        }
    }
}

/// A token to make.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub kind: TokenKind,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// A token that was made, with its secret for the only time.
#[derive(Debug)]
pub struct NewShare {
    /// The token.
    pub record: ShareRecord,
    /// Its secret.
    pub secret: SecretString,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRecord {
    /// Its public name.
    pub id: ShareId,
    /// How its secret begins.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

impl Store {
    /// Makes a token.
    pub async fn create_preview_token(
        &self,
        sandbox: &SandboxId,
        new: &NewToken,
    ) -> Result<NewShare, StoreError> {
        let secret = key::random_secret(PREFIX);
        let record = ShareRecord {
            id: ShareId::generate(),
            prefix: secret[..key::shown_len(PREFIX)].to_owned(),
            created_at: time::now(),
            expires_at: new.expires_at,
        };
        let mut tx = self.write().await?;
        // One link per preview, none that is over, and never too many.
        sqlx::query(
            "DELETE FROM preview_tokens WHERE sandbox_id = ? AND (preview_id = ? \
             OR expires_at <= ? OR id IN (SELECT id FROM preview_tokens WHERE sandbox_id = ? \
             ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?))",
        )
        .bind(sandbox.as_str())
        .bind(new.kind.preview().map(PreviewId::as_str))
        .bind(record.created_at.as_microsecond())
        .bind(sandbox.as_str())
        .bind(TOKENS_MAX - 1)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO preview_tokens \
             (id, sandbox_id, preview_id, kind, prefix, token_sha256, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(record.id.as_str())
        .bind(sandbox.as_str())
        .bind(new.kind.preview().map(PreviewId::as_str))
        .bind(new.kind.as_str())
        .bind(&record.prefix)
        .bind(key::hash(&secret))
        .bind(record.created_at.as_microsecond())
        .bind(record.expires_at.map(Timestamp::as_microsecond))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(NewShare {
            record,
            secret: secret.into(),
        })
    }

    /// Whether this secret opens a port of the sandbox now.
    pub async fn opens_preview(
        &self,
        sandbox: &SandboxId,
        port: u16,
        secret: &str,
    ) -> Result<bool, StoreError> {
        let found: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM preview_tokens \
             LEFT JOIN previews ON previews.id = preview_tokens.preview_id \
             WHERE token_sha256 = ? AND preview_tokens.sandbox_id = ? \
             AND (preview_tokens.expires_at IS NULL OR preview_tokens.expires_at > ?) \
             AND (preview_tokens.preview_id IS NULL OR previews.port = ?)",
        )
        .bind(key::hash(secret))
        .bind(sandbox.as_str())
        .bind(time::now().as_microsecond())
        .bind(port)
        .fetch_one(self.readers())
        .await?;
        Ok(found > 0)
    }

    /// The sandbox's links that still work, newest first.
    pub async fn list_shares(&self, sandbox: &SandboxId) -> Result<Vec<ShareRecord>, StoreError> {
        let rows: Vec<(String, String, i64, Option<i64>)> = sqlx::query_as(
            "SELECT id, prefix, created_at, expires_at FROM preview_tokens \
             WHERE sandbox_id = ? AND kind = 'share' AND (expires_at IS NULL OR expires_at > ?) \
             ORDER BY created_at DESC, id DESC",
        )
        .bind(sandbox.as_str())
        .bind(time::now().as_microsecond())
        .fetch_all(self.readers())
        .await?;
        rows.into_iter()
            .map(|(id, prefix, created_at, expires_at)| {
                Ok(ShareRecord {
                    id: parse("preview_tokens.id", &id)?,
                    prefix,
                    created_at: time::read("preview_tokens.created_at", created_at)?,
                    expires_at: time::read_opt("preview_tokens.expires_at", expires_at)?,
                })
            })
            .collect()
    }

    /// Revokes a link of the sandbox; false if there is none of this id.
    pub async fn revoke_share(
        &self,
        sandbox: &SandboxId,
        id: &ShareId,
    ) -> Result<bool, StoreError> {
        self.delete_tokens("id = ? AND kind = 'share'", sandbox, id.as_str())
            .await
    }

    /// Revokes the link of one preview; false if it has none.
    pub async fn revoke_preview_share(
        &self,
        sandbox: &SandboxId,
        id: &PreviewId,
    ) -> Result<bool, StoreError> {
        self.delete_tokens("preview_id = ?", sandbox, id.as_str())
            .await
    }

    /// `filter` is a literal of this file.
    async fn delete_tokens(
        &self,
        filter: &'static str,
        sandbox: &SandboxId,
        value: &str,
    ) -> Result<bool, StoreError> {
        let text = format!("DELETE FROM preview_tokens WHERE sandbox_id = ? AND {filter}");
        let mut tx = self.write().await?;
        let done = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(sandbox.as_str())
            .bind(value)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}
