//! Which sandboxes an operation works on right now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use emberbox_core::SandboxId;
use tokio_util::sync::CancellationToken;

/// A set of sandboxes, each with a signal for when its operation is over.
#[derive(Clone, Default)]
pub(super) struct InFlight {
    running: Arc<Mutex<HashMap<SandboxId, CancellationToken>>>,
}

/// An operation in flight; dropping it, also by a panic, ends it.
pub(super) struct Flight {
    all: InFlight,
    id: SandboxId,
    over: CancellationToken,
}

impl InFlight {
    /// Begins an operation, unless one is in flight for this sandbox.
    pub(super) fn begin(&self, id: &SandboxId) -> Option<Flight> {
        let mut running = self.lock();
        if running.contains_key(id) {
            return None;
        }
        let over = CancellationToken::new();
        running.insert(id.clone(), over.clone());
        Some(Flight {
            all: self.clone(),
            id: id.clone(),
            over,
        })
    }

    /// Waits until no operation is in flight for this sandbox; tells whether
    /// one was.
    pub(super) async fn wait_over(&self, id: &SandboxId) -> bool {
        let over = self.lock().get(id).cloned();
        match over {
            Some(over) => {
                over.cancelled().await;
                true
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, CancellationToken>> {
        self.running.lock().expect("no panic while the map is held")
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
        self.over.cancel();
    }
}
