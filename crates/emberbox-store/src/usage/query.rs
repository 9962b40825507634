//! Reading the ledger.

use emberbox_core::{SandboxId, TenantId};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, FromRow, QueryBuilder, Sqlite};
use uuid::Uuid;

use super::{Row as Segment, SegmentKind, between, current_terms, open, whole_ms};
use crate::store::parse;
use crate::{ExternalIds, SandboxRecord, Store, StoreError, time};

/// Which entries of the ledger: those that begin in `[from, until)` and match
/// everything given.
#[derive(Debug, Clone)]
pub struct UsageFilter {
    /// The first moment.
    pub from: Timestamp,
    /// The moment after the last.
    pub until: Timestamp,
    /// Of this workspace.
    pub workspace_id: Option<Uuid>,
    /// Of this project.
    pub project_id: Option<Uuid>,
    /// Of this sandbox.
    pub sandbox: Option<SandboxId>,
    /// With these external ids.
    pub external: ExternalIds,
}

/// What usage is summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageGrouping {
    /// Each sandbox.
    Sandbox,
    /// Each workspace.
    Workspace,
    /// Each project.
    Project,
    /// Each of the caller's own customers.
    ExternalWorkspace,
    /// Each of the caller's own users.
    ExternalUser,
    /// Each of the caller's own projects.
    ExternalProject,
}

impl UsageGrouping {
    fn column(self) -> &'static str {
        match self {
            Self::Sandbox => "s.id",
            Self::Workspace => "s.workspace_id",
            Self::Project => "s.project_id",
            Self::ExternalWorkspace => "s.external_workspace_id",
            Self::ExternalUser => "s.external_user_id",
            Self::ExternalProject => "s.external_project_id",
        }
    }
}

/// A sum over entries of the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct UsageTotals {
    /// Sandboxes that ran.
    pub sandboxes: i64,
    /// Segments of their lives.
    pub segments: i64,
    /// Milliseconds they ran, pauses left out.
    pub runtime_ms: i64,
    /// vCPUs × milliseconds.
    pub vcpu_ms: i64,
    /// MiB of memory × milliseconds.
    pub memory_mib_ms: i64,
    /// MiB of disk × milliseconds.
    pub disk_mib_ms: i64,
    /// Bytes that left their networks.
    pub egress_bytes: i64,
    /// Bytes that came into them.
    pub ingress_bytes: i64,
    /// Processor time of their VMMs in milliseconds, as it was sampled.
    pub active_cpu_ms: i64,
    /// Micro-credits.
    pub charged_micro: i64,
}

/// The sum of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageGroup {
    /// What they have in common; none where it is not set.
    pub group: Option<String>,
    /// Their sum.
    pub totals: UsageTotals,
}

/// One segment of a sandbox's life and what it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSession {
    /// Grows with every segment.
    pub id: i64,
    /// Whose.
    pub sandbox: SandboxId,
    /// Its workspace.
    pub workspace_id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// What counted.
    pub kind: SegmentKind,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When it closed.
    pub ended_at: Option<Timestamp>,
    /// Up to when it is in the ledger.
    pub settled_until: Timestamp,
    /// Its part of the filter's entries.
    pub totals: UsageTotals,
}

/// What one sandbox came to, what is not settled yet included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxUse {
    /// All of it.
    pub totals: UsageTotals,
    /// How often it began to run.
    pub starts: i64,
}

const TOTALS: &str = "count(DISTINCT g.sandbox_id) AS sandboxes, \
    count(DISTINCT g.id) AS segments, \
    coalesce(sum(CASE g.kind WHEN 'compute' THEN (e.until_at - e.from_at) / 1000 END), 0) \
    AS runtime_ms, coalesce(sum(e.vcpu_ms), 0) AS vcpu_ms, \
    coalesce(sum(e.memory_mib_ms), 0) AS memory_mib_ms, \
    coalesce(sum(e.disk_mib_ms), 0) AS disk_mib_ms, \
    coalesce(sum(e.egress_bytes), 0) AS egress_bytes, \
    coalesce(sum(e.ingress_bytes), 0) AS ingress_bytes, \
    coalesce(sum(e.active_cpu_ms), 0) AS active_cpu_ms, \
    coalesce(sum(e.charged_micro), 0) AS charged_micro";

const JOINS: &str = " FROM usage_entries e JOIN usage_segments g ON g.id = e.segment_id \
    JOIN sandboxes s ON s.id = g.sandbox_id";

impl Store {
    /// The tenant's usage in one sum.
    pub async fn usage_totals(
        &self,
        tenant: &TenantId,
        filter: &UsageFilter,
    ) -> Result<UsageTotals, StoreError> {
        let mut query = QueryBuilder::new(format!("SELECT {TOTALS}{JOINS}"));
        narrow(&mut query, tenant, filter);
        let totals = query.build_query_as().fetch_one(self.readers()).await?;
        Ok(totals)
    }

    /// The tenant's usage by group, the first `limit` groups by name.
    pub async fn usage_groups(
        &self,
        tenant: &TenantId,
        filter: &UsageFilter,
        grouping: UsageGrouping,
        limit: u32,
    ) -> Result<Vec<UsageGroup>, StoreError> {
        let column = grouping.column();
        let mut query = QueryBuilder::new(format!("SELECT {column} AS of_group, {TOTALS}{JOINS}"));
        narrow(&mut query, tenant, filter);
        query
            .push(" GROUP BY of_group ORDER BY of_group LIMIT ")
            .push_bind(limit);
        let rows: Vec<GroupRow> = query.build_query_as().fetch_all(self.readers()).await?;
        Ok(rows.into_iter().map(GroupRow::into_group).collect())
    }

