//! Tenants' own templates.
//!
//! Decides: which slug is whose. Invariants: a template's slug is unique among
//! those of its tenant that are not deleted; a template that is deleted has no
//! build left to do.

use emberbox_core::{BuildId, BuildSpec, BuildState, TemplateId, TenantId};
use jiff::Timestamp;
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor};

use crate::store::parse;
use crate::{Caller, Store, StoreError, time};

/// A template to make; every value is checked already.
#[derive(Debug, Clone)]
pub struct NewTemplate {
    /// Its name in requests.
    pub slug: String,
    /// For people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The caller's data.
    pub metadata: Map<String, Value>,
    /// What it is made of.
    pub spec: BuildSpec,
}

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateRecord {
    /// Which.
    pub id: TemplateId,
    /// Its name in requests.
    pub slug: String,
    /// For people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The caller's data.
    pub metadata: Map<String, Value>,
    /// What its next build is made of.
    pub spec: BuildSpec,
    /// Its newest build.
    pub latest_build: Option<(BuildId, BuildState)>,
    /// The newest build that sandboxes can boot from.
    pub ready_build: Option<ReadyBuild>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What a template boots.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyBuild {
    /// Which build.
    pub id: BuildId,
    /// The image.
    pub image: String,
    /// What it was made of.
    pub spec: BuildSpec,
}

/// Why a template was not made or deleted. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The tenant has one of this slug.
    #[error("the slug is in use")]
    SlugTaken,
    /// The tenant has as many as it may have.
    #[error("the tenant has {0} templates")]
    LimitExceeded(u32),
    /// One of its builds has something left to do.
    #[error("a build is not over")]
    BuildOpen,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TemplateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Records a template, unless the tenant has `max` of them.
    pub async fn insert_template(
        &self,
        caller: &Caller,
        new: &NewTemplate,
        max: u32,
    ) -> Result<TemplateRecord, TemplateError> {
        let mut tx = self.write().await?;
        let count: u32 = sqlx::query_scalar(
            "SELECT count(*) FROM templates WHERE tenant_id = ? AND deleted_at IS NULL",
        )
        .bind(caller.tenant.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if count >= max {
            return Err(TemplateError::LimitExceeded(count));
        }
        if one(&mut *tx, &caller.tenant, &new.slug).await?.is_some() {
            return Err(TemplateError::SlugTaken);
        }
        let record = TemplateRecord {
            id: TemplateId::generate(),
            slug: new.slug.clone(),
            name: new.name.clone(),
            description: new.description.clone(),
            metadata: new.metadata.clone(),
            spec: new.spec.clone(),
            latest_build: None,
            ready_build: None,
            created_at: time::now(),
            updated_at: time::now(),
        };
        sqlx::query(
            "INSERT INTO templates (id, tenant_id, owner_id, slug, name, description, metadata, \
             build_spec, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(record.id.as_str())
        .bind(caller.tenant.as_str())
        .bind(caller.user.as_str())
        .bind(&record.slug)
        .bind(&record.name)
        .bind(&record.description)
        .bind(Json(&record.metadata))
        .bind(Json(&record.spec))
        .bind(record.created_at.as_microsecond())
        .bind(record.updated_at.as_microsecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(record)
    }

    /// The tenant's templates, oldest first.
    pub async fn templates(&self, tenant: &TenantId) -> Result<Vec<TemplateRecord>, StoreError> {
        let rows = select("WHERE tenant_id = ? AND deleted_at IS NULL ORDER BY created_at, id")
            .bind(tenant.as_str())
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// The tenant's template of this id or slug.
    pub async fn template(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Option<TemplateRecord>, StoreError> {
        one(self.readers(), tenant, name).await
    }

    /// Deletes a template; false if there is none. Sandboxes that came from it
    /// go on. Refused while a build of it is not over.
    pub async fn delete_template(
        &self,
        tenant: &TenantId,
        id: &TemplateId,
    ) -> Result<bool, TemplateError> {
        let mut tx = self.write().await?;
        let open: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM template_builds WHERE template_id = ? \
             AND state NOT IN ('ready', 'failed', 'cancelled'))",
        )
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if open {
            return Err(TemplateError::BuildOpen);
        }
        let deleted = sqlx::query(
            "UPDATE templates SET deleted_at = ?, updated_at = ? \
             WHERE id = ? AND tenant_id = ? AND deleted_at IS NULL",
        )
        .bind(time::now().as_microsecond())
        .bind(time::now().as_microsecond())
        .bind(id.as_str())
        .bind(tenant.as_str())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM template_build_events WHERE build_id IN \
             (SELECT template_builds.id FROM template_builds JOIN templates \
              ON templates.id = template_id WHERE template_id = ? AND deleted_at IS NOT NULL)",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected() == 1)
    }
}

pub(crate) async fn one(
    executor: impl SqliteExecutor<'_>,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<TemplateRecord>, StoreError> {
    // A slug has no `_`, so it is never taken for an id.
    let row = select("WHERE tenant_id = ? AND (id = ? OR slug = ?) AND deleted_at IS NULL")
        .bind(tenant.as_str())
        .bind(name)
        .bind(name)
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    slug: String,
    name: String,
    description: String,
    metadata: Json<Map<String, Value>>,
    build_spec: Json<BuildSpec>,
    created_at: i64,
    updated_at: i64,
    latest_id: Option<String>,
    latest_state: Option<String>,
    ready_id: Option<String>,
    ready_image: Option<String>,
    ready_spec: Option<Json<BuildSpec>>,
}

impl Row {
    fn into_record(self) -> Result<TemplateRecord, StoreError> {
        let latest_build = match (self.latest_id, self.latest_state) {
            (Some(id), Some(state)) => Some((
                parse("template_builds.id", &id)?,
                parse("template_builds.state", &state)?,
            )),
            _ => None,
        };
        let ready_build = match (self.ready_id, self.ready_image, self.ready_spec) {
            (Some(id), Some(image), Some(spec)) => Some(ReadyBuild {
                id: parse("template_builds.id", &id)?,
                image,
                spec: spec.0,
            }),
            _ => None,
        };
        Ok(TemplateRecord {
            id: parse("templates.id", &self.id)?,
            slug: self.slug,
            name: self.name,
            description: self.description,
            metadata: self.metadata.0,
            spec: self.build_spec.0,
            latest_build,
            ready_build,
            created_at: time::read("templates.created_at", self.created_at)?,
            updated_at: time::read("templates.updated_at", self.updated_at)?,
        })
    }
}

type RowQuery<'q> = sqlx::query::QueryAs<'q, Sqlite, Row, sqlx::sqlite::SqliteArguments>;

/// `rest` is always a literal of this file; values only ever go through `bind`.
fn select<'q>(rest: &'static str) -> RowQuery<'q> {
    let text = format!(
        "SELECT * FROM (SELECT templates.id, templates.tenant_id, slug, name, description, \
         templates.metadata, templates.build_spec, templates.created_at, templates.updated_at, \
         templates.deleted_at, latest.id AS latest_id, latest.state AS latest_state, \
         ready.id AS ready_id, ready.image_id AS ready_image, ready.build_spec AS ready_spec \
         FROM templates \
         LEFT JOIN template_builds AS latest ON latest.template_id = templates.id \
         AND latest.version = (SELECT max(version) FROM template_builds \
                               WHERE template_id = templates.id) \
         LEFT JOIN template_builds AS ready ON ready.template_id = templates.id \
         AND ready.version = (SELECT max(version) FROM template_builds \
                              WHERE template_id = templates.id AND state = 'ready')) {rest}"
    );
    sqlx::query_as(AssertSqlSafe(text))
}

#[cfg(test)]
pub(crate) mod tests;
