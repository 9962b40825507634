//! Repairs and deadlines: ends or pauses sandboxes whose time is over or that
//! nobody uses, finishes destroys that failed, makes routes agree with
//! deployments and forgets old idempotency keys. Takes no input; running it
//! twice changes nothing.

use std::sync::Arc;
use std::time::Duration;

use emberbox_store::SandboxRecord;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Control;
use crate::Failure;

/// Pause after a round that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Longest sleep: the wall clock may be set, or the machine suspended, while
/// the janitor sleeps on the monotonic one.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

impl Control {
    pub(super) async fn keep_order(self: Arc<Self>) {
        loop {
            self.janitor.round_begins();
            let pause = match self.sweep().await {
                Ok(pause) => pause,
                Err(failure) => {
                    tracing::error!(error = failure.chain(), "the janitor could not work");
                    RETRY
                }
            };
            self.janitor.set(Instant::now() + pause);
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = self.janitor.wait() => {}
            }
        }
    }

    /// Has the janitor look when this sandbox, which runs from now on, may end.
    pub(super) fn expect_end(&self, record: &SandboxRecord) {
        if record.always_on {
            return;
        }
        let idle = record.idle_timeout_sec.filter(|&idle| idle > 0);
        let idle = idle.map(|idle| Duration::from_secs(idle.into()));
        let life = record.deadline().map(until);
        if let Some(soonest) = idle.into_iter().chain(life).min() {
            self.janitor.set(Instant::now() + soonest);
        }
    }

    /// One round; how long until the next is needed.
    async fn sweep(self: &Arc<Self>) -> Result<Duration, Failure> {
        let mut ended = true;
        for record in self.store.expired_sandboxes(Timestamp::now()).await? {
            tracing::info!(sandbox = %record.id, timeout_sec = record.timeout_sec, "time is over");
            ended &= self.end(&record).await?;
        }
        let mut next_idle = LONGEST_SLEEP;
        for record in self.store.sandboxes_that_may_idle().await? {
            let idle_sec = record.idle_timeout_sec.unwrap_or(0);
            let unused = self.activity.last(&record.id).elapsed();
            match Duration::from_secs(idle_sec.into()).checked_sub(unused) {
                Some(left) if !left.is_zero() => next_idle = next_idle.min(left),
                Some(_) | None => {
                    tracing::info!(sandbox = %record.id, idle_sec, "nobody uses it");
                    ended &= self.end(&record).await?;
                }
            }
        }
        for record in self.store.unfinished_destroys().await? {
            self.finish_destroy(record);
        }
        self.repair_routes().await?;
        self.store.forget_old_requests(Timestamp::now()).await?;
        if !ended {
            return Ok(RETRY);
        }
        Ok(match self.store.next_deadline().await? {
            Some(deadline) => until(deadline).min(next_idle),
            None => next_idle,
        })
    }

    /// Ends a sandbox whose time is over: what is persistent is paused, so that
    /// nothing is lost. Says whether that is done or under way.
    async fn end(self: &Arc<Self>, record: &SandboxRecord) -> Result<bool, Failure> {
        if record.persistent {
            let paused = self.pause(record.tenant.clone(), record.id.clone()).await;
            if let Err(failure) = &paused {
                let error = failure.chain();
                tracing::warn!(sandbox = %record.id, error, "cannot be paused; trying again");
            }
            return Ok(paused.is_ok());
        }
        self.store
            .request_destroy(&record.tenant, &record.id)
            .await?;
        self.previews_changed();
        Ok(true)
    }
}

fn until(deadline: Timestamp) -> Duration {
    let left = deadline.duration_since(Timestamp::now());
    // Rounded up: waking a little early would mean a second round.
    Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1)
}
