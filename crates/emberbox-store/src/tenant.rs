//! Tenants: the wall nothing is visible across.
//!
//! Invariants: every tenant has a user, a default workspace and a slug that no
//! other has; the first one is the operator's and stays.

use emberbox_core::{TenantId, TenantLimits, id};
use jiff::Timestamp;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor, Transaction};

use crate::store::parse;
use crate::user::{self, UserRecord};
use crate::{Store, StoreError, deployment, place, time};

/// No tenant's slug: previews have their names below it.
pub const RESERVED_SLUG: &str = "sandbox";

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its identifier.
    pub id: TenantId,
    /// Its label in its deployments' addresses.
    pub slug: String,
    /// For people.
    pub name: String,
    /// What it may use in place of the settings.
    pub limits: TenantLimits,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when its keys are refused.
    pub suspended_at: Option<Timestamp>,
}

/// A tenant to make.
#[derive(Debug, Clone, Default)]
pub struct NewTenant {
    /// For people.
    pub name: String,
    /// Its label in addresses; made of the name when absent.
    pub slug: Option<String>,
    /// What it may use in place of the settings.
    pub limits: TenantLimits,
}

/// What to change of a tenant.
#[derive(Debug, Clone, Default)]
pub struct TenantEdit {
    /// For people.
    pub name: Option<String>,
    /// What it may use in place of the settings, all of it.
    pub limits: Option<TenantLimits>,
    /// Whether its keys are refused.
    pub standing: Option<Standing>,
}

/// Whether a tenant's keys are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They are.
    Active,
    /// They are refused.
    Suspended,
}

/// The tenant has as many of something as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant may have {max} {what}, and has them")]
pub struct TooMany {
    /// Of what: `workspaces`, `projects`, `users` or `keys`.
    pub what: &'static str,
    /// How many it may have.
    pub max: u32,
}

impl TooMany {
    /// The setting that says so.
    #[must_use]
    pub fn limit(&self) -> String {
        format!("max_{}", self.what)
    }

    /// That one more of `what` may be made where there are `have`.
    pub(crate) fn check(what: &'static str, have: u32, max: u32) -> Result<(), Self> {
        if have < max {
            return Ok(());
        }
        Err(Self { what, max })
    }
}

