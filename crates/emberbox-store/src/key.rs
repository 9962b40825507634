//! API keys: shown once, kept as a hash.
//!
//! Decides: which of a key's secrets work. Invariants: a key speaks for one
//! user of its own tenant, and at most the last secret it had works beside its
//! present one.

use emberbox_core::{ApiKeyId, Scopes, TenantId, UserId};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use crate::store::parse;
use crate::{Store, StoreError, TooMany, place, time, user};

mod caller;

pub use caller::{Bounds, Caller};
pub(crate) use caller::{caller, whoever_began};

/// Random characters of a secret: 40 of 32 are 200 bits, far beyond guessing,
/// which is also why a plain hash without salt or stretching is enough.
const SECRET_LEN: usize = 40;

/// How many random characters of a secret are kept for people to tell keys
/// apart.
const SHOWN_LEN: usize = 6;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Whoever uses the API.
    Key,
    /// Somebody else, for a while.
    Token,
}

impl KeyKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
        }
    }

    /// How its secrets begin, so that scanners and people recognise one.
    fn secret_prefix(self) -> &'static str {
        match self {
            Self::Key => "ebx_",
            Self::Token => "ebt_",
        }
    }
}

impl std::str::FromStr for KeyKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Key, Self::Token]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// Whether it is a key or a token.
    pub kind: KeyKind,
    /// What it may do.
    pub scopes: Scopes,
    /// What of its tenant it sees.
    pub bounds: Bounds,
    /// Whom it speaks for; the tenant's first user when absent.
    pub user: Option<UserId>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// A key for everything of its tenant that never ends.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: KeyKind::Key,
            scopes: Scopes::TENANT,
            bounds: Bounds::default(),
            user: None,
            expires_at: None,
        }
    }
}

/// What to change of a key.
#[derive(Debug, Clone, Default)]
pub struct KeyEdit {
    /// What it is for.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Option<Scopes>,
    /// When it stops working, or that it never does.
    pub expires_at: Option<Option<Timestamp>>,
}

/// Why nothing became of a key. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The tenant has no such user.
    #[error("the tenant has no such user")]
    NoUser,
    /// The tenant has no such workspace.
    #[error("the tenant has no such workspace")]
    NoWorkspace,
    /// The tenant has no such key.
    #[error("the tenant has no such key")]
    NoKey,
    /// It was revoked.
    #[error("the key was revoked")]
    Revoked,
    /// The tenant has as many that work as it may have.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for KeyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
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
    /// Whether it is a key or a token.
    pub kind: KeyKind,
    /// What it is for.
    pub name: String,
    /// How its secret begins.
    pub prefix: String,
    /// What it may do.
    pub scopes: Scopes,
    /// What of its tenant it sees.
    pub bounds: Bounds,
    /// Whom it speaks for.
    pub user: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Until when the secret before the present one works.
    pub previous_until: Option<Timestamp>,
}

const COLUMNS: &str = "id, kind, name, prefix, scopes, workspace_id, end_user, user_id, created_at, \
                       expires_at, revoked_at, previous_until";

