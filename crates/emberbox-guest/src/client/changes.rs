//! Watching a directory, seen from the host.

use std::time::Duration;

use tokio::time::Instant;

use super::{Call, ClientError, FromAgent, GuestClient, Request};
use crate::watch::{CHANGES_PER_FRAME, PATH_MAX};
use crate::{ChangeKind, WatchEvent, WatchSpec};

/// How long it may take until a directory is watched: a walk over everything
/// below it, on a slow machine.
const BEGIN: Duration = Duration::from_secs(60);

/// How long nothing may happen. The end of the VM is noticed apart from this.
const SILENCE: Duration = Duration::from_secs(365 * 24 * 3600);

impl GuestClient {
    /// Watches a directory; nothing that happens after this returns is missed.
    pub async fn watch(&self, spec: WatchSpec) -> Result<WatchCall, ClientError> {
        let mut call = self.begin(Request::Watch(spec)).await?;
        match call.answer(BEGIN).await? {
            FromAgent::Done => Ok(WatchCall { call }),
            _ => Err(ClientError::Unexpected),
        }
    }
}

/// A directory that is watched. Dropping it ends that.
pub struct WatchCall {
    call: Call,
}

impl WatchCall {
    /// What happened next, never nothing; `None` when the directory itself is
    /// gone. Not cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Vec<WatchEvent>>, ClientError> {
        match self.call.answer_by(Instant::now() + SILENCE).await? {
            FromAgent::Changes(events)
                if (1..=CHANGES_PER_FRAME).contains(&events.len())
                    && events.iter().all(is_sane) =>
            {
                Ok(Some(events))
            }
            FromAgent::End { .. } => {
                self.call.finish();
                Ok(None)
            }
            _ => Err(ClientError::Unexpected),
        }
    }
}

/// A guest that makes paths up must not make them long.
fn is_sane(event: &WatchEvent) -> bool {
    match event {
        WatchEvent::Overflow => true,
        WatchEvent::Changed(change) => {
            let from = match &change.kind {
                ChangeKind::Renamed { from } => from.len(),
                ChangeKind::Created | ChangeKind::Modified | ChangeKind::Deleted => 0,
            };
            change.path.len().max(from) <= PATH_MAX
        }
    }
}
