//! A sandbox's variables: stored, and in force for what starts afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use emberbox_core::{SandboxId, SandboxState, TenantId};
use emberbox_store::{Edit, SandboxRecord};

use super::Control;
use crate::Failure;

type Variables = BTreeMap<String, String>;

impl Control {
    /// Changes the variables of a sandbox that runs or is paused. They are
    /// stored first: when the guest does not hear of them, this fails and
    /// repeating it makes them hold. Once begun it goes on without the caller.
    pub(crate) async fn change_env(
        self: &Arc<Self>,
        tenant: TenantId,
        id: SandboxId,
        change: impl FnOnce(&mut Variables) -> Result<(), Failure> + Send + 'static,
    ) -> Result<SandboxRecord, Failure> {
        // No pause, restore or other change of the same comes in between.
        let flight = self.changing.begin_next(&id).await;
        let control = Arc::clone(self);
        self.finish(async move {
            let changed = control.change_env_now(&tenant, &id, change).await;
            drop(flight);
            changed
        })
        .await
    }

    async fn change_env_now(
        &self,
        tenant: &TenantId,
        id: &SandboxId,
        change: impl FnOnce(&mut Variables) -> Result<(), Failure>,
    ) -> Result<SandboxRecord, Failure> {
        let now = self.present(tenant, id).await?;
        if !now.is_ready() && now.state != SandboxState::Paused {
            return Err(Failure::not_running(&now));
        }
        let mut env = now.env;
        change(&mut env)?;
        let edit = Edit {
            env: Some(env),
            ..Edit::default()
        };
        let edited = self.store.edit_sandbox(tenant, id, &edit).await?;
        let record = edited.ok_or_else(Failure::sandbox_not_found)?;
        if record.is_ready() {
            let guest = self.guest(&record)?;
            guest
                .set_environment(record.env.clone().into_iter().collect())
                .await?;
        }
        Ok(record)
    }
}
