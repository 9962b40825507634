//! Making a sandbox: intent, VM, fact.

use std::sync::Arc;
use std::time::{Duration, Instant};

use emberbox_api::ErrorCode;
use emberbox_api::credit::decimal;
use emberbox_core::SandboxState;
use emberbox_host::{BootPath, CreateVm, HostError, Keep, Origin};
use emberbox_store::{
    Boot, Caller, CannotPay, InsertError, Inserted, NewSandbox, OnceRequest, PlaceError, Recalled,
    SandboxRecord, SnapshotKind, SnapshotRecord,
};

use super::{Control, once};
use crate::{Failure, metrics};

impl Control {
    /// Makes a sandbox and waits up to `wait` for it to leave `provisioning`.
    /// The same request gives the same sandbox, also while the first is still
    /// at work. Once begun it goes on without the caller.
    pub(crate) async fn create(
        self: &Arc<Self>,
        caller: Caller,
        new: NewSandbox,
        once: Option<OnceRequest>,
        wait: Duration,
    ) -> Result<SandboxRecord, Failure> {
        let deadline = tokio::time::Instant::now() + wait;
        let control = Arc::clone(self);
        // A task of its own: a client that goes away between the row and the
        // VM must not leave a row nobody works on.
        let begun = self.tasks.spawn(async move {
            if let Err(full) = control.compute.has_room(new.shape, &Origin::Image) {
                // What the key made before needs no room.
                let made = control.made_before(once.as_ref());
                return made.await?.ok_or_else(|| full.into());
            }
            let inserted = control
                .store
                .insert_sandbox(
                    &caller,
                    &new,
                    once.as_ref(),
                    control.limits(&caller).max_sandboxes,
                )
                .await?;
            match inserted {
                Inserted::New(record) => {
                    control.provision(record.clone());
                    Ok(record)
                }
                Inserted::Existing(record) => Ok::<_, Failure>(record),
            }
        });
        let record = begun.await.map_err(Failure::internal)??;
        self.wait_for(record, deadline, |record| {
            record.state != SandboxState::Provisioning
        })
        .await
    }

    /// The sandbox that this request made before.
    pub(super) async fn made_before(
        &self,
        once: Option<&OnceRequest>,
    ) -> Result<Option<SandboxRecord>, Failure> {
        let Some(once) = once else {
            return Ok(None);
        };
        let made = match self.store.recall(once).await? {
            Recalled::Nothing => None,
            Recalled::OtherBody => return Err(once::key_reused()),
            Recalled::Made(id) => Some(id),
            Recalled::Answered { made, .. } => made,
        };
        match made.and_then(|id| id.parse().ok()) {
            Some(id) => Ok(self.store.sandbox(&once.key.tenant, &id).await?),
            None => Ok(None),
        }
    }

    /// Makes the VM of a sandbox whose row is written.
    pub(super) fn provision(self: &Arc<Self>, record: SandboxRecord) {
        let Some(flight) = self.creating.begin(&record.id) else {
            return;
        };
        let control = Arc::clone(self);
        self.tasks.spawn(async move {
            control.provision_now(&record).await;
            if let Err(failure) = control.drop_origin(&record).await {
                let error = failure.chain();
                tracing::error!(sandbox = %record.id, error, "a snapshot is left to the next start");
            }
            drop(flight);
        });
    }

    async fn provision_now(self: &Arc<Self>, record: &SandboxRecord) {
        let started = Instant::now();
        let origin = match &record.origin {
            None => Origin::Image,
            Some(snapshot) => Origin::Snapshot {
                id: snapshot.clone(),
                keep: Keep::Kept,
            },
        };
        let boot = match self.make_vm(record, origin).await {
            Ok(boot) => boot,
            // The next start takes the row up again.
            Err(HostError::ShuttingDown) => return,
            Err(error) => return self.provision_failed(record, error.into()).await,
        };
        metrics::created(boot.path, started.elapsed());
        self.touch(&record.id);
        match self.store.record_ready(&record.id, &record.vm, boot).await {
            Ok(Some(transition)) if transition.record.state.is_live() => {
                self.announce(&transition);
                if record.auto_start {
                    self.auto_start(transition.record);
                }
            }
            // Destroyed or failed meanwhile: nobody else knows of this VM.
            Ok(Some(_) | None) => self.discard(record).await,
            Err(error) => {
                self.discard(record).await;
                self.provision_failed(record, error.into()).await;
            }
        }
    }

