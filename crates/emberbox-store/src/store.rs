//! Opening the database, and what must exist before the first request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use emberbox_core::{Scopes, TenantId, UserId};
use secrecy::SecretString;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use crate::StoreError;
use crate::fresh::Fresh;
use crate::key::{self, KeyError, NewKey};
use crate::tenant::{self, NewTenant, TenantError};

/// Readers at the same time: reads are indexed and short, so a few connections
/// keep two cores busy; each costs a page cache.
const READERS: u32 = 4;

/// How long a statement waits for the database's lock. Only a checkpoint or an
/// operator's own `sqlite3` ever holds it: the writers queue for one
/// connection.
const BUSY: Duration = Duration::from_secs(10);

/// Everything Emberbox remembers. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// One connection: SQLite has one writer, and waiting for a connection is
    /// fair where waiting for its lock is not.
    writer: SqlitePool,
    readers: SqlitePool,
    fresh: Arc<Fresh>,
}

/// A tenant, as [`Store::bootstrap`] found or made it.
#[derive(Debug)]
pub struct Bootstrap {
    /// The tenant.
    pub tenant: TenantId,
    /// Its owner.
    pub user: UserId,
    /// The secret of the first key, if it was made just now. It cannot be had
    /// again.
    pub secret: Option<SecretString>,
}

impl Store {
    /// Opens the database at `path`, makes it if needed and brings its schema
    /// up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode NORMAL never corrupts and loses nothing when this
            // process dies, however it dies. Only a power cut can take the
            // last transactions, and it takes every VM with them.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .foreign_keys(true);
        let fresh = Arc::new(Fresh::default());
        let idle = Arc::clone(&fresh);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .after_release(move |_connection, _meta| {
                idle.writes_are_over();
                Box::pin(std::future::ready(Ok(true)))
            })
            .connect_with(options.clone())
            .await?;
        sqlx::migrate!().run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options)
            .await?;
        Ok(Self {
            writer,
            readers,
            fresh,
        })
    }

    /// Makes the default tenant, its owner, workspace, project and first key
    /// where they are missing. One transaction: a crash leaves all or nothing.
    pub async fn bootstrap(&self) -> Result<Bootstrap, StoreError> {
        let mut tx = self.write().await?;
        let found: Option<(String, String)> = sqlx::query_as(
            "SELECT users.tenant_id, users.id FROM users \
             JOIN tenants ON tenants.id = users.tenant_id WHERE users.deleted_at IS NULL \
             ORDER BY tenants.created_at, tenants.id, users.created_at LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await?;
        let (tenant, user) = match found {
            Some((tenant, user)) => (
                parse("users.tenant_id", &tenant)?,
                parse("users.id", &user)?,
            ),
            None => named_tenant(&mut tx, "default").await?,
        };
        let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys")
            .fetch_one(&mut *tx)
            .await?;
        let secret = if keys == 0 {
            // Nobody else makes the first keys of other tenants.
            Some(first_key(&mut tx, &tenant, &user, Scopes::OPERATOR).await?)
        } else {
            None
        };
        tx.commit().await?;
        Ok(Bootstrap {
            tenant,
            user,
            secret,
        })
    }

    /// Makes another tenant with an owner, a workspace, a project and a key.
    pub async fn create_tenant(&self, name: &str) -> Result<Bootstrap, StoreError> {
        let mut tx = self.write().await?;
        let (tenant, user) = named_tenant(&mut tx, name).await?;
        let secret = Some(first_key(&mut tx, &tenant, &user, Scopes::TENANT).await?);
        tx.commit().await?;
        Ok(Bootstrap {
            tenant,
            user,
            secret,
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Waits for running statements and closes every connection.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// What was read since the last write.
    pub(crate) fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        self.fresh.write_begins();
        Ok(tx)
    }
}

async fn first_key(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    user: &UserId,
    scopes: Scopes,
) -> Result<SecretString, StoreError> {
    let request = NewKey {
        scopes,
        user: Some(user.clone()),
        ..NewKey::named("first key")
    };
    match key::insert(tx, tenant, request).await {
        Ok(made) => Ok(made.secret),
        Err(KeyError::Store(error)) => Err(error),
        // The user was made, or found, by this transaction.
        Err(
            KeyError::NoUser
            | KeyError::NoWorkspace
            | KeyError::NoKey
            | KeyError::Revoked
            | KeyError::TooMany(_),
        ) => Err(StoreError::NotBootstrapped),
    }
}

/// A tenant of this name, and its owner.
async fn named_tenant(
    tx: &mut Transaction<'static, Sqlite>,
    name: &str,
) -> Result<(TenantId, UserId), StoreError> {
    let new = NewTenant {
        name: name.to_owned(),
        ..NewTenant::default()
    };
    match tenant::insert(tx, &new).await {
        Ok((tenant, owner)) => Ok((tenant.id, owner.id)),
        Err(TenantError::Store(error)) => Err(error),
        // A slug that is made up is free.
        Err(
            TenantError::NotFound
            | TenantError::SlugTaken
            | TenantError::First
            | TenantError::InUse(_),
        ) => Err(StoreError::NotBootstrapped),
    }
}

/// Reads a value this program wrote as text.
pub(crate) fn parse<T: std::str::FromStr>(
    column: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|_invalid| StoreError::Corrupt {
        column,
        value: text.to_owned(),
    })
}

#[cfg(test)]
mod tests;
