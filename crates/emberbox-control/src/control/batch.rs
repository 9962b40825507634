//! Batches: makes what is queued, so many at a time, until nothing is left.
//!
//! One task works on each batch. What a crash leaves is taken up by the next
//! start: items whose sandbox is recorded wait for it, the others are made.

use std::sync::Arc;
use std::time::Duration;

use emberbox_api::ErrorCode;
use emberbox_core::{BatchId, SandboxId, SandboxState};
use emberbox_host::Origin;
use emberbox_store::{
    BatchItemState, BatchWork, Caller, InsertError, NewBatch, NewSandbox, OnceRequest,
    SandboxRecord,
};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Control;
use crate::Failure;

/// How long an item waits for its sandbox before it looks again. Nothing
/// happens at its end: a sandbox comes up or fails by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Most items of one batch that are read at a time; no batch has more.
const ITEMS: u32 = 100_000;

impl Control {
    /// Records a batch and begins it; `once` asked for it.
    pub(crate) async fn create_batch(
        self: &Arc<Self>,
        caller: Caller,
        new: NewBatch,
        once: Option<OnceRequest>,
    ) -> Result<BatchId, Failure> {
        if let Some(cannot_pay) = self.store.cannot_pay(&caller.tenant).await? {
            return Err(InsertError::InsufficientCredits(cannot_pay).into());
        }
        // Each item asks again. A batch that could not begin is not recorded.
        let shape = new.request.shape;
        self.compute.has_room(shape, &Origin::Image)?;
        let control = Arc::clone(self);
        // A task of its own: a client that goes away must not leave a batch
        // nobody works on.
        let begun = self.tasks.spawn(async move {
            let limits = control.limits(&caller);
            let inserted = control
                .store
                .insert_batch(caller, new, once.as_ref(), &limits);
            let work = inserted.await?;
            let id = work.id.clone();
            control.work_on(work);
            Ok::<_, Failure>(id)
        });
        begun.await.map_err(Failure::internal)?
    }

    /// Cancels what nothing was done for.
    pub(crate) async fn cancel_batch(
        &self,
        caller: &Caller,
        id: &BatchId,
    ) -> Result<bool, Failure> {
        let known = self.store.cancel_batch(&caller.tenant, id).await?;
        self.batch_changed(id);
        Ok(known)
    }

    /// Tells which batches changed, after it is stored.
    pub(crate) fn batch_changes(&self) -> broadcast::Receiver<BatchId> {
        self.batch_changes.subscribe()
    }

    /// Takes up the batches that an earlier process of this server left.
    pub(super) async fn resume_batches(self: &Arc<Self>) -> Result<(), Failure> {
        for work in self.store.unsettled_batches().await? {
            tracing::info!(batch = %work.id, "going on with a batch");
            self.work_on(work);
        }
        Ok(())
    }

    fn work_on(self: &Arc<Self>, work: BatchWork) {
        let control = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(failure) = control.finish_batch(&work).await {
                tracing::error!(
                    batch = %work.id,
                    error = failure.chain(),
                    "a batch could not go on; the next start of the server takes it up"
                );
            }
        });
    }

    async fn finish_batch(self: &Arc<Self>, work: &BatchWork) -> Result<(), Failure> {
        let concurrency = usize::try_from(work.concurrency).unwrap_or(1).max(1);
        let mut making = JoinSet::new();
        for item in self.store.batch_items(&work.id, ITEMS).await? {
            while making.len() >= concurrency {
                making.join_next().await;
            }
            if self.closing.is_cancelled() {
                break;
            }
            let known = match item.state {
                BatchItemState::Queued => None,
                BatchItemState::Creating => item.sandbox,
                BatchItemState::Completed | BatchItemState::Failed | BatchItemState::Cancelled => {
                    continue;
                }
            };
            let (control, work) = (Arc::clone(self), work.clone());
            making.spawn(async move {
                let made = control.make_item(&work, item.position, known).await;
                if let Err(failure) = made {
                    let error = failure.chain();
                    tracing::error!(batch = %work.id, error, "an item could not be recorded");
                }
                control.batch_changed(&work.id);
            });
        }
        while making.join_next().await.is_some() {}
        self.store.settle_batch(&work.id).await?;
        self.batch_changed(&work.id);
        Ok(())
    }

    /// Makes an item's sandbox, or waits for the one it has, and records what
    /// became of it.
    async fn make_item(
        self: &Arc<Self>,
        work: &BatchWork,
        position: u32,
        known: Option<SandboxId>,
    ) -> Result<(), Failure> {
        let begun = match known {
            Some(id) => {
                let found = self.store.sandbox(&work.caller.tenant, &id).await?;
                found.ok_or_else(Failure::sandbox_not_found)
            }
            None => {
                let new = NewSandbox {
                    batch_item: Some((work.id.clone(), position)),
                    ..work.request.clone()
                };
                let caller = work.caller.clone();
                let asked = self.create(caller, new, None, Duration::ZERO).await;
                asked.map(|asked| asked.record)
            }
        };
        self.batch_changed(&work.id);
        let (state, error) = match begun {
            Ok(record) => match self.came_up(record).await? {
                Some(outcome) => outcome,
                None => return Ok(()),
            },
            Err(failure) => (
                BatchItemState::Failed,
                Some((failure.code, failure.message)),
            ),
        };
        let error = error.as_ref();
        let error = error.map(|(code, message)| (code.as_str(), message.as_str()));
        self.store
            .decide_batch_item(&work.id, position, state, error)
            .await?;
        Ok(())
    }

    /// What became of a sandbox; `None` if the server ends before it is known.
    async fn came_up(&self, mut record: SandboxRecord) -> Result<Option<Outcome>, Failure> {
        while record.state == SandboxState::Provisioning {
            if self.closing.is_cancelled() {
                return Ok(None);
            }
            let deadline = Instant::now() + LOOK_AGAIN;
            let settled = |now: &SandboxRecord| now.state != SandboxState::Provisioning;
            record = self.wait_for(record, deadline, settled).await?;
        }
        let outcome = match record.state {
            SandboxState::Error => {
                let why = record.error_message.unwrap_or_default();
                (BatchItemState::Failed, Some((ErrorCode::Internal, why)))
            }
            SandboxState::Destroyed if record.started_at.is_none() => {
                let why = "it was destroyed before it came up".to_owned();
                (
                    BatchItemState::Failed,
                    Some((ErrorCode::ResourceState, why)),
                )
            }
            SandboxState::Provisioning
            | SandboxState::Running
            | SandboxState::Paused
            | SandboxState::Destroyed => (BatchItemState::Completed, None),
        };
        Ok(Some(outcome))
    }

    fn batch_changed(&self, id: &BatchId) {
        // An error only says that nobody waits.
        let _nobody = self.batch_changes.send(id.clone());
    }
}

type Outcome = (BatchItemState, Option<(ErrorCode, String)>);
