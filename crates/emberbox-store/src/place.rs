//! Workspaces and projects: where a sandbox belongs.
//!
//! Invariants: every tenant has one default workspace and every workspace one
//! default project, which stay; what is deleted holds no sandbox that is not
//! destroyed, and its slug is free.

use emberbox_core::{Limits, TenantId};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use crate::store::parse;
use crate::{Caller, StoreError, TooMany, time};

mod project;
mod workspace;

pub use project::{ProjectRecord, ProjectSpot};
pub use workspace::WorkspaceRecord;

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
    /// Another one of the tenant, or of the workspace, has the name or slug.
    #[error("the name is in use")]
    NameTaken,
    /// There is no such workspace or project.
    #[error("there is no such place")]
    NotFound,
    /// It is where things go that name no place.
    #[error("a default stays")]
    IsDefault,
    /// It still holds sandboxes that are not destroyed.
    #[error("it holds {0} sandboxes")]
    InUse(u32),
    /// The tenant has as many as it may have.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PlaceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A workspace or project to make.
#[derive(Debug, Clone)]
pub struct NewPlace {
    /// For people.
    pub name: String,
    /// Unique in the tenant or workspace; made of the name when absent.
    pub slug: Option<String>,
    /// The caller's own name of it. One that is known gives what has it.
    pub external_id: Option<String>,
}

/// What to change of a workspace or project.
#[derive(Debug, Clone, Default)]
pub struct PlaceEdit {
    /// For people.
    pub name: Option<String>,
    /// Unique in the tenant or workspace.
    pub slug: Option<String>,
    /// The caller's own name of it, or that it has none.
    pub external_id: Option<Option<String>>,
}

/// What came of a request for a workspace or project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed<T> {
    /// It was made.
    New(T),
    /// The external id named this one.
    Reused(T),
}

/// Makes a tenant's default workspace with its default project.
pub(crate) async fn default_workspace(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
) -> Result<Uuid, StoreError> {
    let new = Insert {
        slug: DEFAULT_SLUG,
        name: "Default",
        external_id: None,
        is_default: true,
    };
    insert_workspace(tx, tenant, &new).await
}

/// Whether the tenant has this workspace.
pub(crate) async fn has_workspace(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    workspace: Uuid,
) -> Result<bool, StoreError> {
    let known = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM workspaces \
         WHERE id = ? AND tenant_id = ? AND deleted_at IS NULL)",
    )
    .bind(workspace.to_string())
    .bind(tenant.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(known)
}

/// That the tenant may have one more workspace, with its default project.
async fn check_workspaces(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    limits: &Limits,
) -> Result<(), PlaceError> {
    let have = sqlx::query_scalar(
        "SELECT count(*) FROM workspaces WHERE tenant_id = ? AND deleted_at IS NULL",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **tx)
    .await?;
    TooMany::check("workspaces", have, limits.max_workspaces)?;
    check_projects(tx, tenant, limits.max_projects).await
}

/// That the tenant may have one more project.
async fn check_projects(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    max: u32,
) -> Result<(), PlaceError> {
    let have = sqlx::query_scalar(
        "SELECT count(*) FROM projects WHERE tenant_id = ? AND deleted_at IS NULL",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(TooMany::check("projects", have, max)?)
}

/// Who asks for a place, which, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placing<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) request: &'a PlaceRequest,
    pub(crate) limits: &'a Limits,
}

/// Finds or makes the workspace and the project a request names. A key that is
/// bound to a workspace finds nothing outside of it.
pub(crate) async fn resolve(
    tx: &mut Transaction<'static, Sqlite>,
    placing: Placing<'_>,
) -> Result<(Uuid, Uuid), PlaceError> {
    let Placing {
        caller, request, ..
    } = placing;
    let named = workspace(tx, placing).await?;
    if let Some(project) = request.project_id {
        let owner: Option<String> = sqlx::query_scalar(
            "SELECT workspace_id FROM projects \
             WHERE id = ? AND tenant_id = ? AND deleted_at IS NULL",
        )
        .bind(project.to_string())
        .bind(caller.tenant.as_str())
        .fetch_optional(&mut **tx)
        .await?;
        let owner = owner
            .map(|owner| parse("projects.workspace_id", &owner))
            .transpose()?;
        let owner: Uuid = owner
            .filter(|&owner| caller.bounds.reach(owner))
            .ok_or_else(|| no_such("project_id", "no such project"))?;
        if named.is_some_and(|named| named != owner) {
            return Err(no_such("project_id", "belongs to another workspace"));
        }
        return Ok((owner, project));
    }
    let workspace = named.unwrap_or(caller.home);
    let project = project(tx, placing, workspace).await?;
    Ok((workspace, project))
}

