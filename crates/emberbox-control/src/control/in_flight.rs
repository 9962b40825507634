//! What an operation works on right now: sandboxes, requests.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_util::sync::CancellationToken;

/// A set of things, each with a signal for when its operation is over.
pub(super) struct InFlight<K: Eq + Hash> {
    running: Arc<Mutex<HashMap<K, CancellationToken>>>,
}

/// An operation in flight; dropping it, also by a panic, ends it.
pub(super) struct Flight<K: Eq + Hash> {
    all: InFlight<K>,
    id: K,
    over: CancellationToken,
}

impl<K: Eq + Hash> Default for InFlight<K> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
        }
    }
}

impl<K: Eq + Hash> Clone for InFlight<K> {
    fn clone(&self) -> Self {
        Self {
            running: Arc::clone(&self.running),
        }
    }
}

impl<K: Eq + Hash + Clone> InFlight<K> {
    /// Begins an operation, unless one is in flight for this.
    pub(super) fn begin(&self, id: &K) -> Option<Flight<K>> {
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

    /// Waits until no operation is in flight for this, and begins one.
    pub(super) async fn begin_next(&self, id: &K) -> Flight<K> {
        loop {
            if let Some(flight) = self.begin(id) {
                return flight;
            }
            self.wait_over(id).await;
        }
    }

    /// Waits until no operation is in flight for this; tells whether one was.
    pub(super) async fn wait_over(&self, id: &K) -> bool {
        let over = self.lock().get(id).cloned();
        match over {
            Some(over) => {
                over.cancelled().await;
                true
            }
            None => false,
        }
    }
}

impl<K: Eq + Hash> InFlight<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, CancellationToken>> {
        self.running.lock().expect("no panic while the map is held")
    }
}

impl<K: Eq + Hash> Drop for Flight<K> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
        self.over.cancel();
    }
}
