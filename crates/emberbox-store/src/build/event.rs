//! What happened in a build, in order: its states and its log.
//!
//! Invariant: a log is bounded; where it was cut, it says so.

use emberbox_core::{BuildChange, BuildErrorCode, BuildId, BuildState, TemplateId};
use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use super::BuildRecord;
use crate::store::parse;
use crate::{Store, StoreError, time};

/// Most bytes of one build's log: a few thousand screens. What is after that
/// is dropped, and the log says so.
const LOG_MAX: i64 = 4 * 1024 * 1024;

/// What a line takes besides its text: a row and its place in the index.
const LINE_OVERHEAD: i64 = 64;

/// Something to write into a build's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildLine {
    /// A step began, or its result was there already.
    Step {
        /// Its place in the spec, from 0.
        index: u32,
        /// What it does.
        command: String,
        /// Whether it need not run.
        cached: bool,
    },
    /// A line of output.
    Output {
        /// The step that wrote it.
        step: Option<u32>,
        /// The line.
        line: String,
    },
}

/// Something that happened in a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildEventRecord {
    /// Grows with every commit.
    pub id: i64,
    /// In which attempt.
    pub attempt: u32,
    /// The state the build was in, or entered.
    pub state: BuildState,
    /// What.
    pub kind: BuildEventKind,
    /// When.
    pub at: Timestamp,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEventKind {
    /// It entered the state.
    State {
        /// Why, if that is not the way of builds.
        reason: Option<String>,
        /// Why it failed or was cancelled.
        error: Option<BuildErrorCode>,
    },
    /// Its log grew.
    Line(BuildLine),
    /// What its log grew by later is not kept.
    Cut,
}

