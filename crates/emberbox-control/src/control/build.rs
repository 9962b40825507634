//! Builds of templates: a queue in the store, and the one task that works it
//! off.
//!
//! ```text
//! store: queued ──▶ keep_building ──▶ run (one task per build) ──▶ host
//!                        │                 └─ its events, in order ──▶ store
//!                        └─ between builds: images that nobody needs go
//! ```
//!
//! Invariants: one task starts builds and removes images, so no image goes
//! while a build may come to have it; what a build says is in the store before
//! anybody is told; a server that ends leaves its builds to the next start,
//! which begins them again (the host has their finished steps).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use emberbox_api::ErrorCode;
use emberbox_core::{BuildId, TenantId};
use emberbox_store::{BuildError, BuildRecord, Caller, NewBuild};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{CHANGES, Control};
use crate::Failure;

mod run;

/// Pause after the store or a host failed.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether an image is needed no more: sandboxes end by
/// themselves.
const SWEEP: Duration = Duration::from_secs(60);

/// The builds of this process.
pub(super) struct Builds {
    /// What ends each that is under way.
    running: Mutex<HashMap<BuildId, CancellationToken>>,
    /// There may be something to do.
    wake: Notify,
    /// An image may be needed no more.
    images_changed: AtomicBool,
    /// Which builds changed; sent after the change is stored.
    changes: broadcast::Sender<BuildId>,
}

impl Default for Builds {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            wake: Notify::new(),
            images_changed: AtomicBool::new(false),
            changes: broadcast::Sender::new(CHANGES),
        }
    }
}

impl Control {
    /// Queues a build.
    pub(crate) async fn create_build(
        &self,
        caller: &Caller,
        new: NewBuild,
    ) -> Result<BuildRecord, Failure> {
        let max_open = self.settings.builds.max_open;
        let build = self.store.insert_build(&caller.tenant, &new, max_open);
        let build = build.await?;
        self.build_changed(&build);
        Ok(build)
    }

    /// Ends a build. What its host does for it ends soon after.
    pub(crate) async fn cancel_build(
        &self,
        caller: &Caller,
        id: &BuildId,
    ) -> Result<BuildRecord, Failure> {
        let build = self.store.cancel_build(&caller.tenant, id).await?;
        if let Some(cancel) = self.builds.lock().get(id) {
            cancel.cancel();
        }
        self.build_changed(&build);
        Ok(build)
    }

    /// Queues a build again that failed or was cancelled.
    pub(crate) async fn retry_build(
        &self,
        caller: &Caller,
        id: &BuildId,
    ) -> Result<BuildRecord, Failure> {
        let max_open = self.settings.builds.max_open;
        let build = self.store.retry_build(&caller.tenant, id, max_open).await?;
        self.build_changed(&build);
        Ok(build)
    }

    /// The build as soon as it is over, or as it is after `wait`.
    pub(crate) async fn wait_for_build(
        &self,
        tenant: &TenantId,
        id: &BuildId,
        wait: Duration,
    ) -> Result<BuildRecord, Failure> {
        let deadline = Instant::now() + wait;
        let mut changes = self.build_changes();
        loop {
            // Read after subscribing: a change in between is seen either way.
            let build = self.store.build(tenant, id).await?;
            let build = build.ok_or_else(Failure::build_not_found)?;
            if build.state.is_over() {
                return Ok(build);
            }
            tokio::select! {
                () = self.closing.cancelled() => return Ok(build),
                waited = timeout_at(deadline, next_build_change(&mut changes, id)) => {
                    if waited.is_err() {
                        return Ok(build);
                    }
                }
            }
        }
    }

    /// Tells which builds changed, after it is stored.
    pub(crate) fn build_changes(&self) -> broadcast::Receiver<BuildId> {
        self.builds.changes.subscribe()
    }

    /// Some image may be needed no more.
    pub(crate) fn images_changed(&self) {
        self.builds.images_changed.store(true, Ordering::Relaxed);
        self.builds.wake.notify_one();
    }

