//! What a caller may use, and how long it may go on.

use std::sync::Arc;
use std::time::Duration;

use emberbox_api::ErrorCode;
use emberbox_core::Limits;
use emberbox_store::Caller;
use jiff::Timestamp;
use tokio::time::sleep;
use uuid::Uuid;

use super::Control;
use crate::Failure;

/// How often a stream looks whether its key still works, should nothing have
/// told it: a clock that was set, an operator's own hand in the database.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Control {
    /// What a caller's tenant may use.
    pub(crate) fn limits(&self, caller: &Caller) -> Limits {
        caller.limits.over(&self.settings.limits)
    }

    /// Counts a request of a workspace.
    pub(crate) fn count(&self, caller: &Caller, workspace: Uuid) -> Result<(), Failure> {
        let per_minute = self.limits(caller).requests_per_minute;
        self.rates.take(workspace, per_minute).map_err(|wait| {
            let message = format!("a workspace may send {per_minute} requests a minute");
            // Rounded up: who comes back a little early is refused again.
            Failure::new(ErrorCode::RateLimited, message).after(wait + Duration::from_millis(1))
        })
    }

    /// Some key may do less than before, or nothing.
    pub(crate) fn keys_changed(&self) {
        self.keys.send_modify(|_| ());
    }

    /// Resolves when the caller may not go on: its secret expired or was
    /// replaced, its key was revoked or lost a scope it had, its tenant was
    /// suspended. Cancel-safe.
    pub(crate) async fn until_over(self: Arc<Self>, caller: Caller) {
        let mut changes = self.keys.subscribe();
        loop {
            // Looked up after subscribing: a change in between is seen either
            // way.
            let pause = match self.store.caller(&caller.key, caller.generation).await {
                Ok(Some(now)) if may_go_on(&caller, &now) => pause(now.ends),
                Ok(Some(_) | None) => return,
                Err(error) => {
                    let error = Failure::from(error).chain();
                    tracing::error!(error, "a stream's key cannot be looked up");
                    LOOK_AGAIN
                }
            };
            tokio::select! {
                // Control owns the sender, and this future owns control.
                _ = changes.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

fn may_go_on(then: &Caller, now: &Caller) -> bool {
    now.suspended_at.is_none() && then.scopes.are_within(now.scopes)
}

/// Until the secret may have expired.
fn pause(ends: Option<Timestamp>) -> Duration {
    let Some(ends) = ends else { return LOOK_AGAIN };
    let left = ends.duration_since(Timestamp::now());
    // Rounded up: looking a little early would mean looking twice.
    let left = Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1);
    left.min(LOOK_AGAIN)
}
