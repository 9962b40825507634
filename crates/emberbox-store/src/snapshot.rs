//! Snapshots: what is known of each, and how it changes its sandbox.

use emberbox_core::{
    Command, Event, Fact, SandboxId, SandboxState, SnapshotId, Step, TenantId, VmId, step,
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor, Transaction};

use crate::sandbox::change::{finish, next, of_life};
use crate::sandbox::query;
use crate::store::parse;
use crate::{OnceRequest, SandboxRecord, Store, StoreError, Transition, app, request, time};

mod history;
mod named;

pub use history::{HistoryFilter, HistoryRecord, SnapshotGroup};
pub use named::{NameError, NamedRecord};

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// The user asked for it and deletes it.
    User,
    /// It is what a paused sandbox is.
    Pause,
    /// Another sandbox starts from it.
    Fork,
}

impl SnapshotKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pause => "pause",
            Self::Fork => "fork",
        }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Which.
    pub id: SnapshotId,
    /// Whose state it holds.
    pub sandbox: SandboxId,
    /// What it is for.
    pub kind: SnapshotKind,
    /// Whether it is complete.
    pub ready: bool,
    /// What its user says of it.
    pub comment: Option<String>,
    /// The user's snapshot the sandbox came from when this one was taken.
    pub parent: Option<SnapshotId>,
    /// How long the guest stood still for it, in microseconds.
    pub stopped_us: Option<u64>,
    /// What it takes on disk, in bytes.
    pub size_bytes: Option<u64>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Why no snapshot was recorded. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The sandbox is not there.
    #[error("the sandbox does not exist")]
    NoSandbox,
    /// It is not running.
    #[error("the sandbox is not running")]
    NotRunning(Box<SandboxRecord>),
    /// It has as many as it may have.
    #[error("the sandbox has {0} snapshots")]
    LimitExceeded(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for SnapshotError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a host measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How long the guest stood still, in microseconds.
    pub stopped_us: u64,
    /// Bytes on disk.
    pub size_bytes: u64,
}