/// Why nothing became of a tenant. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// There is no such tenant.
    #[error("there is no such tenant")]
    NotFound,
    /// Another tenant has the slug.
    #[error("the slug is in use")]
    SlugTaken,
    /// It is the operator's.
    #[error("the first tenant stays")]
    First,
    /// It has sandboxes that are not destroyed.
    #[error("it has {0} sandboxes")]
    InUse(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TenantError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Every tenant, oldest first.
    pub async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as(AssertSqlSafe(format!("{SELECT} ORDER BY created_at, id")))
                .fetch_all(self.readers())
                .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// One tenant.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        by_id(self.readers(), id).await
    }

    /// The operator's own tenant, which has the templates of the platform.
    pub async fn operators_tenant(&self) -> Result<TenantId, StoreError> {
        let id: String = sqlx::query_scalar(FIRST).fetch_one(self.readers()).await?;
        parse("tenants.id", &id)
    }

    /// Makes a tenant with an owner, a workspace and a project, and no key.
    pub async fn insert_tenant(&self, new: &NewTenant) -> Result<TenantRecord, TenantError> {
        let mut tx = self.write().await?;
        let (record, _owner) = insert(&mut tx, new).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Changes a tenant.
    pub async fn change_tenant(
        &self,
        id: &TenantId,
        edit: &TenantEdit,
    ) -> Result<TenantRecord, TenantError> {
        let mut tx = self.write().await?;
        let known = by_id(&mut *tx, id).await?.ok_or(TenantError::NotFound)?;
        let suspended_at = match edit.standing {
            None => known.suspended_at,
            Some(Standing::Active) => None,
            // Nobody would be left to take it back.
            Some(Standing::Suspended) if is_first(&mut tx, id).await? => {
                return Err(TenantError::First);
            }
            Some(Standing::Suspended) => Some(known.suspended_at.unwrap_or_else(time::now)),
        };
        let record = TenantRecord {
            name: edit.name.clone().unwrap_or(known.name),
            limits: edit.limits.unwrap_or(known.limits),
            suspended_at,
            ..known
        };
        sqlx::query("UPDATE tenants SET name = ?, limits = ?, suspended_at = ? WHERE id = ?")
            .bind(&record.name)
            .bind(Json(record.limits))
            .bind(record.suspended_at.map(Timestamp::as_microsecond))
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Deletes a tenant that has no sandbox left. Its keys are nobody's; its
    /// history and its account stay.
    pub async fn delete_tenant(&self, id: &TenantId) -> Result<(), TenantError> {
        let mut tx = self.write().await?;
        by_id(&mut *tx, id).await?.ok_or(TenantError::NotFound)?;
        if is_first(&mut tx, id).await? {
            return Err(TenantError::First);
        }
        let held: u32 = sqlx::query_scalar(
            "SELECT count(*) FROM sandboxes WHERE tenant_id = ? AND state <> 'destroyed'",
        )
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if held > 0 {
            return Err(TenantError::InUse(held));
        }
        for statement in [
            // No slug has a tilde: the old one is free again.
            "UPDATE tenants SET deleted_at = ?1, slug = slug || '~' || id, preview_domain = NULL \
             WHERE id = ?2",
            // None of them leads anywhere any longer.
            "UPDATE deployments SET deleted_at = ?1 WHERE tenant_id = ?2 AND deleted_at IS NULL",
        ] {
            sqlx::query(statement)
                .bind(time::now().as_microsecond())
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

pub(crate) async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    new: &NewTenant,
) -> Result<(TenantRecord, UserRecord), TenantError> {
    let slug = match &new.slug {
        Some(slug) if is_free(tx, slug).await? => slug.clone(),
        Some(_) => return Err(TenantError::SlugTaken),
        None => {
            let label = deployment::label(&new.name);
            match is_free(tx, &label).await? {
                true => label,
                false => format!("t-{}", id::slug()),
            }
        }
    };
    let record = TenantRecord {
        id: TenantId::generate(),
        slug,
        name: new.name.clone(),
        limits: new.limits,
        created_at: time::now(),
        suspended_at: None,
    };
    sqlx::query("INSERT INTO tenants (id, name, slug, limits, created_at) VALUES (?, ?, ?, ?, ?)")
        .bind(record.id.as_str())
        .bind(&record.name)
        .bind(&record.slug)
        .bind(Json(record.limits))
        .bind(record.created_at.as_microsecond())
        .execute(&mut **tx)
        .await?;
    let owner = user::insert(tx, &record.id, "owner", None).await?;
    place::default_workspace(tx, &record.id).await?;
    Ok((record, owner))
}

async fn is_free(tx: &mut Transaction<'static, Sqlite>, slug: &str) -> Result<bool, StoreError> {
    if slug.is_empty() || slug == RESERVED_SLUG {
        return Ok(false);
    }
    let taken: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tenants WHERE slug = ?)")
        .bind(slug)
        .fetch_one(&mut **tx)
        .await?;
    Ok(!taken)
}

async fn is_first(
    tx: &mut Transaction<'static, Sqlite>,
    id: &TenantId,
) -> Result<bool, StoreError> {
    let first: Option<String> = sqlx::query_scalar(FIRST).fetch_optional(&mut **tx).await?;
    Ok(first.as_deref() == Some(id.as_str()))
}

const FIRST: &str = "SELECT id FROM tenants ORDER BY created_at, id LIMIT 1";

const SELECT: &str = "SELECT id, slug, name, limits, created_at, suspended_at FROM tenants \
                      WHERE deleted_at IS NULL";

async fn by_id(
    executor: impl SqliteExecutor<'_>,
    id: &TenantId,
) -> Result<Option<TenantRecord>, StoreError> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!("{SELECT} AND id = ?")))
        .bind(id.as_str())
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    slug: String,
    name: String,
    limits: Json<TenantLimits>,
    created_at: i64,
    suspended_at: Option<i64>,
}

impl Row {
    fn into_record(self) -> Result<TenantRecord, StoreError> {
        Ok(TenantRecord {
            id: parse("tenants.id", &self.id)?,
            slug: self.slug,
            name: self.name,
            limits: self.limits.0,
            created_at: time::read("tenants.created_at", self.created_at)?,
            suspended_at: time::read_opt("tenants.suspended_at", self.suspended_at)?,
        })
    }
}

#[cfg(test)]
mod tests;
