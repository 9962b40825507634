//! Changing a sandbox: intents and facts, each decided by `step` inside the
//! transaction that writes it.

use emberbox_core::{Command, Event, Fact, SandboxId, SandboxState, Step, TenantId, VmId, step};
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use super::{COLUMNS, Row, SandboxRecord, query};
use crate::{Store, StoreError, event, time, usage};

/// How a VM came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// `snapshot` or `cold`.
    pub path: &'static str,
    /// In milliseconds.
    pub ms: u32,
}

/// What a fact did to a sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The state before.
    pub previous: SandboxState,
    /// The sandbox after.
    pub record: SandboxRecord,
}

impl Transition {
    /// Whether the state is another one now.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.previous != self.record.state
    }
}

/// What a wish to destroy a sandbox means.
#[derive(Debug, Clone, PartialEq)]
pub enum DestroyIntent {
    /// The intent is recorded; its VM has to go.
    Recorded(SandboxRecord),
    /// It is gone already.
    Gone(SandboxRecord),
}

impl Store {
    /// The guest of this life was claimed and answers. `None` if the sandbox
    /// is unknown or lives another life by now.
    pub async fn record_ready(
        &self,
        id: &SandboxId,
        vm: &VmId,
        boot: Boot,
    ) -> Result<Option<Transition>, StoreError> {
        let mut tx = self.write().await?;
        let Some(record) = of_life(&mut tx, id, vm).await? else {
            return Ok(None);
        };
        let Some(state) = next(record.state, Fact::Ready) else {
            return finish(tx, record).await.map(Some);
        };
        let text = format!(
            "UPDATE sandboxes SET state = ?1, boot_path = ?2, boot_ms = ?3, \
             started_at = coalesce(started_at, ?4), ready_at = coalesce(ready_at, ?4), \
             moved_us = moved_us + ?4 - coalesce(paused_at, ?4), \
             paused_at = NULL WHERE id = ?5 RETURNING {COLUMNS}"
        );
        let row: Row = sqlx::query_as(AssertSqlSafe(text))
            .bind(state.as_str())
            .bind(boot.path)
            .bind(boot.ms)
            .bind(time::now().as_microsecond())
            .bind(id.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let after = row.into_record()?;
        commit(tx, &record, after).await.map(Some)
    }

    /// This life ended, or never began, and nobody had asked for it. `None` if
    /// no sandbox lives it.
    pub async fn record_failed(
        &self,
        vm: &VmId,
        message: &str,
    ) -> Result<Option<Transition>, StoreError> {
        let mut tx = self.write().await?;
        let Some(record) = query::by_vm(&mut *tx, vm.as_str()).await? else {
            return Ok(None);
        };
        if let Some(state) = next(record.state, Fact::Failed) {
            sqlx::query(
                "UPDATE sandboxes SET state = ?, error_message = ?, ended_at = ? WHERE id = ?",
            )
            .bind(state.as_str())
            .bind(message)
            .bind(time::now().as_microsecond())
            .bind(record.id.as_str())
            .execute(&mut *tx)
            .await?;
            event::error(&mut tx, &record.id, message).await?;
        }
        finish(tx, record).await.map(Some)
    }

    /// Records the wish to destroy a sandbox of the tenant. `None` if there is
    /// no such sandbox. Repeating is safe.
    pub async fn request_destroy(
        &self,
        tenant: &TenantId,
        id: &SandboxId,
    ) -> Result<Option<DestroyIntent>, StoreError> {
        let mut tx = self.write().await?;
        let found = query::by_id(&mut *tx, id.as_str()).await?;
        let Some(record) = found.filter(|record| record.tenant == *tenant) else {
            return Ok(None);
        };
        match step(record.state, Event::Command(Command::Destroy)) {
            Step::Carry(_) => {}
            Step::Ignore | Step::To(_) | Step::Deny(_) => {
                return Ok(Some(DestroyIntent::Gone(record)));
            }
        }
        sqlx::query(
            "UPDATE sandboxes SET destroy_requested_at = coalesce(destroy_requested_at, ?) \
             WHERE id = ?",
        )
        .bind(time::now().as_microsecond())
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let transition = finish(tx, record).await?;
        Ok(Some(DestroyIntent::Recorded(transition.record)))
    }

    /// Its VM and all it owned are gone because somebody asked for it.
    pub async fn record_destroyed(&self, id: &SandboxId) -> Result<Option<Transition>, StoreError> {
        let mut tx = self.write().await?;
        let Some(record) = query::by_id(&mut *tx, id.as_str()).await? else {
            return Ok(None);
        };
        if let Some(state) = next(record.state, Fact::Destroyed) {
            let now = time::now().as_microsecond();
            sqlx::query(
                "UPDATE sandboxes SET state = ?1, destroyed_at = ?2, \
                 ended_at = coalesce(ended_at, ?2), \
                 paused_at = NULL WHERE id = ?3",
            )
            .bind(state.as_str())
            .bind(now)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query(
            "DELETE FROM snapshots WHERE sandbox_id = ? \
             AND id NOT IN (SELECT snapshot_id FROM named_snapshots)",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        finish(tx, record).await.map(Some)
    }

    /// Gives a sandbox that is still provisioning a new life; `None` if it is
    /// not provisioning `old` any more.
    pub async fn begin_new_life(
        &self,
        id: &SandboxId,
        old: &VmId,
    ) -> Result<Option<SandboxRecord>, StoreError> {
        let mut tx = self.write().await?;
        let Some(record) = of_life(&mut tx, id, old).await? else {
            return Ok(None);
        };
        if record.state != SandboxState::Provisioning || record.destroy_requested_at.is_some() {
            return Ok(None);
        }
        sqlx::query("UPDATE sandboxes SET vm_id = ? WHERE id = ?")
            .bind(VmId::generate().as_str())
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(Some(finish(tx, record).await?.record))
    }
}

pub(crate) fn next(state: SandboxState, fact: Fact) -> Option<SandboxState> {
    match step(state, Event::Fact(fact)) {
        Step::To(state) => Some(state),
        Step::Ignore | Step::Carry(_) | Step::Deny(_) => None,
    }
}

pub(crate) async fn of_life(
    tx: &mut Transaction<'static, Sqlite>,
    id: &SandboxId,
    vm: &VmId,
) -> Result<Option<SandboxRecord>, StoreError> {
    let found = query::by_id(&mut **tx, id.as_str()).await?;
    Ok(found.filter(|record| record.vm == *vm))
}

pub(crate) async fn finish(
    mut tx: Transaction<'static, Sqlite>,
    before: SandboxRecord,
) -> Result<Transition, StoreError> {
    let previous = before.state;
    let after = query::by_id(&mut *tx, before.id.as_str()).await?;
    match after {
        Some(after) => commit(tx, &before, after).await,
        None => {
            tx.commit().await?;
            Ok(Transition {
                previous,
                record: before,
            })
        }
    }
}

/// Notes what the change of a sandbox means, and makes it true.
async fn commit(
    mut tx: Transaction<'static, Sqlite>,
    before: &SandboxRecord,
    after: SandboxRecord,
) -> Result<Transition, StoreError> {
    let previous = before.state;
    if after.state != previous {
        event::state_changed(&mut tx, &after.id, Some(previous), after.state).await?;
    }
    let record = usage::follow(&mut tx, before, after, time::now()).await?;
    tx.commit().await?;
    Ok(Transition { previous, record })
}