async fn workspace(
    tx: &mut Transaction<'static, Sqlite>,
    placing: Placing<'_>,
) -> Result<Option<Uuid>, PlaceError> {
    let Placing {
        caller,
        request,
        limits,
    } = placing;
    if let Some(id) = request.workspace_id {
        let slug: Option<String> = sqlx::query_scalar(
            "SELECT slug FROM workspaces WHERE id = ? AND tenant_id = ? AND deleted_at IS NULL",
        )
        .bind(id.to_string())
        .bind(caller.tenant.as_str())
        .fetch_optional(&mut **tx)
        .await?;
        let slug = slug
            .filter(|_| caller.bounds.reach(id))
            .ok_or_else(|| no_such("workspace_id", "no such workspace"))?;
        return match &request.workspace_slug {
            Some(other) if *other != slug => {
                Err(no_such("workspace_slug", "is not the slug of workspace_id"))
            }
            Some(_) | None => Ok(Some(id)),
        };
    }
    let (field, slug, name) = match (&request.workspace_slug, &request.workspace_name) {
        (Some(slug), name) => (
            "workspace_slug",
            slug.clone(),
            name.as_ref().unwrap_or(slug),
        ),
        (None, Some(name)) => ("workspace_name", slugify(name), name),
        (None, None) => return Ok(None),
    };
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM workspaces WHERE tenant_id = ? AND slug = ?")
            .bind(caller.tenant.as_str())
            .bind(&slug)
            .fetch_optional(&mut **tx)
            .await?;
    let found: Option<Uuid> = found.map(|id| parse("workspaces.id", &id)).transpose()?;
    match (found, caller.bounds.workspace) {
        (Some(found), _) if caller.bounds.reach(found) => Ok(Some(found)),
        (Some(_), _) | (None, Some(_)) => Err(no_such(field, "no such workspace")),
        (None, None) => {
            check_workspaces(tx, &caller.tenant, limits).await?;
            let new = Insert {
                slug: &slug,
                name,
                external_id: None,
                is_default: false,
            };
            Ok(Some(insert_workspace(tx, &caller.tenant, &new).await?))
        }
    }
}

async fn project(
    tx: &mut Transaction<'static, Sqlite>,
    placing: Placing<'_>,
    workspace: Uuid,
) -> Result<Uuid, PlaceError> {
    let Placing {
        caller,
        request,
        limits,
    } = placing;
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
            let found = found.ok_or(StoreError::NotBootstrapped)?;
            return Ok(parse("projects.id", &found)?);
        }
    };
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM projects WHERE workspace_id = ? AND slug = ?")
            .bind(workspace.to_string())
            .bind(&slug)
            .fetch_optional(&mut **tx)
            .await?;
    match found {
        Some(id) => Ok(parse("projects.id", &id)?),
        None => {
            check_projects(tx, &caller.tenant, limits.max_projects).await?;
            let new = Insert {
                slug: &slug,
                name,
                external_id: None,
                is_default: false,
            };
            Ok(insert_project(tx, &caller.tenant, workspace, &new).await?)
        }
    }
}

struct Insert<'a> {
    slug: &'a str,
    name: &'a str,
    external_id: Option<&'a str>,
    is_default: bool,
}

async fn insert_workspace(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    new: &Insert<'_>,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO workspaces (id, tenant_id, slug, name, external_id, is_default, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(tenant.as_str())
    .bind(new.slug)
    .bind(new.name)
    .bind(new.external_id)
    .bind(new.is_default)
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    let default = Insert {
        slug: DEFAULT_SLUG,
        name: "Default",
        external_id: None,
        is_default: true,
    };
    insert_project(tx, tenant, id, &default).await?;
    Ok(id)
}

async fn insert_project(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    workspace: Uuid,
    new: &Insert<'_>,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO projects (id, tenant_id, workspace_id, slug, name, external_id, is_default, \
         created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(tenant.as_str())
    .bind(workspace.to_string())
    .bind(new.slug)
    .bind(new.name)
    .bind(new.external_id)
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
