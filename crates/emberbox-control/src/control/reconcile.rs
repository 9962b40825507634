//! Making store and host agree: once at start, then by the host's events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use emberbox_core::{SandboxId, SandboxState, SnapshotId};
use emberbox_host::{HostEvent, Timeline};
use emberbox_runtime::ExitReason;
use emberbox_store::{SandboxRecord, SnapshotKind};
use tokio::sync::mpsc;

use super::Control;
use crate::Failure;

/// What is said of a sandbox whose VM did not outlive the server.
const GONE: &str = "VM was gone when the server started again";

impl Control {
    /// Compares every row with what the host runs. Runs before the first
    /// request is taken.
    pub(super) async fn reconcile(self: &Arc<Self>) -> Result<(), Failure> {
        let running: HashSet<_> = self.compute.running().into_iter().collect();
        self.close_lost_segments(&running).await?;
        let pauses = self.agree_on_snapshots().await?;
        let mut wanted = HashSet::new();
        let mut unfinished = Vec::new();
        for record in self.store.undestroyed_sandboxes().await? {
            if record.destroy_requested_at.is_some() {
                // The janitor's first round ends these.
                wanted.insert(record.vm);
                continue;
            }
            match record.state {
                SandboxState::Running if running.contains(&record.vm) => {
                    // It was resumed, and the server ended before this was gone.
                    if let Some(snapshot) = pauses.get(&record.id) {
                        self.drop_snapshot(snapshot).await;
                    }
                    wanted.insert(record.vm);
                }
                SandboxState::Running => match pauses.get(&record.id) {
                    Some(snapshot) => self.was_paused(&record, snapshot).await?,
                    None => self.lost(&record, GONE).await?,
                },
                SandboxState::Paused if !pauses.contains_key(&record.id) => {
                    self.lost(&record, "its memory on disk is gone").await?;
                }
                SandboxState::Provisioning => {
                    let again = self.store.begin_new_life(&record.id, &record.vm).await?;
                    unfinished.extend(again);
                }
                SandboxState::Paused | SandboxState::Error | SandboxState::Destroyed => {}
            }
        }
        for vm in running.difference(&wanted) {
            tracing::info!(%vm, "ending a VM no sandbox wants");
            self.compute.destroy(vm).await?;
        }
        for record in unfinished {
            tracing::info!(sandbox = %record.id, "finishing a create that was cut off");
            let _nobody_waits = self.provision(record, Timeline::begin());
        }
        Ok(())
    }

    /// Records what the host reports, until the host is gone.
    pub(super) async fn watch_host(&self, mut events: mpsc::Receiver<HostEvent>) {
        loop {
            let event = tokio::select! {
                () = self.closing.cancelled() => return,
                event = events.recv() => event,
            };
            let Some(HostEvent::Ended { vm, reason }) = event else {
                return;
            };
            tracing::warn!(%vm, ?reason, "VM ended unasked");
            self.note_last_readings(&vm).await;
            match self.store.record_failed(&vm, public_reason(&reason)).await {
                Ok(Some(transition)) => self.announce(&transition),
                Ok(None) => {}
                Err(error) => tracing::error!(
                    %vm,
                    error = Failure::from(error).chain(),
                    "the end of a VM could not be recorded; the next start of the server repairs it"
                ),
            }
        }
    }

    /// Compares snapshots with what the host has: what is half made is removed
    /// on either side. Returns those that paused sandboxes are.
    async fn agree_on_snapshots(&self) -> Result<HashMap<SandboxId, SnapshotId>, Failure> {
        let complete: HashSet<_> = self.compute.snapshots()?.into_iter().collect();
        let started_from: HashSet<_> = self
            .store
            .undestroyed_sandboxes()
            .await?
            .into_iter()
            .filter(|record| record.state == SandboxState::Provisioning)
            .filter_map(|record| record.origin)
            .collect();
        let (mut known, mut pauses) = (HashSet::new(), HashMap::new());
        for snapshot in self.store.all_snapshots().await? {
            let wanted = complete.contains(&snapshot.id)
                && match snapshot.kind {
                    SnapshotKind::User => snapshot.ready,
                    // The row may have missed that it is complete.
                    SnapshotKind::Pause => true,
                    SnapshotKind::Fork => started_from.contains(&snapshot.id),
                };
            if !wanted {
                tracing::info!(snapshot = %snapshot.id, "a snapshot was cut off and is forgotten");
                self.store.forget_snapshot(&snapshot.id).await?;
                continue;
            }
            if snapshot.kind == SnapshotKind::Pause {
                pauses.insert(snapshot.sandbox, snapshot.id.clone());
            }
            known.insert(snapshot.id);
        }
        for snapshot in complete.difference(&known) {
            tracing::info!(%snapshot, "removing a snapshot nobody knows");
            self.compute.delete_snapshot(snapshot).await?;
        }
        Ok(pauses)
    }

    /// A pause was complete, and the server ended before it knew.
    async fn was_paused(
        &self,
        record: &SandboxRecord,
        snapshot: &SnapshotId,
    ) -> Result<(), Failure> {
        let (id, vm) = (&record.id, &record.vm);
        let transition = self.store.record_paused(id, vm, snapshot, None).await?;
        if let Some(transition) = transition {
            self.announce(&transition);
        }
        Ok(())
    }

    async fn lost(&self, record: &SandboxRecord, message: &str) -> Result<(), Failure> {
        if let Some(transition) = self.store.record_failed(&record.vm, message).await? {
            self.announce(&transition);
        }
        Ok(())
    }
}

fn public_reason(reason: &ExitReason) -> &'static str {
    match reason {
        ExitReason::Stopped => "VM was stopped",
        ExitReason::GuestShutdown => "VM was shut down from inside",
        ExitReason::GuestPanic => "VM's kernel panicked",
        ExitReason::VmmDied { .. } => "VM terminated unexpectedly",
    }
}
