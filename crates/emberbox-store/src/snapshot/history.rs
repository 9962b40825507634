//! The snapshots of all of a tenant's sandboxes.

use emberbox_core::{SandboxId, SandboxState, SnapshotId, TenantId};
use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::{Row, SnapshotRecord};
use crate::store::parse;
use crate::{Store, StoreError, time};

/// Which snapshots to list; everything given must match.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Of this sandbox.
    pub sandbox: Option<SandboxId>,
    /// Of sandboxes of this workspace.
    pub workspace: Option<Uuid>,
    /// With this in the sandbox's name or id, or the snapshot's id.
    pub text: Option<String>,
    /// Most of them.
    pub limit: u32,
    /// Left out at the beginning.
    pub offset: u32,
}

/// A snapshot and the sandbox it is of, which may be gone.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRecord {
    /// The snapshot.
    pub snapshot: SnapshotRecord,
    /// What its user calls the sandbox.
    pub sandbox_name: Option<String>,
    /// The sandbox's state.
    pub sandbox_state: SandboxState,
    /// The sandbox's workspace.
    pub workspace: Uuid,
    /// The name that keeps the snapshot.
    pub name: Option<String>,
}

/// The snapshots of one sandbox together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotGroup {
    /// Whose.
    pub sandbox: SandboxId,
    /// What its user calls it.
    pub sandbox_name: Option<String>,
    /// Its state.
    pub sandbox_state: SandboxState,
    /// Its workspace.
    pub workspace: Uuid,
    /// How many.
    pub count: u32,
    /// What they take on disk, in bytes.
    pub size_bytes: u64,
    /// When the newest was taken.
    pub latest_at: Timestamp,
}

/// Snapshots with what is told of their sandboxes.
const FROM: &str = " FROM snapshots n JOIN sandboxes s ON s.id = n.sandbox_id \
    LEFT JOIN named_snapshots p ON p.snapshot_id = n.id \
    WHERE n.kind = 'user' AND n.state = 'ready'";

const COLUMNS: &str = "SELECT n.id, n.sandbox_id, n.kind, n.state, n.comment, n.parent_id, \
    n.stopped_us, n.size_bytes, n.created_at, s.name AS sandbox_name, \
    s.state AS sandbox_state, s.workspace_id, p.name AS pin";

impl Store {
    /// The tenant's snapshots that no name keeps, newest first, and how many
    /// match in all.
    pub async fn snapshot_history(
        &self,
        tenant: &TenantId,
        filter: &HistoryFilter,
    ) -> Result<(Vec<HistoryRecord>, u32), StoreError> {
        let mut query = matching(COLUMNS, tenant, filter);
        query.push(" ORDER BY n.created_at DESC, n.id DESC");
        page(&mut query, filter);
        let rows: Vec<HistoryRow> = query.build_query_as().fetch_all(self.readers()).await?;
        let records: Result<_, _> = rows.into_iter().map(HistoryRow::into_record).collect();
        let mut count = matching("SELECT count(*)", tenant, filter);
        let total = count.build_query_scalar().fetch_one(self.readers()).await?;
        Ok((records?, total))
    }

    /// The same by sandbox, the one with the newest snapshot first.
    pub async fn snapshot_groups(
        &self,
        tenant: &TenantId,
        filter: &HistoryFilter,
    ) -> Result<(Vec<SnapshotGroup>, u32), StoreError> {
        let columns = "SELECT n.sandbox_id, s.name AS sandbox_name, s.state AS sandbox_state, \
            s.workspace_id, count(*) AS count, sum(coalesce(n.size_bytes, 0)) AS size_bytes, \
            max(n.created_at) AS latest_at";
        let mut query = matching(columns, tenant, filter);
        query.push(" GROUP BY n.sandbox_id ORDER BY latest_at DESC, n.sandbox_id DESC");
        page(&mut query, filter);
        let rows: Vec<GroupRow> = query.build_query_as().fetch_all(self.readers()).await?;
        let groups: Result<_, _> = rows.into_iter().map(GroupRow::into_group).collect();
        let mut count = matching("SELECT count(DISTINCT n.sandbox_id)", tenant, filter);
        let total = count.build_query_scalar().fetch_one(self.readers()).await?;
        Ok((groups?, total))
    }

