//! When each sandbox was last used. Nothing of it is stored: after a start,
//! everything counts as used at the start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use emberbox_core::SandboxId;
use tokio::time::Instant;

use super::Control;

/// Last uses.
#[derive(Clone)]
pub(super) struct Activity {
    born: Instant,
    uses: Arc<Mutex<HashMap<SandboxId, Uses>>>,
}

struct Uses {
    last: Instant,
    /// How many go on right now.
    going_on: usize,
}

/// A use that goes on until this is dropped.
pub(crate) struct Use {
    activity: Activity,
    id: SandboxId,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            uses: Arc::default(),
        }
    }

    /// When it was last used, which is now while a use goes on.
    pub(super) fn last(&self, id: &SandboxId) -> Instant {
        match self.lock().get(id) {
            Some(uses) if uses.going_on > 0 => Instant::now(),
            Some(uses) => uses.last,
            None => self.born,
        }
    }

    pub(super) fn forget(&self, id: &SandboxId) {
        self.lock().remove(id);
    }

    fn count(&self, id: &SandboxId, count: impl FnOnce(usize) -> usize) {
        let mut all = self.lock();
        let uses = all.entry(id.clone()).or_insert(Uses {
            last: self.born,
            going_on: 0,
        });
        uses.last = Instant::now();
        uses.going_on = count(uses.going_on);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Uses>> {
        self.uses.lock().expect("no panic while the map is held")
    }
}

impl Control {
    /// Somebody uses the sandbox now.
    pub(crate) fn touch(&self, id: &SandboxId) {
        self.activity.count(id, |going_on| going_on);
    }

    /// Somebody uses the sandbox for a while.
    pub(crate) fn using(&self, id: &SandboxId) -> Use {
        self.activity.count(id, |going_on| going_on + 1);
        Use {
            activity: self.activity.clone(),
            id: id.clone(),
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.activity
            .count(&self.id, |going_on| going_on.saturating_sub(1));
    }
}
