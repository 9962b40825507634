//! Builds of templates: what is known of each, and how it changes.
//!
//! Decides: which build is next, and which state it is in, by
//! `BuildState::advance` inside the transaction that stores it.
//!
//! Invariants: every change of state is an event of the same transaction; what
//! an attempt says after another has begun changes nothing; a build that is
//! ready never changes.

use emberbox_core::{
    Advance, BuildChange, BuildErrorCode, BuildId, BuildSpec, BuildState, TemplateId, TenantId,
};
use jiff::Timestamp;
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor, Transaction};

use crate::store::parse;
use crate::{Store, StoreError, template, time};

mod event;
mod image;

pub use event::{BuildEventKind, BuildEventRecord, BuildLine};
pub(crate) use image::can_boot;

/// How often a server may end in the middle of an attempt before it is given
/// up: a build that takes its server with it must not do so for ever.
const INTERRUPTIONS_MAX: u32 = 3;

/// Builds of one template whose logs are kept; of older ones only the record.
const LOGS_KEPT: u32 = 20;

/// A build to make; every value is checked already.
#[derive(Debug, Clone)]
pub struct NewBuild {
    /// Of which template.
    pub template: TemplateId,
    /// What to build in place of what the template says. It becomes the
    /// template's.
    pub spec: Option<BuildSpec>,
    /// The caller's data.
    pub metadata: Map<String, Value>,
}

