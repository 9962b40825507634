//! What becomes of the running sandboxes of an account with nothing left.

use std::sync::Arc;

use emberbox_store::SandboxRecord;

use super::Control;
use crate::{Failure, OnEmpty};

impl Control {
    /// Applies `billing.on_empty`. Running it twice changes nothing.
    pub(super) async fn apply_credit_policy(self: &Arc<Self>) -> Result<(), Failure> {
        let billing = &self.settings.billing;
        if !billing.enforce || billing.on_empty == OnEmpty::Keep {
            return Ok(());
        }
        for record in self.store.running_without_credit().await? {
            match billing.on_empty {
                OnEmpty::Pause => self.pause_without_credit(&record).await?,
                OnEmpty::Destroy => self.destroy_without_credit(&record).await?,
                OnEmpty::Keep => {}
            }
        }
        Ok(())
    }

    /// Pauses a sandbox whose account is empty; what cannot be paused now is
    /// tried again by the next round.
    async fn pause_without_credit(self: &Arc<Self>, record: &SandboxRecord) -> Result<(), Failure> {
        tracing::info!(sandbox = %record.id, "its account is empty, and it is paused");
        let paused = self.pause(record.tenant.clone(), record.id.clone()).await;
        if let Err(failure) = paused {
            let error = failure.chain();
            tracing::warn!(sandbox = %record.id, error, "cannot be paused; trying again");
        }
        Ok(())
    }

    async fn destroy_without_credit(
        self: &Arc<Self>,
        record: &SandboxRecord,
    ) -> Result<(), Failure> {
        tracing::info!(sandbox = %record.id, "its account is empty");
        self.store
            .request_destroy(&record.tenant, &record.id)
            .await?;
        self.previews_changed();
        self.janitor.now();
        Ok(())
    }
}
