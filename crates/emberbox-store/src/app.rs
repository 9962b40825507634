//! The app of a sandbox's template: what its last start came to.

use emberbox_core::{SandboxId, SnapshotId};
use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use crate::store::parse;
use crate::{Store, StoreError, time};

/// How far a start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppStatus {
    /// The install command runs.
    Installing,
    /// The start command runs; nothing answers yet.
    Starting,
    /// It was started.
    Started,
    /// It could not be started.
    Failed,
}

impl AppStatus {
    /// As stored and as shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Installing => "installing",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for AppStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [
            Self::Installing,
            Self::Starting,
            Self::Started,
            Self::Failed,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or(())
    }
}

/// The last start of a sandbox's app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRecord {
    /// How far it has come.
    pub status: AppStatus,
    /// Where the app's files are.
    pub workdir: String,
    /// Where it listens.
    pub port: Option<u16>,
    /// Its process group in the guest.
    pub pid: Option<u32>,
    /// Whether its probe was satisfied.
    pub ready: bool,
    /// Whether it came running out of its image's snapshot.
    pub from_snapshot: bool,
    /// Why it could not be started.
    pub error: Option<String>,
    /// When the start began.
    pub started_at: Timestamp,
}

impl Store {
    /// The last start of a sandbox's app.
    pub async fn app(&self, sandbox: &SandboxId) -> Result<Option<AppRecord>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT status, workdir, port, pid, ready, from_snapshot, error, started_at FROM apps \
             WHERE sandbox_id = ?",
        )
        .bind(sandbox.as_str())
        .fetch_optional(self.readers())
        .await?;
        row.map(Row::into_record).transpose()
    }

    /// Records how far a start has come.
    pub async fn put_app(&self, sandbox: &SandboxId, app: &AppRecord) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT OR REPLACE INTO apps \
             (sandbox_id, status, workdir, port, pid, ready, from_snapshot, error, started_at, \
              updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(sandbox.as_str())
        .bind(app.status.as_str())
        .bind(&app.workdir)
        .bind(app.port)
        .bind(app.pid)
        .bind(app.ready)
        .bind(app.from_snapshot)
        .bind(&app.error)
        .bind(app.started_at.as_microsecond())
        .bind(time::now().as_microsecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Starts nobody works on any more have failed: their server is gone.
    pub async fn fail_begun_apps(&self, error: &str) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "UPDATE apps SET status = 'failed', error = ?, updated_at = ? \
             WHERE status IN ('installing', 'starting')",
        )
        .bind(error)
        .bind(time::now().as_microsecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}

/// The app of a sandbox is the one that ran when a snapshot was taken, because
/// that is what runs in it now. A start that was under way is cut off.
pub(crate) async fn take_from(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    snapshot: &SnapshotId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM apps WHERE sandbox_id = ?")
        .bind(sandbox.as_str())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO apps \
         (sandbox_id, status, workdir, port, pid, ready, error, started_at, updated_at) \
         SELECT ?1, iif(begun, 'failed', app ->> 'status'), app ->> 'workdir', app ->> 'port', \
         app ->> 'pid', app ->> 'ready', \
         iif(begun, 'the snapshot was taken during the start', app ->> 'error'), \
         app ->> 'started_at', ?3 FROM (SELECT app, \
         app ->> 'status' IN ('installing', 'starting') AS begun FROM snapshots \
         WHERE id = ?2 AND app IS NOT NULL)",
    )
    .bind(sandbox.as_str())
    .bind(snapshot.as_str())
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    status: String,
    workdir: String,
    port: Option<u16>,
    pid: Option<u32>,
    ready: bool,
    from_snapshot: bool,
    error: Option<String>,
    started_at: i64,
}

impl Row {
    fn into_record(self) -> Result<AppRecord, StoreError> {
        Ok(AppRecord {
            status: parse("apps.status", &self.status)?,
            workdir: self.workdir,
            port: self.port,
            pid: self.pid,
            ready: self.ready,
            from_snapshot: self.from_snapshot,
            error: self.error,
            started_at: time::read("apps.started_at", self.started_at)?,
        })
    }
}
