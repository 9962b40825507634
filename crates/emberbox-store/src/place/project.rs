//! Projects: made, read, changed, deleted.

use emberbox_core::TenantId;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor, Transaction};
use uuid::Uuid;

use super::{
    Insert, NewPlace, PlaceEdit, PlaceError, Placed, check_projects, has_workspace, insert_project,
    slugify,
};
use crate::store::parse;
use crate::{Store, StoreError, time};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRecord {
    /// Its identifier.
    pub id: Uuid,
    /// Its workspace.
    pub workspace_id: Uuid,
    /// Unique in the workspace.
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

/// Which project of whom.
#[derive(Debug, Clone, Copy)]
pub struct ProjectSpot<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The only workspace that is looked into.
    pub workspace: Option<Uuid>,
    /// The project.
    pub id: Uuid,
}

impl Store {
    /// The tenant's projects, of one workspace if given, oldest first.
    pub async fn list_projects(
        &self,
        tenant: &TenantId,
        workspace: Option<Uuid>,
    ) -> Result<Vec<ProjectRecord>, StoreError> {
        let text = format!("{SELECT} ORDER BY created_at, id");
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(text))
            .bind(tenant.as_str())
            .bind(workspace.map(|id| id.to_string()))
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// One project.
    pub async fn project(&self, at: ProjectSpot<'_>) -> Result<Option<ProjectRecord>, StoreError> {
        by_id(self.readers(), at).await
    }

    /// Makes a project of a workspace, unless one has the external id or the
    /// tenant has `max`.
    pub async fn create_project(
        &self,
        tenant: &TenantId,
        workspace: Uuid,
        new: &NewPlace,
        max: u32,
    ) -> Result<Placed<ProjectRecord>, PlaceError> {
        let mut tx = self.write().await?;
        if !has_workspace(&mut tx, tenant, workspace).await? {
            return Err(PlaceError::NotFound);
        }
        if let Some(external_id) = &new.external_id
            && let Some(known) = by_external_id(&mut tx, tenant, workspace, external_id).await?
        {
            return Ok(Placed::Reused(known));
        }
        let slug = new.slug.clone().unwrap_or_else(|| slugify(&new.name));
        check_free(&mut tx, workspace, None, &slug, &new.name).await?;
        check_projects(&mut tx, tenant, max).await?;
        let insert = Insert {
            slug: &slug,
            name: &new.name,
            external_id: new.external_id.as_deref(),
            is_default: false,
        };
        let id = insert_project(&mut tx, tenant, workspace, &insert).await?;
        let at = ProjectSpot {
            tenant,
            workspace: Some(workspace),
            id,
        };
        let made = by_id(&mut *tx, at).await?;
        tx.commit().await?;
        Ok(Placed::New(made.ok_or(PlaceError::NotFound)?))
    }

    /// Changes a project.
    pub async fn change_project(
        &self,
        at: ProjectSpot<'_>,
        edit: &PlaceEdit,
    ) -> Result<ProjectRecord, PlaceError> {
        let mut tx = self.write().await?;
        let known = by_id(&mut *tx, at).await?.ok_or(PlaceError::NotFound)?;
        let record = ProjectRecord {
            name: edit.name.clone().unwrap_or(known.name),
            slug: edit.slug.clone().unwrap_or(known.slug),
            external_id: edit.external_id.clone().unwrap_or(known.external_id),
            ..known
        };
        let workspace = record.workspace_id;
        check_free(&mut tx, workspace, Some(at.id), &record.slug, &record.name).await?;
        if let Some(external_id) = &record.external_id {
            let other = by_external_id(&mut tx, at.tenant, workspace, external_id).await?;
            if other.is_some_and(|other| other.id != at.id) {
                return Err(PlaceError::NameTaken);
            }
        }
        sqlx::query("UPDATE projects SET name = ?, slug = ?, external_id = ? WHERE id = ?")
            .bind(&record.name)
            .bind(&record.slug)
            .bind(&record.external_id)
            .bind(at.id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Deletes a project that holds nothing.
    pub async fn delete_project(&self, at: ProjectSpot<'_>) -> Result<(), PlaceError> {
        let mut tx = self.write().await?;
        let known = by_id(&mut *tx, at).await?.ok_or(PlaceError::NotFound)?;
        if known.is_default {
            return Err(PlaceError::IsDefault);
        }
        let held: u32 = sqlx::query_scalar(
            "SELECT count(*) FROM sandboxes WHERE project_id = ? AND state <> 'destroyed'",
        )
        .bind(at.id.to_string())
        .fetch_one(&mut *tx)
        .await?;
        if held > 0 {
            return Err(PlaceError::InUse(held));
        }
        // No slug has a tilde: the old one is free again.
        sqlx::query("UPDATE projects SET deleted_at = ?, slug = slug || '~' || id WHERE id = ?")
            .bind(time::now().as_microsecond())
            .bind(at.id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

const SELECT: &str = "SELECT id, workspace_id, slug, name, external_id, is_default, created_at \
                      FROM projects WHERE tenant_id = ?1 AND deleted_at IS NULL \
                      AND (?2 IS NULL OR workspace_id = ?2)";

async fn by_id(
    executor: impl SqliteExecutor<'_>,
    at: ProjectSpot<'_>,
) -> Result<Option<ProjectRecord>, StoreError> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!("{SELECT} AND id = ?3")))
        .bind(at.tenant.as_str())
        .bind(at.workspace.map(|id| id.to_string()))
        .bind(at.id.to_string())
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

async fn by_external_id(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    workspace: Uuid,
    external_id: &str,
) -> Result<Option<ProjectRecord>, StoreError> {
    let text = format!("{SELECT} AND external_id = ?3");
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(text))
        .bind(tenant.as_str())
        .bind(workspace.to_string())
        .bind(external_id)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(Row::into_record).transpose()
}

/// Whether no project of the workspace but `own` has this slug or name.
async fn check_free(
    tx: &mut Transaction<'static, Sqlite>,
    workspace: Uuid,
    own: Option<Uuid>,
    slug: &str,
    name: &str,
) -> Result<(), PlaceError> {
    let taken: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM projects WHERE workspace_id = ?1 AND deleted_at IS NULL \
         AND (slug = ?2 OR name = ?3) AND id IS NOT ?4)",
    )
    .bind(workspace.to_string())
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
    workspace_id: String,
    slug: String,
    name: String,
    external_id: Option<String>,
    is_default: bool,
    created_at: i64,
}

impl Row {
    fn into_record(self) -> Result<ProjectRecord, StoreError> {
        Ok(ProjectRecord {
            id: parse("projects.id", &self.id)?,
            workspace_id: parse("projects.workspace_id", &self.workspace_id)?,
            slug: self.slug,
            name: self.name,
            external_id: self.external_id,
            is_default: self.is_default,
            created_at: time::read("projects.created_at", self.created_at)?,
        })
    }
}
