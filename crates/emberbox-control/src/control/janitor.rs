//! Repairs and deadlines: ends sandboxes whose time is over, finishes destroys
//! that failed, and makes routes agree with deployments. Takes no input; running it twice changes nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

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
            let pause = match self.sweep().await {
                Ok(pause) => pause,
                Err(failure) => {
                    tracing::error!(error = failure.chain(), "the janitor could not work");
                    RETRY
                }
            };
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = self.janitor.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// One round; how long until the next is needed.
    async fn sweep(self: &Arc<Self>) -> Result<Duration, Failure> {
        for record in self.store.expired_sandboxes(Timestamp::now()).await? {
            tracing::info!(sandbox = %record.id, timeout_sec = record.timeout_sec, "time is over");
            self.store
                .request_destroy(&record.tenant, &record.id)
                .await?;
            self.previews_changed();
        }
        for record in self.store.unfinished_destroys().await? {
            self.finish_destroy(record);
        }
        self.repair_routes().await?;
        Ok(match self.store.next_deadline().await? {
            Some(deadline) => until(deadline).min(LONGEST_SLEEP),
            None => LONGEST_SLEEP,
        })
    }
}

fn until(deadline: Timestamp) -> Duration {
    let left = deadline.duration_since(Timestamp::now());
    // Rounded up: waking a little early would mean a second round.
    Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1)
}