impl Store {
    /// Adds to the log of an attempt, as far as there is room; false if nobody
    /// wants to know any more: the build is over or another attempt has begun.
    pub async fn append_build_log(
        &self,
        id: &BuildId,
        attempt: u32,
        lines: &[BuildLine],
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let found: Option<(String, i64, bool)> = sqlx::query_as(
            "SELECT state, log_bytes, log_cut FROM template_builds WHERE id = ? AND attempt = ? \
             AND state NOT IN ('ready', 'failed', 'cancelled')",
        )
        .bind(id.as_str())
        .bind(attempt)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((state, mut bytes, mut cut)) = found else {
            return Ok(false);
        };
        let mut log = Log {
            tx: &mut tx,
            id,
            attempt,
            state: &state,
        };
        for line in lines {
            if cut {
                break;
            }
            let (step, text, cached) = match line {
                BuildLine::Step {
                    index,
                    command,
                    cached,
                } => (Some(*index), command, Some(*cached)),
                BuildLine::Output { step, line } => (*step, line, None),
            };
            bytes += i64::try_from(text.len()).unwrap_or(LOG_MAX) + LINE_OVERHEAD;
            if bytes > LOG_MAX {
                cut = true;
                log.add("cut", None, None, None).await?;
            } else {
                let kind = if cached.is_some() { "step" } else { "output" };
                log.add(kind, step, Some(text), cached).await?;
            }
        }
        sqlx::query("UPDATE template_builds SET log_bytes = ?, log_cut = ? WHERE id = ?")
            .bind(bytes)
            .bind(cut)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What happened in a build after event `after`, oldest first.
    pub async fn build_events(
        &self,
        id: &BuildId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BuildEventRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, attempt, kind, state, step, text, cached, error_code, created_at \
             FROM template_build_events WHERE build_id = ? AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(id.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// The event before the first of an attempt: who reads on from here learns
    /// what happened in it.
    pub async fn before_build_attempt(
        &self,
        id: &BuildId,
        attempt: u32,
    ) -> Result<i64, StoreError> {
        let before: Option<i64> = sqlx::query_scalar(
            "SELECT max(id) FROM template_build_events WHERE build_id = ? AND attempt < ?",
        )
        .bind(id.as_str())
        .bind(attempt)
        .fetch_one(self.readers())
        .await?;
        Ok(before.unwrap_or(0))
    }
}

/// Records a change of state in the transaction that makes it.
pub(super) async fn state_changed(
    tx: &mut Transaction<'static, Sqlite>,
    build: &BuildRecord,
    change: Option<BuildChange>,
) -> Result<(), StoreError> {
    let message = build.error.as_ref().map(|(_, message)| message.as_str());
    let reason = match change {
        Some(BuildChange::Interrupted) => Some("the server ended; the build begins again"),
        Some(BuildChange::Retry) => Some("the build was asked for again"),
        Some(
            BuildChange::Cancel
            | BuildChange::Entered(_)
            | BuildChange::Finished
            | BuildChange::Failed,
        )
        | None => message,
    };
    sqlx::query(
        "INSERT INTO template_build_events \
         (build_id, attempt, kind, state, text, error_code, created_at) \
         VALUES (?, ?, 'state', ?, ?, ?, ?)",
    )
    .bind(build.id.as_str())
    .bind(build.attempt)
    .bind(build.state.as_str())
    .bind(reason)
    .bind(build.error.as_ref().map(|(code, _)| code.as_str()))
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets a build's log; its states stay.
pub(super) async fn forget_log(
    tx: &mut Transaction<'static, Sqlite>,
    id: &BuildId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM template_build_events WHERE build_id = ? AND kind <> 'state'")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE template_builds SET log_bytes = 0, log_cut = 0 WHERE id = ?")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Forgets the logs of a template's builds but for the newest.
pub(super) async fn forget_old_logs(
    tx: &mut Transaction<'static, Sqlite>,
    template: &TemplateId,
    kept: u32,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM template_build_events WHERE kind <> 'state' AND build_id IN \
         (SELECT id FROM template_builds WHERE template_id = ? \
          AND state IN ('ready', 'failed', 'cancelled') \
          AND version <= (SELECT max(version) FROM template_builds WHERE template_id = ?) - ?)",
    )
    .bind(template.as_str())
    .bind(template.as_str())
    .bind(kept)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

struct Log<'a> {
    tx: &'a mut Transaction<'static, Sqlite>,
    id: &'a BuildId,
    attempt: u32,
    state: &'a str,
}

impl Log<'_> {
    async fn add(
        &mut self,
        kind: &str,
        step: Option<u32>,
        text: Option<&str>,
        cached: Option<bool>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO template_build_events \
             (build_id, attempt, kind, state, step, text, cached, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.id.as_str())
        .bind(self.attempt)
        .bind(kind)
        .bind(self.state)
        .bind(step)
        .bind(text)
        .bind(cached)
        .bind(time::now().as_microsecond())
        .execute(&mut **self.tx)
        .await?;
        Ok(())
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    attempt: u32,
    kind: String,
    state: String,
    step: Option<u32>,
    text: Option<String>,
    cached: Option<bool>,
    error_code: Option<String>,
    created_at: i64,
}

impl Row {
    fn into_record(self) -> Result<BuildEventRecord, StoreError> {
        let kind = match (self.kind.as_str(), self.step, self.text) {
            ("state", None, reason) => {
                let code = self.error_code.as_deref();
                let error = code.map(|code| parse("template_build_events.error_code", code));
                BuildEventKind::State {
                    reason,
                    error: error.transpose()?,
                }
            }
            ("step", Some(index), Some(command)) => BuildEventKind::Line(BuildLine::Step {
                index,
                command,
                cached: self.cached.unwrap_or(false),
            }),
            ("output", step, Some(line)) => BuildEventKind::Line(BuildLine::Output { step, line }),
            ("cut", None, None) => BuildEventKind::Cut,
            _ => {
                return Err(StoreError::Corrupt {
                    column: "template_build_events.kind",
                    value: self.kind,
                });
            }
        };
        Ok(BuildEventRecord {
            id: self.id,
            attempt: self.attempt,
            state: parse("template_build_events.state", &self.state)?,
            kind,
            at: time::read("template_build_events.created_at", self.created_at)?,
        })
    }
}