    /// Starts what is queued, so many at a time, until the server ends.
    pub(super) async fn keep_building(self: Arc<Self>) {
        let most = usize::try_from(self.settings.builds.concurrency).unwrap_or(1);
        let most = most.max(1);
        let mut building = JoinSet::new();
        let (mut swept, mut sweep_due) = (Instant::now(), true);
        loop {
            sweep_due |= self.builds.images_changed.swap(false, Ordering::Relaxed);
            sweep_due |= swept.elapsed() >= SWEEP;
            let mut pause = SWEEP;
            let step = if sweep_due && building.is_empty() {
                let done = self.remove_unneeded_images().await;
                sweep_due = done.is_err();
                swept = Instant::now();
                done
            } else if building.len() < most && !sweep_due {
                self.start_next(&mut building).await
            } else {
                Ok(Next::Wait)
            };
            match step {
                Ok(Next::Again) => continue,
                Ok(Next::Wait) => {}
                Err(failure) => {
                    tracing::error!(error = failure.chain(), "builds could not go on");
                    pause = RETRY;
                }
            }
            tokio::select! {
                () = self.closing.cancelled() => break,
                () = self.builds.wake.notified() => {}
                Some(_) = building.join_next() => sweep_due = true,
                () = sleep(pause) => {}
            }
        }
        for cancel in self.builds.lock().values() {
            cancel.cancel();
        }
        while building.join_next().await.is_some() {}
    }

    async fn start_next(self: &Arc<Self>, building: &mut JoinSet<()>) -> Result<Next, Failure> {
        let running: Vec<_> = self.builds.lock().keys().cloned().collect();
        let Some(build) = self.store.begin_next_build(&running).await? else {
            return Ok(Next::Wait);
        };
        self.build_changed(&build);
        let cancel = CancellationToken::new();
        let known = self.builds.lock().insert(build.id.clone(), cancel.clone());
        debug_assert!(known.is_none(), "those that run were left out");
        let control = Arc::clone(self);
        building.spawn(async move {
            let id = build.id.clone();
            control.run_build(build, cancel).await;
            control.builds.lock().remove(&id);
        });
        Ok(Next::Again)
    }

    /// Removes the images that nobody needs. No build is under way meanwhile.
    async fn remove_unneeded_images(&self) -> Result<Next, Failure> {
        for image in self.store.take_unneeded_images().await? {
            tracing::info!(image, "removing an image that nobody needs");
            if let Err(error) = self.compute.remove_image(&image).await {
                self.store.image_stays(&image).await?;
                return Err(error.into());
            }
        }
        Ok(Next::Again)
    }

    /// Tells of a stored change, and of work there may be.
    pub(super) fn build_changed(&self, build: &BuildRecord) {
        tracing::info!(
            build = %build.id,
            template = %build.template,
            attempt = build.attempt,
            to = %build.state,
            code = build.error.as_ref().map(|(code, _)| code.as_str()),
            "build changed state"
        );
        self.build_grew(&build.id);
        self.builds.wake.notify_one();
    }

    /// Tells that a build's log grew.
    fn build_grew(&self, id: &BuildId) {
        // An error only says that nobody waits.
        let _nobody = self.builds.changes.send(id.clone());
    }
}

/// What to do after a step.
enum Next {
    /// Look at once whether there is more.
    Again,
    /// Wait until something happens.
    Wait,
}

impl Builds {
    fn lock(&self) -> MutexGuard<'_, HashMap<BuildId, CancellationToken>> {
        self.running.lock().expect("no panic while the map is held")
    }
}

/// Resolves when the build changed, or may have. Cancel-safe.
pub(crate) async fn next_build_change(changes: &mut broadcast::Receiver<BuildId>, id: &BuildId) {
    loop {
        match changes.recv().await {
            Ok(changed) if changed == *id => return,
            Ok(_other) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // Control owns the sender, and the caller borrows control.
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl Failure {
    pub(crate) fn build_not_found() -> Self {
        Self::new(ErrorCode::NotFound, "template build not found")
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::NoTemplate => Self::template_not_found(),
            BuildError::NoBuild => Self::build_not_found(),
            BuildError::Denied(state) => Self::new(
                ErrorCode::ResourceState,
                format!(
                    "the build is {state}: what is over cannot be cancelled, and only what \
                     failed or was cancelled can be tried again"
                ),
            ),
            BuildError::LimitExceeded(open) => Self::new(
                ErrorCode::BuildLimitExceeded,
                format!("{open} builds of this tenant are not over"),
            ),
            BuildError::Store(error) => error.into(),
        }
    }
}