    /// A snapshot of the tenant, with a name or without.
    pub async fn any_snapshot(
        &self,
        tenant: &TenantId,
        id: &SnapshotId,
    ) -> Result<Option<HistoryRecord>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(format!("{COLUMNS}{FROM}"));
        query.push(" AND n.tenant_id = ").push_bind(tenant.as_str());
        query.push(" AND n.id = ").push_bind(id.as_str());
        let row: Option<HistoryRow> = query
            .build_query_as()
            .fetch_optional(self.readers())
            .await?;
        row.map(HistoryRow::into_record).transpose()
    }

    /// The sandboxes that come up from a snapshot right now.
    pub async fn starting_from(&self, id: &SnapshotId) -> Result<Vec<SandboxId>, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM sandboxes WHERE state = 'provisioning' AND origin_snapshot_id = ?",
        )
        .bind(id.as_str())
        .fetch_all(self.readers())
        .await?;
        ids.iter().map(|id| parse("sandboxes.id", id)).collect()
    }
}

fn matching(columns: &str, tenant: &TenantId, filter: &HistoryFilter) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(format!("{columns}{FROM} AND p.name IS NULL"));
    query
        .push(" AND n.tenant_id = ")
        .push_bind(tenant.to_string());
    if let Some(sandbox) = &filter.sandbox {
        query
            .push(" AND n.sandbox_id = ")
            .push_bind(sandbox.to_string());
    }
    if let Some(workspace) = filter.workspace {
        query
            .push(" AND s.workspace_id = ")
            .push_bind(workspace.to_string());
    }
    if let Some(text) = &filter.text {
        let text = text.to_lowercase();
        query
            .push(" AND (instr(lower(coalesce(s.name, '')), ")
            .push_bind(text.clone());
        query.push(") OR instr(s.id, ").push_bind(text.clone());
        query.push(") OR instr(n.id, ").push_bind(text).push("))");
    }
    query
}

fn page(query: &mut QueryBuilder<Sqlite>, filter: &HistoryFilter) {
    query.push(" LIMIT ").push_bind(filter.limit);
    query.push(" OFFSET ").push_bind(filter.offset);
}

#[derive(sqlx::FromRow)]
pub(super) struct HistoryRow {
    #[sqlx(flatten)]
    snapshot: Row,
    sandbox_name: Option<String>,
    sandbox_state: String,
    workspace_id: String,
    pin: Option<String>,
}

impl HistoryRow {
    pub(super) fn into_record(self) -> Result<HistoryRecord, StoreError> {
        Ok(HistoryRecord {
            snapshot: self.snapshot.into_record()?,
            sandbox_name: self.sandbox_name,
            sandbox_state: parse("sandboxes.state", &self.sandbox_state)?,
            workspace: parse("sandboxes.workspace_id", &self.workspace_id)?,
            name: self.pin,
        })
    }
}

#[derive(sqlx::FromRow)]
struct GroupRow {
    sandbox_id: String,
    sandbox_name: Option<String>,
    sandbox_state: String,
    workspace_id: String,
    count: u32,
    size_bytes: i64,
    latest_at: i64,
}

impl GroupRow {
    fn into_group(self) -> Result<SnapshotGroup, StoreError> {
        Ok(SnapshotGroup {
            sandbox: parse("snapshots.sandbox_id", &self.sandbox_id)?,
            sandbox_name: self.sandbox_name,
            sandbox_state: parse("sandboxes.state", &self.sandbox_state)?,
            workspace: parse("sandboxes.workspace_id", &self.workspace_id)?,
            count: self.count,
            size_bytes: self.size_bytes.max(0).unsigned_abs(),
            latest_at: time::read("snapshots.created_at", self.latest_at)?,
        })
    }
}