    /// The tenant's segments with entries in the filter's time, newest first.
    pub async fn usage_sessions(
        &self,
        tenant: &TenantId,
        filter: &UsageFilter,
        limit: u32,
    ) -> Result<Vec<UsageSession>, StoreError> {
        let mut query = QueryBuilder::new(format!(
            "SELECT g.id, g.sandbox_id, s.workspace_id, s.project_id, g.kind, g.opened_at, \
             g.ended_at, g.settled_until, {TOTALS}{JOINS}"
        ));
        narrow(&mut query, tenant, filter);
        query
            .push(" GROUP BY g.id ORDER BY g.id DESC LIMIT ")
            .push_bind(limit);
        let rows: Vec<SessionRow> = query.build_query_as().fetch_all(self.readers()).await?;
        rows.into_iter().map(SessionRow::into_session).collect()
    }

    /// What a sandbox came to up to `now`: the ledger, and what its open
    /// segment adds to it.
    pub async fn sandbox_use(
        &self,
        sandbox: &SandboxRecord,
        now: Timestamp,
    ) -> Result<SandboxUse, StoreError> {
        // One snapshot: a settlement in between must not count twice or never.
        let mut tx = self.readers().begin().await?;
        let text = format!("SELECT {TOTALS}{JOINS} WHERE s.id = ?");
        let mut totals: UsageTotals = sqlx::query_as(AssertSqlSafe(text))
            .bind(sandbox.id.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let starts: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM usage_segments WHERE sandbox_id = ? AND kind = 'compute'",
        )
        .bind(sandbox.id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if let Some(row) = open(&mut *tx, "sandbox_id", sandbox.id.as_str()).await? {
            let terms = current_terms(&mut *tx).await?;
            add_unsettled(&mut totals, &row, now, &terms.prices)?;
        }
        Ok(SandboxUse { totals, starts })
    }
}

fn add_unsettled(
    totals: &mut UsageTotals,
    row: &Segment,
    now: Timestamp,
    prices: &emberbox_core::Prices,
) -> Result<(), StoreError> {
    let since = between(row.settled_until, whole_ms(now));
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let quantity = row.unsettled(ms);
    let (charged, _carry) = prices.charge(&quantity, row.carry()?);
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    if row.kind == SegmentKind::Compute.as_str() {
        totals.runtime_ms += signed(ms);
    }
    totals.vcpu_ms += signed(quantity.vcpu_ms);
    totals.memory_mib_ms += signed(quantity.memory_mib_ms);
    totals.disk_mib_ms += signed(quantity.disk_mib_ms);
    totals.egress_bytes += signed(quantity.egress_bytes);
    totals.ingress_bytes += row.ingress_read - row.ingress_settled;
    totals.active_cpu_ms += row.cpu_ms_read - row.cpu_ms_settled;
    totals.charged_micro += charged;
    Ok(())
}

fn narrow(query: &mut QueryBuilder<Sqlite>, tenant: &TenantId, filter: &UsageFilter) {
    query
        .push(" WHERE e.tenant_id = ")
        .push_bind(tenant.as_str().to_owned())
        .push(" AND e.from_at >= ")
        .push_bind(filter.from.as_microsecond())
        .push(" AND e.from_at < ")
        .push_bind(filter.until.as_microsecond());
    let texts = [
        (
            "s.workspace_id",
            filter.workspace_id.map(|id| id.to_string()),
        ),
        ("s.project_id", filter.project_id.map(|id| id.to_string())),
        ("s.id", filter.sandbox.as_ref().map(ToString::to_string)),
        ("s.external_workspace_id", filter.external.workspace.clone()),
        ("s.external_user_id", filter.external.user.clone()),
        ("s.external_project_id", filter.external.project.clone()),
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
}

#[derive(FromRow)]
struct GroupRow {
    of_group: Option<String>,
    #[sqlx(flatten)]
    totals: UsageTotals,
}

impl GroupRow {
    fn into_group(self) -> UsageGroup {
        UsageGroup {
            group: self.of_group,
            totals: self.totals,
        }
    }
}

#[derive(FromRow)]
struct SessionRow {
    id: i64,
    sandbox_id: String,
    workspace_id: String,
    project_id: String,
    kind: String,
    opened_at: i64,
    ended_at: Option<i64>,
    settled_until: i64,
    #[sqlx(flatten)]
    totals: UsageTotals,
}

impl SessionRow {
    fn into_session(self) -> Result<UsageSession, StoreError> {
        Ok(UsageSession {
            id: self.id,
            sandbox: parse("usage_segments.sandbox_id", &self.sandbox_id)?,
            workspace_id: parse("sandboxes.workspace_id", &self.workspace_id)?,
            project_id: parse("sandboxes.project_id", &self.project_id)?,
            kind: parse("usage_segments.kind", &self.kind)?,
            opened_at: time::read("usage_segments.opened_at", self.opened_at)?,
            ended_at: time::read_opt("usage_segments.ended_at", self.ended_at)?,
            settled_until: time::read("usage_segments.settled_until", self.settled_until)?,
            totals: self.totals,
        })
    }
}
