//! API keys: shown once, kept as a hash.

use emberbox_core::{ApiKeyId, TenantId, UserId};
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use sqlx::{Sqlite, Transaction};

use crate::store::parse;
use crate::{Store, StoreError, time};

/// How every secret begins, so that scanners and people recognise one.
const SECRET_PREFIX: &str = "ebx_";

/// Random characters of a secret: 40 of 32 are 200 bits, far beyond guessing,
/// which is also why a plain hash without salt or stretching is enough.
const SECRET_LEN: usize = 40;

/// How many random characters of a secret are kept for people to tell keys
/// apart.
const SHOWN_LEN: usize = 6;

/// Whom a key speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key.
    pub key: ApiKeyId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its user.
    pub user: UserId,
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// A key that was made, with its secret for the only time.
#[derive(Debug)]
pub struct NewSecret {
    /// The key.
    pub record: ApiKeyRecord,
    /// Its secret.
    pub secret: SecretString,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// Its public name.
    pub id: ApiKeyId,
    /// What it is for.
    pub name: String,
    /// How its secret begins.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Whom this secret speaks for, if it is a valid key's.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<Caller>, StoreError> {
        let found: Option<(String, String, String)> = sqlx::query_as(
            "SELECT id, tenant_id, user_id FROM api_keys \
             WHERE secret_sha256 = ? AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > ?)",
        )
        .bind(hash(secret))
        .bind(time::now().as_microsecond())
        .fetch_optional(self.readers())
        .await?;
        let Some((key, tenant, user)) = found else {
            return Ok(None);
        };
        Ok(Some(Caller {
            key: parse("api_keys.id", &key)?,
            tenant: parse("api_keys.tenant_id", &tenant)?,
            user: parse("api_keys.user_id", &user)?,
        }))
    }

    /// Whether this is the key the first start of the server made.
    pub async fn is_first_key(&self, key: &ApiKeyId) -> Result<bool, StoreError> {
        let first: Option<String> =
            sqlx::query_scalar("SELECT id FROM api_keys ORDER BY created_at, id LIMIT 1")
                .fetch_optional(self.readers())
                .await?;
        Ok(first.as_deref() == Some(key.as_str()))
    }

    /// Makes a key for the caller's own tenant and user.
    pub async fn create_key(
        &self,
        caller: &Caller,
        request: NewKey,
    ) -> Result<NewSecret, StoreError> {
        let mut tx = self.write().await?;
        let made = insert(&mut tx, &caller.tenant, &caller.user, request).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// The tenant's keys, revoked ones included, newest first.
    pub async fn list_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKeyRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, prefix, created_at, expires_at, revoked_at FROM api_keys \
             WHERE tenant_id = ? ORDER BY created_at DESC, id DESC",
        )
        .bind(tenant.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Revokes a key; false if the tenant has no such key. Repeating is safe.
    pub async fn revoke_key(&self, tenant: &TenantId, key: &ApiKeyId) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) \
             WHERE id = ? AND tenant_id = ?",
        )
        .bind(time::now().as_microsecond())
        .bind(key.as_str())
        .bind(tenant.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

pub(crate) async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    user: &UserId,
    request: NewKey,
) -> Result<NewSecret, StoreError> {
    let secret = random_secret(SECRET_PREFIX);
    let record = ApiKeyRecord {
        id: ApiKeyId::generate(),
        name: request.name,
        prefix: secret[..shown_len(SECRET_PREFIX)].to_owned(),
        created_at: time::now(),
        expires_at: request.expires_at,
        revoked_at: None,
    };
    sqlx::query(
        "INSERT INTO api_keys \
         (id, tenant_id, user_id, name, prefix, secret_sha256, created_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.id.as_str())
    .bind(tenant.as_str())
    .bind(user.as_str())
    .bind(&record.name)
    .bind(&record.prefix)
    .bind(hash(&secret))
    .bind(record.created_at.as_microsecond())
    .bind(record.expires_at.map(Timestamp::as_microsecond))
    .execute(&mut **tx)
    .await?;
    Ok(NewSecret {
        record,
        secret: secret.into(),
    })
}

/// A new secret that begins with `prefix`.
pub(crate) fn random_secret(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let random: [u8; SECRET_LEN] = rand::random();
    let mut secret = String::with_capacity(prefix.len() + SECRET_LEN);
    secret.push_str(prefix);
    // 32 divides 256, so the low bits are uniform.
    secret.extend(random.map(|byte| char::from(ALPHABET[usize::from(byte & 31)])));
    secret
}

/// How much of a secret with this prefix may be shown.
pub(crate) fn shown_len(prefix: &str) -> usize {
    prefix.len() + SHOWN_LEN
}

/// What is kept of a secret.
pub(crate) fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    prefix: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl Row {
    fn into_record(self) -> Result<ApiKeyRecord, StoreError> {
        Ok(ApiKeyRecord {
            id: parse("api_keys.id", &self.id)?,
            name: self.name,
            prefix: self.prefix,
            created_at: time::read("api_keys.created_at", self.created_at)?,
            expires_at: time::read_opt("api_keys.expires_at", self.expires_at)?,
            revoked_at: time::read_opt("api_keys.revoked_at", self.revoked_at)?,
        })
    }
}
