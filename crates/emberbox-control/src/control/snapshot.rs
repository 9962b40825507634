//! Snapshots a user takes: written while the sandbox goes on, restored in
//! place, forked into sandboxes of their own.
//!
//! Invariants: a restore that fails leaves the present life as it is; nothing
//! deletes a snapshot while somebody starts from it.

use std::sync::Arc;
use std::time::Duration;

use emberbox_api::ErrorCode;
use emberbox_core::{SandboxId, SandboxState, SnapshotId, TenantId, VmId};
use emberbox_host::{AfterSnapshot, Keep, Origin, Timeline};
use emberbox_store::{
    Caller, Inserted, NewSandbox, OnceRequest, SandboxRecord, SnapshotKind, SnapshotRecord, Taken,
};

use serde_json::json;

use super::Control;
use super::pause::restore_failed;
use crate::Failure;

/// A snapshot to take.
struct Wanted<'a> {
    kind: SnapshotKind,
    comment: Option<&'a str>,
    once: Option<&'a OnceRequest>,
    /// Most snapshots of the sandbox.
    max: u32,
}

/// A sandbox that goes on from where another is or was.
pub(crate) struct NewFork {
    /// Whose fork it is.
    pub(crate) source: SandboxRecord,
    /// Where it goes on from; the source's present state when absent.
    pub(crate) snapshot: Option<SnapshotId>,
    /// What it is.
    pub(crate) new: NewSandbox,
    /// The request that asked for it.
    pub(crate) once: Option<OnceRequest>,
}

impl Control {
    /// Takes a snapshot of a running sandbox, which goes on; `once` asked for
    /// it.
    pub(crate) async fn take_snapshot(
        self: &Arc<Self>,
        caller: &Caller,
        record: SandboxRecord,
        comment: Option<String>,
        once: Option<OnceRequest>,
    ) -> Result<SnapshotRecord, Failure> {
        let max = self.limits(caller).max_snapshots;
        let flight = self.change_now(&record.id)?;
        let control = Arc::clone(self);
        self.finish(async move {
            let wanted = Wanted {
                kind: SnapshotKind::User,
                comment: comment.as_deref(),
                once: once.as_ref(),
                max,
            };
            let taken = control.write_snapshot(&record, wanted);
            let taken = taken.await;
            drop(flight);
            taken
        })
        .await
    }