impl Store {
    /// Records the wish for a snapshot of a running sandbox, of which a user
    /// may have `max` at a time. Returns the sandbox as it is now.
    pub async fn insert_snapshot(
        &self,
        tenant: &TenantId,
        sandbox: &SandboxId,
        kind: SnapshotKind,
        comment: Option<&str>,
        max: u32,
    ) -> Result<(SandboxRecord, SnapshotRecord), SnapshotError> {
        let mut tx = self.write().await?;
        let found = query::by_id(&mut *tx, sandbox.as_str()).await?;
        let found = found.filter(|record| record.tenant == *tenant);
        let record = found.ok_or(SnapshotError::NoSandbox)?;
        let pausable = matches!(
            step(record.state, Event::Command(Command::Pause)),
            Step::Carry(_)
        );
        if !pausable || record.destroy_requested_at.is_some() {
            return Err(SnapshotError::NotRunning(Box::new(record)));
        }
        let count: u32 = sqlx::query_scalar(
            "SELECT count(*) FROM snapshots WHERE sandbox_id = ? AND kind = 'user'",
        )
        .bind(sandbox.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if kind == SnapshotKind::User && count >= max {
            return Err(SnapshotError::LimitExceeded(count));
        }
        let snapshot = SnapshotRecord {
            id: SnapshotId::generate(),
            sandbox: sandbox.clone(),
            kind,
            ready: false,
            comment: comment.map(str::to_owned),
            parent: record.last_snapshot.clone(),
            stopped_us: None,
            size_bytes: None,
            created_at: time::now(),
        };
        sqlx::query(
            "INSERT INTO snapshots (id, tenant_id, sandbox_id, kind, state, comment, parent_id, \
             created_at, app) VALUES (?1, ?2, ?3, ?4, 'creating', ?5, ?6, ?7, (SELECT \
             json_object('status', status, 'workdir', workdir, 'port', port, 'pid', pid, \
             'ready', ready, 'error', error, 'started_at', started_at) \
             FROM apps WHERE sandbox_id = ?3))",
        )
        .bind(snapshot.id.as_str())
        .bind(tenant.as_str())
        .bind(sandbox.as_str())
        .bind(kind.as_str())
        .bind(comment)
        .bind(snapshot.parent.as_ref().map(SnapshotId::as_str))
        .bind(snapshot.created_at.as_microsecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((record, snapshot))
    }

    /// The snapshot is complete, and its sandbox goes on; `once` asked for it.
    pub async fn record_snapshot(
        &self,
        id: &SnapshotId,
        taken: Taken,
        once: Option<&OnceRequest>,
    ) -> Result<Option<SnapshotRecord>, StoreError> {
        let mut tx = self.write().await?;
        complete(&mut tx, id, taken).await?;
        if let Some(once) = once {
            request::made(&mut tx, once, id.as_str()).await?;
        }
        sqlx::query(
            "UPDATE sandboxes SET last_snapshot_id = ?1 WHERE id = \
             (SELECT sandbox_id FROM snapshots WHERE id = ?1 AND kind = 'user')",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let record = one(&mut *tx, id).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// The snapshot is complete, and this life of its sandbox is over with it.
    /// `None` if the sandbox lives another life by now.
    pub async fn record_paused(
        &self,
        sandbox: &SandboxId,
        vm: &VmId,
        snapshot: &SnapshotId,
        taken: Option<Taken>,
    ) -> Result<Option<Transition>, StoreError> {
        let mut tx = self.write().await?;
        let Some(record) = of_life(&mut tx, sandbox, vm).await? else {
            return Ok(None);
        };
        if let Some(state) = next(record.state, Fact::Paused) {
            sqlx::query("UPDATE sandboxes SET state = ?, paused_at = ? WHERE id = ?")
                .bind(state.as_str())
                .bind(time::now().as_microsecond())
                .bind(sandbox.as_str())
                .execute(&mut *tx)
                .await?;
            let taken = taken.unwrap_or(Taken {
                stopped_us: 0,
                size_bytes: 0,
            });
            complete(&mut tx, snapshot, taken).await?;
        }
        finish(tx, record).await.map(Some)
    }

    /// Gives a paused sandbox the id of a new life; `None` if it is not paused
    /// or its destruction was asked for.
    pub async fn begin_resume(
        &self,
        sandbox: &SandboxId,
    ) -> Result<Option<SandboxRecord>, StoreError> {
        let mut tx = self.write().await?;
        let record = query::by_id(&mut *tx, sandbox.as_str()).await?;
        let paused = |record: &SandboxRecord| {
            record.state == SandboxState::Paused && record.destroy_requested_at.is_none()
        };
        let Some(record) = record.filter(paused) else {
            return Ok(None);
        };
        sqlx::query("UPDATE sandboxes SET vm_id = ? WHERE id = ?")
            .bind(VmId::generate().as_str())
            .bind(sandbox.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(Some(finish(tx, record).await?.record))
    }

    /// From now on a running sandbox lives `new` in place of `old`, restored
    /// from `snapshot`. `None`, and nothing is changed, if it does not run
    /// `old` any more or its destruction was asked for.
    pub async fn switch_life(
        &self,
        sandbox: &SandboxId,
        old: &VmId,
        new: &VmId,
        snapshot: &SnapshotId,
    ) -> Result<Option<SandboxRecord>, StoreError> {
        let mut tx = self.write().await?;
        let Some(record) = of_life(&mut tx, sandbox, old).await? else {
            return Ok(None);
        };
        if !record.is_ready() {
            return Ok(None);
        }
        sqlx::query("UPDATE sandboxes SET vm_id = ? WHERE id = ?")
            .bind(new.as_str())
            .bind(sandbox.as_str())
            .execute(&mut *tx)
            .await?;
        restored(&mut tx, sandbox, snapshot).await?;
        Ok(Some(finish(tx, record).await?.record))
    }

    /// A sandbox that was paused came up from one of its user's snapshots and
    /// not from its pause.
    pub async fn record_restored(
        &self,
        sandbox: &SandboxId,
        snapshot: &SnapshotId,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        restored(&mut tx, sandbox, snapshot).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A user's complete snapshot of a sandbox.
    pub async fn snapshot(
        &self,
        sandbox: &SandboxId,
        id: &SnapshotId,
    ) -> Result<Option<SnapshotRecord>, StoreError> {
        let found = one(self.readers(), id).await?;
        Ok(found.filter(|record| record.sandbox == *sandbox && record.is_users()))
    }

    /// A sandbox's complete snapshots that are the user's, newest first.
    pub async fn list_snapshots(
        &self,
        sandbox: &SandboxId,
    ) -> Result<Vec<SnapshotRecord>, StoreError> {
        let rows: Vec<Row> = select(
            "WHERE sandbox_id = ? AND kind = 'user' AND state = 'ready' \
             ORDER BY created_at DESC, id DESC",
            |q| q.bind(sandbox.as_str()),
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// What goes with a sandbox: every snapshot, whatever it is for, that no
    /// name keeps.
    pub async fn unnamed_snapshots(
        &self,
        sandbox: &SandboxId,
    ) -> Result<Vec<SnapshotRecord>, StoreError> {
        let rows: Vec<Row> = select(
            "WHERE sandbox_id = ? AND id NOT IN (SELECT snapshot_id FROM named_snapshots)",
            |q| q.bind(sandbox.as_str()),
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// The snapshot a paused sandbox is.
    pub async fn pause_snapshot(
        &self,
        sandbox: &SandboxId,
    ) -> Result<Option<SnapshotRecord>, StoreError> {
        let row: Option<Row> = select("WHERE sandbox_id = ? AND kind = 'pause'", |q| {
            q.bind(sandbox.as_str())
        })
        .fetch_optional(self.readers())
        .await?;
        row.map(Row::into_record).transpose()
    }

    /// Every snapshot of every tenant.
    pub async fn all_snapshots(&self) -> Result<Vec<SnapshotRecord>, StoreError> {
        let rows: Vec<Row> = select("ORDER BY created_at", |q| q)
            .fetch_all(self.readers())
            .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Forgets a snapshot. Idempotent.
    pub async fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM snapshots WHERE id = ?")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

impl SnapshotRecord {
    fn is_users(&self) -> bool {
        self.ready && self.kind == SnapshotKind::User
    }
}

/// From now on the sandbox is what this snapshot was.
async fn restored(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    snapshot: &SnapshotId,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE sandboxes SET last_snapshot_id = ? WHERE id = ?")
        .bind(snapshot.as_str())
        .bind(sandbox.as_str())
        .execute(&mut **tx)
        .await?;
    app::take_from(tx, sandbox, snapshot).await
}

async fn complete(
    tx: &mut Transaction<'static, Sqlite>,
    id: &SnapshotId,
    taken: Taken,
) -> Result<(), StoreError> {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(
        "UPDATE snapshots SET state = 'ready', stopped_us = ?, size_bytes = ? WHERE id = ?",
    )
    .bind(whole(taken.stopped_us))
    .bind(whole(taken.size_bytes))
    .bind(id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn one(
    executor: impl SqliteExecutor<'_>,
    id: &SnapshotId,
) -> Result<Option<SnapshotRecord>, StoreError> {
    let row: Option<Row> = select("WHERE id = ?", |q| q.bind(id.as_str()))
        .fetch_optional(executor)
        .await?;
    row.map(Row::into_record).transpose()
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: String,
    sandbox_id: String,
    kind: String,
    state: String,
    comment: Option<String>,
    parent_id: Option<String>,
    stopped_us: Option<i64>,
    size_bytes: Option<i64>,
    created_at: i64,
}

impl Row {
    pub(super) fn into_record(self) -> Result<SnapshotRecord, StoreError> {
        let unsigned = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let parent = self.parent_id.map(|id| parse("snapshots.parent_id", &id));
        Ok(SnapshotRecord {
            id: parse("snapshots.id", &self.id)?,
            sandbox: parse("snapshots.sandbox_id", &self.sandbox_id)?,
            // The table's own check allows no other.
            kind: match &*self.kind {
                "pause" => SnapshotKind::Pause,
                "fork" => SnapshotKind::Fork,
                _user => SnapshotKind::User,
            },
            ready: self.state == "ready",
            comment: self.comment,
            parent: parent.transpose()?,
            stopped_us: unsigned(self.stopped_us),
            size_bytes: unsigned(self.size_bytes),
            created_at: time::read("snapshots.created_at", self.created_at)?,
        })
    }
}

type RowQuery<'q> = sqlx::query::QueryAs<'q, Sqlite, Row, sqlx::sqlite::SqliteArguments>;

/// `rest` is always a literal of this file; values only ever go through `bind`.
fn select<'q>(rest: &'static str, bind: impl FnOnce(RowQuery<'q>) -> RowQuery<'q>) -> RowQuery<'q> {
    let text = format!(
        "SELECT id, sandbox_id, kind, state, comment, parent_id, stopped_us, size_bytes, \
         created_at FROM snapshots {rest}"
    );
    bind(sqlx::query_as(AssertSqlSafe(text)))
}