    /// Makes the VM of the life that the record names.
    pub(super) async fn make_vm(
        &self,
        record: &SandboxRecord,
        origin: Origin,
    ) -> Result<Boot, HostError> {
        let request = CreateVm {
            vm: record.vm.clone(),
            sandbox: record.id.clone(),
            image: record.image_id.clone(),
            shape: record.shape,
            env: record.env.clone(),
            origin,
        };
        let created = self.compute.create(request).await?;
        Ok(Boot {
            path: match created.boot_path {
                BootPath::Snapshot => "snapshot",
                BootPath::Cold => "cold",
            },
            ms: created.boot_ms,
        })
    }

    /// Removes the snapshot that was made for this one sandbox to start from.
    async fn drop_origin(&self, record: &SandboxRecord) -> Result<(), Failure> {
        let Some(origin) = &record.origin else {
            return Ok(());
        };
        let snapshots = self.store.all_snapshots().await?;
        let made_for_it = |snapshot: &&SnapshotRecord| {
            snapshot.id == *origin && snapshot.kind == SnapshotKind::Fork
        };
        if let Some(snapshot) = snapshots.iter().find(made_for_it) {
            self.drop_snapshot(&snapshot.id).await;
        }
        Ok(())
    }

    async fn provision_failed(&self, record: &SandboxRecord, failure: Failure) {
        tracing::warn!(
            sandbox = %record.id,
            vm = %record.vm,
            error = failure.chain(),
            "sandbox could not be started"
        );
        match self.store.record_failed(&record.vm, &failure.message).await {
            Ok(Some(transition)) => self.announce(&transition),
            Ok(None) => {}
            Err(error) => tracing::error!(
                sandbox = %record.id,
                error = Failure::from(error).chain(),
                "a failed start could not be recorded; the next start of the server repairs it"
            ),
        }
    }

    pub(super) async fn discard(&self, record: &SandboxRecord) {
        if let Err(error) = self.compute.destroy(&record.vm).await {
            tracing::error!(
                sandbox = %record.id,
                vm = %record.vm,
                error = Failure::from(error).chain(),
                "a VM nobody wants could not be ended; the next start of the server repairs it"
            );
        }
    }
}

impl From<InsertError> for Failure {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::LimitExceeded { live, limit } => Self::new(
                ErrorCode::SandboxLimitExceeded,
                format!("sandbox limit reached: {live} of {limit} exist"),
            ),
            InsertError::InsufficientCredits(CannotPay {
                balance_micro,
                minimum_micro,
            }) => Self::new(
                ErrorCode::InsufficientCredits,
                format!(
                    "the balance is {} credits; a sandbox needs more than 0 and at least {}",
                    decimal(balance_micro),
                    decimal(minimum_micro),
                ),
            ),
            InsertError::KeyReused => once::key_reused(),
            InsertError::BatchItemTaken => Self::new(
                ErrorCode::ResourceState,
                "the batch was cancelled before this sandbox was made",
            ),
            InsertError::ImageGone => Self::new(
                ErrorCode::TemplateNotReady,
                "the build the template boots was replaced just now; send the request again",
            ),
            InsertError::SlugTaken => Self::new(
                ErrorCode::NameTaken,
                "the slug is in use by another sandbox",
            ),
            InsertError::Place(PlaceError::Field { field, message }) => {
                Self::invalid_field(field, message)
            }
            InsertError::Place(PlaceError::Store(error)) | InsertError::Store(error) => {
                error.into()
            }
            // A place that is resolved is not changed or deleted.
            InsertError::Place(
                error @ (PlaceError::NameTaken
                | PlaceError::NotFound
                | PlaceError::IsDefault
                | PlaceError::InUse(_)),
            ) => Self::internal(error),
        }
    }
}
