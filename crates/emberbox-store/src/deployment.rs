//! Deployments: a name on the outside for an app in a sandbox.

use emberbox_core::{DeploymentId, SandboxId, SandboxState, TenantId, id};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use uuid::Uuid;

use crate::store::parse;
use crate::{Bounds, Store, StoreError, time};

/// Most deployments one list returns, as with sandboxes.
const LIST_MAX: u32 = 10_000;

/// Characters of a name that its slug keeps: with the random end and its hyphen
/// well inside a DNS label.
const SLUG_NAME_MAX: usize = 40;

/// Characters of the random end of a slug, as in the reference's example.
const SLUG_END_LEN: usize = 6;

/// What a deployment is to be; every value is checked already.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// The one to change, instead of a new one.
    pub id: Option<DeploymentId>,
    /// For people.
    pub name: Option<String>,
    /// The runtime behind it.
    pub sandbox: SandboxId,
    /// Where the app listens.
    pub port: u16,
    /// A domain of the tenant's own.
    pub domain: Option<String>,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// Which.
    pub id: DeploymentId,
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's label in its address.
    pub tenant_slug: String,
    /// The runtime behind it.
    pub sandbox: SandboxId,
    /// The workspace that is in.
    pub workspace_id: Uuid,
    /// The end user that is for.
    pub end_user: Option<String>,
    /// The state that is in; the deployment's own follows from it.
    pub sandbox_state: SandboxState,
    /// For people.
    pub name: String,
    /// Its label in its address.
    pub slug: String,
    /// Where the app listens.
    pub port: u16,
    /// A domain of the tenant's own.
    pub domain: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

/// Why nothing was deployed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The tenant has no such deployment.
    #[error("no such deployment")]
    NotFound,
    /// The sandbox is none of the tenant's, or does not run.
    #[error("the sandbox does not run")]
    NotRunning,
    /// A new deployment needs a name.
    #[error("the deployment has no name")]
    NoName,
    /// The domain leads to another deployment.
    #[error("the domain is in use")]
    DomainTaken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for DeployError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl DeploymentRecord {
    /// Whether it is in sight.
    #[must_use]
    pub fn is_within(&self, bounds: &Bounds) -> bool {
        bounds.show(self.workspace_id, self.end_user.as_deref())
    }
}

impl Store {
    /// Makes a deployment, or points one to another sandbox. The sandbox's
    /// time stops being counted. The same name for the same sandbox is the
    /// same deployment, so that a repeated request makes no second one.
    pub async fn deploy(
        &self,
        tenant: &TenantId,
        new: &NewDeployment,
    ) -> Result<DeploymentRecord, DeployError> {
        let mut tx = self.write().await?;
        let running = sqlx::query(
            "UPDATE sandboxes SET always_on = 1 WHERE id = ? AND tenant_id = ? \
             AND state = 'running' AND destroy_requested_at IS NULL",
        )
        .bind(new.sandbox.as_str())
        .bind(tenant.as_str())
        .execute(&mut *tx)
        .await?;
        if running.rows_affected() == 0 {
            return Err(DeployError::NotRunning);
        }
        let existing = match (&new.id, &new.name) {
            (Some(id), _) => {
                let found = existing(&mut tx, tenant, "d.id = ?", &[id.as_str()]).await?;
                Some(found.ok_or(DeployError::NotFound)?)
            }
            (None, Some(name)) => {
                let same = "d.sandbox_id = ? AND d.name = ?";
                existing(&mut tx, tenant, same, &[new.sandbox.as_str(), name]).await?
            }
            (None, None) => return Err(DeployError::NoName),
        };
        let id = existing.as_ref().map(|found| found.id.clone());
        if let Some(domain) = &new.domain {
            let taken: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM deployments \
                 WHERE domain = ? AND deleted_at IS NULL AND id IS NOT ?)",
            )
            .bind(domain)
            .bind(id.as_ref().map(DeploymentId::as_str))
            .fetch_one(&mut *tx)
            .await?;
            if taken {
                return Err(DeployError::DomainTaken);
            }
        }
        let id = match existing {
            Some(found) => change(&mut tx, found, new).await?,
            None => insert(&mut tx, tenant, new).await?,
        };
        let made = existing_by_id(&mut tx, tenant, &id).await?;
        tx.commit().await?;
        made.ok_or(DeployError::NotFound)
    }

    /// The tenant's deployments, newest first.
    pub async fn deployments(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<DeploymentRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "{SELECT} AND d.tenant_id = ? ORDER BY d.created_at DESC, d.id DESC LIMIT {LIST_MAX}"
        )))
        .bind(tenant.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// One deployment of the tenant.
    pub async fn deployment(
        &self,
        tenant: &TenantId,
        id: &DeploymentId,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "{SELECT} AND d.tenant_id = ? AND d.id = ?"
        )))
        .bind(tenant.as_str())
        .bind(id.as_str())
        .fetch_optional(self.readers())
        .await?;
        row.map(Row::into_record).transpose()
    }

    /// Every deployment of every tenant: the routes there must be.
    pub async fn all_deployments(&self) -> Result<Vec<DeploymentRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(SELECT).fetch_all(self.readers()).await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Takes a deployment down; what it was, or `None` if there is none.
    pub async fn delete_deployment(
        &self,
        tenant: &TenantId,
        id: &DeploymentId,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        let mut tx = self.write().await?;
        let found = existing_by_id(&mut tx, tenant, id).await?;
        if found.is_some() {
            sqlx::query("UPDATE deployments SET deleted_at = ? WHERE id = ?")
                .bind(time::now().as_microsecond())
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(found)
    }
}

