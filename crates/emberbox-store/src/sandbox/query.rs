//! Reading sandboxes.

use emberbox_core::{SandboxId, SandboxState, TenantId};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite, SqliteExecutor};
use uuid::Uuid;

use super::{COLUMNS, Row, SandboxRecord};
use crate::store::parse;
use crate::{Bounds, ExternalIds, Store, StoreError, time};

/// Most sandboxes one list returns. Clients ask for no pages and lose what is
/// not returned; ten thousand is years of history for a tenant of ten.
const LIST_MAX: u32 = 10_000;

/// Which sandboxes to list; everything given must match.
#[derive(Debug, Clone, Default)]
pub struct SandboxFilter {
    /// Of this workspace.
    pub workspace_id: Option<Uuid>,
    /// Of this project.
    pub project_id: Option<Uuid>,
    /// With these external ids.
    pub external: ExternalIds,
    /// In this state.
    pub state: Option<SandboxState>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Within what the caller sees.
    pub bounds: Bounds,
    /// Only so many, after so many; all when absent.
    pub page: Option<(u32, u32)>,
}

impl Store {
    /// One sandbox of the tenant.
    pub async fn sandbox(
        &self,
        tenant: &TenantId,
        id: &SandboxId,
    ) -> Result<Option<SandboxRecord>, StoreError> {
        let read = by_id(self.readers(), id.as_str());
        let found = self
            .fresh()
            .or_read(|kept| &mut kept.sandboxes, id.clone(), read)
            .await?;
        Ok(found.filter(|record| record.tenant == *tenant))
    }

    /// The newest sandbox of this name within `bounds` that is not destroyed.
    pub async fn sandbox_by_name(
        &self,
        tenant: &TenantId,
        bounds: &Bounds,
        name: &str,
    ) -> Result<Option<SandboxRecord>, StoreError> {
        let row: Option<Row> = select(
            "WHERE tenant_id = ?1 AND name = ?2 AND state <> 'destroyed' \
             AND (?3 IS NULL OR workspace_id = ?3) \
             AND (?4 IS NULL OR external_user_id = ?4) \
             ORDER BY created_at DESC, id DESC LIMIT 1",
            |query| {
                let query = query.bind(tenant.as_str()).bind(name);
                let query = query.bind(bounds.workspace.map(|id| id.to_string()));
                query.bind(bounds.end_user.clone())
            },
        )
        .fetch_optional(self.readers())
        .await?;
        row.map(Row::into_record).transpose()
    }

    /// The tenant's sandboxes that match, newest first.
    pub async fn list_sandboxes(
        &self,
        tenant: &TenantId,
        filter: &SandboxFilter,
    ) -> Result<Vec<SandboxRecord>, StoreError> {
        let columns = format!("SELECT {COLUMNS} FROM sandboxes");
        let mut query = matching(&columns, tenant, filter);
        let (limit, offset) = filter.page.unwrap_or((LIST_MAX, 0));
        query
            .push(" ORDER BY created_at DESC, id DESC LIMIT ")
            .push_bind(limit.min(LIST_MAX))
            .push(" OFFSET ")
            .push_bind(offset);
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.readers()).await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// How many of the tenant's sandboxes match, whatever part is asked for.
    pub async fn count_matching(
        &self,
        tenant: &TenantId,
        filter: &SandboxFilter,
    ) -> Result<u32, StoreError> {
        let mut query = matching("SELECT count(*) FROM sandboxes", tenant, filter);
        Ok(query.build_query_scalar().fetch_one(self.readers()).await?)
    }

