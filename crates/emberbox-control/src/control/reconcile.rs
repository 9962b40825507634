//! Making store and host agree: once at start, then by the host's events.

use std::collections::HashSet;
use std::sync::Arc;

use emberbox_core::SandboxState;
use emberbox_host::HostEvent;
use emberbox_runtime::ExitReason;
use emberbox_store::SandboxRecord;
use tokio::sync::mpsc;

use super::Control;
use crate::Failure;

impl Control {
    /// Compares every row with what the host runs. Runs before the first
    /// request is taken.
    pub(super) async fn reconcile(self: &Arc<Self>) -> Result<(), Failure> {
        let running: HashSet<_> = self.compute.running().into_iter().collect();
        self.close_lost_segments(&running).await?;
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
                    wanted.insert(record.vm);
                }
                SandboxState::Running => self.lost(&record).await?,
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
            self.provision(record);
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

    async fn lost(&self, record: &SandboxRecord) -> Result<(), Failure> {
        let message = "VM was gone when the server started again";
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