/// A build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRecord {
    /// Which.
    pub id: BuildId,
    /// Whose.
    pub tenant: TenantId,
    /// Of which template.
    pub template: TemplateId,
    /// Counts the builds of a template, from 1.
    pub version: u32,
    /// What is built.
    pub spec: BuildSpec,
    /// The caller's data.
    pub metadata: Map<String, Value>,
    /// Its state.
    pub state: BuildState,
    /// Counts what was asked for by retries, from 1.
    pub attempt: u32,
    /// Why it failed or was cancelled.
    pub error: Option<(BuildErrorCode, String)>,
    /// What came of it.
    pub image: Option<BuildImage>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When somebody began to work on it.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildImage {
    /// The name to boot by.
    pub image: String,
    /// The digest of its manifest.
    pub digest: String,
    /// What it takes, in bytes.
    pub size_bytes: u64,
    /// How many layers it has.
    pub layers: u32,
    /// How many steps need not run.
    pub cached_steps: u32,
    /// Whether the app runs in its snapshot.
    pub app_running: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum BuildOutcome {
    /// There is an image.
    Built(BuildImage),
    /// There is none.
    Failed(BuildErrorCode, String),
}

/// Why a build was not made or changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The template is not there.
    #[error("the template does not exist")]
    NoTemplate,
    /// The build is not there.
    #[error("the build does not exist")]
    NoBuild,
    /// It is in a state that does not allow this.
    #[error("the build is {0}")]
    Denied(BuildState),
    /// The tenant has as many open builds as it may have.
    #[error("the tenant has {0} builds that are not over")]
    LimitExceeded(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for BuildError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Queues a build, unless the tenant has `max_open` that are not over.
    pub async fn insert_build(
        &self,
        tenant: &TenantId,
        new: &NewBuild,
        max_open: u32,
    ) -> Result<BuildRecord, BuildError> {
        let mut tx = self.write().await?;
        let template = template::one(&mut *tx, tenant, new.template.as_str()).await?;
        let template = template.ok_or(BuildError::NoTemplate)?;
        check_open(&mut tx, tenant, max_open).await?;
        let now = time::now();
        if let Some(spec) = &new.spec {
            sqlx::query("UPDATE templates SET build_spec = ?, updated_at = ? WHERE id = ?")
                .bind(Json(spec))
                .bind(now.as_microsecond())
                .bind(template.id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        let spec = new.spec.as_ref().unwrap_or(&template.spec);
        let id = BuildId::generate();
        sqlx::query(
            "INSERT INTO template_builds (id, tenant_id, template_id, version, build_spec, \
             metadata, state, attempt, created_at, queued_at, updated_at) \
             SELECT ?, ?, ?, coalesce(max(version), 0) + 1, ?, ?, 'queued', 1, ?, ?, ? \
             FROM template_builds WHERE template_id = ?",
        )
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(template.id.as_str())
        .bind(Json(spec))
        .bind(Json(&new.metadata))
        .bind(now.as_microsecond())
        .bind(now.as_microsecond())
        .bind(now.as_microsecond())
        .bind(template.id.as_str())
        .execute(&mut *tx)
        .await?;
        let build = one(&mut *tx, &id).await?.ok_or(BuildError::NoBuild)?;
        event::state_changed(&mut tx, &build, None).await?;
        event::forget_old_logs(&mut tx, &template.id, LOGS_KEPT).await?;
        tx.commit().await?;
        Ok(build)
    }

    /// One build of the tenant, of a template that is not deleted.
    pub async fn build(
        &self,
        tenant: &TenantId,
        id: &BuildId,
    ) -> Result<Option<BuildRecord>, StoreError> {
        owned(self.readers(), tenant, id).await
    }

    /// The build a sandbox came from, whatever became of its template.
    pub async fn build_of_sandbox(&self, id: &BuildId) -> Result<Option<BuildRecord>, StoreError> {
        one(self.readers(), id).await
    }

    /// The builds of a template, newest first.
    pub async fn builds(
        &self,
        tenant: &TenantId,
        template: &TemplateId,
    ) -> Result<Vec<BuildRecord>, StoreError> {
        let rows = select("WHERE tenant_id = ? AND template_id = ? ORDER BY version DESC")
            .bind(tenant.as_str())
            .bind(template.as_str())
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Begins the next build that nobody works on: of the tenant with the
    /// fewest of `running`, the one that waits longest.
    pub async fn begin_next_build(
        &self,
        running: &[BuildId],
    ) -> Result<Option<BuildRecord>, StoreError> {
        let mut tx = self.write().await?;
        let running = Json(running);
        let row = select(
            "WHERE state = 'queued' AND id NOT IN (SELECT value FROM json_each(?1)) \
             ORDER BY (SELECT count(*) FROM template_builds AS other \
                       WHERE other.tenant_id = template_builds.tenant_id \
                       AND other.id IN (SELECT value FROM json_each(?1))), queued_at, id LIMIT 1",
        )
        .bind(running)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(build) = row.map(Row::into_record).transpose()? else {
            return Ok(None);
        };
        let change = BuildChange::Entered(BuildState::Building);
        let begun = apply(&mut tx, build, change, None).await?;
        tx.commit().await?;
        Ok(begun)
    }

    /// Records that an attempt entered a phase; `None` if that changes nothing.
    pub async fn enter_build_phase(
        &self,
        id: &BuildId,
        attempt: u32,
        phase: BuildState,
    ) -> Result<Option<BuildRecord>, StoreError> {
        let mut tx = self.write().await?;
        let changed = match attempted(&mut tx, id, attempt).await? {
            Some(build) => apply(&mut tx, build, BuildChange::Entered(phase), None).await?,
            None => None,
        };
        tx.commit().await?;
        Ok(changed)
    }

    /// Records how an attempt ended; `None` if the build was over, or another
    /// attempt has begun. An image is noted all the same, so that it is found
    /// and removed.
    pub async fn finish_build(
        &self,
        id: &BuildId,
        attempt: u32,
        outcome: &BuildOutcome,
    ) -> Result<Option<BuildRecord>, StoreError> {
        let mut tx = self.write().await?;
        let change = match outcome {
            BuildOutcome::Built(image) => {
                image::note(&mut tx, id, image).await?;
                BuildChange::Finished
            }
            BuildOutcome::Failed(..) => BuildChange::Failed,
        };
        let error = match outcome {
            BuildOutcome::Built(_) => None,
            BuildOutcome::Failed(code, message) => Some((*code, message.clone())),
        };
        let changed = match attempted(&mut tx, id, attempt).await? {
            Some(build) => apply(&mut tx, build, change, error).await?,
            None => None,
        };
        tx.commit().await?;
        Ok(changed)
    }

    /// Ends a build that is not over.
    pub async fn cancel_build(
        &self,
        tenant: &TenantId,
        id: &BuildId,
    ) -> Result<BuildRecord, BuildError> {
        let error = (
            BuildErrorCode::BuildCancelled,
            "the build was cancelled".to_owned(),
        );
        let mut tx = self.write().await?;
        let build = owned(&mut *tx, tenant, id).await?;
        let build = build.ok_or(BuildError::NoBuild)?;
        let cancelled = ask(&mut tx, build, BuildChange::Cancel, Some(error)).await?;
        tx.commit().await?;
        Ok(cancelled)
    }

    /// Queues a build again that failed or was cancelled.
    pub async fn retry_build(
        &self,
        tenant: &TenantId,
        id: &BuildId,
        max_open: u32,
    ) -> Result<BuildRecord, BuildError> {
        let mut tx = self.write().await?;
        let build = owned(&mut *tx, tenant, id).await?;
        let build = build.ok_or(BuildError::NoBuild)?;
        let state = build.state;
        if state.advance(BuildChange::Retry) == Advance::Deny {
            return Err(BuildError::Denied(state));
        }
        check_open(&mut tx, tenant, max_open).await?;
        sqlx::query(
            "UPDATE template_builds SET attempt = attempt + 1, interruptions = 0 WHERE id = ?",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let again = BuildRecord {
            attempt: build.attempt + 1,
            ..build
        };
        let queued = ask(&mut tx, again, BuildChange::Retry, None).await?;
        tx.commit().await?;
        Ok(queued)
    }

    /// Queues again what an earlier process of this server was working on;
    /// what took its server with it too often has failed.
    pub async fn interrupt_builds(&self) -> Result<Vec<BuildRecord>, StoreError> {
        let mut tx = self.write().await?;
        let rows = select(
            "WHERE state IN ('building', 'snapshotting', 'certifying', 'distributing') \
             ORDER BY queued_at, id",
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut changed = Vec::new();
        for row in rows {
            let build = row.into_record()?;
            let interruptions: u32 = sqlx::query_scalar(
                "UPDATE template_builds SET interruptions = interruptions + 1 WHERE id = ? \
                 RETURNING interruptions",
            )
            .bind(build.id.as_str())
            .fetch_one(&mut *tx)
            .await?;
            let (change, error) = if interruptions > INTERRUPTIONS_MAX {
                let message = format!("the server ended {interruptions} times during the build");
                (
                    BuildChange::Failed,
                    Some((BuildErrorCode::Internal, message)),
                )
            } else {
                (BuildChange::Interrupted, None)
            };
            changed.extend(apply(&mut tx, build, change, error).await?);
        }
        tx.commit().await?;
        Ok(changed)
    }
}

async fn check_open(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    max: u32,
) -> Result<(), BuildError> {
    let open: u32 = sqlx::query_scalar(
        "SELECT count(*) FROM template_builds WHERE tenant_id = ? \
         AND state NOT IN ('ready', 'failed', 'cancelled')",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **tx)
    .await?;
    if open < max {
        Ok(())
    } else {
        Err(BuildError::LimitExceeded(open))
    }
}

/// Carries out what somebody wants, or says that it cannot be.
async fn ask(
    tx: &mut Transaction<'static, Sqlite>,
    build: BuildRecord,
    change: BuildChange,
    error: Option<(BuildErrorCode, String)>,
) -> Result<BuildRecord, BuildError> {
    let state = build.state;
    let changed = apply(tx, build, change, error).await?;
    changed.ok_or(BuildError::Denied(state))
}

/// Changes the state as `BuildState::advance` says, with its event.
async fn apply(
    tx: &mut Transaction<'static, Sqlite>,
    build: BuildRecord,
    change: BuildChange,
    error: Option<(BuildErrorCode, String)>,
) -> Result<Option<BuildRecord>, StoreError> {
    let state = match build.state.advance(change) {
        Advance::To(state) => state,
        Advance::Stay | Advance::Deny => return Ok(None),
    };
    let now = time::now();
    if state == BuildState::Queued {
        event::forget_log(tx, &build.id).await?;
    }
    sqlx::query(
        "UPDATE template_builds SET state = ?1, error_code = ?2, error_message = ?3, \
         queued_at = CASE WHEN ?1 = 'queued' THEN ?4 ELSE queued_at END, \
         started_at = CASE WHEN ?1 = 'queued' THEN NULL ELSE coalesce(started_at, ?5) END, \
         finished_at = CASE WHEN ?6 THEN ?4 END, updated_at = ?4 WHERE id = ?7",
    )
    .bind(state.as_str())
    .bind(error.as_ref().map(|(code, _)| code.as_str()))
    .bind(error.as_ref().map(|(_, message)| message))
    .bind(now.as_microsecond())
    .bind(state.is_phase().then(|| now.as_microsecond()))
    .bind(state.is_over())
    .bind(build.id.as_str())
    .execute(&mut **tx)
    .await?;
    let changed = one(&mut **tx, &build.id).await?;
    if let Some(changed) = &changed {
        event::state_changed(tx, changed, Some(change)).await?;
    }
    Ok(changed)
}

/// The build, if this is still its attempt.
async fn attempted(
    tx: &mut Transaction<'static, Sqlite>,
    id: &BuildId,
    attempt: u32,
) -> Result<Option<BuildRecord>, StoreError> {
    let build = one(&mut **tx, id).await?;
    Ok(build.filter(|build| build.attempt == attempt))
}

async fn one(
    executor: impl SqliteExecutor<'_>,
    id: &BuildId,
) -> Result<Option<BuildRecord>, StoreError> {
    let row = select("WHERE id = ?").bind(id.as_str());
    let row = row.fetch_optional(executor).await?;
    row.map(Row::into_record).transpose()
}

async fn owned(
    executor: impl SqliteExecutor<'_>,
    tenant: &TenantId,
    id: &BuildId,
) -> Result<Option<BuildRecord>, StoreError> {
    let row = select(
        "WHERE id = ? AND tenant_id = ? AND EXISTS \
         (SELECT 1 FROM templates WHERE id = template_id AND deleted_at IS NULL)",
    )
    .bind(id.as_str())
    .bind(tenant.as_str())
    .fetch_optional(executor)
    .await?;
    row.map(Row::into_record).transpose()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    tenant_id: String,
    template_id: String,
    version: u32,
    build_spec: Json<BuildSpec>,
    metadata: Json<Map<String, Value>>,
    state: String,
    attempt: u32,
    error_code: Option<String>,
    error_message: Option<String>,
    image_id: Option<String>,
    digest: Option<String>,
    size_bytes: Option<i64>,
    layers: Option<u32>,
    cached_steps: Option<u32>,
    app_running: Option<bool>,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    updated_at: i64,
}

impl Row {
    fn into_record(self) -> Result<BuildRecord, StoreError> {
        let code = self.error_code.as_deref();
        let code = code.map(|code| parse("template_builds.error_code", code));
        let image = self.image_id.map(|image| BuildImage {
            image,
            digest: self.digest.unwrap_or_default(),
            size_bytes: self.size_bytes.unwrap_or(0).unsigned_abs(),
            layers: self.layers.unwrap_or(0),
            cached_steps: self.cached_steps.unwrap_or(0),
            app_running: self.app_running.unwrap_or(false),
        });
        Ok(BuildRecord {
            id: parse("template_builds.id", &self.id)?,
            tenant: parse("template_builds.tenant_id", &self.tenant_id)?,
            template: parse("template_builds.template_id", &self.template_id)?,
            version: self.version,
            spec: self.build_spec.0,
            metadata: self.metadata.0,
            state: parse("template_builds.state", &self.state)?,
            attempt: self.attempt,
            error: code.transpose()?.zip(self.error_message),
            image,
            created_at: time::read("template_builds.created_at", self.created_at)?,
            started_at: time::read_opt("template_builds.started_at", self.started_at)?,
            finished_at: time::read_opt("template_builds.finished_at", self.finished_at)?,
            updated_at: time::read("template_builds.updated_at", self.updated_at)?,
        })
    }
}

type RowQuery<'q> = sqlx::query::QueryAs<'q, Sqlite, Row, sqlx::sqlite::SqliteArguments>;

/// `rest` is always a literal of this file; values only ever go through `bind`.
fn select<'q>(rest: &'static str) -> RowQuery<'q> {
    let text = format!(
        "SELECT id, tenant_id, template_id, version, build_spec, metadata, state, attempt, \
         error_code, error_message, image_id, digest, size_bytes, layers, cached_steps, \
         app_running, created_at, started_at, finished_at, updated_at \
         FROM template_builds {rest}"
    );
    sqlx::query_as(AssertSqlSafe(text))
}

#[cfg(test)]
mod tests;