    /// Every sandbox of every tenant that is not destroyed: what hosts may run.
    pub async fn undestroyed_sandboxes(&self) -> Result<Vec<SandboxRecord>, StoreError> {
        let rows: Vec<Row> = select("WHERE state <> 'destroyed' ORDER BY created_at", |q| q)
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Every sandbox whose destruction was asked for and is not done.
    pub async fn unfinished_destroys(&self) -> Result<Vec<SandboxRecord>, StoreError> {
        let rows: Vec<Row> = select(
            "WHERE state <> 'destroyed' AND destroy_requested_at IS NOT NULL",
            |q| q,
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Every sandbox whose `timeout_sec` is over at `now`.
    pub async fn expired_sandboxes(
        &self,
        now: Timestamp,
    ) -> Result<Vec<SandboxRecord>, StoreError> {
        let rows: Vec<Row> = select(
            "WHERE state = 'running' AND always_on = 0 AND destroy_requested_at IS NULL \
             AND started_at + timeout_sec * 1000000 + moved_us <= ?",
            |query| query.bind(now.as_microsecond()),
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// When the next `timeout_sec` is over.
    pub async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        let micros: Option<i64> = sqlx::query_scalar(
            "SELECT min(started_at + timeout_sec * 1000000 + moved_us) FROM sandboxes \
             WHERE state = 'running' AND always_on = 0 AND destroy_requested_at IS NULL",
        )
        .fetch_one(self.readers())
        .await?;
        time::read_opt("sandboxes.started_at", micros)
    }

    /// Every running sandbox that ends, or is paused, when nobody uses it.
    pub async fn sandboxes_that_may_idle(&self) -> Result<Vec<SandboxRecord>, StoreError> {
        let rows: Vec<Row> = select(
            "WHERE state = 'running' AND always_on = 0 AND destroy_requested_at IS NULL \
             AND idle_timeout_sec > 0",
            |q| q,
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// How many sandboxes are in each state that is not `destroyed`.
    pub async fn count_sandboxes(&self) -> Result<Vec<(SandboxState, u32)>, StoreError> {
        let rows: Vec<(String, u32)> = sqlx::query_as(
            "SELECT state, count(*) FROM sandboxes WHERE state <> 'destroyed' GROUP BY state",
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter()
            .map(|(state, count)| Ok((parse("sandboxes.state", &state)?, count)))
            .collect()
    }
}

fn matching(select: &str, tenant: &TenantId, filter: &SandboxFilter) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(select);
    query
        .push(" WHERE tenant_id = ")
        .push_bind(tenant.to_string());
    let texts = [
        ("workspace_id", filter.workspace_id.map(|id| id.to_string())),
        (
            "workspace_id",
            filter.bounds.workspace.map(|id| id.to_string()),
        ),
        ("external_user_id", filter.bounds.end_user.clone()),
        ("project_id", filter.project_id.map(|id| id.to_string())),
        ("external_workspace_id", filter.external.workspace.clone()),
        ("external_user_id", filter.external.user.clone()),
        ("external_project_id", filter.external.project.clone()),
        ("state", filter.state.map(|state| state.to_string())),
    ];
    for (column, value) in texts {
        if let Some(value) = value {
            query
                .push(" AND ")
                .push(column)
                .push(" = ")
                .push_bind(value);
        }
    }
    for tag in &filter.tags {
        query
            .push(" AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ")
            .push_bind(tag.clone())
            .push(")");
    }
    query
}

pub(crate) async fn by_id(
    executor: impl SqliteExecutor<'_>,
    id: &str,
) -> Result<Option<SandboxRecord>, StoreError> {
    let row: Option<Row> = select("WHERE id = ?", |query| query.bind(id))
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

/// The sandbox that has this slug now.
pub(crate) async fn by_slug(
    executor: impl SqliteExecutor<'_>,
    slug: &str,
) -> Result<Option<SandboxRecord>, StoreError> {
    let row: Option<Row> = select("WHERE slug = ? AND state <> 'destroyed'", |query| {
        query.bind(slug)
    })
    .fetch_optional(executor)
    .await?;
    row.map(Row::into_record).transpose()
}

pub(super) async fn by_vm(
    executor: impl SqliteExecutor<'_>,
    vm: &str,
) -> Result<Option<SandboxRecord>, StoreError> {
    let row: Option<Row> = select("WHERE vm_id = ?", |query| query.bind(vm))
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

/// Running sandboxes of tenants that have no credit left.
pub(crate) async fn running_without_credit(
    executor: impl SqliteExecutor<'_>,
) -> Result<Vec<SandboxRecord>, StoreError> {
    let rows: Vec<Row> = select(
        "WHERE state = 'running' AND destroy_requested_at IS NULL AND coalesce((\
         SELECT balance_micro FROM credit_entries \
         WHERE credit_entries.tenant_id = sandboxes.tenant_id \
         ORDER BY credit_entries.id DESC LIMIT 1), 0) <= 0",
        |query| query,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(Row::into_record).collect()
}

type RowQuery<'q> = sqlx::query::QueryAs<'q, Sqlite, Row, sqlx::sqlite::SqliteArguments>;

/// `rest` is always a literal of this file; values only ever go through `bind`.
fn select<'q>(rest: &'static str, bind: impl FnOnce(RowQuery<'q>) -> RowQuery<'q>) -> RowQuery<'q> {
    let text = format!("SELECT {COLUMNS} FROM sandboxes {rest}");
    bind(sqlx::query_as(AssertSqlSafe(text)))
}
