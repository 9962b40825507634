//! Workspaces and projects: where a sandbox belongs.

use emberbox_core::TenantId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use crate::store::parse;
use crate::{Store, StoreError, time};

/// Slug of what every tenant and every workspace begins with.
const DEFAULT_SLUG: &str = "default";

/// Longest slug: a DNS label, because it may become part of a name.
const SLUG_MAX: usize = 63;

/// Where a sandbox is to belong, as the caller said it. Ids must exist; slugs
/// and names are made when they do not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlaceRequest {
    /// An existing workspace.
    pub workspace_id: Option<Uuid>,
    /// An existing workspace, or one to make.
    pub workspace_slug: Option<String>,
    /// The display name if one is made; alone it names the workspace.
    pub workspace_name: Option<String>,
    /// An existing project.
    pub project_id: Option<Uuid>,
    /// An existing project of the workspace, or one to make.
    pub project_slug: Option<String>,
    /// The display name if one is made; alone it names the project.
    pub project_name: Option<String>,
}

/// Why there is no such place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A field names something that is not there, or contradicts another one.
    #[error("{field}: {message}")]
    Field {
        /// The request field.
        field: &'static str,
        /// What is wrong with it.
        message: &'static str,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PlaceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// Its identifier.
    pub id: Uuid,
    /// Unique in the tenant.
    pub slug: String,
    /// For people.
    pub name: String,
    /// Where sandboxes go that name none.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

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
    /// Where sandboxes go that name none.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

type WorkspaceRow = (String, String, String, bool, i64);
type ProjectRow = (String, String, String, String, bool, i64);

impl Store {
    /// The tenant's workspaces, oldest first.
    pub async fn list_workspaces(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<WorkspaceRecord>, StoreError> {
        let rows: Vec<WorkspaceRow> = sqlx::query_as(
            "SELECT id, slug, name, is_default, created_at FROM workspaces \
             WHERE tenant_id = ? ORDER BY created_at, id",
        )
        .bind(tenant.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.into_iter()
            .map(|(id, slug, name, is_default, created_at)| {
                Ok(WorkspaceRecord {
                    id: parse("workspaces.id", &id)?,
                    slug,
                    name,
                    is_default,
                    created_at: time::read("workspaces.created_at", created_at)?,
                })
            })
            .collect()
    }

    /// The tenant's projects, of one workspace if given, oldest first.
    pub async fn list_projects(
        &self,
        tenant: &TenantId,
        workspace: Option<Uuid>,
    ) -> Result<Vec<ProjectRecord>, StoreError> {
        let rows: Vec<ProjectRow> = sqlx::query_as(
            "SELECT id, workspace_id, slug, name, is_default, created_at FROM projects \
             WHERE tenant_id = ?1 AND (?2 IS NULL OR workspace_id = ?2) ORDER BY created_at, id",
        )
        .bind(tenant.as_str())
        .bind(workspace.map(|id| id.to_string()))
        .fetch_all(self.readers())
        .await?;
        rows.into_iter()
            .map(|(id, workspace_id, slug, name, is_default, created_at)| {
                Ok(ProjectRecord {
                    id: parse("projects.id", &id)?,
                    workspace_id: parse("projects.workspace_id", &workspace_id)?,
                    slug,
                    name,
                    is_default,
                    created_at: time::read("projects.created_at", created_at)?,
                })
            })
            .collect()
    }
}

/// Makes a tenant's default workspace with its default project.
pub(crate) async fn default_workspace(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
) -> Result<Uuid, StoreError> {
    insert_workspace(tx, tenant, DEFAULT_SLUG, "Default", true).await
}

/// Finds or makes the workspace and the project a request names.
pub(crate) async fn resolve(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    request: &PlaceRequest,
) -> Result<(Uuid, Uuid), PlaceError> {
    let named = workspace(tx, tenant, request).await?;
    if let Some(project) = request.project_id {
        let owner: Option<String> =
            sqlx::query_scalar("SELECT workspace_id FROM projects WHERE id = ? AND tenant_id = ?")
                .bind(project.to_string())
                .bind(tenant.as_str())
                .fetch_optional(&mut **tx)
                .await?;
        let owner: Uuid = match owner {
            Some(owner) => parse("projects.workspace_id", &owner)?,
            None => return Err(no_such("project_id", "no such project")),
        };
        if named.is_some_and(|named| named != owner) {
            return Err(no_such("project_id", "belongs to another workspace"));
        }
        return Ok((owner, project));
    }
    let workspace = match named {
        Some(workspace) => workspace,
        None => fallback(tx, tenant).await?,
    };
    Ok((workspace, project(tx, tenant, workspace, request).await?))
}

async fn workspace(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    request: &PlaceRequest,
) -> Result<Option<Uuid>, PlaceError> {
    if let Some(id) = request.workspace_id {
        let slug: Option<String> =
            sqlx::query_scalar("SELECT slug FROM workspaces WHERE id = ? AND tenant_id = ?")
                .bind(id.to_string())
                .bind(tenant.as_str())
                .fetch_optional(&mut **tx)
                .await?;
        let slug = slug.ok_or_else(|| no_such("workspace_id", "no such workspace"))?;
        return match &request.workspace_slug {
            Some(other) if *other != slug => {
                Err(no_such("workspace_slug", "is not the slug of workspace_id"))
            }
            Some(_) | None => Ok(Some(id)),
        };
    }
    let (slug, name) = match (&request.workspace_slug, &request.workspace_name) {
        (Some(slug), name) => (slug.clone(), name.as_ref().unwrap_or(slug)),
        (None, Some(name)) => (slugify(name), name),
        (None, None) => return Ok(None),
    };
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM workspaces WHERE tenant_id = ? AND slug = ?")
            .bind(tenant.as_str())
            .bind(&slug)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(Some(match found {
        Some(id) => parse("workspaces.id", &id)?,
        None => insert_workspace(tx, tenant, &slug, name, false).await?,
    }))
}

async fn fallback(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
) -> Result<Uuid, StoreError> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM workspaces WHERE tenant_id = ? AND is_default = 1")
            .bind(tenant.as_str())
            .fetch_optional(&mut **tx)
            .await?;
    parse("workspaces.id", &found.ok_or(StoreError::NotBootstrapped)?)
}

async fn project(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    workspace: Uuid,
    request: &PlaceRequest,
) -> Result<Uuid, StoreError> {
    let (slug, name) = match (&request.project_slug, &request.project_name) {
        (Some(slug), name) => (slug.clone(), name.as_ref().unwrap_or(slug)),
        (None, Some(name)) => (slugify(name), name),
        (None, None) => {
            let found: Option<String> = sqlx::query_scalar(
                "SELECT id FROM projects WHERE workspace_id = ? AND is_default = 1",
            )
            .bind(workspace.to_string())
            .fetch_optional(&mut **tx)
            .await?;
            return parse("projects.id", &found.ok_or(StoreError::NotBootstrapped)?);
        }
    };
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM projects WHERE workspace_id = ? AND slug = ?")
            .bind(workspace.to_string())
            .bind(&slug)
            .fetch_optional(&mut **tx)
            .await?;
    match found {
        Some(id) => parse("projects.id", &id),
        None => {
            insert_project(
                tx,
                tenant,
                workspace,
                &NewProject {
                    slug: &slug,
                    name,
                    is_default: false,
                },
            )
            .await
        }
    }
}

async fn insert_workspace(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    slug: &str,
    name: &str,
    is_default: bool,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO workspaces (id, tenant_id, slug, name, is_default, created_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(tenant.as_str())
    .bind(slug)
    .bind(name)
    .bind(is_default)
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    let default = NewProject {
        slug: DEFAULT_SLUG,
        name: "Default",
        is_default: true,
    };
    insert_project(tx, tenant, id, &default).await?;
    Ok(id)
}

struct NewProject<'a> {
    slug: &'a str,
    name: &'a str,
    is_default: bool,
}

async fn insert_project(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    workspace: Uuid,
    new: &NewProject<'_>,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO projects (id, tenant_id, workspace_id, slug, name, is_default, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(tenant.as_str())
    .bind(workspace.to_string())
    .bind(new.slug)
    .bind(new.name)
    .bind(new.is_default)
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

fn no_such(field: &'static str, message: &'static str) -> PlaceError {
    PlaceError::Field { field, message }
}

/// A slug for a display name: lower case, runs of anything else as one dash.
fn slugify(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(SLUG_MAX);
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        // A name without one Latin letter still needs a stable slug.
        return format!("n-{:016x}", stable_hash(name));
    }
    slug.to_owned()
}

fn stable_hash(name: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests;