impl Store {
    /// Makes a key or token of the tenant, unless `max` of them work.
    pub async fn create_key(
        &self,
        tenant: &TenantId,
        request: NewKey,
        max: u32,
    ) -> Result<NewSecret, KeyError> {
        let mut tx = self.write().await?;
        let have = sqlx::query_scalar(
            "SELECT count(*) FROM api_keys WHERE tenant_id = ?1 AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > ?2)",
        )
        .bind(tenant.as_str())
        .bind(time::now().as_microsecond())
        .fetch_one(&mut *tx)
        .await?;
        TooMany::check("keys", have, max)?;
        let made = insert(&mut tx, tenant, request).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// The tenant's keys of this kind, of one workspace if given, revoked ones
    /// included, newest first.
    pub async fn list_keys(
        &self,
        tenant: &TenantId,
        kind: KeyKind,
        workspace: Option<Uuid>,
    ) -> Result<Vec<ApiKeyRecord>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM api_keys WHERE tenant_id = ?1 AND kind = ?2 \
             AND (?3 IS NULL OR workspace_id = ?3) ORDER BY created_at DESC, id DESC"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(text))
            .bind(tenant.as_str())
            .bind(kind.as_str())
            .bind(workspace.map(|id| id.to_string()))
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// One key of the tenant.
    pub async fn key(
        &self,
        tenant: &TenantId,
        key: &ApiKeyId,
    ) -> Result<Option<ApiKeyRecord>, StoreError> {
        by_id(self.readers(), tenant, key).await
    }

    /// Changes a key.
    pub async fn change_key(
        &self,
        tenant: &TenantId,
        key: &ApiKeyId,
        edit: &KeyEdit,
    ) -> Result<ApiKeyRecord, KeyError> {
        let mut tx = self.write().await?;
        let record = changeable(&mut tx, tenant, key).await?;
        let record = ApiKeyRecord {
            name: edit.name.clone().unwrap_or(record.name),
            scopes: edit.scopes.unwrap_or(record.scopes),
            expires_at: edit.expires_at.unwrap_or(record.expires_at),
            ..record
        };
        sqlx::query("UPDATE api_keys SET name = ?, scopes = ?, expires_at = ? WHERE id = ?")
            .bind(&record.name)
            .bind(written_scopes(record.scopes))
            .bind(record.expires_at.map(Timestamp::as_microsecond))
            .bind(key.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Gives a key another secret. The one before works for `overlap` more,
    /// one before that not any longer.
    pub async fn rotate_key(
        &self,
        tenant: &TenantId,
        key: &ApiKeyId,
        overlap: SignedDuration,
    ) -> Result<NewSecret, KeyError> {
        let mut tx = self.write().await?;
        let record = changeable(&mut tx, tenant, key).await?;
        let secret = random_secret(record.kind.secret_prefix());
        let until = time::now().checked_add(overlap).ok();
        let record = ApiKeyRecord {
            prefix: shown(&secret, record.kind).to_owned(),
            previous_until: until.filter(|_| overlap.is_positive()),
            ..record
        };
        // A secret that works no more is not worth a row in the index.
        let kept = record.previous_until.map(Timestamp::as_microsecond);
        sqlx::query(
            "UPDATE api_keys SET generation = generation + 1, prefix = ?2, \
             previous_sha256 = CASE WHEN ?3 IS NULL THEN NULL ELSE secret_sha256 END, \
             previous_until = ?3, secret_sha256 = ?4 WHERE id = ?1",
        )
        .bind(key.as_str())
        .bind(&record.prefix)
        .bind(kept)
        .bind(hash(&secret))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(NewSecret {
            record,
            secret: secret.into(),
        })
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

/// A key that is not revoked.
async fn changeable(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    key: &ApiKeyId,
) -> Result<ApiKeyRecord, KeyError> {
    let record = by_id(&mut **tx, tenant, key).await?;
    let record = record.ok_or(KeyError::NoKey)?;
    match record.revoked_at {
        None => Ok(record),
        Some(_) => Err(KeyError::Revoked),
    }
}

async fn by_id(
    executor: impl sqlx::SqliteExecutor<'_>,
    tenant: &TenantId,
    key: &ApiKeyId,
) -> Result<Option<ApiKeyRecord>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM api_keys WHERE id = ? AND tenant_id = ?");
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(key.as_str())
        .bind(tenant.as_str())
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

pub(crate) async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    request: NewKey,
) -> Result<NewSecret, KeyError> {
    let user = match request.user {
        Some(user) if user::is_of(tx, tenant, &user).await? => user,
        Some(_) => return Err(KeyError::NoUser),
        None => user::first(tx, tenant).await?.ok_or(KeyError::NoUser)?,
    };
    if let Some(workspace) = request.bounds.workspace
        && !place::has_workspace(tx, tenant, workspace).await?
    {
        return Err(KeyError::NoWorkspace);
    }
    let secret = random_secret(request.kind.secret_prefix());
    let record = ApiKeyRecord {
        id: ApiKeyId::generate(),
        kind: request.kind,
        name: request.name,
        prefix: shown(&secret, request.kind).to_owned(),
        scopes: request.scopes,
        bounds: request.bounds,
        user,
        created_at: time::now(),
        expires_at: request.expires_at,
        revoked_at: None,
        previous_until: None,
    };
    sqlx::query(
        "INSERT INTO api_keys (id, tenant_id, user_id, kind, name, prefix, secret_sha256, \
         scopes, workspace_id, end_user, created_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.id.as_str())
    .bind(tenant.as_str())
    .bind(record.user.as_str())
    .bind(record.kind.as_str())
    .bind(&record.name)
    .bind(&record.prefix)
    .bind(hash(&secret))
    .bind(written_scopes(record.scopes))
    .bind(record.bounds.workspace.map(|id| id.to_string()))
    .bind(&record.bounds.end_user)
    .bind(record.created_at.as_microsecond())
    .bind(record.expires_at.map(Timestamp::as_microsecond))
    .execute(&mut **tx)
    .await?;
    Ok(NewSecret {
        record,
        secret: secret.into(),
    })
}

/// What is shown of a secret.
fn shown(secret: &str, kind: KeyKind) -> &str {
    &secret[..shown_len(kind.secret_prefix())]
}

/// A key with everything of its tenant has what is added later, too.
fn written_scopes(scopes: Scopes) -> Option<String> {
    (scopes != Scopes::TENANT).then(|| scopes.to_string())
}

fn read_scopes(text: Option<&str>) -> Result<Scopes, StoreError> {
    match text {
        None => Ok(Scopes::TENANT),
        Some(text) => parse("api_keys.scopes", text),
    }
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
    kind: String,
    name: String,
    prefix: String,
    scopes: Option<String>,
    workspace_id: Option<String>,
    end_user: Option<String>,
    user_id: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    previous_until: Option<i64>,
}

impl Row {
    fn into_record(self) -> Result<ApiKeyRecord, StoreError> {
        let workspace = self.workspace_id.as_deref();
        Ok(ApiKeyRecord {
            id: parse("api_keys.id", &self.id)?,
            kind: parse("api_keys.kind", &self.kind)?,
            name: self.name,
            prefix: self.prefix,
            scopes: read_scopes(self.scopes.as_deref())?,
            bounds: Bounds {
                workspace: workspace
                    .map(|id| parse("api_keys.workspace_id", id))
                    .transpose()?,
                end_user: self.end_user,
            },
            user: parse("api_keys.user_id", &self.user_id)?,
            created_at: time::read("api_keys.created_at", self.created_at)?,
            expires_at: time::read_opt("api_keys.expires_at", self.expires_at)?,
            revoked_at: time::read_opt("api_keys.revoked_at", self.revoked_at)?,
            previous_until: time::read_opt("api_keys.previous_until", self.previous_until)?,
        })
    }
}

#[cfg(test)]
mod tests;
