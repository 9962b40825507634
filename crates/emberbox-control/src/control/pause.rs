//! Pause and resume: a paused sandbox is a complete snapshot and nothing else.
//!
//! ```text
//! pause:  row (pause, creating) ─▶ snapshot, VM ends ─▶ row ready, paused
//! resume: new life ─▶ VM from the snapshot ─▶ running ─▶ snapshot deleted
//! ```
//!
//! Invariants: the snapshot of a paused sandbox is deleted only after a VM
//! that came from it is recorded as running; a resume that fails leaves it
//! paused.

use std::sync::Arc;

use emberbox_api::ErrorCode;
use emberbox_core::{SandboxId, SandboxState, SnapshotId, TenantId};
use emberbox_host::{AfterSnapshot, HostError, Keep, Origin};
use emberbox_store::{InsertError, SandboxRecord, SnapshotError, SnapshotKind, Taken};
use jiff::Timestamp;

use super::Control;
use super::create::boot;
use super::in_flight::Flight;
use crate::Failure;

impl Control {
    /// Puts a running sandbox on disk; a paused one stays so. Once begun it
    /// goes on without the caller.
    pub(crate) async fn pause(
        self: &Arc<Self>,
        tenant: TenantId,
        id: SandboxId,
    ) -> Result<SandboxRecord, Failure> {
        let flight = self.changing.begin_next(&id).await;
        let control = Arc::clone(self);
        self.finish(async move {
            let paused = control.pause_now(&tenant, &id).await;
            drop(flight);
            paused
        })
        .await
    }

