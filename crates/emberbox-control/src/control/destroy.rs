//! Ending a sandbox: intent, VM, fact.

use std::sync::Arc;
use std::time::Duration;

use emberbox_api::ErrorCode;
use emberbox_core::{SandboxId, SandboxState};
use emberbox_store::{Caller, DestroyIntent, SandboxRecord};
use tokio::time::{Instant, sleep};

use super::Control;
use crate::Failure;

/// How long a request waits for the VM to be gone. Ending one takes a fraction
/// of a second; what takes longer is finished without the caller.
const DESTROY_WAIT: Duration = Duration::from_secs(50);

/// Pause before a destroy that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Control {
    /// Ends a sandbox and waits until nothing of it is left. Repeating is
    /// safe. Once begun it goes on without the caller.
    pub(crate) async fn destroy(
        self: &Arc<Self>,
        caller: Caller,
        id: SandboxId,
    ) -> Result<SandboxRecord, Failure> {
        let deadline = Instant::now() + DESTROY_WAIT;
        let control = Arc::clone(self);
        let begun = self.tasks.spawn(async move {
            let intent = control.store.request_destroy(&caller.tenant, &id).await?;
            control.previews_changed();
            match intent.ok_or_else(Failure::sandbox_not_found)? {
                DestroyIntent::Gone(record) => Ok::<_, Failure>(record),
                DestroyIntent::Recorded(record) => {
                    control.finish_destroy(record.clone());
                    Ok(record)
                }
            }
        });
        let record = begun.await.map_err(Failure::internal)??;
        let record = self
            .wait_for(record, deadline, |record| {
                record.state == SandboxState::Destroyed
            })
            .await?;
        if record.state == SandboxState::Destroyed {
            Ok(record)
        } else {
            Err(Failure::new(
                ErrorCode::Internal,
                "the sandbox is still being destroyed; this goes on by itself",
            ))
        }
    }

    /// Carries a recorded intent out, unless that is under way already. What
    /// fails here is tried again by the janitor.
    pub(super) fn finish_destroy(self: &Arc<Self>, record: SandboxRecord) {
        let Some(flight) = self.destroying.begin(&record.id) else {
            return;
        };
        let control = Arc::clone(self);
        self.tasks.spawn(async move {
            let done = control.destroy_now(&record).await;
            drop(flight);
            if let Err(failure) = done {
                tracing::error!(
                    sandbox = %record.id,
                    vm = %record.vm,
                    error = failure.chain(),
                    "sandbox could not be destroyed; trying again"
                );
                tokio::select! {
                    () = control.closing.cancelled() => {}
                    () = sleep(RETRY) => control.janitor.now(),
                }
            }
        });
    }

    async fn destroy_now(&self, record: &SandboxRecord) -> Result<(), Failure> {
        self.compute.destroy(&record.vm).await?;
        // The host may have heard of the end before it heard of the beginning.
        let created = self.creating.wait_over(&record.id).await;
        let changed = self.changing.wait_over(&record.id).await;
        if created || changed {
            let now = self.present(&record.tenant, &record.id).await?;
            self.compute.destroy(&record.vm).await?;
            self.compute.destroy(&now.vm).await?;
        }
        for snapshot in self.store.unnamed_snapshots(&record.id).await? {
            self.compute.delete_snapshot(&snapshot.id).await?;
        }
        self.note_last_readings(&record.vm).await;
        if let Some(transition) = self.store.record_destroyed(&record.id).await? {
            self.announce(&transition);
        }
        Ok(())
    }
}