/// Deployments that are not deleted.
const SELECT: &str = "SELECT d.id, d.tenant_id, t.slug AS tenant_slug, d.sandbox_id, \
     s.workspace_id, s.external_user_id AS end_user, s.state AS sandbox_state, d.name, d.slug, d.port, d.domain, d.created_at, d.updated_at \
     FROM deployments d JOIN tenants t ON t.id = d.tenant_id \
     JOIN sandboxes s ON s.id = d.sandbox_id WHERE d.deleted_at IS NULL";

async fn existing_by_id(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    id: &DeploymentId,
) -> Result<Option<DeploymentRecord>, StoreError> {
    existing(tx, tenant, "d.id = ?", &[id.as_str()]).await
}

async fn existing(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    condition: &str,
    values: &[&str],
) -> Result<Option<DeploymentRecord>, StoreError> {
    let mut query = sqlx::query_as::<_, Row>(AssertSqlSafe(format!(
        "{SELECT} AND d.tenant_id = ? AND {condition}"
    )));
    query = query.bind(tenant.as_str());
    for value in values {
        query = query.bind((*value).to_owned());
    }
    let row = query.fetch_optional(&mut **tx).await?;
    row.map(Row::into_record).transpose()
}

async fn change(
    tx: &mut Transaction<'static, Sqlite>,
    found: DeploymentRecord,
    new: &NewDeployment,
) -> Result<DeploymentId, StoreError> {
    sqlx::query(
        "UPDATE deployments SET sandbox_id = ?, name = ?, port = ?, \
         domain = coalesce(?, domain), updated_at = ? WHERE id = ?",
    )
    .bind(new.sandbox.as_str())
    .bind(new.name.as_ref().unwrap_or(&found.name))
    .bind(new.port)
    .bind(&new.domain)
    .bind(time::now().as_microsecond())
    .bind(found.id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(found.id)
}

async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    new: &NewDeployment,
) -> Result<DeploymentId, StoreError> {
    let id = DeploymentId::generate();
    let name = new.name.as_deref().unwrap_or_default();
    let now = time::now().as_microsecond();
    sqlx::query(
        "INSERT INTO deployments \
         (id, tenant_id, sandbox_id, name, slug, port, domain, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.as_str())
    .bind(tenant.as_str())
    .bind(new.sandbox.as_str())
    .bind(name)
    .bind(slug(name))
    .bind(new.port)
    .bind(&new.domain)
    .bind(now)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

/// A DNS label from a name, with a random end.
fn slug(name: &str) -> String {
    let end = &id::slug()[..SLUG_END_LEN];
    match label(name) {
        label if label.is_empty() => format!("app-{end}"),
        label => format!("{label}-{end}"),
    }
}

/// What a DNS label keeps of a name: letters and digits, hyphens between them,
/// a letter first.
#[must_use]
pub fn label(name: &str) -> String {
    let mut label = String::new();
    for character in name.to_lowercase().chars() {
        if label.len() == SLUG_NAME_MAX {
            break;
        }
        if character.is_ascii_lowercase() || (character.is_ascii_digit() && !label.is_empty()) {
            label.push(character);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.trim_end_matches('-').to_owned()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    tenant_id: String,
    tenant_slug: String,
    sandbox_id: String,
    workspace_id: String,
    end_user: Option<String>,
    sandbox_state: String,
    name: String,
    slug: String,
    port: u16,
    domain: Option<String>,
    created_at: i64,
    updated_at: i64,
}

impl Row {
    fn into_record(self) -> Result<DeploymentRecord, StoreError> {
        Ok(DeploymentRecord {
            id: parse("deployments.id", &self.id)?,
            tenant: parse("deployments.tenant_id", &self.tenant_id)?,
            tenant_slug: self.tenant_slug,
            sandbox: parse("deployments.sandbox_id", &self.sandbox_id)?,
            workspace_id: parse("sandboxes.workspace_id", &self.workspace_id)?,
            end_user: self.end_user,
            sandbox_state: parse("sandboxes.state", &self.sandbox_state)?,
            name: self.name,
            slug: self.slug,
            port: self.port,
            domain: self.domain,
            created_at: time::read("deployments.created_at", self.created_at)?,
            updated_at: time::read("deployments.updated_at", self.updated_at)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_keep_what_dns_takes() {
        for (name, kept) in [
            ("My App", "my-app"),
            ("  2nd -- try!! ", "nd-try"),
            ("Grüße", "gr-e"),
            ("日本", ""),
            ("a", "a"),
        ] {
            assert_eq!(label(name), kept, "{name}");
        }
        assert_eq!(label(&"x".repeat(100)).len(), super::SLUG_NAME_MAX);
    }
}
