//! Users: whom keys speak for, and who owns what they make.

use emberbox_core::{TenantId, UserId};
use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use crate::store::parse;
use crate::{Store, StoreError, TooMany, time};

/// A user of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Its identifier.
    pub id: UserId,
    /// For people.
    pub name: String,
    /// Where to write.
    pub email: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What became of a request to remove a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRemoval {
    /// It is gone, and its keys are revoked.
    Done,
    /// The tenant has no such user.
    NoUser,
    /// It is the tenant's last one: somebody owns what is made.
    LastOne,
}

/// Why a user was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The tenant has as many as it may have.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for UserError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

type Row = (String, String, Option<String>, i64);

impl Store {
    /// The tenant's users, oldest first.
    pub async fn users(&self, tenant: &TenantId) -> Result<Vec<UserRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, email, created_at FROM users \
             WHERE tenant_id = ? AND deleted_at IS NULL ORDER BY created_at, id",
        )
        .bind(tenant.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(record).collect()
    }

    /// Makes a user of the tenant, unless it has `max`.
    pub async fn create_user(
        &self,
        tenant: &TenantId,
        name: &str,
        email: Option<&str>,
        max: u32,
    ) -> Result<UserRecord, UserError> {
        let mut tx = self.write().await?;
        TooMany::check("users", count(&mut tx, tenant).await?, max)?;
        let user = insert(&mut tx, tenant, name, email).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Removes a user and revokes its keys; what it made stays.
    pub async fn remove_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
    ) -> Result<UserRemoval, StoreError> {
        let mut tx = self.write().await?;
        if !is_of(&mut tx, tenant, user).await? {
            return Ok(UserRemoval::NoUser);
        }
        if count(&mut tx, tenant).await? == 1 {
            return Ok(UserRemoval::LastOne);
        }
        let now = time::now().as_microsecond();
        sqlx::query("UPDATE users SET deleted_at = ? WHERE id = ?")
            .bind(now)
            .bind(user.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE api_keys SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL")
            .bind(now)
            .bind(user.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(UserRemoval::Done)
    }
}

async fn count(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
) -> Result<u32, StoreError> {
    let count =
        sqlx::query_scalar("SELECT count(*) FROM users WHERE tenant_id = ? AND deleted_at IS NULL")
            .bind(tenant.as_str())
            .fetch_one(&mut **tx)
            .await?;
    Ok(count)
}

pub(crate) async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    name: &str,
    email: Option<&str>,
) -> Result<UserRecord, StoreError> {
    let user = UserRecord {
        id: UserId::generate(),
        name: name.to_owned(),
        email: email.map(str::to_owned),
        created_at: time::now(),
    };
    sqlx::query(
        "INSERT INTO users (id, tenant_id, name, email, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(user.id.as_str())
    .bind(tenant.as_str())
    .bind(&user.name)
    .bind(&user.email)
    .bind(user.created_at.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(user)
}

/// Whether the tenant has this user.
pub(crate) async fn is_of(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    user: &UserId,
) -> Result<bool, StoreError> {
    let known = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM users \
         WHERE id = ? AND tenant_id = ? AND deleted_at IS NULL)",
    )
    .bind(user.as_str())
    .bind(tenant.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(known)
}

/// The tenant's oldest user.
pub(crate) async fn first(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
) -> Result<Option<UserId>, StoreError> {
    let first: Option<String> = sqlx::query_scalar(
        "SELECT id FROM users WHERE tenant_id = ? AND deleted_at IS NULL \
         ORDER BY created_at, id LIMIT 1",
    )
    .bind(tenant.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    first.map(|id| parse("users.id", &id)).transpose()
}

fn record((id, name, email, created_at): Row) -> Result<UserRecord, StoreError> {
    Ok(UserRecord {
        id: parse("users.id", &id)?,
        name,
        email,
        created_at: time::read("users.created_at", created_at)?,
    })
}
