//! Workspaces: made, read, changed, deleted.

use emberbox_core::{Limits, TenantId};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor, Transaction};
use uuid::Uuid;

use super::{
    Insert, NewPlace, PlaceEdit, PlaceError, Placed, check_workspaces, insert_workspace, slugify,
};
use crate::store::parse;
use crate::{Store, StoreError, time};

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// Its identifier.
    pub id: Uuid,
    /// Unique in the tenant.
    pub slug: String,
    /// For people.
    pub name: String,
    /// The tenant's own name of it.
    pub external_id: Option<String>,
    /// Where sandboxes go that name none.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Store {
    /// The tenant's workspaces, oldest first.
    pub async fn list_workspaces(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<WorkspaceRecord>, StoreError> {
        let text = format!("{SELECT} ORDER BY created_at, id");
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(text))
            .bind(tenant.as_str())
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// One workspace of the tenant.
    pub async fn workspace(
        &self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<WorkspaceRecord>, StoreError> {
        by_id(self.readers(), tenant, id).await
    }

    /// Makes a workspace with its default project, unless one has the external
    /// id or the tenant has as many as it may.
    pub async fn create_workspace(
        &self,
        tenant: &TenantId,
        new: &NewPlace,
        limits: &Limits,
    ) -> Result<Placed<WorkspaceRecord>, PlaceError> {
        let mut tx = self.write().await?;
        if let Some(external_id) = &new.external_id
            && let Some(known) = by_external_id(&mut tx, tenant, external_id).await?
        {
            return Ok(Placed::Reused(known));
        }
        let slug = new.slug.clone().unwrap_or_else(|| slugify(&new.name));
        check_free(&mut tx, tenant, None, &slug, &new.name).await?;
        check_workspaces(&mut tx, tenant, limits).await?;
        let insert = Insert {
            slug: &slug,
            name: &new.name,
            external_id: new.external_id.as_deref(),
            is_default: false,
        };
        let id = insert_workspace(&mut tx, tenant, &insert).await?;
        let made = by_id(&mut *tx, tenant, id).await?;
        tx.commit().await?;
        Ok(Placed::New(made.ok_or(PlaceError::NotFound)?))
    }

    /// Changes a workspace.
    pub async fn change_workspace(
        &self,
        tenant: &TenantId,
        id: Uuid,
        edit: &PlaceEdit,
    ) -> Result<WorkspaceRecord, PlaceError> {
        let mut tx = self.write().await?;
        let known = by_id(&mut *tx, tenant, id).await?;
        let known = known.ok_or(PlaceError::NotFound)?;
        let record = WorkspaceRecord {
            name: edit.name.clone().unwrap_or(known.name),
            slug: edit.slug.clone().unwrap_or(known.slug),
            external_id: edit.external_id.clone().unwrap_or(known.external_id),
            ..known
        };
        check_free(&mut tx, tenant, Some(id), &record.slug, &record.name).await?;
        if let Some(external_id) = &record.external_id {
            let other = by_external_id(&mut tx, tenant, external_id).await?;
            if other.is_some_and(|other| other.id != id) {
                return Err(PlaceError::NameTaken);
            }
        }
        sqlx::query("UPDATE workspaces SET name = ?, slug = ?, external_id = ? WHERE id = ?")
            .bind(&record.name)
            .bind(&record.slug)
            .bind(&record.external_id)
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Deletes a workspace that holds nothing, with its projects, and revokes
    /// the keys that saw nothing else.
    pub async fn delete_workspace(&self, tenant: &TenantId, id: Uuid) -> Result<(), PlaceError> {
        let mut tx = self.write().await?;
        let known = by_id(&mut *tx, tenant, id).await?;
        if known.ok_or(PlaceError::NotFound)?.is_default {
            return Err(PlaceError::IsDefault);
        }
        let held: u32 = sqlx::query_scalar(
            "SELECT count(*) FROM sandboxes WHERE workspace_id = ? AND state <> 'destroyed'",
        )
        .bind(id.to_string())
        .fetch_one(&mut *tx)
        .await?;
        if held > 0 {
            return Err(PlaceError::InUse(held));
        }
        let now = time::now().as_microsecond();
        for statement in [
            // No slug has a tilde: the old one is free again.
            "UPDATE workspaces SET deleted_at = ?1, slug = slug || '~' || id WHERE id = ?2",
            "UPDATE projects SET deleted_at = ?1, slug = slug || '~' || id \
             WHERE workspace_id = ?2 AND deleted_at IS NULL",
            "UPDATE api_keys SET revoked_at = ?1 WHERE workspace_id = ?2 AND revoked_at IS NULL",
        ] {
            sqlx::query(statement)
                .bind(now)
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

const SELECT: &str = "SELECT id, slug, name, external_id, is_default, created_at \
                      FROM workspaces WHERE tenant_id = ? AND deleted_at IS NULL";

async fn by_id(
    executor: impl SqliteExecutor<'_>,
    tenant: &TenantId,
    id: Uuid,
) -> Result<Option<WorkspaceRecord>, StoreError> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!("{SELECT} AND id = ?")))
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

async fn by_external_id(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    external_id: &str,
) -> Result<Option<WorkspaceRecord>, StoreError> {
    let text = format!("{SELECT} AND external_id = ?");
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(text))
        .bind(tenant.as_str())
        .bind(external_id)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(Row::into_record).transpose()
}

/// Whether no workspace of the tenant but `own` has this slug or name.
async fn check_free(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    own: Option<Uuid>,
    slug: &str,
    name: &str,
) -> Result<(), PlaceError> {
    let taken: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM workspaces WHERE tenant_id = ?1 AND deleted_at IS NULL \
         AND (slug = ?2 OR name = ?3) AND id IS NOT ?4)",
    )
    .bind(tenant.as_str())
    .bind(slug)
    .bind(name)
    .bind(own.map(|id| id.to_string()))
    .fetch_one(&mut **tx)
    .await?;
    if taken {
        return Err(PlaceError::NameTaken);
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    slug: String,
    name: String,
    external_id: Option<String>,
    is_default: bool,
    created_at: i64,
}

impl Row {
    fn into_record(self) -> Result<WorkspaceRecord, StoreError> {
        Ok(WorkspaceRecord {
            id: parse("workspaces.id", &self.id)?,
            slug: self.slug,
            name: self.name,
            external_id: self.external_id,
            is_default: self.is_default,
            created_at: time::read("workspaces.created_at", self.created_at)?,
        })
    }
}
