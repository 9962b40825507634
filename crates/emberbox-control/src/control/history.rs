//! Snapshots across a tenant's sandboxes, and the names that keep them.

use std::sync::Arc;

use emberbox_api::{Dependent, ErrorCode};
use emberbox_core::{SandboxId, SandboxState, SnapshotId, TenantId};
use emberbox_store::{Caller, HistoryRecord, NameError, NamedRecord, SandboxRecord};

use super::Control;
use super::snapshot::snapshot_not_found;
use crate::Failure;

/// Named snapshots of one tenant: each is a sandbox's memory and disk that no
/// destroy frees.
const NAMED_MAX: u32 = 20;

impl Control {
    /// What keeps a snapshot from being deleted.
    pub(crate) async fn dependents(
        &self,
        record: &HistoryRecord,
    ) -> Result<Vec<Dependent>, Failure> {
        let name = record.name.iter().map(|name| Dependent {
            kind: "name".to_owned(),
            id: name.clone(),
        });
        let starting = self.store.starting_from(&record.snapshot.id).await?;
        let sandboxes = starting.into_iter().map(|id| Dependent {
            kind: "sandbox".to_owned(),
            id: id.to_string(),
        });
        Ok(name.chain(sandboxes).collect())
    }

    /// A snapshot of the tenant.
    pub(crate) async fn any_snapshot(
        &self,
        tenant: &TenantId,
        id: &SnapshotId,
    ) -> Result<HistoryRecord, Failure> {
        let found = self.store.any_snapshot(tenant, id).await?;
        found.ok_or_else(snapshot_not_found)
    }

    /// The sandbox a snapshot is of, whatever its state.
    pub(crate) async fn source_of(
        &self,
        tenant: &TenantId,
        record: &HistoryRecord,
    ) -> Result<SandboxRecord, Failure> {
        self.present(tenant, &record.snapshot.sandbox).await
    }

    /// Gives a snapshot a name.
    pub(crate) async fn name_snapshot(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: &str,
        snapshot: &SnapshotId,
    ) -> Result<NamedRecord, Failure> {
        self.store
            .name_snapshot(tenant, name, snapshot, NAMED_MAX)
            .await?;
        self.named_snapshot(tenant, name).await
    }

    /// Takes a snapshot of a running sandbox and gives it a name.
    pub(crate) async fn save_as(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        sandbox: &SandboxId,
    ) -> Result<NamedRecord, Failure> {
        let tenant = &caller.tenant;
        // Before anything is written for nothing.
        if self.store.named_snapshot(tenant, name).await?.is_some() {
            return Err(NameError::Taken.into());
        }
        let record = self.present(tenant, sandbox).await?;
        let taken = self.take_snapshot(caller, record, None, None).await?;
        let named = self.name_snapshot(tenant, name, &taken.id).await;
        if named.is_err() {
            self.drop_snapshot(&taken.id).await;
        }
        named
    }

    /// What a name keeps.
    pub(crate) async fn named_snapshot(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<NamedRecord, Failure> {
        let found = self.store.named_snapshot(tenant, name).await?;
        found.ok_or_else(|| Failure::new(ErrorCode::NotFound, "named snapshot not found"))
    }

    /// Takes a name away, and with it a snapshot whose sandbox is gone. Says
    /// whether the snapshot stays.
    pub(crate) async fn remove_name(
        self: &Arc<Self>,
        tenant: TenantId,
        name: String,
    ) -> Result<Kept, Failure> {
        let named = self.named_snapshot(&tenant, &name).await?;
        let flight = self.change_now(&named.kept.snapshot.sandbox)?;
        let control = Arc::clone(self);
        self.finish(async move {
            let kept = named.kept;
            let starting = control.store.starting_from(&kept.snapshot.id).await?;
            if !starting.is_empty() {
                let message = "a sandbox comes up from the snapshot";
                return Err(Failure::new(ErrorCode::SnapshotInUse, message));
            }
            let source = control.present(&tenant, &kept.snapshot.sandbox).await?;
            control.store.remove_name(&tenant, &name).await?;
            // One that is being destroyed may have passed over this one.
            let goes =
                source.state == SandboxState::Destroyed || source.destroy_requested_at.is_some();
            if goes {
                control.drop_snapshot(&kept.snapshot.id).await;
            }
            drop(flight);
            Ok(if goes { Kept::No } else { Kept::Yes })
        })
        .await
    }
}

/// What became of a snapshot that lost its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is in its sandbox's history.
    Yes,
    /// It went.
    No,
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        match error {
            NameError::NoSnapshot => snapshot_not_found(),
            NameError::Taken => {
                Self::new(ErrorCode::NameTaken, "the name belongs to another snapshot")
            }
            NameError::AlreadyNamed => {
                Self::new(ErrorCode::SnapshotAlreadyNamed, "the snapshot has a name")
            }
            NameError::LimitExceeded(count) => Self::new(
                ErrorCode::SnapshotLimitExceeded,
                format!("there are {count} named snapshots, which is as many as there may be"),
            ),
            NameError::Store(error) => error.into(),
        }
    }
}