    /// Brings a paused sandbox back; a running one goes on. Once begun it goes
    /// on without the caller.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        tenant: TenantId,
        id: SandboxId,
    ) -> Result<SandboxRecord, Failure> {
        let flight = self.changing.begin_next(&id).await;
        let control = Arc::clone(self);
        self.finish(async move {
            let resumed = control.resume_now(&tenant, &id).await;
            drop(flight);
            resumed
        })
        .await
    }

    /// The sandbox as it has to be for work: a paused one that is persistent
    /// is resumed, everything else stays what it is.
    pub(crate) async fn awake(
        self: &Arc<Self>,
        record: SandboxRecord,
    ) -> Result<SandboxRecord, Failure> {
        self.touch(&record.id);
        if record.state == SandboxState::Paused && record.persistent {
            return self.resume(record.tenant, record.id).await;
        }
        Ok(record)
    }

    async fn pause_now(
        self: &Arc<Self>,
        tenant: &TenantId,
        id: &SandboxId,
    ) -> Result<SandboxRecord, Failure> {
        let now = self.present(tenant, id).await?;
        if now.state == SandboxState::Paused && now.destroy_requested_at.is_none() {
            return Ok(now);
        }
        let recorded = self
            .store
            .insert_snapshot(tenant, id, SnapshotKind::Pause, None, 0)
            .await;
        let (record, snapshot) = recorded?;
        let written = self
            .compute
            .snapshot(&record.vm, &snapshot.id, AfterSnapshot::End)
            .await;
        let taken = match written {
            Ok(written) => Taken {
                stopped_us: written.stopped_us,
                size_bytes: written.size_bytes,
            },
            Err(error) => {
                self.store.forget_snapshot(&snapshot.id).await?;
                return Err(error.into());
            }
        };
        self.note_last_readings(&record.vm).await;
        let transition = self
            .store
            .record_paused(id, &record.vm, &snapshot.id, Some(taken))
            .await?;
        match transition {
            Some(transition) if transition.record.state == SandboxState::Paused => {
                self.announce(&transition);
                Ok(transition.record)
            }
            // It is over: its snapshot goes with it.
            Some(_) | None => {
                self.drop_snapshot(&snapshot.id).await;
                Err(Failure::not_running(&self.present(tenant, id).await?))
            }
        }
    }

    async fn resume_now(
        self: &Arc<Self>,
        tenant: &TenantId,
        id: &SandboxId,
    ) -> Result<SandboxRecord, Failure> {
        let now = self.present(tenant, id).await?;
        if now.is_ready() {
            return Ok(now);
        }
        if let Some(cannot_pay) = self.store.cannot_pay(tenant).await? {
            return Err(InsertError::InsufficientCredits(cannot_pay).into());
        }
        let Some(snapshot) = self.store.pause_snapshot(id).await? else {
            return Err(match now.state {
                SandboxState::Paused => Failure::internal("a paused sandbox has no snapshot"),
                SandboxState::Provisioning
                | SandboxState::Running
                | SandboxState::Error
                | SandboxState::Destroyed => Failure::not_running(&now),
            });
        };
        let origin = Origin::Snapshot {
            id: snapshot.id,
            keep: Keep::Consumed,
        };
        self.compute.has_room(now.shape, &origin)?;
        let Some(record) = self.store.begin_resume(id).await? else {
            return Err(Failure::not_running(&now));
        };
        self.revive(record, origin).await
    }

    /// Gives a paused sandbox, whose row names the new life, its VM.
    pub(super) async fn revive(
        self: &Arc<Self>,
        record: SandboxRecord,
        origin: Origin,
    ) -> Result<SandboxRecord, Failure> {
        let paused_as = self.store.pause_snapshot(&record.id).await?;
        let created = self.make_vm(&record, origin).await;
        let boot = boot(&created.map_err(restore_failed)?);
        let (tenant, id) = (record.tenant.clone(), record.id.clone());
        let recorded = self.store.record_ready(&id, &record.vm, boot).await?;
        let transition = recorded.filter(|transition| transition.record.is_ready());
        let Some(mut transition) = transition else {
            self.discard(&record).await;
            return Err(Failure::not_running(&self.present(&tenant, &id).await?));
        };
        let over = transition
            .record
            .deadline()
            .is_some_and(|end| end <= Timestamp::now());
        if over {
            // Else it would be paused again at once.
            let seconds = transition.record.timeout_sec;
            let extended = self.store.extend_sandbox(&tenant, &id, seconds).await?;
            transition.record = extended.unwrap_or(transition.record);
        }
        self.touch(&id);
        self.announce(&transition);
        if let Some(snapshot) = paused_as {
            self.drop_snapshot(&snapshot.id).await;
        }
        Ok(transition.record)
    }

    /// Forgets a snapshot and removes its files; what cannot be removed now is
    /// found by the next start.
    pub(super) async fn drop_snapshot(&self, id: &SnapshotId) {
        let dropped = async {
            self.store.forget_snapshot(id).await?;
            Ok::<_, Failure>(self.compute.delete_snapshot(id).await?)
        };
        if let Err(failure) = dropped.await {
            tracing::error!(
                snapshot = %id,
                error = failure.chain(),
                "a snapshot could not be removed; the next start of the server does it"
            );
        }
    }

    /// The sandbox as it is now.
    pub(super) async fn present(
        &self,
        tenant: &TenantId,
        id: &SandboxId,
    ) -> Result<SandboxRecord, Failure> {
        let now = self.store.sandbox(tenant, id).await?;
        now.ok_or_else(Failure::sandbox_not_found)
    }

    /// Begins to change this sandbox's VM, unless somebody does.
    pub(super) fn change_now(&self, id: &SandboxId) -> Result<Flight<SandboxId>, Failure> {
        self.changing.begin(id).ok_or_else(|| {
            Failure::new(
                ErrorCode::ResourceState,
                "another pause, resume, snapshot, restore or fork of this sandbox is under way",
            )
        })
    }

    /// Runs an operation to its end, whatever its caller does.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let running = self.tasks.spawn(operation);
        running.await.map_err(Failure::internal)?
    }
}

/// Why a VM did not come up from its snapshot: nothing else was changed.
pub(super) fn restore_failed(error: HostError) -> Failure {
    match error {
        HostError::Start(_) => {
            let message = "the VM could not be brought up from its snapshot";
            Failure::because(ErrorCode::RestoreTransient, message, error)
        }
        error => error.into(),
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::NoSandbox => Self::sandbox_not_found(),
            SnapshotError::NotRunning(record) => Self::not_running(&record),
            SnapshotError::LimitExceeded(count) => Self::new(
                ErrorCode::SnapshotLimitExceeded,
                format!("the sandbox has {count} snapshots, which is as many as it may have"),
            ),
            SnapshotError::Store(error) => error.into(),
        }
    }
}
