//! What happened to a sandbox, in order.

use emberbox_core::{SandboxId, SandboxState, TenantId};
use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use crate::store::parse;
use crate::{Store, StoreError, time};

/// Most events of one read; a sandbox has a handful.
const PAGE: u32 = 100;

/// Something that happened to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Grows with every commit.
    pub id: i64,
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Its state is another one.
    StateChanged {
        /// The new one.
        state: SandboxState,
        /// The one before; none at the beginning.
        previous: Option<SandboxState>,
    },
    /// Something went wrong; the state follows.
    Error {
        /// What, for its user.
        message: String,
    },
}

impl Store {
    /// What happened to a sandbox after event `after`, oldest first; a page of it.
    pub async fn sandbox_events(
        &self,
        sandbox: &SandboxId,
        after: i64,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, kind, state, previous_state, message, created_at FROM sandbox_events \
             WHERE sandbox_id = ? AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(sandbox.as_str())
        .bind(after)
        .bind(PAGE)
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// What happened to the tenant's sandboxes after event `after`, oldest
    /// first; a page of it.
    pub async fn tenant_events(
        &self,
        tenant: &TenantId,
        after: i64,
    ) -> Result<Vec<(SandboxId, EventRecord)>, StoreError> {
        let rows: Vec<TenantRow> = sqlx::query_as(
            "SELECT e.sandbox_id, e.id, e.kind, e.state, e.previous_state, e.message, e.created_at \
             FROM sandbox_events e JOIN sandboxes s ON s.id = e.sandbox_id \
             WHERE e.id > ? AND s.tenant_id = ? ORDER BY e.id LIMIT ?",
        )
        .bind(after)
        .bind(tenant.as_str())
        .bind(PAGE)
        .fetch_all(self.readers())
        .await?;
        let records = rows.into_iter().map(|row| {
            let sandbox = parse("sandbox_events.sandbox_id", &row.sandbox_id)?;
            Ok((sandbox, row.event.into_record()?))
        });
        records.collect()
    }

    /// The newest event there is, of whomever.
    pub async fn newest_event(&self) -> Result<i64, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(id) FROM sandbox_events")
            .fetch_one(self.readers())
            .await?;
        Ok(newest.unwrap_or(0))
    }

    /// The change of state before the last one: whoever reads on from here
    /// learns the present state first, after the error that led to it if one
    /// did.
    pub async fn before_last_change(&self, sandbox: &SandboxId) -> Result<i64, StoreError> {
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM sandbox_events WHERE sandbox_id = ? AND kind = 'state_changed' \
             ORDER BY id DESC LIMIT 1 OFFSET 1",
        )
        .bind(sandbox.as_str())
        .fetch_optional(self.readers())
        .await?;
        // There is none before the first.
        Ok(last.unwrap_or(0))
    }
}

/// Records a change of state in the transaction that makes it.
pub(crate) async fn state_changed(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    previous: Option<SandboxState>,
    state: SandboxState,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sandbox_events (sandbox_id, kind, state, previous_state, created_at) \
         VALUES (?, 'state_changed', ?, ?, ?)",
    )
    .bind(sandbox.as_str())
    .bind(state.as_str())
    .bind(previous.map(SandboxState::as_str))
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records an error in the transaction that notes it.
pub(crate) async fn error(
    tx: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    message: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sandbox_events (sandbox_id, kind, message, created_at) \
         VALUES (?, 'error', ?, ?)",
    )
    .bind(sandbox.as_str())
    .bind(message)
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct TenantRow {
    sandbox_id: String,
    #[sqlx(flatten)]
    event: Row,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    kind: String,
    state: Option<String>,
    previous_state: Option<String>,
    message: Option<String>,
    created_at: i64,
}

impl Row {
    fn into_record(self) -> Result<EventRecord, StoreError> {
        let kind = match (self.kind.as_str(), self.state, self.message) {
            ("state_changed", Some(state), None) => EventKind::StateChanged {
                state: parse("sandbox_events.state", &state)?,
                previous: match self.previous_state {
                    Some(state) => Some(parse("sandbox_events.previous_state", &state)?),
                    None => None,
                },
            },
            ("error", None, Some(message)) => EventKind::Error { message },
            _ => {
                return Err(StoreError::Corrupt {
                    column: "sandbox_events.kind",
                    value: self.kind,
                });
            }
        };
        Ok(EventRecord {
            id: self.id,
            kind,
            at: time::read("sandbox_events.created_at", self.created_at)?,
        })
    }
}
