//! Making a sandbox: intent, VM, fact.

use std::sync::Arc;
use std::time::{Duration, Instant};

use emberbox_api::ErrorCode;
use emberbox_api::credit::decimal;
use emberbox_core::SandboxState;
use emberbox_host::{BootPath, CreateVm, Created, HostError, Keep, Origin, Step, Timeline};
use emberbox_store::{
    Boot, Caller, CannotPay, InsertError, Inserted, NewSandbox, OnceRequest, PlaceError, Recalled,
    SandboxRecord, SnapshotKind, SnapshotRecord,
};
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::{Control, once};
use crate::{Failure, metrics};

/// How a create went, and where its time was spent.
#[derive(Debug)]
pub(crate) struct Timing {
    /// `prepared`, `on_demand` or `cold`.
    pub(crate) how: &'static str,
    /// In the order they were done.
    pub(crate) steps: Vec<Step>,
}

/// A sandbox that was asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// As it is now.
    pub(crate) record: SandboxRecord,
    /// Known if it came up while it was waited for.
    pub(crate) timing: Option<Timing>,
}

/// A sandbox that came up.
pub(super) struct CameUp {
    record: SandboxRecord,
    timing: Timing,
}

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
    ) -> Result<Asked, Failure> {
        let deadline = tokio::time::Instant::now() + wait;
        let control = Arc::clone(self);
        // A task of its own: a client that goes away between the row and the
        // VM must not leave a row nobody works on.
        let begun = self
            .tasks
            .spawn(async move { control.begin(&caller, new, once).await });
        let (record, came_up) = begun.await.map_err(Failure::internal)??;
        if let Some(came_up) = came_up {
            let came_up = tokio::select! {
                came_up = came_up => came_up.ok(),
                () = sleep_until(deadline) => None,
                () = self.closing.cancelled() => None,
            };
            // Without another look at the store.
            if let Some(CameUp { record, timing }) = came_up {
                let timing = Some(timing);
                return Ok(Asked { record, timing });
            }
        }
        let settled = |record: &SandboxRecord| record.state != SandboxState::Provisioning;
        let record = self.wait_for(record, deadline, settled).await?;
        let timing = None;
        Ok(Asked { record, timing })
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

    /// Writes the row, with the id of a prepared VM if there is one, and begins
    /// to make it true.
    async fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewSandbox,
        once: Option<OnceRequest>,
    ) -> Result<(SandboxRecord, Option<oneshot::Receiver<CameUp>>), Failure> {
        let mut timeline = Timeline::begin();
        let lease = match &new.origin {
            None => self.compute.lease(&new.image_id, new.shape),
            Some(_snapshot) => None,
        };
        // A prepared VM has its room already.
        if lease.is_none()
            && let Err(full) = self.compute.has_room(new.shape, &Origin::Image)
        {
            // What the key made before needs no room.
            let made = self.made_before(once.as_ref()).await?;
            return made.map(|made| (made, None)).ok_or_else(|| full.into());
        }
        let new = NewSandbox {
            vm: lease.as_ref().map(|lease| lease.vm().clone()),
            ..new
        };
        let limits = self.limits(caller);
        let inserted = self
            .store
            .insert_sandbox(caller, &new, once.as_ref(), &limits)
            .await?;
        timeline.step("intent");
        match inserted {
            Inserted::New(record) => {
                if let Some(lease) = lease {
                    lease.take();
                }
                let came_up = self.provision(record.clone(), timeline);
                Ok((record, Some(came_up)))
            }
            Inserted::Existing(record) => Ok((record, None)),
        }
    }

    /// Makes the VM of a sandbox whose row is written. The receiver hears of it
    /// if it comes up.
    pub(super) fn provision(
        self: &Arc<Self>,
        record: SandboxRecord,
        timeline: Timeline,
    ) -> oneshot::Receiver<CameUp> {
        let (tell, came_up) = oneshot::channel();
        let Some(flight) = self.creating.begin(&record.id) else {
            return came_up;
        };
        let control = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(up) = control.provision_now(record.clone(), timeline).await {
                if up.record.auto_start {
                    control.auto_start(up.record.clone());
                }
                // Nobody may wait for it.
                let _ = tell.send(up);
            }
            if let Err(failure) = control.drop_origin(&record).await {
                let error = failure.chain();
                tracing::error!(sandbox = %record.id, error, "a snapshot is left to the next start");
            }
            drop(flight);
        });
        came_up
    }

    /// `None` if it failed, was not wanted any more, or the server ends.
    async fn provision_now(
        self: &Arc<Self>,
        mut record: SandboxRecord,
        mut timeline: Timeline,
    ) -> Option<CameUp> {
        let started = Instant::now();
        let created = loop {
            let origin = match &record.origin {
                None => Origin::Image,
                Some(snapshot) => Origin::Snapshot {
                    id: snapshot.clone(),
                    keep: Keep::Kept,
                },
            };
            match self.make_vm(&record, origin).await {
                Ok(created) => break created,
                // The next start takes the row up again.
                Err(HostError::ShuttingDown) => return None,
                // It happens once: the new id is no prepared VM's.
                Err(HostError::PreparedLost) => {
                    match self.store.begin_new_life(&record.id, &record.vm).await {
                        Ok(again) => record = again?,
                        Err(error) => {
                            self.provision_failed(&record, error.into()).await;
                            return None;
                        }
                    }
                    timeline.step("lost");
                }
                Err(error) => {
                    self.provision_failed(&record, error.into()).await;
                    return None;
                }
            }
        };
        timeline.include(&created.steps);
        self.end_starter(&record).await;
        metrics::created(created.boot_path, started.elapsed());
        self.touch(&record.id);
        let ready = self
            .store
            .record_ready(&record.id, &record.vm, boot(&created));
        match ready.await {
            Ok(Some(transition)) if transition.record.state.is_live() => {
                timeline.step("record");
                self.announce(&transition);
                let timing = Timing {
                    how: created.boot_path.as_str(),
                    steps: timeline.steps().to_vec(),
                };
                timing.log(&record);
                let record = transition.record;
                Some(CameUp { record, timing })
            }
            // Destroyed or failed meanwhile: nobody else knows of this VM.
            Ok(Some(_) | None) => {
                self.discard(&record).await;
                None
            }
            Err(error) => {
                self.discard(&record).await;
                self.provision_failed(&record, error.into()).await;
                None
            }
        }
    }

    /// Makes the VM of the life that the record names.
    pub(super) async fn make_vm(
        &self,
        record: &SandboxRecord,
        origin: Origin,
    ) -> Result<Created, HostError> {
        let request = CreateVm {
            vm: record.vm.clone(),
            sandbox: record.id.clone(),
            party: record.tenant.to_string(),
            image: record.image_id.clone(),
            shape: record.shape,
            env: record.env.clone(),
            origin,
        };
        self.compute.create(request).await
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

/// What is recorded of how a VM came up: users know two ways.
pub(super) fn boot(created: &Created) -> Boot {
    Boot {
        path: match created.boot_path {
            BootPath::Prepared | BootPath::Snapshot => "snapshot",
            BootPath::Cold => "cold",
        },
        ms: created.boot_ms,
    }
}

impl Timing {
    fn log(&self, record: &SandboxRecord) {
        let steps: Vec<_> = self
            .steps
            .iter()
            .map(|(name, took)| format!("{name}={}", took.as_micros()))
            .collect();
        let (sandbox, how) = (&record.id, self.how);
        tracing::info!(%sandbox, how, steps_us = steps.join(" "), "sandbox created");
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
            InsertError::Place(PlaceError::TooMany(error)) => error.into(),
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
