//! Visits to previews that wake a paused sandbox.
//!
//! Invariants: one wake of a sandbox at a time, and one per [`REST`], so that
//! visitors of one that cannot come up do not have it tried without end; who
//! may not see a port never comes here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use emberbox_api::ErrorCode;
use emberbox_core::{SandboxId, SandboxState};
use emberbox_store::SandboxRecord;
use tokio::time::Instant;

use super::Control;
use crate::Failure;

/// Time between the beginnings of two wakes of one sandbox.
const REST: Duration = Duration::from_secs(10);

/// When sandboxes were last woken.
#[derive(Default)]
pub(super) struct Wakes(Mutex<HashMap<SandboxId, Instant>>);

impl Wakes {
    /// Begins a wake, unless the last one was just now.
    fn begin(&self, id: &SandboxId) -> bool {
        let mut all = self.0.lock().expect("no panic while the map is held");
        // Never more than were woken in this time.
        all.retain(|_, begun| begun.elapsed() < REST);
        if all.contains_key(id) {
            return false;
        }
        all.insert(id.clone(), Instant::now());
        true
    }
}

impl Control {
    /// Whether a visit may wake this sandbox.
    pub(crate) fn wakes(&self, record: &SandboxRecord) -> bool {
        self.settings.preview.wake
            && record.persistent
            && record.state == SandboxState::Paused
            && record.destroy_requested_at.is_none()
    }

    /// Has a paused sandbox woken, and says what its visitor is told meanwhile.
    pub(crate) fn wake(self: &Arc<Self>, record: &SandboxRecord) -> Failure {
        if self.wakes.begin(&record.id) {
            let (control, record) = (Arc::clone(self), record.clone());
            self.tasks.spawn(async move {
                let woken = control.resume(record.tenant, record.id.clone()).await;
                if let Err(failure) = woken {
                    let error = failure.chain();
                    tracing::warn!(sandbox = %record.id, error, "a visit could not wake it");
                }
            });
        }
        Failure::new(ErrorCode::SandboxWaking, "the sandbox is waking up")
    }
}