    async fn write_snapshot(
        &self,
        source: &SandboxRecord,
        wanted: Wanted<'_>,
    ) -> Result<SnapshotRecord, Failure> {
        let (tenant, id) = (&source.tenant, &source.id);
        let recorded = self
            .store
            .insert_snapshot(tenant, id, wanted.kind, wanted.comment, wanted.max)
            .await;
        let (record, snapshot) = recorded?;
        let written = self
            .compute
            .snapshot(&record.vm, &snapshot.id, AfterSnapshot::GoOn)
            .await;
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                self.store.forget_snapshot(&snapshot.id).await?;
                return Err(error.into());
            }
        };
        let taken = Taken {
            stopped_us: written.stopped_us,
            size_bytes: written.size_bytes,
        };
        let recorded = self
            .store
            .record_snapshot(&snapshot.id, taken, wanted.once)
            .await?;
        recorded.ok_or_else(|| Failure::internal("the row of a new snapshot is gone"))
    }

    /// Brings files, memory and processes back to what they were; the sandbox
    /// keeps its id, name and slug.
    pub(crate) async fn restore_snapshot(
        self: &Arc<Self>,
        record: SandboxRecord,
        snapshot: SnapshotId,
    ) -> Result<SandboxRecord, Failure> {
        let flight = self.change_now(&record.id)?;
        let control = Arc::clone(self);
        self.finish(async move {
            let restored = control.restore_now(&record, &snapshot).await;
            drop(flight);
            restored
        })
        .await
    }

    async fn restore_now(
        self: &Arc<Self>,
        record: &SandboxRecord,
        snapshot: &SnapshotId,
    ) -> Result<SandboxRecord, Failure> {
        let (tenant, id) = (&record.tenant, &record.id);
        let found = self.store.snapshot(id, snapshot).await?;
        let snapshot = found.ok_or_else(snapshot_not_found)?;
        let origin = Origin::Snapshot {
            id: snapshot.id.clone(),
            keep: Keep::Kept,
        };
        let now = self.present(tenant, id).await?;
        let paused = now.state == SandboxState::Paused;
        if !paused && !now.is_ready() {
            return Err(Failure::not_running(&now));
        }
        self.compute.has_room(now.shape, &origin)?;
        if paused && let Some(record) = self.store.begin_resume(id).await? {
            let restored = self.revive(record, origin).await?;
            self.store.record_restored(id, &snapshot.id).await?;
            self.previews_changed();
            return Ok(restored);
        }
        if !now.is_ready() {
            return Err(Failure::not_running(&now));
        }
        let mut new = now.clone();
        new.vm = VmId::generate();
        let made = self.make_vm(&new, origin).await;
        made.map_err(restore_failed)?;
        self.note_last_readings(&now.vm).await;
        let switched = self
            .store
            .switch_life(id, &now.vm, &new.vm, &snapshot.id)
            .await;
        let Ok(Some(record)) = switched else {
            self.discard(&new).await;
            switched?;
            return Err(Failure::not_running(&self.present(tenant, id).await?));
        };
        self.previews_changed();
        self.touch(id);
        self.discard(&now).await;
        // Its end was nobody's while the row named the old life.
        if self.compute.guest(&new.vm).is_err() {
            let message = "VM ended while it was restored";
            if let Some(transition) = self.store.record_failed(&new.vm, message).await? {
                self.announce(&transition);
            }
        }
        Ok(record)
    }

    /// Deletes a user's snapshot that nothing needs.
    pub(crate) async fn delete_snapshot(
        self: &Arc<Self>,
        tenant: &TenantId,
        sandbox: &SandboxId,
        snapshot: &SnapshotId,
    ) -> Result<(), Failure> {
        let flight = self.change_now(sandbox)?;
        let (tenant, sandbox) = (tenant.clone(), sandbox.clone());
        let (control, snapshot) = (Arc::clone(self), snapshot.clone());
        self.finish(async move {
            let found = control.store.any_snapshot(&tenant, &snapshot).await?;
            let found = found.filter(|found| found.snapshot.sandbox == sandbox);
            let found = found.ok_or_else(snapshot_not_found)?;
            let dependents = control.dependents(&found).await?;
            if !dependents.is_empty() {
                let needed = Failure::new(
                    ErrorCode::SnapshotInUse,
                    "a name keeps the snapshot, or a sandbox comes up from it",
                );
                return Err(needed.with_details(json!({ "dependents": dependents })));
            }
            control.drop_snapshot(&snapshot).await;
            drop(flight);
            Ok(())
        })
        .await
    }

    /// Makes a sandbox that goes on from another. The same request gives the
    /// same sandbox.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        caller: Caller,
        fork: NewFork,
        wait: Duration,
    ) -> Result<SandboxRecord, Failure> {
        let deadline = tokio::time::Instant::now() + wait;
        let turn = match &fork.once {
            Some(once) => Some(self.answering.begin_next(&once.key).await),
            None => None,
        };
        let control = Arc::clone(self);
        let record = self
            .finish(async move {
                let _until_it_is_recorded = turn;
                control.fork_now(caller, fork).await
            })
            .await?;
        self.wait_for(record, deadline, |record| {
            record.state != SandboxState::Provisioning
        })
        .await
    }

    async fn fork_now(
        self: &Arc<Self>,
        caller: Caller,
        fork: NewFork,
    ) -> Result<SandboxRecord, Failure> {
        let once = fork.once.as_ref();
        if let Some(made) = self.made_before(once).await? {
            return Ok(made);
        }
        // Before a snapshot is written for nothing.
        self.compute.has_room(fork.new.shape, &Origin::Image)?;
        let flight = self.change_now(&fork.source.id)?;
        let origin = self
            .origin_of_fork(&caller, &fork.source, fork.snapshot)
            .await;
        let (origin, made) = origin?;
        let from = Origin::Snapshot {
            id: origin.clone(),
            keep: Keep::Kept,
        };
        if let Err(full) = self.compute.has_room(fork.new.shape, &from) {
            if made {
                self.drop_snapshot(&origin).await;
            }
            return Err(full.into());
        }
        let new = NewSandbox {
            origin: Some(origin.clone()),
            ..fork.new
        };
        let limits = self.limits(&caller);
        let inserted = self
            .store
            .insert_sandbox(&caller, &new, once, &limits)
            .await;
        let record = match inserted {
            Ok(Inserted::New(record)) => {
                let (id, forked) = (record.id.clone(), Arc::clone(self));
                let timeline = Timeline::begin();
                let _waited_for_below = self.provision(record.clone(), timeline);
                // Nobody deletes what it starts from until it is up.
                self.tasks.spawn(async move {
                    forked.creating.wait_over(&id).await;
                    drop(flight);
                });
                return Ok(record);
            }
            Ok(Inserted::Existing(record)) => Ok(record),
            Err(error) => Err(error.into()),
        };
        if made {
            self.drop_snapshot(&origin).await;
        }
        record
    }

    /// The snapshot a fork starts from, and whether it was made for it.
    async fn origin_of_fork(
        &self,
        caller: &Caller,
        source: &SandboxRecord,
        snapshot: Option<SnapshotId>,
    ) -> Result<(SnapshotId, bool), Failure> {
        if let Some(snapshot) = snapshot {
            let found = self.store.snapshot(&source.id, &snapshot).await?;
            return Ok((found.ok_or_else(snapshot_not_found)?.id, false));
        }
        let now = self.present(&source.tenant, &source.id).await?;
        if now.state == SandboxState::Paused
            && let Some(paused_as) = self.store.pause_snapshot(&source.id).await?
        {
            return Ok((paused_as.id, false));
        }
        let wanted = Wanted {
            kind: SnapshotKind::Fork,
            comment: None,
            once: None,
            max: self.limits(caller).max_snapshots,
        };
        let made = self.write_snapshot(source, wanted);
        Ok((made.await?.id, true))
    }
}

pub(super) fn snapshot_not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "snapshot not found")
}
